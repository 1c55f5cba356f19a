"""Provide what all experiments need: the picture, training in batches, and their outcome."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

import numpy as np
from PIL import Image

from ..backends import Backend
from ..config import FitConfig, make_config
from ..errors import PictureError
from ..images import Picture, Source, bundled_picture, load_picture
from ..images.metrics import psnr
from ..report.side_by_side import Panel, side_by_side
from ..report.table import Table
from ..training.job import Job, group_by_shape
from ..training.result import FitResult
from ..training.trainer import fit_together

SMALL, LARGE = 32, 128
_REPORTED = (
    *("encoding", "sigma", "num_frequencies", "depth", "hidden_size", "loss", "optimizer", "learning_rate"),
    *("schedule", "batch_size", "train_on", "steps", "seed"),
)


@dataclass(frozen=True)
class Drawing:
    """A picture of an outcome: a Pillow picture, or the text of an SVG."""

    name: str
    picture: Image.Image | str
    caption: str


@dataclass(frozen=True)
class Outcome:
    """The answer of an experiment.

    Attributes
    ----------
    question : str
    settings : dict
        Settings that all networks have in common, and the varied ones.
    table : Table
        A row for each network, or for each group of equal settings.
    pictures : list of Drawing
    finding : str
        One sentence, made from the numbers of this run.
    best : tuple of str
        Columns of the table whose highest value is marked.
    within : str
        A column that groups the rows: the highest value of each group is marked.
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
    """The picture, backend and size of a study.

    Attributes
    ----------
    image : picture, path, or array, optional
        Instead of the bundled picture.
    quick : bool
        Small pictures and few steps, which show that everything runs, and no more.
    """

    backend: Backend
    image: Source | None = None
    seed: int = 0
    quick: bool = False

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
        """Return the longer side of the picture in most experiments, in pixels."""
        return SMALL if self.quick else LARGE

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return the longer sides for experiments at two sizes; one if the picture is too small."""
        small = self.quick or max(self.original.height, self.original.width) <= SMALL
        return (SMALL,) if small else (SMALL, LARGE)

    def steps(self, steps: int) -> int:
        """Return the budget of an experiment: `steps`, or fewer in a quick study."""
        return min(steps, 60) if self.quick else steps

    def config(self, *, recipe: str | None = None, **settings: Any) -> FitConfig:
        """Return the settings of one network, with the study's seed by default and 12 evaluations."""
        every = max(1, math.ceil(settings["steps"] / 12))
        return make_config({"seed": self.seed, "evaluate_every": every}, settings, recipe=recipe)

    def train(self, jobs: Sequence[Job]) -> list[FitResult]:
        """Train networks, those of one shape as one batch; return results in the order of the jobs."""
        results: dict[int, FitResult] = {}
        for group in group_by_shape(jobs):
            trained = fit_together([jobs[index] for index in group], self.backend)
            results |= zip(group, trained, strict=True)
        return [results[index] for index in range(len(jobs))]


def figures_of(result: FitResult) -> dict[str, float | None]:
    """Return the columns that rate a network: training and held-out pixels apart, and its bits."""
    metrics = result.metrics
    names = ("psnr_train", "psnr_held_out") if metrics["psnr_held_out"] is not None else ("psnr",)
    return {name: metrics[name] for name in (*names, "ssim")} | bits_of(result)


def bits_of(result: FitResult) -> dict[str, float | None]:
    """Return bits per pixel of a network, of the plain picture, and of other codecs at the same PSNR."""
    others = {f"bits_{name}": bits for name, bits in result.other_bits_per_pixel.items()}
    return {"bits_network": result.metrics["bits_per_pixel"], **others}


def captions_of(result: FitResult) -> list[tuple[str, str]]:
    """Return the figures of a network as captions below its picture."""
    words = {"psnr": "PSNR", "psnr_train": "train", "psnr_held_out": "held out"}
    figures = figures_of(result)
    lines = [(words[name], decibel(value)) for name, value in figures.items() if name in words]
    note = [("", "diverged")] if result.stopped == "diverged" else []
    return [*lines, *note]


def panel_of(name: str, result: FitResult) -> Panel:
    """Return the panel of a network for `sheet_of`."""
    return name, result.reconstruction, captions_of(result)


def sheet_of(picture: Picture, panels: Sequence[Panel], about: str = "") -> Image.Image:
    """Return a sheet of reconstructions beside the picture."""
    title = f"{picture.name}, {picture.width}x{picture.height}"
    return side_by_side(picture.pixels, panels, title=f"{title}: {about}" if about else title)


def trouble_of(result: FitResult) -> str:
    """Return in words how training failed, or ""."""
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
    """Return a PSNR in words."""
    return "no value" if value is None else f"{value:.2f} dB"


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and standard deviation over seeds; a deviation of 0 for one seed."""
    return fmean(values), stdev(values) if len(values) > 1 else 0.0


def common_settings(config: FitConfig, picture: Picture, *varied: str) -> dict[str, Any]:
    """Return the settings of an experiment for its report, without the varied ones."""
    values = config.as_dict() | {"sigma": config.resolved_sigma, "batch_size": config.batch_size or "full"}
    common = {name.replace("_", " "): values[name] for name in _REPORTED if name not in varied}
    return {"picture": f"{picture.name}, {picture.width} x {picture.height}", **common}
