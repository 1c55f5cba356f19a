"""Run a module or a file in this process, as `python -m NAME` or `python FILE` would."""

import runpy
import sys


def run_as_main(monkeypatch, words):
    """Run the words of a command line after `python`: `-m` and a module or a file, and options."""
    as_module = words[0] == "-m"
    target, *_ = words = words[as_module:]
    for name in (target, f"{target}.__main__"):
        if not hasattr(sys.modules.get(name), "__path__"):  # a test may have imported what now runs anew
            monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "argv", words)
    (runpy.run_module if as_module else runpy.run_path)(target, run_name="__main__")
