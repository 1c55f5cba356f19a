"""The environment of commands that a test runs in processes of their own."""

import os
from pathlib import Path

import coordfit

ROOT = Path(coordfit.__file__).parents[1]
# Matplotlib's parser takes "error" for a wish to hear of its own grammars too, now and then at the very end.
WARNINGS = "error,ignore:::pyparsing"


def environment(**variables):
    """Return the variables of this process, with this library's path and warnings as errors, and more."""
    return os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": WARNINGS} | variables
