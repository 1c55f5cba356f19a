"""Ctrl-C and SIGTERM while a command works: the first ends it soon and saves, the second ends it at once."""

from __future__ import annotations

import _thread
import contextlib
import json
import shlex
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from ..files import escaped, printable
from .exit_codes import EXIT_INTERRUPTED, EXIT_TERMINATED

PATIENCE = 1.0
"""Seconds that a command has to end by itself."""


class CutShortError(KeyboardInterrupt):
    """Raised in the main thread where a signal was noted and the command did not end by itself in time."""


class GracefulStop:
    """Notes the first Ctrl-C or SIGTERM; the second ends the process at once.

    Loops ask `is_asked_for`, and end well. What does not ask (a compilation, a choice of sigma, an evaluation
    of a large picture) is cut short by a `CutShortError` after `PATIENCE` seconds. It ends the `with` block,
    and what follows the block says what was saved.

    Attributes
    ----------
    signal : int or None
        The number of the signal that was noted.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._patience = PATIENCE
        self._before: dict[int, Any] = {}
        self._timer: threading.Timer | None = None
        self._is_overdue = self._ended = False

    def is_asked_for(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """The exit code of a command that a signal has ended."""
        return EXIT_TERMINATED if self.signal == signal.SIGTERM else EXIT_INTERRUPTED

    @contextlib.contextmanager
    def at_once(self, patience: float = 0.0) -> Iterator[None]:
        """End this block alone with the signal, at once or soon: nothing of what is under way is kept."""
        self._patience = patience
        try:
            with contextlib.suppress(CutShortError):
                yield
        finally:
            self._patience = PATIENCE

    def report(self, message: str, log: Callable[[str], None], *, as_json: bool) -> int:
        """Say what a command leaves that was cut short, as an error where JSON is asked for; its exit code."""
        log(message)
        if as_json:
            print(json.dumps({"error": escaped(message), "exit_code": self.exit_code}), flush=True)
        return self.exit_code

    def __enter__(self) -> Self:
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
        return isinstance(error, CutShortError)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._is_overdue:  # Windows has no alarm: the timer's thread asks for another SIGINT
            self._is_overdue = False
            self._cut_short()
        elif self.signal is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        else:
            self.signal = number
            if self._patience == 0.0:
                self._cut_short()
            self._set_alarm(self._patience)

    def _cut_short(self, *_: object) -> None:
        if not self._ended:
            raise CutShortError

    def _set_alarm(self, seconds: float) -> None:
        """Cut the command short in so many seconds; 0 takes the alarm back."""
        if hasattr(signal, "setitimer"):
            if self._before:
                signal.setitimer(signal.ITIMER_REAL, seconds)
            return
        if self._timer is not None:
            self._timer.cancel()
        if seconds:
            self._timer = threading.Timer(seconds, self._ring)
            self._timer.daemon = True
            self._timer.start()

    def _ring(self) -> None:
        self._is_overdue = True
        _thread.interrupt_main(signal.SIGINT)


def how_to_go_on(folder: Path) -> str:
    """What to type to go on with the run in a folder."""
    return f"go on with --resume --out {shlex.quote(printable(folder))}"


def how_to_begin_again(folder: Path) -> str:
    """What to type to begin again in a folder, with a command that cannot go on."""
    return f"begin again with the same words and --overwrite --out {shlex.quote(printable(folder))}"
