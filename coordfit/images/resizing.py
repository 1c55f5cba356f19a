"""Resample pictures to another number of pixels, with Lanczos and in float."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from ..errors import ConfigError
from .formats.alpha import premultiply, unpremultiply
from .formats.levels import Levels, Pixels, to_pixels


def check_size(size: Any) -> None:
    """Raise ConfigError unless a size is None, a positive integer, or a pair of them."""
    lengths = size if isinstance(size, tuple | list) and len(size) == 2 else (size,)
    whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) and n >= 1 for n in lengths)
    if size is not None and not whole:
        raise ConfigError(f"size {size!r} is neither a number of pixels nor (width, height)")


def _target_size(width: int, height: int, size: int | tuple[int, int]) -> tuple[int, int]:
    """Return the new width and height; the shorter side is rounded, half up, at least 1."""
    if not isinstance(size, int | np.integer):
        return int(size[0]), int(size[1])
    longer = max(width, height)
    wide, high = (max(1, (2 * side * int(size) + longer) // (2 * longer)) for side in (width, height))
    return wide, high


def resample(levels: Levels, size: int | tuple[int, int] | None, max_pixels: int, notes: list[str]) -> Levels:
    """Resample levels (H, W, C) in float, since Pillow resamples no 16-bit colour."""
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
    resampled = resize_channels(source, target, Image.Resampling.LANCZOS)
    np.clip(resampled, 0, 1, out=resampled)  # Lanczos overshoots at edges
    notes.append(f"resampled from {width}x{height} to {target[0]}x{target[1]}")
    return unpremultiply(resampled) if has_alpha else resampled


def resize_channels(
    levels: Levels,
    size: tuple[int, int],
    kernel: Image.Resampling,
    box: tuple[float, float, float, float] | None = None,
) -> Pixels:
    """Resize levels (H, W, C), or a box of them, to (width, height) in float32, channel by channel."""
    resized = np.empty((size[1], size[0], levels.shape[2]), np.float32)
    for channel in range(levels.shape[2]):
        plane = Image.fromarray(np.ascontiguousarray(to_pixels(levels[:, :, channel])))
        resized[:, :, channel] = np.asarray(plane.resize(size, kernel, box))
    return resized
