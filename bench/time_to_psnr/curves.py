"""Record one run: its PSNR on all pixels against seconds and pixel visits.

The clock runs from the picture in memory, through encoding and set-up, to the end of each step; it stands still
while the picture is evaluated. Libraries are imported, compiled and warm before it starts.
"""

from __future__ import annotations

import math
import time
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from coordfit.backends import get_backend
from coordfit.config import FitConfig
from coordfit.images import Picture
from coordfit.images.metrics import psnr
from coordfit.training.job import Job
from coordfit.training.trainer import Trainer

Row = dict[str, float]
_EVALUATIONS = 50


class Fitter(Protocol):
    """A fit under way in some library."""

    def take_steps(self, count: int) -> None:
        """Train, to the end of the last step."""

    def picture(self) -> NDArray[Any]:
        """Return the reconstruction (H, W, C), unclipped."""


class Ours:
    """`coordfit.training.Trainer`, step by step."""

    def __init__(self, picture: Picture, config: FitConfig, device: str) -> None:
        self.backend = get_backend(device)
        self._active = self.backend.activate()
        self._active.__enter__()
        self.trainer = Trainer([Job(picture, config)], self.backend)

    def take_steps(self, count: int) -> None:
        """See `Fitter`."""
        end = self.trainer.step + count
        while self.trainer.step < end:
            self.trainer.take_steps(end - self.trainer.step)
        self.backend.synchronize()

    def picture(self) -> NDArray[Any]:
        """See `Fitter`."""
        return self.trainer.model.render()

    def close(self) -> None:
        """Give the worker threads back."""
        self._active.__exit__(None, None, None)


class Clock:
    """Adds up seconds by the wall's clock, and those of all processors, inside its `with` blocks."""

    def __init__(self) -> None:
        self.seconds = self.processor = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter(), time.process_time()

    def __exit__(self, *raised: object) -> None:
        wall, processor = self._start
        self.seconds += time.perf_counter() - wall
        self.processor += time.process_time() - processor


def make_fitter(library: str, picture: Picture, config: FitConfig, device: str) -> Any:
    """Return a fit in `coordfit` or `torch`, ready for its first step."""
    if library == "coordfit":
        return Ours(picture, config, device)
    from .torch_fit import TorchFit

    return TorchFit(picture, config)


def run(library: str, picture: Picture, config: FitConfig, *, stop_at: float, device: str = "cpu") -> list[Row]:
    """Train until the schedule ends or the PSNR is reached; return a row for each evaluation."""
    steps = config.steps or 0
    pixels = picture.height * picture.width
    rows: list[Row] = []
    clock, taken = Clock(), 0
    with clock:
        fitter = make_fitter(library, picture, config, device)
    try:
        while taken < steps and not (rows and rows[-1]["psnr"] >= stop_at):
            count = min(max(1, math.ceil(_spacing(config, steps))), steps - taken)
            with clock:
                fitter.take_steps(count)
            taken += count
            found = psnr(np.clip(fitter.picture(), 0.0, 1.0), picture.pixels)
            visits = taken * min(config.batch_size or pixels, pixels)
            times = {"seconds": clock.seconds, "processor seconds": clock.processor}
            rows.append({"steps": taken, "visits": visits, **times, "psnr": found or 0.0})
    finally:
        fitter.close()
    return rows


def _spacing(config: FitConfig, steps: int) -> float:
    """Return the steps between evaluations: some fifty in all, at most ten for constant rates on all pixels."""
    return min(10.0, steps / _EVALUATIONS) if config.batch_size is None else steps / _EVALUATIONS


def warm_up(library: str, config: FitConfig, picture: Picture, device: str = "cpu") -> None:
    """Compile, start threads, and make plans, on a fit that does not count."""
    if library == "torch":
        from .torch_fit import choose_threads

        choose_threads(picture, config)
        return
    fitter = make_fitter(library, picture, config, device)
    fitter.take_steps(3)
    fitter.picture()
    fitter.close()
