"""Share what the command lines of the benchmarks need: bad input is one line with the thing and the cure."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from coordfit.errors import CoordfitError

WRONG_USAGE = 2

# scikit-image has them, so that all users have the same.
PHOTOGRAPHS = ("astronaut", "camera", "chelsea", "coffee")


class BadInputError(Exception):
    """Raised if what was asked for cannot be done; the message says why, and what to do."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        self.exit(WRONG_USAGE, f"{self.prog}: {message}; see --help\n")


def run_main(name: str, main: Callable[[], int | None]) -> NoReturn:
    """End the process with what `main` returns, or with 2 and one line if its input cannot be used."""
    try:
        code = main()
    except (BadInputError, CoordfitError, OSError) as error:
        print(f"python -m bench.{name}: {' '.join(str(error).split())}", file=sys.stderr)
        code = WRONG_USAGE
    raise SystemExit(code)


def need(module: str, cure: str) -> None:
    """Raise BadInputError with the cure if a library is not installed."""
    if importlib.util.find_spec(module) is None:
        raise BadInputError(f"this needs {module}, which is not installed: {cure}")


def picture_name(text: str) -> str:
    """Return the name of a photograph of scikit-image or of an existing file, for `type=` of an option."""
    if text in PHOTOGRAPHS or Path(text).is_file():
        return text
    raise argparse.ArgumentTypeError(
        f"there is no file {text}: name one, or a photograph of scikit-image ({', '.join(PHOTOGRAPHS)})"
    )


def count(text: str) -> int:
    """Return a whole number of 1 or more, for `type=` of an option."""
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")


def share(text: str) -> float:
    """Return a number between 0 and 1, for `type=` of an option."""
    if 0.0 < float(text) < 1.0:
        return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 1")


def device_name(text: str) -> str:
    """Return a device that is available, for `type=` of an option."""
    from coordfit import DeviceUnavailableError, get_backend

    try:
        get_backend(text)
    except (ValueError, DeviceUnavailableError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def new_file(text: str) -> Path:
    """Return a file in an existing folder, for `type=` of an option: runs take long, so check first."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text} cannot be written: name a file in a folder that is there")
    return path


def recorded(path: Path, name: str) -> list[dict[str, Any]]:
    """Return the list in a benchmark's JSON file."""
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))[name]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInputError(f"{path} holds no {name} of this benchmark: name another file") from error
    return rows
