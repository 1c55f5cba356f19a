"""Two lanes of work at a time: the current stream, and a second one beside it that comes back to it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any


class StreamPair:
    """Forks work to a second stream and joins it: by events alone, so that a recording has it too.

    Attributes
    ----------
    now : int
        The lane of what is asked for now: 0 is the caller's stream. Memory that is used again and again is for
        one lane, since the other may be at work on it.
    """

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        self._side: Any = None
        self.now = 0

    @contextlib.contextmanager
    def in_parallel(self, work: Callable[[], None]) -> Iterator[None]:
        """Have `work` done beside what is asked for within; both see all before, and all after sees both."""
        if self._side is None:
            self._side = self._cuda.Stream(non_blocking=True)
        main, side = self._cuda.get_current_stream(), self._side
        self._follow(side, main)
        try:
            with side:
                self.now = 1
                try:
                    work()
                finally:
                    self.now = 0
            yield
        finally:
            self._follow(main, side)

    def _follow(self, later: Any, earlier: Any) -> None:
        """What is asked of one stream from now on waits for what another was asked for before."""
        event = self._cuda.Event(disable_timing=True)
        event.record(earlier)
        later.wait_event(event)
