"""Threads that wait for work with as little ceremony as Python allows.

A step hands out work hundreds of times a second; an executor's queue, future and condition cost several times
as much as the two locks a worker has here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

Task = Callable[[], None]


class WorkerThreads:
    """The calling thread and `count - 1` others, which run tasks side by side.

    Parameters
    ----------
    count : int
        Workers, the calling thread included.
    prepare : callable
        Run once in each new thread.
    """

    def __init__(self, count: int, prepare: Callable[[], object]) -> None:
        self._workers = [_Worker(f"coordfit-worker-{k}", prepare) for k in range(1, count)]

    def run(self, tasks: Sequence[Task], cancel: Task | None = None) -> None:
        """Run the first task here and the others in the threads; wait for all, then raise the first error.

        `cancel` is called where something is raised here: tasks that wait for one another must then end.
        """
        here, *others = tasks
        error: BaseException | None = None
        begun = []
        try:
            for worker, task in zip(self._workers, others, strict=False):
                worker.begin(task)
                begun.append(worker)
            here()
            for task in others[len(self._workers) :]:  # more tasks than threads
                task()
        except BaseException as raised:
            error = raised
            if cancel is not None:
                cancel()
        for worker in begun:
            error = worker.wait() or error
        if error is not None:
            raise error

    def close(self) -> None:
        """End the threads and wait until they are gone."""
        for worker in self._workers:
            worker.end()


class _Worker:
    def __init__(self, name: str, prepare: Callable[[], object]) -> None:
        self._go, self._done = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._done.acquire()
        self._task: Callable[[], None] | None = None
        self._error: BaseException | None = None
        self._prepare = prepare
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def begin(self, task: Callable[[], None]) -> None:
        self._task = task
        self._go.release()

    def wait(self) -> BaseException | None:
        self._done.acquire()
        error, self._error = self._error, None
        return error

    def end(self) -> None:
        self._task = None
        self._go.release()
        self._thread.join()

    def _work(self) -> None:
        self._prepare()
        while True:
            self._go.acquire()
            if self._task is None:
                return
            try:
                self._task()
            except BaseException as error:
                self._error = error
            self._done.release()
