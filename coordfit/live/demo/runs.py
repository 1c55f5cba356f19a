"""Train one picture after another in a thread, each with the choices of the page."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ...config import FitConfig, make_config
from ...encoders.registry import encoding_class
from ...errors import ConfigError, CoordfitError
from ...images import Picture, load_picture
from ...tasks.fit import fit
from ..snapshot import LiveSnapshot

if TYPE_CHECKING:
    from ...training.result import FitResult
    from ...training.state import Progress

Settings = Mapping[str, Any]

ENCODINGS = ("none", "basic", "gaussian")
SIZES = (64, 128, 256)
"""Pixels of the longer side that the page offers; a smaller picture is left as it is."""
_MOST_KEPT = 6
_MOST_SHARE = 0.15
"""Of the time of a run, the most that its pictures take: here one watches."""


def choices_of(asked: Mapping[str, str]) -> tuple[dict[str, Any], int]:
    """Return the settings of a fit and the longer side that a page asks for; ConfigError if it cannot."""
    encoding, size = asked.get("encoding", ""), asked.get("size", "")
    if encoding not in ENCODINGS:
        raise ConfigError(f"there is no encoding {encoding!r} here; choose one of {', '.join(ENCODINGS)}")
    if size not in map(str, SIZES):
        raise ConfigError(f"the size is one of {', '.join(map(str, SIZES))}, not {size!r}")
    settings: dict[str, Any] = {"encoding": encoding}
    if encoding == "gaussian":
        try:
            settings["sigma"] = float(asked.get("sigma", ""))
        except ValueError as error:
            raise ConfigError(f"sigma is a number, not {asked.get('sigma')!r}") from error
    return settings, int(size)


class Run:
    """One fit: its picture, its settings, what is shown of it and at last its result.

    Attributes
    ----------
    result : FitResult or None
        None before the end, and if there is nothing to show.
    error : str
        Why there is no result, in one line.
    """

    def __init__(self, number: int, picture: Picture, size: int, settings: Settings, others: Settings) -> None:
        self.number, self._settings, self._others = number, settings, others
        self.config: FitConfig = make_config(settings)
        self.picture = load_picture(picture, size=size) if max(picture.shape) > size else picture
        self.snapshot = LiveSnapshot(_MOST_SHARE)
        self.result: FitResult | None = None
        self.error, self.is_over = "", False
        self._is_stopped = threading.Event()

    @property
    def title(self) -> str:
        """The picture and the encoding in one line."""
        return f"{self.picture.name}, {self.picture.extent}: {self.encoding}"

    @property
    def encoding(self) -> str:
        """The encoding in words."""
        return encoding_class(self.config.encoding).title(self.config)

    @property
    def status(self) -> str:
        """Return how far it is, in words."""
        if self.result is not None:
            return f"{self.snapshot.ended}, {self.result.metrics['psnr']:.2f} dB"
        if self.is_over:
            return "no result"
        return "training" if self.snapshot.version else "getting ready"

    def stop(self) -> None:
        """End the training at the next opportunity; what is learned until then is its result."""
        self._is_stopped.set()

    def train(self, is_watched: Callable[[], bool]) -> None:
        """Fit the picture, unless it was stopped before; an error becomes a line for the page."""

        def follow(progress: Progress) -> bool:
            self.snapshot.follow(progress, is_watched=is_watched())
            return self._is_stopped.is_set()

        try:
            if not self._is_stopped.is_set():
                result = fit(self.picture, callback=follow, **self._settings, **self._others)
                self.snapshot.end(result)
                self.result = result if result.metrics else None
        except Exception as error:  # the page goes on, whatever it was
            name = "" if isinstance(error, CoordfitError) else f"{type(error).__name__}: "
            self.error = name + " ".join(str(error).split())
        finally:
            self.is_over = True


class Runs:
    """The latest runs, of which one trains at a time.

    Parameters
    ----------
    is_watched : callable
        Whether pictures are drawn during training.
    others : dict
        Settings of every fit that are not chosen on the page.
    """

    def __init__(self, is_watched: Callable[[], bool], others: Settings) -> None:
        self._is_watched, self._others, self._count = is_watched, others, 0
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="coordfit-demo")
        self.kept: tuple[Run, ...] = ()

    @property
    def latest(self) -> Run | None:
        """The run that was asked for last."""
        return self.kept[-1] if self.kept else None

    @property
    def finished(self) -> list[tuple[Run, FitResult]]:
        """The kept runs with results, the latest first."""
        return [(run, run.result) for run in reversed(self.kept) if run.result is not None]

    def begin(self, picture: Picture, size: int, settings: Settings) -> None:
        """Stop what trains, and train another one after it."""
        run = Run(self._count, picture, size, settings, self._others)
        self.stop()
        self._count += 1
        self.kept = (*self.kept, run)[-_MOST_KEPT:]
        self._worker.submit(run.train, self._is_watched)

    def stop(self) -> None:
        """Stop what trains and what waits."""
        for run in self.kept:
            run.stop()

    def close(self) -> None:
        """Stop what trains, and wait for it."""
        self.stop()
        self._worker.shutdown(cancel_futures=True)
