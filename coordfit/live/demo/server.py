"""Serve a page on which a picture is dropped, fitted, watched and compared with others."""

from __future__ import annotations

import dataclasses
import html
import json
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ...errors import CoordfitError, PictureError
from ...files import escaped, printable
from ...images import Picture, bundled_picture, load_picture, save_picture
from ...tasks.export import export
from ..local_server import NOT_FOUND, WHOLE_PAGE_POLICY, Answer, LocalServer, Query, in_words, page_file
from .runs import Run, Runs, choices_of

if TYPE_CHECKING:
    from ...training.result import FitResult

MOST_BYTES = 64 * 2**20
"""Of the file of a picture."""
_MOST_LETTERS = 100
_LIVE = __package__.rpartition(".")[0]
_PAGE = {
    "": (__package__, "demo.html"),
    "demo.js": (__package__, "demo.js"),
    "demo.css": (__package__, "demo.css"),
    "live.js": (_LIVE, "live.js"),
    "style.css": (_LIVE, "style.css"),
}
_NOTHING_YET = {
    "name": "No picture yet",
    "status": "drop one, choose one, or take the bundled one",
    "error": "",
    "html": "",
    "is_training": False,
    "results": "",
}


def _write_original(picture: Picture, path: Path) -> None:
    save_picture(path, picture.pixels, bit_depth=picture.bit_depth)


def _write_picture(result: FitResult, path: Path) -> None:
    save_picture(path, result.reconstruction, bit_depth=result.signal.bit_depth)


def _write_page(result: FitResult, path: Path) -> None:
    export(result.model, path, to="html")


_FILES: dict[str, tuple[str, Callable[[FitResult, Path], None]]] = {
    "png": ("image/png", _write_picture),
    "html": ("text/html", _write_page),
    "safetensors": ("application/octet-stream", lambda result, path: result.save(path)),
}


