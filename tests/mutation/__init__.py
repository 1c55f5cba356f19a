"""Faults that the tests must notice: `python tests/mutation/run.py` plants them one by one."""
