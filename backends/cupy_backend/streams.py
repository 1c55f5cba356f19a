"""Work on streams: forked to a second one, recorded into a graph, and timed on the device."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from .checks import first_line
from .cublaslt import CublasLtError

_RUNS_TO_TIME = 20
_MILLISECONDS_TO_TIME = 2.0


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
        """Have `work` done beside the work within; both see all before, and all after sees both."""
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
        """Make all later work of one stream wait for all earlier work of another."""
        event = self._cuda.Event(disable_timing=True)
        event.record(earlier)
        later.wait_event(event)


def recorded(stream: Any, work: Callable[[], None]) -> Any:
    """Return the graph of what `work` asks of a stream, which is recorded and not done."""
    stream.begin_capture()  # relaxed: allocating is allowed
    try:
        work()
    except BaseException:
        with contextlib.suppress(Exception):  # the first error is the one to tell
            stream.end_capture()  # its graph is incomplete
        raise
    return stream.end_capture()


def elapsed(cuda: Any, run: Callable[[], None]) -> float:
    """Return the milliseconds on the current stream from before a call to after it."""
    stream, start, end = cuda.get_current_stream(), cuda.Event(), cuda.Event()
    start.record(stream)
    run()
    end.record(stream)
    end.synchronize()
    return float(cuda.get_elapsed_time(start, end))


def time_in_graph(cuda: Any, run: Callable[[], None]) -> float | None:
    """Return the milliseconds of one run, of several that are replayed from a graph.

    None on the stream that all share: nothing can be recorded there.

    Raises
    ------
    CublasLtError
        The work cannot be recorded.
    """
    stream = cuda.get_current_stream()
    if stream.ptr == 0:
        return None
    run()  # loads what it needs, and takes memory
    alone = elapsed(cuda, run)
    count = int(min(max(_MILLISECONDS_TO_TIME / max(alone, 1e-6), 1), _RUNS_TO_TIME))

    def all_runs() -> None:
        for _ in range(count):
            run()

    try:
        graph = recorded(stream, all_runs)
    except CublasLtError:
        raise
    except RuntimeError as error:  # some algorithms of cublasLt run, and break a recording
        raise CublasLtError("recording", -1, first_line(error)) from error
    graph.launch(stream)
    return min(elapsed(cuda, functools.partial(graph.launch, stream)) for _ in range(3)) / count
