"""Share what all experiments need: the picture, the training of many networks, and their outcome."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

import numpy as np
from PIL import Image

from .._backends import Backend
from ..config import FitConfig, make_config
from ..errors import PictureError
from ..images import Picture, Source, bundled_picture, load_picture
from ..images.metrics import psnr
from ..report.table import Table
from ..training.job import Job, group_by_shape
from ..training.result import FitResult
from ..training.trainer import fit_together

SMALL, LARGE = 32, 128


class InterruptedStudyError(Exception):
    """Raised if the experiment was asked to stop before it was done."""


@dataclass(frozen=True)
class Drawing:
    """A picture of an outcome: a Pillow picture, or the text of an SVG."""

    name: str
    picture: Image.Image | str
    caption: str


@dataclass(frozen=True)
class Outcome:
    """What an experiment found.

    Attributes
    ----------
    question : str
        What was asked.
    settings : dict
        What all networks have in common, and what was varied.
    table : Table
        A row for each network, or for each group of equal settings.
    pictures : list of Drawing
    finding : str
        One sentence, made from the numbers of this run.
    best : tuple of str
        Columns of the table whose highest value is marked.
    within : str
        A column by whose values rows are grouped there: the highest in each group is marked.
    """

    name: str
    title: str
    question: str
    settings: dict[str, Any]
    table: Table
    pictures: list[Drawing]
    finding: str
    best: tuple[str, ...] = ()
    within: str = ""


@dataclass(frozen=True)
class Study:
    """What all experiments are given.

    Attributes
    ----------
    image : picture, path, or array, optional
        Instead of the bundled picture.
    quick : bool
        Small pictures and few steps: this shows that everything runs, and not what is true.
    should_stop : callable
        Asked after each evaluation; True ends the experiment with `InterruptedStudyError`.
    """

    backend: Backend
    image: Source | None = None
    seed: int = 0
    quick: bool = False
    should_stop: Callable[[], bool] = field(default=lambda: False)

    @cached_property
    def original(self) -> Picture:
        """Return the picture at its own size."""
        picture = bundled_picture(LARGE) if self.image is None else load_picture(self.image)
        if picture.height * picture.width == 1:
            raise PictureError(f"{picture.name} has one pixel, and none to hold out: take a larger picture")
        return picture

    def picture(self, size: int) -> Picture:
        """Return the picture with a longer side of `size` pixels, or its own if that is less."""
        if self.image is None and size in (SMALL, LARGE):
            return bundled_picture(size)
        longer = max(self.original.height, self.original.width)
        return load_picture(self.original, size=min(size, longer))

    @property
    def size(self) -> int:
        """Return the longer side of the picture that most experiments use, in pixels."""
        return SMALL if self.quick else LARGE

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return the longer sides of experiments at two sizes; one if the picture is too small for a second."""
        small = self.quick or max(self.original.height, self.original.width) <= SMALL
        return (SMALL,) if small else (SMALL, LARGE)

    def steps(self, steps: int) -> int:
        """Return the budget of an experiment: `steps`, or few of them in a quick study."""
        return min(steps, 60) if self.quick else steps

    def config(self, *, recipe: str | None = None, **settings: Any) -> FitConfig:
        """Return the settings of one network: the study's seed unless one is given, 12 evaluations in all."""
        every = max(1, math.ceil(settings["steps"] / 12))
        return make_config({"seed": self.seed, "evaluate_every": every}, settings, recipe=recipe)

    def train(self, jobs: Sequence[Job]) -> list[FitResult]:
        """Train networks, those of one shape as one batch; return results in the order of the jobs."""
        results: dict[int, FitResult] = {}
        for group in group_by_shape(jobs):
            if self.should_stop():
                raise InterruptedStudyError
            trained = fit_together([jobs[index] for index in group], self.backend, None, self.should_stop)
            results |= zip(group, trained, strict=True)
        if self.should_stop():
            raise InterruptedStudyError
        return [results[index] for index in range(len(jobs))]


def figures_of(result: FitResult) -> dict[str, float | None]:
    """Return the columns that tell how good a network is, training and held-out pixels apart."""
    metrics = result.metrics
    names = ("psnr_train", "psnr_held_out") if metrics["psnr_held_out"] is not None else ("psnr",)
    return {name: metrics[name] for name in (*names, "ssim")}


def captions_of(result: FitResult) -> list[tuple[str, str]]:
    """Return the same as captions below a picture."""
    words = {"psnr": "PSNR", "psnr_train": "train", "psnr_held_out": "held out"}
    figures = figures_of(result)
    lines = [(words[name], decibel(value)) for name, value in figures.items() if name in words]
    note = [("", "diverged")] if result.stopped == "diverged" else []
    return [*lines, *note]


def trouble_of(result: FitResult) -> str:
    """Return what went wrong in training, in words; usually nothing."""
    if result.stopped == "diverged":
        return "diverged"
    pixels = result.picture.pixels
    flat = psnr(np.broadcast_to(pixels.mean(axis=(0, 1)), pixels.shape), pixels)
    return "worse than one flat colour" if result.metrics["psnr"] < (flat or 0.0) else ""


def curve(result: FitResult, column: str) -> list[tuple[float, float]]:
    """Return points (step, value) of one column of a history, without missing ones."""
    rows = [(row["step"], row[column]) for row in result.history]
    return [(float(step), float(value)) for step, value in rows if step is not None and value is not None]


def decibel(value: float | None) -> str:
    """Return a PSNR as people read it."""
    return "no value" if value is None else f"{value:.2f} dB"


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and standard deviation of the same network from several seeds; 0 for one alone."""
    return fmean(values), stdev(values) if len(values) > 1 else 0.0


def common_settings(config: FitConfig, picture: Picture, *varied: str) -> dict[str, Any]:
    """Return what a report says of all networks of an experiment, without what was varied."""
    names = (
        "encoding",
        "sigma",
        "num_frequencies",
        "depth",
        "hidden_size",
        "loss",
        "optimizer",
        "learning_rate",
        "schedule",
        "batch_size",
        "train_on",
        "steps",
        "seed",
    )
    values = config.as_dict() | {"sigma": config.resolved_sigma, "batch_size": config.batch_size or "full"}
    told = {name.replace("_", " "): values[name] for name in names if name not in varied}
    return {"picture": f"{picture.name}, {picture.width} x {picture.height}", **told}
