"""Half of the pixels are hidden: networks that guess them, beside the nearest known pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ensemble import Job
from ..fills import nearest_fill
from ..masks import missing_mask
from ..metrics import psnr
from ..report.side_by_side import Panel, side_by_side
from ..table import Table
from .common import LARGE, SMALL, Drawing, Outcome, Study, common_settings, decibel

TITLE = "Inpainting"
_HIDDEN_SHARE = 0.5
_SIGMAS = {SMALL: (0.5, 1.0, 2.0), LARGE: (1.5, 2.5, 4.0, 6.0)}
_STEPS = 800
_GREY = 0.5  # of hidden pixels, where the masked picture is shown

FloatArray = NDArray[np.floating[Any]]
Rows = list[dict[str, Any]]


def run(study: Study) -> Outcome:
    """Train without an encoding and with the Gaussian one on the known half, as one batch."""
    picture, steps = study.picture(study.size), study.steps(_STEPS)
    known = missing_mask(picture.height, picture.width, _HIDDEN_SHARE, study.seed)
    variants: list[tuple[str, float | None]] = [("none", None)]
    variants += [("gaussian", sigma) for sigma in _SIGMAS[study.size]]
    jobs = [
        Job(picture, study.config(encoding=name, sigma=sigma, steps=steps), known) for name, sigma in variants
    ]
    results = study.train(jobs)
    fills = {"nearest known pixel": nearest_fill(picture.pixels, known)}
    for (name, sigma), result in zip(variants, results, strict=True):
        label = f"network, {name}" if sigma is None else f"network, {name}, sigma {sigma:g}"
        # Known pixels are kept: only the hidden ones are the network's.
        fills[label] = np.where(known[:, :, None], picture.pixels, result.reconstruction)
    rows: Rows = [
        {"fill": name, "psnr_hidden": psnr(fill, picture.pixels, where=~known)} for name, fill in fills.items()
    ]
    masked = np.where(known[:, :, None], picture.pixels, np.float32(_GREY))
    panels: list[Panel] = [("known pixels", masked, [("hidden", f"{100 * (1 - known.mean()):.0f} %")])]
    panels += [
        (name, fill, [("hidden", decibel(row["psnr_hidden"]))])
        for row, (name, fill) in zip(rows, fills.items(), strict=True)
    ]
    title = f"{picture.name}, {picture.width}x{picture.height}: half of the pixels hidden"
    return Outcome(
        name="inpainting",
        title=TITLE,
        question="With half of the pixels hidden at random, does a network that learns the known ones guess "
        "the hidden ones better than copying the nearest known pixel does, and does it need an encoding? "
        "The figures are of hidden pixels alone.",
        settings=common_settings(jobs[0].config, picture, "encoding", "sigma", "train_on")
        | {"known pixels": f"{int(known.sum())} of {known.size}"},
        table=Table(rows),
        pictures=[
            Drawing(
                "pictures",
                side_by_side(picture.pixels, panels, title=title),
                "Known pixels are kept as they are; only the hidden ones are filled.",
            )
        ],
        finding=finding(rows),
        best=("psnr_hidden",),
    )


def finding(rows: Rows) -> str:
    """Say which fill is best on the hidden pixels, and where the others stand."""
    nearest, none, *gaussian = rows
    best = max(gaussian, key=lambda row: row["psnr_hidden"])
    lead = best["psnr_hidden"] - nearest["psnr_hidden"]
    beats = "better than" if lead > 0 else "no better than"
    bare = none["psnr_hidden"] - nearest["psnr_hidden"]
    also = "beats it too" if bare > 0 else "does not beat it"
    return (
        f"On hidden pixels the best Gaussian network ({best['fill'].removeprefix('network, ')}) reaches "
        f"{decibel(best['psnr_hidden'])}, {beats} the nearest known pixel with "
        f"{decibel(nearest['psnr_hidden'])} ({lead:+.2f} dB); without an encoding a network {also} "
        f"({decibel(none['psnr_hidden'])})."
    )
