"""What the experiments share: the picture, the training of many networks, and what comes of it."""

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
    """The experiment was asked to stop before it was done."""


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
        Columns of the table of which the highest value matters.
    within : str
        A column whose values are told apart there: the highest for each of them.
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
        Small pictures and few steps: whether everything runs, not what is true.
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
        """The picture at its own size."""
        picture = bundled_picture(LARGE) if self.image is None else load_picture(self.image)
        if picture.height * picture.width == 1:
            raise PictureError(f"{picture.name} has one pixel, and none to hold out: take a larger picture")
        return picture

    def picture(self, size: int) -> Picture:
        """The picture with a longer side of `size` pixels, or its own where that is less."""
        if self.image is None and size in (SMALL, LARGE):
            return bundled_picture(size)
        longer = max(self.original.height, self.original.width)
        return load_picture(self.original, size=min(size, longer))

    @property
    def size(self) -> int:
        """The longer side of the picture that most experiments use, in pixels."""
        return SMALL if self.quick else LARGE

    @property
    def sizes(self) -> tuple[int, ...]:
        """The longer sides of experiments at two sizes; one where the picture is too small for a second."""
        small = self.quick or max(self.original.height, self.original.width) <= SMALL
        return (SMALL,) if small else (SMALL, LARGE)

    def steps(self, steps: int) -> int:
        """The budget of an experiment: `steps`, or few of them in a quick study."""
        return min(steps, 60) if self.quick else steps

    def config(self, *, recipe: str | None = None, **settings: Any) -> FitConfig:
        """Settings of one network, with the study's seed where none is given; 12 evaluations in all."""
        every = max(1, math.ceil(settings["steps"] / 12))
        return make_config({"seed": self.seed, "evaluate_every": every}, settings, recipe=recipe)

    def train(self, jobs: Sequence[Job]) -> list[FitResult]:
        """Train networks, those of one shape as one batch; results in the order of the jobs."""
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
    """The columns that tell how good a network is, training and held-out pixels apart."""
    metrics = result.metrics
    names = ("psnr_train", "psnr_held_out") if metrics["psnr_held_out"] is not None else ("psnr",)
    return {name: metrics[name] for name in (*names, "ssim")}


def captions_of(result: FitResult) -> list[tuple[str, str]]:
    """The same below a picture."""
    words = {"psnr": "PSNR", "psnr_train": "train", "psnr_held_out": "held out"}
    figures = figures_of(result)
    lines = [(words[name], decibel(value)) for name, value in figures.items() if name in words]
    note = [("", "diverged")] if result.stopped == "diverged" else []
    return [*lines, *note]


def trouble_of(result: FitResult) -> str:
    """What went wrong in training, for people: nothing for most."""
    if result.stopped == "diverged":
        return "diverged"
    pixels = result.picture.pixels
    flat = psnr(np.broadcast_to(pixels.mean(axis=(0, 1)), pixels.shape), pixels)
    return "worse than one flat colour" if result.metrics["psnr"] < (flat or 0.0) else ""


def curve(result: FitResult, column: str) -> list[tuple[float, float]]:
    """Points (step, value) of one column of a history, without those that are missing."""
    rows = [(row["step"], row[column]) for row in result.history]
    return [(float(step), float(value)) for step, value in rows if step is not None and value is not None]


def decibel(value: float | None) -> str:
    """A PSNR as people read it."""
    return "no value" if value is None else f"{value:.2f} dB"


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation of the same network from several seeds; 0 for one alone."""
    return fmean(values), stdev(values) if len(values) > 1 else 0.0


def common_settings(config: FitConfig, picture: Picture, *varied: str) -> dict[str, Any]:
    """What a report says of the networks of an experiment, without what was varied."""
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
