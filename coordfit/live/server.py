"""Serve a page that shows a run while it trains: to this machine alone, at a secret address."""

from __future__ import annotations

import functools
import json
import math
import secrets
import threading
import time
from importlib import resources
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

from .snapshot import LiveSnapshot

if TYPE_CHECKING:
    from ..training.result import FitResult
    from ..training.state import Progress

_WATCHED_SECONDS = 3.0
"""How long a page counts as open after its last request."""
_LAST_LOOK_SECONDS = 2.0
"""How long the end of a run is held for an open page."""
_TYPES = {"": "text/html", "live.js": "text/javascript", "style.css": "text/css"}
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'self' 'unsafe-inline'; script-src 'self'; connect-src 'self'"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


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
        self.snapshot, self._secret, self._last_request = LiveSnapshot(), secrets.token_urlsafe(12), -math.inf
        self._is_open, self._has_seen_end = threading.Event(), threading.Event()
        self._server = _make_server(self, port)
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}/{self._secret}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_watched(self) -> bool:
        """Whether a page is open."""
        return time.monotonic() - self._last_request < _WATCHED_SECONDS

    def wait(self, seconds: float) -> None:
        """Wait until the page is open, for some seconds at most."""
        self._is_open.wait(seconds)

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
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, path: str, hosts: str | None) -> tuple[int, str, bytes]:
        """Return the status, the type and the content of what is asked for."""
        parts = urlsplit(path)
        folder, _, name = parts.path.removeprefix("/").partition("/")
        is_here = hosts in (f"127.0.0.1:{self.port}", f"localhost:{self.port}")  # no name that leads here
        if not is_here or not secrets.compare_digest(folder.encode(), self._secret.encode()):
            return 404, "text/plain", b"not found"
        self._last_request = time.monotonic()
        self._is_open.set()
        if name == "state":
            return self._state(parse_qs(parts.query).get("after", ["-1"])[0])
        if name not in _TYPES:
            return 404, "text/plain", b"not found"
        return 200, _TYPES[name], _page_file(name or "page.html")

    def _state(self, after: str) -> tuple[int, str, bytes]:
        snapshot = self.snapshot
        version, ended = snapshot.version, snapshot.ended
        if after == str(version):
            return 204, "text/plain", b""
        words = {"version": version, "name": snapshot.name, "ended": ended, "html": snapshot.fragment()}
        if ended:
            self._has_seen_end.set()
        return 200, "application/json", json.dumps(words).encode()


def _make_server(view: LiveView, port: int) -> Any:
    """Return the server of a view; imported late, as only a few runs are watched."""
    import http.server

    class Handler(http.server.BaseHTTPRequestHandler):
        """Answers GET alone, and logs nothing."""

        def do_GET(self) -> None:
            status, kind, content = view.answer(self.path, self.headers.get("Host"))
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            for name, value in _HEADERS.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    return server


@functools.cache
def _page_file(name: str) -> bytes:
    return resources.files(__package__).joinpath("page").joinpath(name).read_bytes()
