"""Resample pictures to another number of pixels, with Lanczos and in float."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from ..errors import ConfigError
from .formats.alpha import premultiply, unpremultiply
from .formats.levels import Levels, to_pixels


def check_size(size: Any) -> None:
    """Refuse a size that is neither one nor two positive integers."""
    lengths = size if isinstance(size, tuple | list) and len(size) == 2 else (size,)
    whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) and n >= 1 for n in lengths)
    if size is not None and not whole:
        raise ConfigError(f"size {size!r} is neither a number of pixels nor (width, height)")


def _target_size(width: int, height: int, size: int | tuple[int, int]) -> tuple[int, int]:
    """Return width and height of the resampled picture; the shorter side is rounded, half up, at least 1."""
    if not isinstance(size, int | np.integer):
        return int(size[0]), int(size[1])
    longer = max(width, height)
    wide, high = (max(1, (2 * side * int(size) + longer) // (2 * longer)) for side in (width, height))
    return wide, high


def resample(levels: Levels, size: int | tuple[int, int] | None, max_pixels: int, notes: list[str]) -> Levels:
    """Resample levels (H, W, C), channel by channel in float: Pillow resamples no 16-bit colour."""
    height, width, channels = levels.shape
    target = (width, height) if size is None else _target_size(width, height, size)
    if target == (width, height):
        return levels
    if target[0] * target[1] > max_pixels:
        count = f"{target[0]}x{target[1]} = {target[0] * target[1]} pixels"
        needed = f"{target[0] * target[1] * channels * 4 / 1e9:.1f} GB for its colours alone"
        raise ConfigError(f"size asks for {count}, {needed}; {max_pixels} pixels are the most: make it smaller")
    has_alpha = channels in (2, 4)
    source = premultiply(to_pixels(levels)) if has_alpha else levels
    resampled = np.empty((target[1], target[0], channels), np.float32)
    for channel in range(channels):
        plane = Image.fromarray(np.ascontiguousarray(to_pixels(source[:, :, channel])))
        resampled[:, :, channel] = np.asarray(plane.resize(target, Image.Resampling.LANCZOS))
    np.clip(resampled, 0, 1, out=resampled)  # Lanczos overshoots at edges
    notes.append(f"resampled from {width}x{height} to {target[0]}x{target[1]}")
    return unpremultiply(resampled) if has_alpha else resampled
