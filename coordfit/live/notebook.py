"""Show a run in a notebook, in a display that changes while a fit trains; it needs no widgets."""

from __future__ import annotations

import importlib
import sys
import time
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from .snapshot import MOST_SHARE, LiveSnapshot

if TYPE_CHECKING:
    from ..training.result import FitResult
    from ..training.state import Progress

_SECONDS_BETWEEN = 0.5


class NotebookView:
    """A callback that shows a run where a cell of a notebook makes it; ConfigError outside of notebooks."""

    def __init__(self) -> None:
        if "ipykernel" not in sys.modules:
            raise ConfigError(
                "live=True is for notebooks; elsewhere take callback=coordfit.LiveView() and open its url"
            )
        self._display: Any = importlib.import_module("IPython.display")
        self.snapshot, self._shown = LiveSnapshot(), None
        self._began = self._latest = time.perf_counter()
        self._spent = 0.0

    def __call__(self, progress: Progress) -> None:
        """Show the progress of a run."""
        now = time.perf_counter()
        is_time = self._shown is None or (
            now - self._latest >= _SECONDS_BETWEEN and self._spent <= MOST_SHARE * (now - self._began)
        )
        self.snapshot.follow(progress, is_watched=is_time)
        if is_time:
            self._show()
            self._latest = time.perf_counter()
            self._spent += self._latest - now

    def end(self, result: FitResult) -> None:
        """Show the result of a run."""
        self.snapshot.end(result)
        self._show()

    def _show(self) -> None:
        shown = self._display.HTML(self.snapshot.fragment())
        if self._shown is None:
            self._shown = self._display.display(shown, display_id=True)
        else:
            self._shown.update(shown)
