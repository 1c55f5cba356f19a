"""Work on any `concurrent.futures` executor: a pool of processes, or that of a cluster."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass
from typing import TypeVar

from .backends import Backend
from .errors import CoordfitError

Result = TypeVar("Result")

MOST_WAITING = 256
"""Tasks that an executor holds at once, so that memory does not grow with their number."""
_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Workers:
    """An executor, and what makes a backend in each of its processes."""

    executor: Executor
    make_backend: Callable[[], Backend]


def finished(
    executor: Executor,
    function: Callable[..., Result],
    tasks: Iterable[tuple[object, ...]],
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[tuple[int, Result]]:
    """Yield the number of each task and what `function(*task)` returns, as they finish.

    The function and its arguments are pickled by executors of other processes. No task begins after
    `should_stop` has returned True; CoordfitError if a process was killed.
    """
    numbered = enumerate(tasks)
    numbers: dict[Future[Result], int] = {}
    try:
        while not (should_stop is not None and should_stop()):
            with _killed_processes_told():
                for number, task in itertools.islice(numbered, MOST_WAITING - len(numbers)):
                    numbers[executor.submit(function, *task)] = number
            if not numbers:
                return
            done, _ = wait(numbers, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED)
            for future in sorted(done, key=lambda future: numbers[future]):
                with _killed_processes_told():
                    result = future.result()
                yield numbers.pop(future), result
    finally:
        for future in numbers:
            future.cancel()


def finished_in_order(
    executor: Executor,
    function: Callable[..., Result],
    tasks: Iterable[tuple[object, ...]],
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[Result]:
    """Yield what `finished` does, in the order of the tasks."""
    waiting: dict[int, Result] = {}
    following = 0
    for number, result in finished(executor, function, tasks, should_stop):
        waiting[number] = result
        while following in waiting:
            yield waiting.pop(following)
            following += 1


@contextlib.contextmanager
def _killed_processes_told() -> Iterator[None]:
    try:
        yield
    except BrokenExecutor as error:
        raise CoordfitError(
            "a process of the executor was killed, for want of memory perhaps; "
            "go on with fewer (in a sweep: --resume and fewer --jobs)"
        ) from error
