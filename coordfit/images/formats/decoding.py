"""Decode Pillow images to levels: all modes, 16 bits, transparent keys, palettes, orientation, frames."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile

from ...errors import PictureError
from .alpha import unpremultiply
from .layouts import check_layout, declares_no_alpha, first_frame
from .levels import MAX_16_BIT, Levels, as_levels, check_pixels, highest, to_pixels

# Pillow's modes whose arrays are colours already, and the conversions of the others.
_PLAIN_MODES = ("L", "LA", "RGB", "RGBA")
_PREMULTIPLIED_MODES = ("La", "RGBa")
_OTHER_COLOURS = ("CMYK", "YCbCr", "LAB", "HSV")
_CONVERTED_MODES = {"1": "L", "PA": "RGBA", "RGBX": "RGB", **dict.fromkeys(_OTHER_COLOURS, "RGB")}
_ROWS_AT_ONCE = 256
# Pillow keeps the first byte of 16-bit samples. These names for the samples keep the second, or for grey both.
_OTHER_BYTES = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L", "LA;16B": "RGBA"}
# Pillow widens samples of 2 and 4 bits to 8, but not the level that its files declare transparent.
_KEY_SCALES = {"L;2": 85, "L;4": 17}
_SRGB_GAMMA = 1 / 2.2
_SRGB_PRIMARIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
_TURNS: dict[int, Callable[[Levels], Levels]] = {
    2: lambda levels: levels[:, ::-1],
    3: lambda levels: levels[::-1, ::-1],
    4: lambda levels: levels[::-1],
    5: lambda levels: levels.swapaxes(0, 1),
    6: lambda levels: levels[::-1].swapaxes(0, 1),
    7: lambda levels: levels[::-1, ::-1].swapaxes(0, 1),
    8: lambda levels: levels[:, ::-1].swapaxes(0, 1),
}


def decode(image: Image.Image, max_pixels: int, label: str, notes: list[str]) -> tuple[Levels, int]:
    """Return upright levels (H, W, C) of an opened image, alpha as the file has it, and bit depth."""
    raw_mode, turned = _raw_mode(image), _turns_by_itself(image)
    frame, other_bytes, without_alpha = None, None, False
    if isinstance(image, ImageFile.ImageFile) and image.fp is not None:
        check_layout(image, raw_mode, label, notes)
        frame, without_alpha = first_frame(image), declares_no_alpha(image)
        if image.format == "PPM" and raw_mode == "RGB;16N":
            return _decode_deep_pixmap(image, label), 16
        if raw_mode in _OTHER_BYTES:
            other_bytes = _decode_other_bytes(image, _OTHER_BYTES[raw_mode])
    image.load()
    check_pixels(image.size, max_pixels, label)  # again: an icon's size is only known now
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        levels, bit_depth = _decode_deep(image, raw_mode, label)
    else:
        levels, bit_depth = _decode_8_bit(image, raw_mode, other_bytes, label, notes)
    if without_alpha and levels.shape[2] in (2, 4) and not levels[:, :, -1].any():
        levels = levels[:, :, :-1]
    note_colour_space(image.info, notes)
    if turned:
        notes.append(_turned_by("EXIF"))
    return turn_upright(_clear_outside(levels, frame), *_orientation(image, notes), notes), bit_depth


def _raw_mode(image: Image.Image) -> str:
    """Return Pillow's name for the samples in the file, such as "RGB;16B"; "" if decoded already."""
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
    """Whether Pillow turns this TIFF upright while decoding, and drops its orientation."""
    tags = getattr(image, "tag_v2", None) or {}
    return tags.get(ExifTags.Base.Orientation) in range(2, 9)


