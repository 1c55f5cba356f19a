"""The command line: options to settings to the library's functions; owns every print and every exit code.

Results go to stdout, progress and messages to stderr. `--json` prints one strict JSON document, for errors too.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from ..errors import ConfigError, CoordfitError
from ..files import escaped
from .exit_codes import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_NO_DEVICE,
    EXIT_OK,
    EXIT_TERMINATED,
    EXIT_USAGE,
)
from .option_types import UsageError
from .options import COMMANDS, Options, parse
from .streams import complain, nowhere, usable_streams


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    with usable_streams():
        return _main(list(sys.argv[1:] if arguments is None else arguments))


def _main(words: list[str]) -> int:
    as_json = "--json" in words
    _print_what_the_terminal_cannot_as_escapes()
    # Matplotlib logs that a home cannot be written; with nobody listening, Python would print it.
    logging.getLogger("matplotlib").addHandler(logging.NullHandler())
    try:
        with _signals_as_errors():
            code = _run(_with_command(words))
        sys.stdout.flush()
        return code
    except (UsageError, ConfigError) as error:
        return _fail(str(error), EXIT_USAGE, as_json)
    except CoordfitError as error:
        return _fail(str(error), EXIT_FAILED, as_json)
    except MemoryError as error:
        return _fail(f"not enough memory ({error}); try a smaller --size or --batch-size", EXIT_FAILED, as_json)
    except _Terminated:
        return _fail("terminated", EXIT_TERMINATED, as_json)
    except KeyboardInterrupt:
        return _fail("interrupted", EXIT_INTERRUPTED, as_json)
    except BrokenPipeError:
        return _quiet_end()
    except Exception as error:
        if type(error).__name__ in ("DeviceUnavailableError", "FusedUnavailableError"):
            missing = type(error).__name__ == "DeviceUnavailableError"
            return _fail(str(error), EXIT_NO_DEVICE if missing else EXIT_FAILED, as_json)
        if os.environ.get("COORDFIT_DEBUG") or "-v" in words or "--verbose" in words:
            raise
        told = f"{type(error).__name__}: {error}".splitlines()[0]
        return _fail(f"unexpected error, {told} (COORDFIT_DEBUG=1 shows where)", EXIT_FAILED, as_json)


class _Terminated(KeyboardInterrupt):
    """SIGTERM, raised where Ctrl-C would be raised."""


@contextlib.contextmanager
def _signals_as_errors() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does: temporaries go, threads end. A second signal ends it at once."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        for other in before:
            signal.signal(other, signal.SIG_DFL)
        raise _Terminated if number == signal.SIGTERM else KeyboardInterrupt

    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: handler for number, handler in usual.items() if signal.getsignal(number) is handler}
    with contextlib.suppress(ValueError):  # in a thread nobody may
        for number in before:
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            for number, handler in before.items():
                signal.signal(number, handler)


def _run(words: list[str]) -> int:
    options = parse(words)
    if options is None:  # help or version has been printed
        return EXIT_OK
    if options.quiet and not options.json:
        with nowhere() as stream, contextlib.redirect_stdout(stream):
            return _command(options)
    return _command(options)


def _command(options: Options) -> int:
    # Each command is a module of its own, imported when it runs: `--help` waits for no array library.
    from importlib import import_module

    run = import_module(f"{__name__}.commands.{options.command}").run
    return int(run(options))


def _with_command(words: list[str]) -> list[str]:
    """Put `fit` in front where no command is named: `coordfit photo.png`, `coordfit --device gpu`."""
    if not words:
        return ["fit"]
    first = words[0]
    if first in (*COMMANDS, "help", "-h", "--help", "--version") or first.startswith("--print-completion"):
        return words
    close = difflib.get_close_matches(first, (*COMMANDS, "help"), n=1, cutoff=0.75)
    if close and not Path(first).exists():
        raise UsageError(f"there is no command or picture {first!r}; did you mean {close[0]!r}?")
    return ["fit", *words]


def _print_what_the_terminal_cannot_as_escapes() -> None:
    # A folder's name must not fail a run that is done because the terminal's encoding lacks a letter of it.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _fail(message: str, code: int, as_json: bool) -> int:
    line = escaped(" ".join(message.split()))
    try:
        complain(line)
        if as_json:
            print(json.dumps({"error": line, "exit_code": code}), flush=True)
    except BrokenPipeError:
        _quiet_end()
    return code


def _quiet_end() -> int:
    """Nobody reads on: point stdout at nothing, so that Python's own flush at the end stays quiet too."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_FAILED
