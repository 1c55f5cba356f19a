"""Fill hidden pixels, half of a picture, by networks and by methods that learn nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..images.drawn_masks import missing_mask
from ..images.interpolation import nearest_fill
from ..images.metrics import psnr
from ..report.side_by_side import Panel
from ..report.table import Table
from ..tasks.filling.figures import biharmonic_or_note
from ..tasks.filling.network import DEFAULTS
from ..training.job import Job
from .common import LARGE, SMALL, Drawing, Outcome, Study, common_settings, decibel, sheet_of

_HIDDEN_SHARE = 0.5
_SIGMAS = {SMALL: (0.5, 1.0, 2.0), LARGE: (1.0, 2.0, 3.0, 6.0)}
_STEPS = 600
_GREY = 0.5  # colour of hidden pixels in the masked picture
_NEAREST, _BIHARMONIC = "nearest known pixel", "biharmonic equations"

FloatArray = NDArray[np.floating[Any]]
Rows = list[dict[str, Any]]


def run(study: Study) -> Outcome:
    """Train without an encoding and with the Gaussian one on the known half, as one batch."""
    picture, steps = study.picture(study.size), study.steps(_STEPS)
    known = missing_mask(picture.height, picture.width, _HIDDEN_SHARE, study.seed)
    variants: list[tuple[str, float | None]] = [("none", None)]
    variants += [("gaussian", sigma) for sigma in _SIGMAS[study.size]]
    jobs = [
        Job(picture, study.config(encoding=e, sigma=s, steps=steps, **DEFAULTS), known) for e, s in variants
    ]
    results = study.train(jobs)
    fills, notes = _fills(picture.pixels, known)
    for (name, sigma), result in zip(variants, results, strict=True):
        label = f"network, {name}" if sigma is None else f"network, {name}, sigma {sigma:g}"
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
    return Outcome(
        name="inpainting",
        title="Inpainting",
        question="With half of the pixels hidden at random, does a network that learns the known ones guess "
        "the hidden ones better than copying the nearest known pixel does, or than biharmonic equations do, "
        "and does it need an encoding? The figures are of hidden pixels alone.",
        settings=common_settings(jobs[0].config, picture, "encoding", "sigma", "train_on")
        | {"known pixels": f"{int(known.sum())} of {known.size}"}
        | ({"biharmonic": "; ".join(notes)} if notes else {}),
        table=Table(rows),
        pictures=[
            Drawing(
                "pictures",
                sheet_of(picture, panels, "half of the pixels hidden"),
                "Known pixels are kept as they are; only the hidden ones are filled.",
            )
        ],
        finding=finding(rows),
        best=("psnr_hidden",),
    )


def _fills(pixels: FloatArray, known: NDArray[np.bool_]) -> tuple[dict[str, FloatArray], list[str]]:
    """Return the fillings without a network by name, and notes on missing ones."""
    notes: list[str] = []
    fills: dict[str, FloatArray] = {_NEAREST: nearest_fill(pixels, known)}
    biharmonic = biharmonic_or_note(pixels, known, notes)
    return fills | ({} if biharmonic is None else {_BIHARMONIC: biharmonic}), notes


def finding(rows: Rows) -> str:
    """Return in words which fill is best on the hidden pixels, and how far behind the others are."""
    by_name = {row["fill"]: row for row in rows}
    nearest, biharmonic = by_name.pop(_NEAREST), by_name.pop(_BIHARMONIC, None)
    none, *gaussian = by_name.values()
    best = max(gaussian, key=lambda row: row["psnr_hidden"])
    lead = best["psnr_hidden"] - nearest["psnr_hidden"]
    beats = "better than" if lead > 0 else "no better than"
    bare = none["psnr_hidden"] - nearest["psnr_hidden"]
    also = "beats the nearest pixel too" if bare > 0 else "does not even beat the nearest pixel"
    return (
        f"On hidden pixels the best Gaussian network ({best['fill'].removeprefix('network, ')}) reaches "
        f"{decibel(best['psnr_hidden'])}, {beats} the nearest known pixel with "
        f"{decibel(nearest['psnr_hidden'])} ({lead:+.2f} dB){_beside(best, biharmonic)}; without an encoding a "
        f"network {also} ({decibel(none['psnr_hidden'])})."
    )


def _beside(best: dict[str, Any], biharmonic: dict[str, Any] | None) -> str:
    """Return in words how the best network compares with biharmonic equations, or nothing without them."""
    if biharmonic is None:
        return ""
    lead = best["psnr_hidden"] - biharmonic["psnr_hidden"]
    beats = "better than" if lead > 0 else "no better than"
    return f" and {beats} biharmonic equations with {decibel(biharmonic['psnr_hidden'])} ({lead:+.2f} dB)"
