"""Figures of a finished run as people read them: a label, and a value in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

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
