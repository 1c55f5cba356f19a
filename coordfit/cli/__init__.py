"""Turn options into settings and call the library; print all output and choose exit codes.

Results go to stdout, progress and messages to stderr. `--json` prints one strict JSON document, for errors too.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import io
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from ..errors import ConfigError, CoordfitError
from ..files import escaped
from .exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_NO_DEVICE, EXIT_OK, EXIT_TERMINATED, EXIT_USAGE
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
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return _fail(f"unexpected error, {reason} (COORDFIT_DEBUG=1 shows where)", EXIT_FAILED, as_json)


class _Terminated(KeyboardInterrupt):
    """Raised by SIGTERM, as KeyboardInterrupt is by Ctrl-C."""


@contextlib.contextmanager
def _signals_as_errors() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does, with its cleanup; a second signal kills it."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        for other in before:
            signal.signal(other, signal.SIG_DFL)
        raise _Terminated if number == signal.SIGTERM else KeyboardInterrupt

    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: handler for number, handler in usual.items() if signal.getsignal(number) is handler}
    with contextlib.suppress(ValueError):  # threads may set no handlers
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
    close = difflib.get_close_matches(first, (*COMMANDS, "help"), n=1, cutoff=0.75)
    if close and not Path(first).exists():
        raise UsageError(f"there is no command or picture {first!r}; did you mean {close[0]!r}?")
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
