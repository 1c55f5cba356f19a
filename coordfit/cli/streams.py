"""Standard streams that a command may not have, or cannot write: pythonw, services, `2>&-`, a full disk."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from ..files import escaped


@contextlib.contextmanager
def usable_streams() -> Iterator[None]:
    """Give a command a stdout and a stderr that it can write to; they are as before afterwards."""
    _take_free_descriptors()
    with contextlib.ExitStack() as undo:
        if sys.stdout is None:
            undo.enter_context(contextlib.redirect_stdout(undo.enter_context(nowhere())))
        messages = undo.enter_context(nowhere()) if sys.stderr is None else _Messages(sys.stderr)
        undo.enter_context(contextlib.redirect_stderr(messages))
        yield


def nowhere() -> TextIO:
    """Open a stream whose text is lost."""
    return Path(os.devnull).open("w", encoding="utf-8")


def complain(message: str) -> None:
    """Print an error in one line on stderr, which --quiet does not silence."""
    print(f"coordfit: {escaped(message)}", file=sys.stderr, flush=True)


def _take_free_descriptors() -> None:
    """Open 0 to 2 where they are closed: C libraries write to them, and a file of the run would be there."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            _point_at_nothing(number)


def _point_at_nothing(number: int) -> None:
    opened = os.open(os.devnull, os.O_RDWR)
    if opened == number:
        os.set_inheritable(number, True)
    else:
        os.dup2(opened, number)
        os.close(opened)


class _Messages:
    """Stderr, but for messages that cannot be written: they are lost, and the run goes on without them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or lose, some text."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Write, or lose, what waits."""
        self._try(self._stream.flush)

    def _try(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except BrokenPipeError:  # the reader has gone: the command ends
            raise
        except OSError:
            _point_at_nothing(self._stream.fileno())  # Python's own flush at the end would fail too

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
