"""Score a filling of hidden pixels beside simple ones, and draw its sheet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...images.interpolation import biharmonic_fill, mean_spacing, nearest_fill
from ...images.masks import TRANSPARENCY, Mask, MaskedPicture
from ...images.metrics import psnr, ssim
from ...report.inpainting import inpainting_picture

if TYPE_CHECKING:
    from PIL import Image

MOST_BIHARMONIC_PIXELS = 40_000  # hidden ones; it solves a sparse system of this many unknowns

Pixels = NDArray[np.float32]

_SCORES = (
    "psnr_hidden",
    "ssim_filled",
    "psnr_hidden_nearest",
    "ssim_nearest",
    "psnr_hidden_biharmonic",
    "ssim_biharmonic",
)


def filling_figures(masked: MaskedPicture, filled: Pixels) -> dict[str, Any]:
    """Return the figures of a filling (H, W, C): counts of pixels, and scores if there is a truth."""
    known, truth = masked.known, masked.picture.pixels
    num_hidden = int(np.count_nonzero(~known))
    figures: dict[str, Any] = {
        "hiding": masked.hiding,
        "known_pixels": known.size - num_hidden,
        "hidden_pixels": num_hidden,
        "hidden_share": num_hidden / known.size,
        "spacing": mean_spacing(known),
    }
    if not masked.has_truth:
        note = "the true colours of hidden pixels are not known, so the filling has no score"
        return figures | dict.fromkeys(_SCORES) | {"inpainting_notes": [note]}
    notes: list[str] = []
    fills = {
        ("psnr_hidden", "ssim_filled"): filled,
        ("psnr_hidden_nearest", "ssim_nearest"): nearest_fill(truth, known),
        ("psnr_hidden_biharmonic", "ssim_biharmonic"): biharmonic_or_note(truth, known, notes),
    }
    for (hidden_name, ssim_name), fill in fills.items():
        figures[hidden_name] = None if fill is None else psnr(fill, truth, where=~known)
        figures[ssim_name] = None if fill is None else ssim(fill, truth)
    return figures | {"inpainting_notes": notes}


def sheet(masked: MaskedPicture, filled: Pixels, title: str, metrics: Mapping[str, Any]) -> Image.Image:
    """Draw truth, mask, filled and the error of hidden pixels; damaged, mask and filled without a truth."""
    shown = masked.picture.pixels
    if masked.hiding == TRANSPARENCY and not masked.has_truth:
        shown = np.concatenate([shown, masked.known[:, :, None]], axis=2, dtype=np.float32)
    scores = [
        ("hidden pixels", metrics["psnr_hidden"]),
        ("nearest", metrics["psnr_hidden_nearest"]),
        ("biharmonic", metrics["psnr_hidden_biharmonic"]),
    ]
    return inpainting_picture(
        shown,
        masked.known,
        filled,
        title=f"{title}; {masked.hiding}",
        has_truth=masked.has_truth,
        mask_figures=[("hidden", f"{100 * metrics['hidden_share']:.1f} %")],
        filled_figures=[(name, f"{value:.2f} dB") for name, value in scores if value is not None],
    )


def biharmonic_or_note(pixels: Pixels, known: Mask, notes: list[str]) -> Pixels | None:
    """Return `biharmonic_fill`, or None and a note if it would take long or scikit-image is not installed."""
    num_hidden = int(np.count_nonzero(~known))
    if num_hidden > MOST_BIHARMONIC_PIXELS:
        notes.append(
            f"no biharmonic fill to compare with: {num_hidden} hidden pixels would take long "
            f"(up to {MOST_BIHARMONIC_PIXELS} are done)"
        )
        return None
    try:
        return biharmonic_fill(pixels, known)
    except ImportError:
        notes.append(
            "no biharmonic fill to compare with: scikit-image is not installed (pip install scikit-image)"
        )
    return None