class Demo:
    """Serves a page on 127.0.0.1 on which one drops pictures and watches how they are learned.

        with Demo() as demo:
            print(demo.url)
            input("Enter ends it")

    One picture trains at a time; the next one stops it. Results stay in memory, the last six of them.

    Parameters
    ----------
    port : int
        0 for any free one; OSError if it is taken.
    **settings
        Of every fit, as of `coordfit.fit`, e.g. `device="cpu", steps=300`.

    Attributes
    ----------
    url : str
        The address of the page, with a secret that others on this machine do not know.
    """

    def __init__(self, port: int = 0, **settings: Any) -> None:
        self._lock = threading.Lock()
        self._picture: Picture | None = None
        self._server = LocalServer(self._get, self._post, port=port, most_bytes=MOST_BYTES)
        self._runs = Runs(lambda: self._server.is_watched, settings)
        self._folder = tempfile.TemporaryDirectory(prefix="coordfit-", ignore_cleanup_errors=True)
        self.port, self.url = self._server.port, self._server.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the server and the training, and forget the results."""
        self._server.close()
        self._runs.close()
        self._folder.cleanup()

    # -- what is asked for -------------------------------------------------------------------------------

    def _get(self, name: str, query: Query) -> Answer:
        if name in _PAGE:
            return page_file(*_PAGE[name])
        if name == "state":
            return self._state(query.get("after"))
        folder, _, file = name.partition("/")
        number, _, suffix = file.partition(".")
        pictures = {str(run.number): run.picture for run in self._runs.kept}
        results = {str(run.number): result for run, result in self._runs.finished}
        if folder == "pictures" and number in pictures:
            return self._made("png", lambda path: _write_original(pictures[number], path))
        if folder == "results" and number in results and suffix in _FILES:
            return self._made(suffix, lambda path: _FILES[suffix][1](results[number], path))
        return NOT_FOUND

    def _post(self, name: str, query: Query, body: bytes) -> Answer:
        if name == "stop":
            self._runs.stop()
            return in_words(200, "")
        if name != "fit":
            return NOT_FOUND
        try:
            settings, size = choices_of(query)
            with self._lock:
                self._picture = self._picture_of(query, body)
                self._runs.begin(self._picture, size, settings)
        except (CoordfitError, OSError) as error:
            return in_words(400, str(error))
        return in_words(200, "")

    def _picture_of(self, query: Query, body: bytes) -> Picture:
        """Return the picture that a page names or sends."""
        if query.get("picture") == "bundled":
            return bundled_picture()
        if query.get("picture") == "same":
            if self._picture is None:
                raise PictureError("there is no picture yet: drop one first")
            return self._picture
        name = escaped(query.get("name", ""))[:_MOST_LETTERS] or "picture"
        with tempfile.TemporaryDirectory(dir=self._folder.name) as folder:
            path = Path(folder) / "picture"  # the page's name chooses no path
            path.write_bytes(body)
            try:
                return dataclasses.replace(load_picture(path), name=name)
            except PictureError as error:
                raise PictureError(str(error).replace(printable(path), name)) from error

    # -- what is answered --------------------------------------------------------------------------------

    def _state(self, after: str | None) -> Answer:
        run = self._runs.latest
        is_over = run is None or run.is_over  # read first, as the worker sets it last
        results = self._runs.finished
        version = f"{run.number} {run.snapshot.version} {is_over} {len(results)}" if run else "none"
        if after == version:
            return in_words(204, "")
        words = _NOTHING_YET if run is None else _told(run, results, is_over=is_over)
        words = words | {"version": version, "most_bytes": MOST_BYTES}
        return Answer(200, "application/json", json.dumps(words).encode())

    def _made(self, suffix: str, write: Callable[[Path], None]) -> Answer:
        """Return a file that is written for it alone."""
        with tempfile.TemporaryDirectory(dir=self._folder.name) as folder:
            path = Path(folder) / f"made.{suffix}"
            write(path)
            return Answer(200, _FILES[suffix][0], path.read_bytes(), WHOLE_PAGE_POLICY)


def _told(run: Run, results: list[tuple[Run, FitResult]], *, is_over: bool) -> dict[str, Any]:
    """Return what the page shows of a run, and of the results so far."""
    return {
        "name": escaped(run.title),
        "status": run.status,
        "error": run.error,
        "html": run.snapshot.fragment() if run.snapshot.version else "",
        "is_training": not is_over,
        "results": _cards(run, results),
    }


def _cards(latest: Run, results: list[tuple[Run, FitResult]]) -> str:
    """Return the picture and the results beside each other, as HTML with all text escaped."""
    picture = latest.picture
    original = _card(f"pictures/{latest.number}.png", picture, "the picture", "", "")
    return original + "".join(_result_card(run, result) for run, result in results)


def _result_card(run: Run, result: FitResult) -> str:
    base, title = f"results/{run.number}", html.escape(run.title, quote=True)
    stem = html.escape(f"{Path(run.picture.name).stem}-{run.number + 1}", quote=True)
    links = (
        f'<a href="{base}.html" target="_blank" rel="noopener" aria-label="Zoom: {title}">Zoom</a> '
        f'<a href="{base}.png" download="{stem}.png" aria-label="PNG: {title}">PNG</a> '
        f'<a href="{base}.safetensors" download="{stem}.safetensors" aria-label="Model: {title}">Model</a>'
    )
    psnr = f"<strong>{result.metrics['psnr']:.2f} dB</strong>"
    return _card(f"{base}.png", run.picture, run.encoding, psnr, links)


def _card(address: str, picture: Picture, caption: str, psnr: str, links: str) -> str:
    name = html.escape(f"{escaped(picture.name)}, {picture.extent}")
    alt = html.escape(f"{escaped(picture.name)}: {caption}", quote=True)
    return (
        f'<li><img src="{address}" alt="{alt}"><p>{psnr} {html.escape(caption)}</p>'
        f'<p class="small">{name}</p><p class="links">{links}</p></li>'
    )
