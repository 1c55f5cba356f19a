"""What Pillow makes of a file, as levels: every mode, 16 bits, keys, palettes, orientation, frames."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from coordfit.errors import PictureError

from .alpha import unpremultiply
from .levels import MAX_16_BIT, Levels, as_levels, check_pixels, highest, to_pixels

# Pillow's modes whose arrays are colours as they stand, and what it converts the others to.
_PLAIN_MODES = ("L", "LA", "RGB", "RGBA")
_PREMULTIPLIED_MODES = ("La", "RGBa")
_CONVERTED_MODES = {
    "1": "L",
    "PA": "RGBA",
    "RGBX": "RGB",
    "CMYK": "RGB",
    "YCbCr": "RGB",
    "LAB": "RGB",
    "HSV": "RGB",
}
_ROWS_AT_ONCE = 256
# Pillow widens samples of 2 and 4 bits to 8, but not the level that its files declare transparent.
_KEY_SCALES = {"L;2": 85, "L;4": 17}


def decode(image: Image.Image, max_pixels: int, label: str, notes: list[str]) -> tuple[Levels, int]:
    """Decode an opened image: upright levels (H, W, C), alpha still as it came, and bit depth."""
    raw_mode = _raw_mode(image)
    turned = _turns_by_itself(image)
    image.load()
    check_pixels(image.size, max_pixels, label)  # an icon's size is only known now
    upright = _turn_upright(image, notes)
    if turned or upright is not image:
        notes.append("turned upright as its EXIF orientation says")
    if image.info.get("icc_profile"):
        notes.append("embedded colour profile not applied")
    deep = upright.mode in ("I", "F") or upright.mode.startswith("I;16")
    return _decode_deep(upright, raw_mode, label) if deep else _decode_8_bit(upright, raw_mode, label, notes)


def _raw_mode(image: Image.Image) -> str:
    """Pillow's name for the samples in the file, such as "RGB;16B"; "" once decoded, or without a file."""
    tiles = getattr(image, "tile", None)
    if not tiles:
        return ""
    codec, arguments = tiles[0][0], tiles[0][3]
    if isinstance(arguments, tuple) and arguments:
        # Portable pixmaps name their highest level instead.
        is_deep = codec in ("ppm", "ppm_plain") and arguments[1] > 255
        return f"{arguments[0]};16N" if is_deep else str(arguments[0])
    return arguments if isinstance(arguments, str) else ""


def _turns_by_itself(image: Image.Image) -> bool:
    """Whether this is a TIFF that Pillow will turn upright while decoding, and then forget that it did."""
    tags = getattr(image, "tag_v2", None) or {}
    return tags.get(ExifTags.Base.Orientation) in range(2, 9)


def _turn_upright(image: Image.Image, notes: list[str]) -> Image.Image:
    """Apply the EXIF orientation; damaged EXIF data is no reason to refuse a picture."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        return ImageOps.exif_transpose(image) if orientation in range(2, 9) else image
    except Exception:
        notes.append("damaged EXIF data ignored")
        return image


def note_frames(image: Image.Image, notes: list[str]) -> None:
    """Say it if there are more frames than the first; the layers of a PSD are not frames but one picture."""
    try:
        frames = getattr(image, "n_frames", 1)
    except Exception:  # a damaged later frame does not matter, but Pillow may be left standing on it
        image.seek(0)
        return
    if frames > 1 and image.format != "PSD":
        notes.append(f"first of {frames} frames")


def _decode_deep(image: Image.Image, raw_mode: str, label: str) -> tuple[Levels, int]:
    """Levels and bit depth of the single-channel modes I;16*, I and F, which `convert` would clip at 255."""
    levels = np.asarray(image)[:, :, np.newaxis]
    if image.mode == "F":
        return as_levels(levels, label)
    if image.mode == "I":  # 32 bits that hold a 16-bit picture, as portable greymaps arrive
        if levels.min() < 0 or levels.max() > MAX_16_BIT:
            extent = f"{levels.min()} to {levels.max()}"
            raise PictureError(
                f"{label} holds levels from {extent}, more than 16 bits: save it with 8 or 16 bits"
            )
        levels = levels.astype(np.uint16)
    if raw_mode == "I;12":
        return np.divide(levels, np.float32(4095), dtype=np.float32), 16
    own, bit_depth = as_levels(levels, label)
    return _apply_key(own, levels, image.info.get("transparency")), bit_depth


def _decode_8_bit(image: Image.Image, raw_mode: str, label: str, notes: list[str]) -> tuple[Levels, int]:
    """Levels of the modes with 8 bits per sample, and 8."""
    is_deep = re.search(";16[BLN]$", raw_mode) is not None  # "BGR;16" are 16 bits for all three
    if is_deep:
        notes.append("16-bit colour arrives from Pillow as 8-bit")
    if image.mode in _PREMULTIPLIED_MODES:
        premultiplied, bit_depth = as_levels(np.asarray(image), label)
        return unpremultiply(to_pixels(premultiplied)), bit_depth
    levels = _levels(_to_plain_mode(image, label, notes))
    if raw_mode == "LA;16B":  # Pillow spreads this one grey over three channels
        levels = levels[:, :, [0, 3]]
    if image.mode not in ("1", "L", "RGB"):
        return levels, 8
    key = image.info.get("transparency")
    if image.mode == "1" and key:  # 255 from newer Pillows; from older ones the sample in the file, 1
        key = 255
    elif key is not None and not isinstance(key, bytes):
        key = np.asarray(key) >> 8 if is_deep else np.asarray(key) * _KEY_SCALES.get(raw_mode, 1)
    return _apply_key(levels, levels, key), 8


def _levels(image: Image.Image) -> NDArray[np.uint8]:
    """The levels (H, W, C) of a plain mode, some rows at a time: Pillow would make them twice."""
    levels = np.empty((image.height, image.width, len(image.getbands())), np.uint8)
    for top in range(0, image.height, _ROWS_AT_ONCE):
        rows = image.crop((0, top, image.width, min(top + _ROWS_AT_ONCE, image.height)))
        levels[top : top + rows.height] = np.asarray(rows).reshape(rows.height, rows.width, -1)
    return levels


def _to_plain_mode(image: Image.Image, label: str, notes: list[str]) -> Image.Image:
    """Convert to L, LA, RGB or RGBA, keeping a palette's transparency."""
    if image.mode in _PLAIN_MODES:
        return image
    if image.mode == "P":
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode not in _CONVERTED_MODES:
        raise PictureError(f"{label} has the mode {image.mode}, which is not known here: save it as PNG")
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        notes.append(f"converted from {image.mode} to RGB")
    return image.convert(_CONVERTED_MODES[image.mode])


def _apply_key(own: Levels, levels: NDArray[Any], key: Any) -> Levels:
    """Add alpha to a picture's own levels: 0 where `levels` (H, W, C) equal the colour declared transparent."""
    if key is None or isinstance(key, bytes) or np.size(key) != levels.shape[2]:
        return own
    alpha = (levels != np.reshape(key, -1)).any(axis=2, keepdims=True)
    return np.concatenate([own, np.multiply(alpha, highest(own), dtype=own.dtype)], axis=2)
