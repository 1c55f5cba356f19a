"""Handle Ctrl-C and SIGTERM: the first lets a command end and save, the second ends it at once."""

from __future__ import annotations

import _thread
import contextlib
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, ClassVar, Self

from ..files import escaped, printable
from .exit_codes import EXIT_INTERRUPTED, EXIT_TERMINATED
from .streams import print_json

PATIENCE = 1.0
"""Seconds until a command is cut short."""
_SOON = 0.05
"""Seconds until another look whether an import has ended."""


class TerminatedError(KeyboardInterrupt):
    """Raised by SIGTERM, as KeyboardInterrupt is by Ctrl-C."""


class SignalsAsErrors:
    """Let the first Ctrl-C or SIGTERM raise an error, so that a command cleans up; the second kills it.

    Other code may swallow the error (Python ignores those in a `__del__`), so it is raised again each
    `PATIENCE` seconds until the block ends, and by any `GracefulStop` that begins.
    """

    active: ClassVar[SignalsAsErrors | None] = None

    def __init__(self) -> None:
        self.error: KeyboardInterrupt | None = None
        """What the first signal raised."""

    def __enter__(self) -> Self:
        SignalsAsErrors.active = self
        usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
        self._before = {n: handler for n, handler in usual.items() if signal.getsignal(n) is handler}
        with contextlib.suppress(ValueError):  # threads may set no handlers
            for number in self._before:
                signal.signal(number, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        SignalsAsErrors.active = None
        if self.error is not None and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
        with contextlib.suppress(ValueError):
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.error = TerminatedError() if number == signal.SIGTERM else KeyboardInterrupt()
        for other in self._before:
            signal.signal(other, signal.SIG_DFL)
        if hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, self._interrupt_again)
            self._interrupt_again(number, frame)
        else:
            self.raise_error()

    def _interrupt_again(self, number: int, frame: FrameType | None) -> None:
        is_importing = _is_importing(frame)
        signal.setitimer(signal.ITIMER_REAL, _SOON if is_importing else PATIENCE, PATIENCE)
        if not is_importing and not _is_being_handled(KeyboardInterrupt):
            self.raise_error()

    def raise_error(self) -> None:
        """Raise the error of the first signal again, if one has come."""
        if self.error is not None:
            raise self.error


def _is_being_handled(kind: type[BaseException]) -> bool:
    """Return whether an `except`, a `finally` or an `__exit__` runs because of such an error."""
    error = sys.exception()
    while error is not None and not isinstance(error, kind):
        error = error.__context__
    return error is not None


def _is_importing(frame: FrameType | None) -> bool:
    """Return whether a module is being imported; an error can leave one that crashes the process at its end."""
    while frame is not None and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        frame = frame.f_back
    return frame is not None


class CutShortError(KeyboardInterrupt):
    """Raised in the main thread if a command did not end in time after a signal."""


class GracefulStop:
    """Notes the first Ctrl-C or SIGTERM; the second ends the process at once.

    Loops ask `is_asked_for` and end. Other work (a compilation, a choice of sigma, an evaluation of a large
    picture) is cut short after `PATIENCE` seconds by a `CutShortError`, which ends the `with` block. The code
    after the block reports what was saved.

    Attributes
    ----------
    signal : int or None
        The number of the first signal.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._patience = PATIENCE
        self._before: dict[int, Any] = {}
        self._timer: threading.Timer | None = None
        self._is_overdue = self._is_cut = self._ended = False

    def is_asked_for(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """Return the exit code of a command that a signal has ended."""
        return EXIT_TERMINATED if self.signal == signal.SIGTERM else EXIT_INTERRUPTED

    @contextlib.contextmanager
    def at_once(self, patience: float = 0.0) -> Iterator[None]:
        """End this block after a signal, at once or after `patience` seconds; its work is lost."""
        self._patience = patience
        try:
            yield
        except CutShortError:
            self._set_alarm(0.0)
        finally:
            self._patience = PATIENCE

    def report(self, message: str, log: Callable[[str], None], *, as_json: bool) -> int:
        """Report what an interrupted command leaves, with JSON as an error, and return the exit code."""
        log(message)
        if as_json:
            print_json({"error": escaped(message), "exit_code": self.exit_code})
        return self.exit_code

    def __enter__(self) -> Self:
        if SignalsAsErrors.active is not None:
            SignalsAsErrors.active.raise_error()
        if threading.current_thread() is threading.main_thread():  # other threads may set no handlers
            handlers: dict[int, Any] = {signal.SIGINT: self._note, signal.SIGTERM: self._note}
            if hasattr(signal, "SIGALRM"):
                handlers[signal.SIGALRM] = self._cut_short
            self._before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._ended = True
        self._set_alarm(0.0)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        # Other code can turn the error that cuts a command short into another one.
        return isinstance(error, CutShortError) or (self._is_cut and isinstance(error, Exception))

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._is_overdue:  # Windows has no alarm: the timer's thread sends another SIGINT
            self._is_overdue = False
            self._cut_short(number, frame)
        elif self.signal is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        else:
            self.signal = number
            if self._patience == 0.0:
                self._cut_short(number, frame)
            else:
                self._set_alarm(self._patience)

    def _cut_short(self, number: int, frame: FrameType | None) -> None:
        if self._ended or _is_being_handled(CutShortError):
            return
        if _is_importing(frame) and hasattr(signal, "setitimer"):
            self._set_alarm(_SOON)
            return
        self._is_cut = True
        raise CutShortError

    def _set_alarm(self, seconds: float) -> None:
        """Cut the command short after some seconds, and again where that was swallowed; 0 cancels the alarm."""
        if hasattr(signal, "setitimer"):
            if self._before:
                signal.setitimer(signal.ITIMER_REAL, seconds, PATIENCE if seconds else 0.0)
            return
        if self._timer is not None:
            self._timer.cancel()
        if seconds:
            self._timer = threading.Timer(seconds, self._interrupt_main)
            self._timer.daemon = True
            self._timer.start()

    def _interrupt_main(self) -> None:
        self._is_overdue = True
        _thread.interrupt_main(signal.SIGINT)


def how_to_go_on(folder: Path) -> str:
    """Return the words that continue the run in a folder."""
    return f"go on with --resume --out {shlex.quote(printable(folder))}"


def how_to_begin_again(folder: Path) -> str:
    """Return the words that begin again in a folder, for a command without --resume."""
    return f"begin again with the same words and --overwrite --out {shlex.quote(printable(folder))}"
