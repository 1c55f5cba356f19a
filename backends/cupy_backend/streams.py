"""Work on streams: run on a second one, recorded into a graph, and timed on the device."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from .checks import first_line
from .cublaslt.library import CublasLtError

_RUNS_TO_TIME = 20
_MILLISECONDS_TO_TIME = 2.0


class StreamPair:
    """Runs work on a second stream and joins it, by events that a recording captures too.

    Attributes
    ----------
    current : int
        0 for the caller's stream, 1 for the second one. Reused memory belongs to one of them.
    """

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        self._side: Any = None
        self.current = 0

    @contextlib.contextmanager
    def in_parallel(self, work: Callable[[], None]) -> Iterator[None]:
        """Run `work` concurrently with the block; both follow all earlier work and precede all later work."""
        if self._side is None:
            self._side = self._cuda.Stream(non_blocking=True)
        main, side = self._cuda.get_current_stream(), self._side
        self._follow(side, main)
        try:
            with side:
                self.current = 1
                try:
                    work()
                finally:
                    self.current = 0
            yield
        finally:
            self._follow(main, side)

    def _follow(self, later: Any, earlier: Any) -> None:
        """Make all later work of one stream wait for all earlier work of another."""
        event = self._cuda.Event(disable_timing=True)
        event.record(earlier)
        later.wait_event(event)


def recorded(stream: Any, work: Callable[[], None]) -> Any:
    """Return the graph of the work that `work` enqueues on a stream; it is recorded, not executed."""
    stream.begin_capture()  # relaxed: allocating is allowed
    try:
        work()
    except BaseException:
        with contextlib.suppress(Exception):  # the first error matters
            stream.end_capture()
        raise
    return stream.end_capture()


def elapsed(cuda: Any, run: Callable[[], None]) -> float:
    """Return the milliseconds that a call takes on the current stream."""
    stream, start, end = cuda.get_current_stream(), cuda.Event(), cuda.Event()
    start.record(stream)
    run()
    end.record(stream)
    end.synchronize()
    return float(cuda.get_elapsed_time(start, end))


def time_in_graph(cuda: Any, run: Callable[[], None]) -> float | None:
    """Return the milliseconds of one run, from several runs in a graph.

    Return None on the null stream, which cannot be recorded.

    Raises
    ------
    CublasLtError
        The work cannot be recorded.
    """
    stream = cuda.get_current_stream()
    if stream.ptr == 0:
        return None
    run()  # loads kernels and takes memory
    alone = elapsed(cuda, run)
    count = int(min(max(_MILLISECONDS_TO_TIME / max(alone, 1e-6), 1), _RUNS_TO_TIME))

    def all_runs() -> None:
        for _ in range(count):
            run()

    try:
        graph = recorded(stream, all_runs)
    except CublasLtError:
        raise
    except RuntimeError as error:  # some algorithms of cublasLt cannot be recorded
        raise CublasLtError("recording", -1, first_line(error)) from error
    graph.launch(stream)
    return min(elapsed(cuda, functools.partial(graph.launch, stream)) for _ in range(3)) / count
