"""Compare networks, rendered at four times their size, with bicubic interpolation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..images import Picture, load_picture
from ..images.metrics import psnr
from ..images.resizing import resize_channels
from ..report.side_by_side import Panel, picture_strip, side_by_side
from ..report.table import Table
from ..training.job import Job
from .common import LARGE, SMALL, Drawing, Outcome, Study, common_settings, decibel

_TIMES = 4
_SIGMAS = {SMALL: (0.5, 1.0, 2.0, 4.0), LARGE: (2.0, 4.0, 6.0, 12.0)}
_STEPS = 800
_CLEAR = 0.1  # dB; another seed changes more than this

FloatArray = NDArray[np.floating[Any]]
Rows = list[dict[str, Any]]


def run(study: Study) -> Outcome:
    """Train on small pictures, render them larger, and score by the true large ones if there are any."""
    rows: Rows = []
    pictures: list[Drawing] = []
    notes: dict[str, str] = {}
    for size in study.sizes:
        truth = _truth(study, size)
        found, drawings = _at_one_size(study, size, truth)
        rows += found
        pictures += drawings
        if truth is None:
            scale = found[0]["pixels"]
            notes[scale] = (
                f"no truth: the picture has no {scale.split()[-1]} pixels; a larger --image is scored"
            )
    some = study.config(steps=study.steps(_STEPS))
    settings = common_settings(some, study.original, "sigma", "train_on") | notes
    return Outcome(
        name="resolution",
        title="Resolution",
        question=f"A network has no pixels of its own. Rendered at {_TIMES} times the size that it was trained "
        "at, does it add detail, or invent it, beside bicubic interpolation of the same small picture? Judged "
        "by the true large picture, if there is one.",
        settings=settings,
        table=Table(rows),
        pictures=pictures,
        finding=finding(rows),
        best=("psnr_large",),
        within="pixels",
    )


def _truth(study: Study, size: int) -> Picture | None:
    """Return the picture at the size of the rendering, or None if the original is smaller."""
    longer = max(study.original.height, study.original.width)
    return study.picture(_TIMES * size) if longer >= _TIMES * size else None


def _at_one_size(study: Study, size: int, truth: Picture | None) -> tuple[Rows, list[Drawing]]:
    # The small picture is made from the truth, so that both show the same.
    small = study.picture(size) if truth is None else load_picture(truth, size=size)
    height, width = (_TIMES * small.height, _TIMES * small.width) if truth is None else truth.pixels.shape[:2]
    steps = study.steps(_STEPS)
    jobs = [Job(small, study.config(sigma=sigma, steps=steps)) for sigma in _SIGMAS[size]]
    results = study.train(jobs)
    large = {"bicubic": bicubic(small.pixels, height, width)}
    own: dict[str, float | None] = {"bicubic": None}
    for result in results:
        name = f"network, sigma {result.config.sigma:g}"
        large[name] = result.render(height, width)
        own[name] = result.metrics["psnr"]
    longer = max(small.height, small.width)  # less than `size` if the user's picture is small
    scale = f"{longer} to {_TIMES * longer}"
    rows = [
        {
            "pixels": scale,
            "method": name,
            "psnr_small": own[name],
            "psnr_large": None if truth is None else psnr(picture, truth.pixels),
        }
        for name, picture in large.items()
    ]
    return rows, [_pictures(rows, large, truth, small, scale)]


def _pictures(
    rows: Rows, large: dict[str, FloatArray], truth: Picture | None, small: Picture, scale: str
) -> Drawing:
    panels: list[Panel] = [
        (row["method"], large[row["method"]], [] if truth is None else [("", decibel(row["psnr_large"]))])
        for row in rows
    ]
    name, title = f"pictures-{scale.replace(' ', '-')}", f"{small.name}: {scale} pixels"
    if truth is not None:
        caption = f"Renderings of {scale.split()[-1]} pixels from {scale.split()[0]}, beside the true picture."
        return Drawing(name, side_by_side(truth.pixels, panels, title=title), caption)
    height, width = panels[0][1].shape[:2]
    window = np.s_[height // 4 : height // 4 + height // 2, width // 4 : width // 4 + width // 2]
    closer: list[Panel] = [(label, pixels[window], figures) for label, pixels, figures in panels]
    caption = "The middle of each rendering; there is no true picture of this size to compare with."
    return Drawing(name, picture_strip(closer, title=f"{title}, the middle"), caption)


def bicubic(pixels: FloatArray, height: int, width: int) -> FloatArray:
    """Interpolate a picture (H, W, C) to another size, clipped to [0, 1], float32."""
    result = resize_channels(pixels, (width, height), Image.Resampling.BICUBIC)
    return np.clip(result, 0.0, 1.0, out=result)


def finding(rows: Rows) -> str:
    """Return in words, for each size with a truth, whether the best network is ahead of bicubic."""
    verdicts = []
    for scale in dict.fromkeys(row["pixels"] for row in rows):
        own = [row for row in rows if row["pixels"] == scale]
        verdicts.append(f"from {scale} pixels {_verdict(own)}")
    text = "; ".join(verdicts) + "."
    return text[0].upper() + text[1:]


def _verdict(rows: Rows) -> str:
    plain, *networks = rows
    if plain["psnr_large"] is None:
        return "there is no true picture to judge by, so this run does not say which is better"
    best = max(networks, key=lambda row: row["psnr_large"])
    lead = best["psnr_large"] - plain["psnr_large"]
    word = "level with" if abs(lead) < _CLEAR else "ahead of" if lead > 0 else "not ahead of"
    memory = max(networks, key=lambda row: row["psnr_small"])
    same = " (it also remembers the small picture best)" if memory is best else ""
    return (
        f"the best {best['method']} ({decibel(best['psnr_large'])}){same} is {word} bicubic interpolation "
        f"({decibel(plain['psnr_large'])}, {lead:+.2f} dB)"
    )
