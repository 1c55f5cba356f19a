"""Serve a page to this machine alone, at a secret address."""

from __future__ import annotations

import functools
import math
import secrets
import sys
import threading
import time
from collections.abc import Callable, Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from email.message import Message

Query = Mapping[str, str]

_WATCHED_SECONDS = 3.0
"""How long a page counts as open after its last request."""
_STALLED_SECONDS = 30.0
"""How long a request may send nothing before it is given up."""
_NOWHERE = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
PAGE_POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src 'self'; "
    f"connect-src 'self'; {_NOWHERE}"
)
"""What a page may load: its own files alone."""
WHOLE_PAGE_POLICY = (
    "sandbox allow-scripts; default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    f"script-src 'unsafe-inline'; {_NOWHERE}"
)
"""For a page that has all of it inside and may ask for nothing, not even from this server."""
_HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}


class Answer(NamedTuple):
    """The status, the type and the content of an answer, and what a page may load."""

    status: int
    kind: str
    content: bytes
    policy: str = PAGE_POLICY


NOT_FOUND = Answer(404, "text/plain", b"not found")


def in_words(status: int, text: str) -> Answer:
    """Return an answer of one line."""
    return Answer(status, "text/plain", text.encode())


class LocalServer:
    """A server on 127.0.0.1 that answers only requests with its secret, in threads of its own.

    Parameters
    ----------
    get : callable
        Returns the answer for a name and a query.
    post : callable, optional
        The same, with the body; without it POST is refused.
    port : int
        0 for any free one; OSError if it is taken.
    most_bytes : int
        Of a body; a larger one is refused and not read.

    Attributes
    ----------
    url : str
        The address of the page, with a secret that others on this machine do not know.
    """

    def __init__(
        self,
        get: Callable[[str, Query], Answer],
        post: Callable[[str, Query, bytes], Answer] | None = None,
        *,
        port: int = 0,
        most_bytes: int = 0,
    ) -> None:
        self._get, self._post, self._most_bytes = get, post, most_bytes
        self._secret, self._last_request = secrets.token_urlsafe(12), -math.inf
        self._is_open = threading.Event()
        self._server = _make_server(self, port)
        self.host, self.port = str(self._server.server_address[0]), int(self._server.server_address[1])
        self.url = f"http://{self.host}:{self.port}/{self._secret}/"
        self._hosts = tuple(f"{name}:{self.port}" for name in (self.host, "localhost"))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    @property
    def is_watched(self) -> bool:
        """Whether a page is open."""
        return time.monotonic() - self._last_request < _WATCHED_SECONDS

    def wait(self, seconds: float) -> None:
        """Wait until the page is open, for some seconds at most."""
        self._is_open.wait(seconds)

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer_get(self, path: str, headers: Message) -> Answer:
        """Return the answer to GET."""
        asked = self._asked(path, headers)
        return NOT_FOUND if asked is None else self._get(*asked)

    def answer_post(self, path: str, headers: Message, read: Callable[[int], bytes]) -> Answer:
        """Return the answer to POST; the body is read after all else was checked."""
        asked = self._asked(path, headers)
        if asked is None:
            return NOT_FOUND
        if self._post is None:
            return in_words(501, "only GET is answered")
        length = headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            return in_words(411, "the request does not say how long it is")
        if len(length) > 18 or int(length) > self._most_bytes:
            most = self._most_bytes // 2**20
            return in_words(413, f"the file has more than {most} MiB: make the picture smaller first")
        body = read(int(length))
        if len(body) < int(length):
            return in_words(400, "the file did not arrive whole: send it again")
        return self._post(*asked, body)

    def _asked(self, path: str, headers: Message) -> tuple[str, Query] | None:
        """Return the name and the query of what is asked for; None for requests without the secret.

        A page elsewhere may have a name that leads here: its host or its origin tells.
        """
        parts = urlsplit(path)
        folder, _, name = parts.path.removeprefix("/").partition("/")
        origins = (None, *(f"http://{host}" for host in self._hosts))
        is_ours = headers.get("Host") in self._hosts and headers.get("Origin") in origins
        if not is_ours or not secrets.compare_digest(folder.encode(), self._secret.encode()):
            return None
        self._last_request = time.monotonic()
        self._is_open.set()
        return name, dict(parse_qsl(parts.query))


@functools.cache
def page_file(package: str, name: str) -> Answer:
    """Return a file from the folder `page` of a package."""
    file = resources.files(package).joinpath("page").joinpath(name)
    return Answer(200, _TYPES[name[name.rindex(".") :]], file.read_bytes())


def _make_server(local: LocalServer, port: int) -> Any:
    """Return the HTTP server; imported late, as only a few runs are watched."""
    import http.server

    class Handler(http.server.BaseHTTPRequestHandler):
        """Answers GET and POST, and logs nothing."""

        timeout = _STALLED_SECONDS

        def do_GET(self) -> None:
            self._send(local.answer_get(self.path, self.headers))

        def do_POST(self) -> None:
            self._send(local.answer_post(self.path, self.headers, self.rfile.read))

        def _send(self, answer: Answer) -> None:
            self.send_response(answer.status)
            charset = "; charset=utf-8" if answer.kind.startswith("text/") else ""
            self.send_header("Content-Type", answer.kind + charset)
            self.send_header("Content-Length", str(len(answer.content)))
            self.send_header("Content-Security-Policy", answer.policy)
            for name, value in _HEADERS.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *request: Any) -> None:
            if not isinstance(sys.exception(), ConnectionError):  # a page that was closed
                super().handle_error(*request)

    return Server(("127.0.0.1", port), Handler)
