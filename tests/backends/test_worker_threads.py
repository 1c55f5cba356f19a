"""Worker threads begin, or it is known that they do not."""

import threading

import pytest
from coordfit.backends.numpy_backend.worker_threads import WorkerThreads


def threads_that_end_at_once(monkeypatch, count):
    """Make the next threads end before they run anything, and return the list of all that are started."""
    started = []

    class Thread(threading.Thread):
        def run(self):
            started.append(self)
            if len(started) > count:
                super().run()

    monkeypatch.setattr(threading, "Thread", Thread)
    return started


def test_a_thread_that_ends_before_it_begins_is_started_again(monkeypatch):
    started, done = threads_that_end_at_once(monkeypatch, 2), []
    workers = WorkerThreads(2, lambda: None)
    try:
        workers.run([lambda: done.append("here"), lambda: done.append("there")])
    finally:
        workers.close()
    assert sorted(done) == ["here", "there"]
    assert len(started) == 3


def test_threads_that_never_begin_are_an_error(monkeypatch):
    threads_that_end_at_once(monkeypatch, 100)
    with pytest.raises(RuntimeError, match="coordfit-worker-1: threads end before they begin"):
        WorkerThreads(2, lambda: None)
