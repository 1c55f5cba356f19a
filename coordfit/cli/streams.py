"""Replace standard streams that are missing or cannot be written: pythonw, services, `2>&-`, a full disk."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from ..files import escaped, jsonable


@contextlib.contextmanager
def usable_streams() -> Iterator[None]:
    """Provide a writable stdout and stderr until the block ends."""
    _take_free_descriptors()
    with contextlib.ExitStack() as undo:
        if sys.stdout is None:
            undo.enter_context(contextlib.redirect_stdout(undo.enter_context(nowhere())))
        messages = undo.enter_context(nowhere()) if sys.stderr is None else _Messages(sys.stderr)
        undo.enter_context(contextlib.redirect_stderr(messages))
        yield


def nowhere() -> TextIO:
    """Open a stream that drops its text."""
    return Path(os.devnull).open("w", encoding="utf-8")


def complain(message: str) -> None:
    """Print an error in one line on stderr, even with --quiet."""
    print(f"coordfit: {escaped(message)}", file=sys.stderr, flush=True)


def print_json(document: Any) -> None:
    """Print one strict JSON document on stdout."""
    print(json.dumps(jsonable(document), allow_nan=False), flush=True)


def _take_free_descriptors() -> None:
    """Open descriptors 0 to 2 if they are closed; C libraries would write into a file of the run."""
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
    """Stderr that drops messages that cannot be written, so that the run goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write some text, or drop it."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush the stream, or drop its text."""
        self._try(self._stream.flush)

    def _try(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except BrokenPipeError:  # the reader is gone: the command ends
            raise
        except OSError:
            _point_at_nothing(self._stream.fileno())  # Python's own flush at the end would fail too

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
