"""Run a module or a file as `python -m NAME` or `python FILE` does, in this process."""

import runpy
import sys


def run_as_main(monkeypatch, words):
    """Run what follows `python` on a command line: `-m` and a module or a file, and its options."""
    as_module = words[0] == "-m"
    target, *_ = words = words[as_module:]
    for name in (target, f"{target}.__main__"):
        if not hasattr(sys.modules.get(name), "__path__"):  # a test may have imported what now runs anew
            monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "argv", words)
    (runpy.run_module if as_module else runpy.run_path)(target, run_name="__main__")
