"""Serve a page that shows a run while it trains."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Self

from .local_server import NOT_FOUND, Answer, LocalServer, Query, in_words, page_file
from .snapshot import LiveSnapshot

if TYPE_CHECKING:
    from ..training.result import FitResult
    from ..training.state import Progress

_LAST_LOOK_SECONDS = 2.0
"""How long the end of a run is held for an open page."""
_FILES = {"": "page.html", "live.js": "live.js", "style.css": "style.css"}


class LiveView:
    """A callback that serves a page on 127.0.0.1 while a fit trains.

        with coordfit.LiveView() as view:
            print(view.url)
            view.end(coordfit.fit("photo.png", callback=view))

    The picture is drawn only while the page is open, in at most 1.5 % of the time.

    Parameters
    ----------
    port : int
        0 for any free one; OSError if it is taken.

    Attributes
    ----------
    url : str
        The address of the page, with a secret that others on this machine do not know.
    """

    def __init__(self, port: int = 0) -> None:
        self.snapshot, self._has_seen_end = LiveSnapshot(), threading.Event()
        self._server = LocalServer(self._answer, port=port)
        self.port, self.url = self._server.port, self._server.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_watched(self) -> bool:
        """Whether a page is open."""
        return self._server.is_watched

    def wait(self, seconds: float) -> None:
        """Wait until the page is open, for some seconds at most."""
        self._server.wait(seconds)

    def __call__(self, progress: Progress) -> None:
        """Show the progress of a run."""
        self.snapshot.follow(progress, is_watched=self.is_watched)

    def end(self, result: FitResult) -> None:
        """Show the result of a run, and hold it for a moment if the page is open."""
        self.snapshot.end(result)
        if self.is_watched:
            self._has_seen_end.wait(_LAST_LOOK_SECONDS)

    def close(self) -> None:
        """End the server; the page keeps what it shows."""
        self._server.close()

    def _answer(self, name: str, query: Query) -> Answer:
        if name == "state":
            return self._state(query.get("after"))
        return page_file(__package__, _FILES[name]) if name in _FILES else NOT_FOUND

    def _state(self, after: str | None) -> Answer:
        snapshot = self.snapshot
        version, ended = snapshot.version, snapshot.ended
        if after == str(version):
            return in_words(204, "")
        words = {
            "version": version,
            "name": snapshot.name,
            "status": ended or "training",
            "ended": ended,
            "html": snapshot.fragment(),
        }
        if ended:
            self._has_seen_end.set()
        return Answer(200, "application/json", json.dumps(words).encode())