def _orientation(image: Image.Image, notes: list[str]) -> tuple[int, str]:
    """Return the orientation and its source; damaged EXIF data are ignored."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
        own = Image.Exif()
        own.load(image.info.get("exif") or b"")
    except Exception:
        notes.append("damaged EXIF data ignored")
        return 1, "EXIF"
    by_xmp = xmp_orientation(image.info.get("XML:com.adobe.xmp") or image.info.get("xmp"))
    if ExifTags.Base.Orientation not in own and orientation in (None, by_xmp):  # newer Pillows look into XMP
        return by_xmp, "XMP"
    return orientation or 1, "EXIF"


def xmp_orientation(xmp: str | bytes | None) -> int:
    """Return the orientation of XMP metadata; 1, upright, without any."""
    text = xmp if isinstance(xmp, bytes) else (xmp or "").encode(errors="replace")
    found = re.search(rb'tiff:Orientation(?:="|>)([1-8])', text)
    return int(found[1]) if found else 1


def turn_upright(levels: Levels, orientation: Any, source: str, notes: list[str]) -> Levels:
    """Turn levels (H, W, C) from an orientation 1 to 8, and note its source."""
    if orientation not in _TURNS:
        return levels
    notes.append(_turned_by(source))
    return _TURNS[orientation](levels)


def _turned_by(source: str) -> str:
    return f"turned upright as its {source} orientation says"


def note_frames(count: Callable[[], int], notes: list[str]) -> None:
    """Note that there are more frames than the first, unless a damaged one hides their number."""
    try:
        frames = count()
    except Exception:
        return
    if frames > 1:
        notes.append(f"first of {frames} frames")


def note_colour_space(info: dict[Any, Any], notes: list[str]) -> None:
    """Note colour metadata that are not applied: all colours are taken as sRGB."""
    if info.get("icc_profile"):
        notes.append("embedded colour profile not applied")
        return
    if "srgb" in info:  # takes precedence over the other two by the specification of PNG
        return
    gamma, primaries = info.get("gamma"), info.get("chromaticity")
    if gamma and abs(gamma / _SRGB_GAMMA - 1) > 0.05:
        notes.append(f"gamma of {gamma:g} not applied")
    if primaries and np.abs(np.subtract(primaries, _SRGB_PRIMARIES)).max() > 0.005:
        notes.append("primaries other than those of sRGB not applied")


def _clear_outside(levels: Levels, frame: tuple[int, int, int, int] | None) -> Levels:
    """Return levels (H, W, C) with alpha 0 outside the frame."""
    if frame is None:
        return levels
    left, top, right, bottom = frame
    if levels.shape[2] in (1, 3):
        opaque = np.full((*levels.shape[:2], 1), highest(levels), levels.dtype)
        levels = np.concatenate([levels, opaque], axis=2)
    clear = np.zeros_like(levels)
    clear[top:bottom, left:right] = levels[top:bottom, left:right]
    return clear


def _decode_deep_pixmap(image: ImageFile.ImageFile, label: str) -> Levels:
    """Return the levels (H, W, 3) of a binary pixmap with more than 8 bits, which Pillow cuts to 8."""
    codec, _, offset, arguments = image.tile[0]
    highest_level: int = arguments[1]  # type: ignore[index,assignment]
    if codec != "ppm":
        raise PictureError(f"{label} holds 16-bit colour as text, which is not read: save it as PNG")
    assert image.fp is not None
    image.fp.seek(offset)
    content = image.fp.read(6 * image.width * image.height)
    levels: NDArray[np.uint16] = np.frombuffer(content, ">u2").reshape(image.height, image.width, 3)
    if levels.max() > highest_level:
        raise PictureError(f"{label} has levels above its own highest, {highest_level}: save it as PNG")
    if highest_level == MAX_16_BIT:
        return levels.astype(np.uint16)
    return np.divide(levels, np.float32(highest_level), dtype=np.float32)


def _decode_other_bytes(image: ImageFile.ImageFile, raw_mode: str) -> NDArray[np.uint8]:
    """Return bytes (H, W, C) of a PNG by another name for its samples, decoding it again."""
    assert image.fp is not None
    place = image.fp.tell()
    with Image.open(image.fp, formats=["PNG"]) as again:
        codec, extents, offset, _ = again.tile[0]
        again.tile = [(codec, extents, offset, raw_mode)]  # type: ignore[list-item]  # any tuple will do
        again.load()
        other_bytes = _levels(again)
    image.fp.seek(place)
    return other_bytes


def _decode_deep(image: Image.Image, raw_mode: str, label: str) -> tuple[Levels, int]:
    """Return levels and bit depth of the modes I;16*, I and F, which `convert` would clip at 255."""
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


def _decode_8_bit(
    image: Image.Image, raw_mode: str, other_bytes: NDArray[np.uint8] | None, label: str, notes: list[str]
) -> tuple[Levels, int]:
    """Return levels and bit depth of modes with 8 bits per sample, or 16 with `other_bytes`."""
    if image.mode in _PREMULTIPLIED_MODES:
        premultiplied, bit_depth = as_levels(np.asarray(image), label)
        return unpremultiply(to_pixels(premultiplied)), bit_depth
    levels: NDArray[Any] = _levels(_to_plain_mode(image, label, notes))
    if other_bytes is not None and raw_mode == "LA;16B":
        levels = other_bytes.view(">u2").astype(np.uint16)
    elif other_bytes is not None:
        levels = np.left_shift(levels, 8, dtype=np.uint16)
        levels |= other_bytes
    bit_depth = 8 * levels.dtype.itemsize
    if image.mode not in ("1", "L", "RGB"):
        return levels, bit_depth
    key = image.info.get("transparency")
    if image.mode == "1" and key:  # 255 from newer Pillows; from older ones the sample in the file, 1
        key = 255
    elif key is not None and not isinstance(key, bytes):
        key = np.asarray(key) * _KEY_SCALES.get(raw_mode, 1)
    return _apply_key(levels, levels, key), bit_depth


def _levels(image: Image.Image) -> NDArray[np.uint8]:
    """Return the levels (H, W, C) of a plain mode, some rows at a time to save memory."""
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
    if image.mode in _OTHER_COLOURS:
        notes.append(f"converted from {image.mode} to RGB")
    return image.convert(_CONVERTED_MODES[image.mode])


def _apply_key(own: Levels, levels: NDArray[Any], key: Any) -> Levels:
    """Add alpha to `own`: 0 where `levels` (H, W, C) equal the colour declared transparent."""
    if key is None or isinstance(key, bytes) or np.size(key) != levels.shape[2]:
        return own
    alpha = (levels != np.reshape(key, -1)).any(axis=2, keepdims=True)
    return np.concatenate([own, np.multiply(alpha, highest(own), dtype=own.dtype)], axis=2)
