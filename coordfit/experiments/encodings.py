"""Compare encodings of (x, y) on the pixels between training pixels, at several values of sigma."""

from __future__ import annotations

from typing import Any

from ..report.line_plot import lines_svg
from ..report.table import Table
from ..training.job import Job
from .common import (
    LARGE,
    SMALL,
    Drawing,
    Outcome,
    Study,
    common_settings,
    decibel,
    figures_of,
    panel_of,
    sheet_of,
)

_SIGMAS = {SMALL: (0.06, 0.25, 0.5, 1.0, 2.0, 8.0), LARGE: (0.5, 1.5, 3.0, 6.0, 12.0, 32.0)}
_STEPS = 1500
_CLEAR = 0.3  # smaller differences of PSNR, in dB, are not mentioned


def run(study: Study) -> Outcome:
    """Train every encoding on every second row and column, at both sizes, and score the pixels between."""
    rows: list[dict[str, Any]] = []
    pictures: list[Drawing] = []
    findings: list[str] = []
    for size in study.sizes:
        found, drawings = _at_one_size(study, size)
        rows += found
        pictures += drawings
        findings.insert(0, finding(found))
    steps = study.steps(_STEPS)
    settings = common_settings(
        study.config(train_on="every-second", steps=steps), study.picture(study.sizes[-1]), "encoding", "sigma"
    )
    settings["picture"] = (
        f"{study.original.name}, at {' and '.join(dict.fromkeys(row['size'] for row in rows))}"
    )
    return Outcome(
        name="encodings",
        title="Encodings",
        question="Which encoding of (x, y) lets a network guess the pixels that it was not trained on, and how "
        "does that depend on sigma, the spread of the Gaussian frequencies in cycles per longer side? Expected "
        "on held-out pixels: none < basic < Gaussian at a right sigma; too small a sigma blurs, too large a "
        "one turns to noise.",
        settings=settings,
        table=Table(rows),
        pictures=pictures,
        finding=" ".join(findings),
        best=("psnr_held_out",),
        within="size",
    )


def _at_one_size(study: Study, size: int) -> tuple[list[dict[str, Any]], list[Drawing]]:
    picture = study.picture(size)
    highest = max(picture.height, picture.width) / 16.0  # the default for every second of 128 pixels
    variants: list[tuple[str, float | None]] = [("none", None), ("basic", None), ("positional", highest)]
    variants += [*(("gaussian", sigma) for sigma in _SIGMAS[size]), ("grid", None)]
    steps = study.steps(_STEPS)
    jobs = [
        Job(picture, study.config(encoding=name, sigma=sigma, train_on="every-second", steps=steps))
        for name, sigma in variants
    ]
    results = study.train(jobs)
    shape = f"{picture.width} x {picture.height}"  # a user's picture may be smaller, or no square
    pairs = list(zip(variants, results, strict=True))
    rows = [
        {"size": shape, "encoding": name, "sigma": sigma, **figures_of(result)}
        for (name, sigma), result in pairs
    ]
    sheet = sheet_of(picture, [panel_of(_label(*variant), result) for variant, result in pairs])
    drawings = [
        Drawing(f"pictures-{size}", sheet, f"Trained on every second row and column of {shape} pixels."),
        Drawing(f"sigma-{size}", _by_sigma(rows, shape), f"The Gaussian encoding by its sigma, {shape}."),
    ]
    return rows, drawings


def _label(name: str, sigma: float | None) -> str:
    return name if sigma is None else f"{name}, sigma {sigma:g}"


def _by_sigma(rows: list[dict[str, Any]], shape: str) -> str:
    gaussian = [row for row in rows if row["encoding"] == "gaussian"]
    columns = {"training pixels": "psnr_train", "held-out pixels": "psnr_held_out"}
    return lines_svg(
        {name: [(row["sigma"], row[column]) for row in gaussian] for name, column in columns.items()},
        title=f"Gaussian encoding, {shape}",
        x_label="sigma / cycles per longer side",
        y_label="PSNR / dB",
        x_log=True,
    )


def finding(rows: list[dict[str, Any]]) -> str:
    """Return in words whether the rows of one size have the expected order."""
    held = {row["encoding"]: row["psnr_held_out"] for row in rows}
    gaussian = [row for row in rows if row["encoding"] == "gaussian"]
    best = max(gaussian, key=lambda row: row["psnr_held_out"])
    order = held["none"] < held["basic"] < best["psnr_held_out"]
    figures = (
        f"none {decibel(held['none'])}, basic {decibel(held['basic'])}, "
        f"Gaussian {decibel(best['psnr_held_out'])} at sigma {best['sigma']:g}"
    )
    figures += f", grid {decibel(held['grid'])}" if "grid" in held else ""
    verdict = "the expected order came out" if order else "the expected order did not come out"
    return f"On held-out pixels at {rows[0]['size']}, {verdict}: {figures}; {_of_sigma(gaussian, best)}."


def _of_sigma(gaussian: list[dict[str, Any]], best: dict[str, Any]) -> str:
    smallest, largest = gaussian[0], gaussian[-1]
    if best is smallest or best is largest:
        return "the best sigma lies at the edge of those tried, so the right one may lie beyond"
    blurs = _is_worse(smallest, best) and smallest["psnr_train"] < best["psnr_train"]
    noisy = _is_worse(largest, best) and _gap(largest) > _gap(best)
    small, large = f"sigma {smallest['sigma']:g}", f"sigma {largest['sigma']:g}"
    small += (" blurs" if blurs else " does not blur") + f" ({_both(smallest)})"
    large += (" turns to noise" if noisy else " does not turn to noise") + f" ({_both(largest)})"
    return f"{small}, and {large}"


def _is_worse(row: dict[str, Any], best: dict[str, Any]) -> bool:
    return bool(row["psnr_held_out"] < best["psnr_held_out"] - _CLEAR)


def _gap(row: dict[str, Any]) -> float:
    return float(row["psnr_train"] - row["psnr_held_out"])


def _both(row: dict[str, Any]) -> str:
    return f"training {decibel(row['psnr_train'])}, held out {decibel(row['psnr_held_out'])}"
