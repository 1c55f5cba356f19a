"""What is said of a finished run: its figures as people read them, and the exit code."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..files import jsonable, printable
from ..training.result import FitResult
from .exit_codes import EXIT_DIVERGED, EXIT_OK
from .options import Options
from .streams import complain

Row = tuple[str, Any, str]
"""A label, a value or None, and the pattern that puts the value into words."""


def in_words(rows: Iterable[Row]) -> list[tuple[str, str]]:
    """Label and words of each row; one without a value is left out."""
    return [(label, pattern.format(value)) for label, value, pattern in rows if value is not None]


def held_out_figures(m: dict[str, Any]) -> list[Row]:
    """What a fit that did not see all pixels says of them; nothing where it saw all."""
    if m["psnr_held_out"] is None:
        return []
    return [
        ("", m["psnr_train"], "{:.2f} dB, training pixels"),
        ("", m["psnr_held_out"], "{:.2f} dB, held-out pixels"),
        ("", m["psnr_held_out_bilinear"], "{:.2f} dB, held-out pixels by bilinear interpolation"),
        ("", m["psnr_held_out_bicubic"], "{:.2f} dB, held-out pixels by bicubic interpolation"),
    ]


def training_figure(m: dict[str, Any]) -> Row:
    """How long training took, and where."""
    return "training", m["seconds"], f"{{:.2f}} s on {m['device']} ({m['backend']})"


def tiles_figure(m: dict[str, Any]) -> Row:
    """How many networks there are, and how long they were trained."""
    return "tiles", m["tiles"], f"{{:,d}} networks, {m['epochs']:.1f} steps each on average"


def figures(result: FitResult) -> list[tuple[str, str]]:
    """The figures of a fit: quality, time, and what both cost in parameters."""
    m = result.metrics
    rows: list[Row] = [
        ("PSNR", m["psnr"], "{:.2f} dB, all pixels"),
        *held_out_figures(m),
        ("", m.get("psnr_worst_tile"), "{:.2f} dB, the worst tile"),
        ("SSIM", m["ssim"], "{:.4f}"),
    ]
    return in_words([*rows, *(_of_tiles(m) if "tiles" in m else _of_one(m))])


def _of_one(m: dict[str, Any]) -> list[Row]:
    return [
        ("loss", m["loss"], "{:.3e} " + m["loss_name"].upper()),
        ("steps", m["steps"], "{:,d}"),
        training_figure(m),
        ("parameters", m["parameters"], f"{{:,d}}, {m['bits_per_pixel']:.1f} bits per pixel"),
    ]


def _of_tiles(m: dict[str, Any]) -> list[Row]:
    return [
        tiles_figure(m),
        training_figure(m),
        ("parameters", m["parameters"], f"{{:,d}}, {m['parameters_per_value']:.2f} for each colour value"),
        ("as float32", m["bits_per_pixel_float32"], f"{{:.1f}} bits per pixel, {m['bytes_float32']:,d} bytes"),
        ("as float16", m["bits_per_pixel_float16"], f"{{:.1f}} bits per pixel, {m['bytes_float16']:,d} bytes"),
        ("stored as", m["stored"], "{}"),
    ]


def print_result(
    result: FitResult,
    path: Path,
    options: Options,
    in_lines: Callable[[Any], list[tuple[str, str]]] = figures,
) -> None:
    """Print the figures and the folder, or one JSON document."""
    if options.json:
        document = {"folder": str(path), "metrics": result.metrics, "config": result.config.as_dict()}
        print(json.dumps(jsonable(document), allow_nan=False))
        return
    for label, value in in_lines(result):
        print(f"{label:<12} {value}")
    print(printable(path))


def exit_code(result: FitResult, log: Callable[[str], None]) -> int:
    """What a finished fit ends the process with; what went wrong is said in one line."""
    if not result.has_model:
        complain("diverged: the network is not finite even before training; lower --omega or --sigma")
        return EXIT_DIVERGED
    if result.stopped == "diverged":
        told = (
            "tiles are no longer finite; they keep what they had before"
            if "tiles" in result.metrics
            else f"the loss is no longer finite; step {result.metrics['steps']} was the last good state and is "
            "what was saved"
        )
        complain(f"diverged: {told}; lower --learning-rate")
        return EXIT_DIVERGED
    target = result.config.target_psnr
    if target is not None and result.stopped != "target_psnr":
        log(f"the target of {target:g} dB was not reached within the budget")
    return EXIT_OK
