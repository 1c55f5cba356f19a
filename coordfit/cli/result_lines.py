"""Print the figures of a finished run, and choose its exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..files import printable
from ..images.masks import MaskedPicture
from ..report.table import Table
from ..training.result import FitResult
from .exit_codes import EXIT_DIVERGED, EXIT_OK
from .options import Options
from .streams import complain, print_json

Row = tuple[str, Any, str]
"""A label, a value or None, and a format for the value."""


def in_words(rows: Iterable[Row]) -> list[tuple[str, str]]:
    """Return label and words of each row that has a value."""
    return [(label, pattern.format(value)) for label, value, pattern in rows if value is not None]


def shown_table(table: Table) -> Table:
    """Return a table without empty columns, and without figures of known pixels if these are all pixels."""
    values = {name: [row[name] for row in table] for name in table.columns}
    names = [name for name in table.columns if any(value is not None for value in values[name])]
    if "psnr_train" in names and values["psnr_train"] == values.get("psnr"):
        names.remove("psnr_train")
    return Table(list(table), names)


def known_line(masked: MaskedPicture, options: Options) -> str:
    """Return how much is known, and for a mask file what its white means, and a cure if it hides most."""
    known, number = int(np.count_nonzero(masked.known)), masked.known.size
    share = f"{known} of {number} pixels, {100 * (1 - known / number):.1f} % hidden"
    if options.mask is None:
        return f"known: {share}"
    colour, cure = ("black", "leave out") if options.invert_mask else ("white", "add")
    hint = f"; if it is the other way round, {cure} --invert-mask" if 2 * known < number else ""
    return f"{colour} is known in {printable(options.mask)}: {share}{hint}"


def held_out_figures(m: dict[str, Any]) -> list[Row]:
    """Return the rows of training and held-out pixels; none if all pixels were trained on."""
    if m["psnr_held_out"] is None:
        return []
    return [
        ("", m["psnr_train"], "{:.2f} dB, training pixels"),
        ("", m["psnr_held_out"], "{:.2f} dB, held-out pixels"),
        ("", m["psnr_held_out_bilinear"], "{:.2f} dB, held-out pixels by bilinear interpolation"),
        ("", m["psnr_held_out_bicubic"], "{:.2f} dB, held-out pixels by bicubic interpolation"),
    ]


def deviation_figures(m: dict[str, Any], unseen: str) -> list[Row]:
    """Return the rows of a standard deviation; none without one. `unseen` names pixels that have no value."""
    if "deviation_mean" not in m:
        return []
    told = f"{{:.1f}} of 255 in the mean, {255 * m['deviation_largest']:.0f} at most"
    rows: list[Row] = [("deviation", 255 * m["deviation_mean"], told)]
    if "within_1" in m:
        shares = f"{m['within_1']:.0%} of {unseen} are within one, {m['within_2']:.0%} within two"
        rows.append(("", shares, "{}"))
    return rows


def training_figure(m: dict[str, Any]) -> Row:
    """Return the row of the training time and the device."""
    return "training", m["seconds"], f"{{:.2f}} s on {m['device']} ({m['backend']})"


def tiles_figure(m: dict[str, Any]) -> Row:
    """Return the row of the number of networks and their steps."""
    return "tiles", m["tiles"], f"{{:,d}} networks, {m['epochs']:.1f} steps each on average"


def figures(result: FitResult) -> list[tuple[str, str]]:
    """Return the figures of a fit: quality, time, and the number of parameters."""
    m = result.metrics
    rows: list[Row] = [
        *_quality(m),
        *held_out_figures(m),
        ("", m.get("psnr_worst_tile"), "{:.2f} dB, the worst tile"),
        ("SSIM", m["ssim"], "{:.4f}"),
    ]
    of_kind = _of_tiles if "tiles" in m else _of_file if "network_bits" in m else _of_one
    return in_words([*rows, *of_kind(m), other_files(result)])


def _unit(m: dict[str, Any]) -> str:
    return "sample" if "value_range" in m else "pixel"


def _value(m: dict[str, Any]) -> str:
    return "value" if "value_range" in m else "colour value"


def _quality(m: dict[str, Any]) -> list[Row]:
    """Return the rows of all pixels; of an array PSNR by its own range, and the error in its own units."""
    if "value_range" not in m:
        return [("PSNR", m["psnr"], "{:.2f} dB, all pixels")]
    (low, *more), (high, *_) = m["value_range"]
    by = "each channel's own range" if more else f"the range {low:g} to {high:g}"
    return [
        ("PSNR", m["psnr"], f"{{:.2f}} dB, all known samples, by {by}"),
        ("SNR", m["snr"], "{:.2f} dB"),
        ("error", m["rmse"], "{:.4g}, root mean square, in units of the array"),
    ]


def other_files(result: FitResult) -> Row:
    """Return the row of bits per pixel without a fit, and of other codecs at its PSNR."""
    bits = {name: value for name, value in result.other_bits_per_pixel.items() if value is not None}
    plain = bits.pop("plain", None)
    coded = ", ".join(f"{name} {value:.2f}" for name, value in bits.items())
    return (
        "other files",
        plain,
        f"plain {{}} bits per {_unit(result.metrics)}" + (f"; at this PSNR {coded}" if coded else ""),
    )


def _of_one(m: dict[str, Any]) -> list[Row]:
    averaged = m.get("averaged", 1)
    return [
        ("average", averaged if averaged > 1 else None, "of {:d} networks"),
        *deviation_figures(m, "held-out pixels"),
        ("loss", m["loss"], "{:.3e} " + m["loss_name"].upper()),
        ("steps", m["steps"], "{:,d}"),
        training_figure(m),
        ("parameters", m["parameters"], f"{{:,d}}, {m['bits_per_pixel']:.1f} bits per {_unit(m)}"),
    ]


def _of_file(m: dict[str, Any]) -> list[Row]:
    share = 100 * m["network_bits"] / (8 * m["bytes"])
    return [
        ("steps", m["steps"], "{:,d}"),
        training_figure(m),
        ("file", m["bytes"], f"{{:,d}} bytes, {m['bits_per_pixel']:.3f} bits per pixel"),
        ("", share, "{:.0f} % of them networks"),
    ]


def _of_tiles(m: dict[str, Any]) -> list[Row]:
    sizes = [
        (
            f"as {kind}",
            m[f"bits_per_pixel_{kind}"],
            f"{{:.1f}} bits per {_unit(m)}, {m[f'bytes_{kind}']:,d} bytes",
        )
        for kind in ("float32", "float16")
    ]
    return [
        tiles_figure(m),
        training_figure(m),
        ("parameters", m["parameters"], f"{{:,d}}, {m['parameters_per_value']:.2f} for each {_value(m)}"),
        *sizes,
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
        print_json({"folder": str(path), "metrics": result.full_metrics, "config": result.settings})
        return
    for label, value in in_lines(result):
        print(f"{label:<12} {value}")
    print(printable(path))


def exit_code(result: FitResult, log: Callable[[str], None]) -> int:
    """Return the exit code of a finished fit, and report in one line what went wrong."""
    if not result.has_model:
        complain("diverged: the network is not finite even before training; lower --omega or --sigma")
        return EXIT_DIVERGED
    if result.stopped == "diverged":
        reason = (
            f"the loss is no longer finite; the last good state, step {result.metrics.get('steps')}, is saved"
        )
        if "tiles" in result.metrics:
            reason = "tiles are no longer finite; their last good states are saved"
        complain(f"diverged: {reason}; lower --learning-rate")
        return EXIT_DIVERGED
    target = result.config.target_psnr
    if result.missed_target:
        log(f"the target of {target:g} dB was not reached within the budget")
    return EXIT_OK
