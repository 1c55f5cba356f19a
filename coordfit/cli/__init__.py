"""Turn options into settings and call the library; print all output and choose exit codes.

Results go to stdout, progress and messages to stderr. `--json` prints one strict JSON document, for errors too.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError, CoordfitError
from ..files import escaped
from ..option_checks import did_you_mean
from .exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_NO_DEVICE, EXIT_OK, EXIT_TERMINATED, EXIT_USAGE
from .interrupts import SignalsAsErrors, TerminatedError
from .option_types import UsageError
from .options import parse
from .parser import COMMANDS
from .streams import complain, nowhere, print_json, usable_streams


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    with usable_streams():
        return _main(list(sys.argv[1:] if arguments is None else arguments))


def _main(words: list[str]) -> int:
    as_json = "--json" in words
    if isinstance(sys.stdout, io.TextIOWrapper):  # the terminal's encoding may lack a letter of a folder's name
        sys.stdout.reconfigure(errors="backslashreplace")
    # Matplotlib logs if the home folder cannot be written; without a handler, Python would print it.
    logging.getLogger("matplotlib").addHandler(logging.NullHandler())
    signals = SignalsAsErrors()
    try:
        with signals:
            code = _run(_with_command(words))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        return _quiet_end()
    except (KeyboardInterrupt, Exception) as error:
        # A signal's error can become another one on its way, where other code catches it.
        message, code = _told(signals.error or error)
        if message is None:
            if os.environ.get("COORDFIT_DEBUG") or "-v" in words or "--verbose" in words:
                raise
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            message = f"unexpected error, {reason} (COORDFIT_DEBUG=1 shows where)"
        return _fail(message, code, as_json)


def _told(error: BaseException) -> tuple[str | None, int]:
    """Return the line that tells of an error, None for one that is not expected, and the exit code."""
    match error:
        case TerminatedError():
            return "terminated", EXIT_TERMINATED
        case KeyboardInterrupt():
            return "interrupted", EXIT_INTERRUPTED
        case UsageError() | ConfigError():
            return str(error), EXIT_USAGE
        case CoordfitError():
            return str(error), EXIT_FAILED
        case MemoryError():
            return f"not enough memory ({error}); try a smaller --size or --batch-size", EXIT_FAILED
    # By name, so that `--help` imports no backend.
    codes = {"DeviceUnavailableError": EXIT_NO_DEVICE, "FusedUnavailableError": EXIT_FAILED}
    code = codes.get(type(error).__name__)
    return (None, EXIT_FAILED) if code is None else (str(error), code)


def _run(words: list[str]) -> int:
    options = parse(words)
    if options is None:  # help or version has been printed
        return EXIT_OK
    # Imported when it runs, so that `--help` waits for no array library.
    command = importlib.import_module(f"{__name__}.commands.{options.command}")
    with contextlib.ExitStack() as undo:
        if options.quiet and not options.json:
            undo.enter_context(contextlib.redirect_stdout(undo.enter_context(nowhere())))
        return int(command.run(options))


def _with_command(words: list[str]) -> list[str]:
    """Prepend `fit` if no command is named, as in `coordfit photo.png` and `coordfit --device gpu`."""
    if not words:
        return ["fit"]
    first = words[0]
    if first in (*COMMANDS, "help", "-h", "--help", "--version") or first.startswith("--print-completion"):
        return words
    meant = "" if set(first) & set("-./\\*?[") else did_you_mean(first, (*COMMANDS, "help"))
    if meant and not Path(first).exists():
        raise UsageError(f"there is no command or picture {first!r}{meant}")
    return ["fit", *words]


def _fail(message: str, code: int, as_json: bool) -> int:
    line = escaped(" ".join(message.split()))
    try:
        complain(line)
        if as_json:
            print_json({"error": line, "exit_code": code})
    except BrokenPipeError:
        _quiet_end()
    return code


def _quiet_end() -> int:
    """Point stdout at nothing, so that Python's own flush at the end stays quiet too."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_FAILED
