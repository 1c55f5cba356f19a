"""Worker threads with two queues each, cheaper than an executor.

Steps hand out work hundreds of times a second; an executor's queue, future and condition cost several times as
much. A queue's `put` and `get` are single C calls, so Ctrl-C comes before or after them and leaves no worker in
an undefined state.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

Task = Callable[[], None]

_PATIENCE = 0.1  # seconds between looks whether a thread that should begin has died
_ATTEMPTS = 5


class WorkerThreads:
    """The calling thread and `count - 1` others, which run tasks side by side.

    Parameters
    ----------
    count : int
        Workers, the calling thread included.
    prepare : callable
        Called once in each new thread.
    """

    def __init__(self, count: int, prepare: Callable[[], object]) -> None:
        self._workers = [_Worker(f"coordfit-worker-{k}", prepare) for k in range(1, count)]
        self._ticket = 0
        self._process = os.getpid()

    @property
    def are_alive(self) -> bool:
        """Whether this process has the threads: a forked child has none."""
        return self._process == os.getpid()

    def run(self, tasks: Sequence[Task], cancel: Task | None = None) -> None:
        """Run the first task here and the others in the threads; wait for all, then raise the first error.

        On an error here, `cancel` is called: tasks that wait for each other must then end.
        """
        here, *others = tasks
        self._ticket += 1
        error: BaseException | None = None
        try:
            for worker, task in zip(self._workers, others, strict=False):
                worker.begin(self._ticket, task)
            try:
                here()
                for task in others[len(self._workers) :]:  # more tasks than threads
                    task()
            except BaseException as raised:
                error = raised
                if cancel is not None:
                    cancel()
            for worker, _ in zip(self._workers, others, strict=False):
                failed = worker.wait(self._ticket)
                error = error or failed
        except BaseException:  # Ctrl-C while handing out or waiting, at an unknown point
            if cancel is not None:
                cancel()
            self._wait_until_idle()
            raise
        if error is not None:
            raise error

    def _wait_until_idle(self) -> None:
        """Wait until all threads are idle: they write into the caller's arrays."""
        self._ticket += 1
        for worker in self._workers:
            worker.begin(self._ticket, lambda: None)
        for worker in self._workers:
            worker.wait(self._ticket)

    def close(self) -> None:
        """End the threads and wait for their end."""
        for worker in self._workers:
            worker.end()


class _Worker:
    def __init__(self, name: str, prepare: Callable[[], object]) -> None:
        self._tasks: SimpleQueue[tuple[int, Task] | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[int, BaseException | None]] = SimpleQueue()
        self._prepare, self._name = prepare, name
        if not any(self._has_begun() for _ in range(_ATTEMPTS)):
            raise RuntimeError(f"{name}: threads end before they begin")

    def _has_begun(self) -> bool:
        """Start the thread; return whether it works.

        CPython 3.11 ends a thread at its very start if another one just installs a tracer, as coverage does.
        """
        self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        self._thread.start()
        try:
            while True:
                try:
                    self._done.get(timeout=_PATIENCE)
                    return True
                except Empty:
                    if not self._thread.is_alive() and self._done.empty():
                        return False
        except BaseException:  # Ctrl-C
            self._tasks.put(None)
            raise

    def begin(self, ticket: int, task: Task) -> None:
        self._tasks.put((ticket, task))

    def wait(self, ticket: int) -> BaseException | None:
        """Return the error of the task with this ticket, or None; drop results of earlier tickets."""
        while True:
            done, error = self._done.get()
            if done == ticket:
                return error

    def end(self) -> None:
        self._tasks.put(None)
        self._thread.join()

    def _work(self) -> None:
        self._prepare()
        self._done.put((0, None))  # it has begun
        while (given := self._tasks.get()) is not None:
            ticket, task = given
            error: BaseException | None = None
            try:
                task()
            except BaseException as raised:
                error = raised
            self._done.put((ticket, error))
            del given, task, error  # so that a waiting thread keeps no arrays alive
