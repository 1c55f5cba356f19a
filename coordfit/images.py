"""Read and write pictures. Whatever a file holds becomes float32 (H, W, C) in [0, 1], or one clear error.

This is the only module that reads pictures with Pillow. What was done to a picture on the way is told in its
`notes`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageColor, ImageOps, UnidentifiedImageError

from coordfit.errors import ConfigError, PictureError
from coordfit.files import atomic_write, printable
from coordfit.png import PngWriter, quantize

__all__ = ["MAX_PIXELS", "Picture", "Source", "bundled_picture", "load_picture", "save_picture"]

# 8000x8000: as RGB, 0.8 GB of float32. Below Pillow's own limit (89 million, then a warning), so that it is
# this one that counts.
MAX_PIXELS = 64_000_000

BUNDLED_SIZES = (32, 128)

# Pillow logs some of what it then raises; with nobody listening, Python would print it.
logging.getLogger("PIL").addHandler(logging.NullHandler())

Pixels = NDArray[np.float32]

_MAX_16_BIT = 65535
# Colours computed in float32 may leave [0, 1] by rounding; more than this is another range.
_ROUNDING = 1e-6
# Alpha below half of a 16-bit step is nothing: colour cannot be had back from it by division.
_NO_ALPHA = 0.5 / _MAX_16_BIT
_ROWS_AT_ONCE = 256

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
# Pillow widens samples of 2 and 4 bits to 8, but not the level that its files declare transparent.
_KEY_SCALES = {"L;2": 85, "L;4": 17}

# Suffixes that `save_picture` knows besides .png: Pillow's name of the format, and options for best quality.
_SAVE_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".tif": ("TIFF", {"compression": "tiff_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_deflate"}),
    ".webp": ("WEBP", {"lossless": True}),
    ".bmp": ("BMP", {}),
}
_FORMATS_WITHOUT_ALPHA = ("JPEG", "BMP")


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as the networks see it.

    Attributes
    ----------
    pixels
        (H, W, C) float32 in [0, 1], not writable; C = 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA. Alpha is
        straight, and the colour of a fully transparent pixel is 0.
    bit_depth
        8 or 16: the steps of the source, for the files made from it. Floating sources count as 8.
    name
        The file's name without its folder, or "array".
    notes
        One short sentence for each thing that was done to the picture.
    """

    pixels: Pixels
    bit_depth: int
    name: str
    notes: tuple[str, ...] = ()

    @property
    def height(self) -> int:
        """H, in pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """W, in pixels."""
        return int(self.pixels.shape[1])

    @property
    def channels(self) -> int:
        """C, alpha included."""
        return int(self.pixels.shape[2])

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is alpha."""
        return self.channels in (2, 4)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of shape and pixels, hexadecimal; the same on every machine."""
        shape = "x".join(str(length) for length in self.pixels.shape)
        digest = hashlib.sha256(shape.encode() + b"\n")
        digest.update(np.ascontiguousarray(self.pixels, dtype="<f4").data)  # read in place, not copied
        return digest.hexdigest()


Source = Picture | str | os.PathLike[str] | Image.Image | NDArray[Any]


def load_picture(
    source: Source,
    *,
    size: int | tuple[int, int] | None = None,
    background: str | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Picture:
    """Read a picture from a file, a Pillow image, or an array.

    Parameters
    ----------
    source
        A path; a Pillow image; a `Picture`; or an array (H, W) or (H, W, C), C as in `Picture`, of bool,
        uint8, uint16, or floats in [0, 1]. Of a file with several frames the first is taken.
    size
        The longer side in pixels, or (width, height). Resampled with Lanczos, antialiased, in float.
    background
        Colour to lay under a picture with alpha, which then has none: a name or "#rrggbb".
    max_pixels
        Refuse a larger picture, before it is decoded.

    Returns
    -------
    picture
        The picture upright, its 8- or 16-bit levels divided by the highest.

    Raises
    ------
    PictureError
        `source` cannot be used as a picture.
    ConfigError
        `size` or `background` makes no sense.
    """
    paper = None if background is None else _parse_colour(background)
    _check_size(size)
    notes: list[str] = []
    if isinstance(source, Picture):
        notes += source.notes
        path, pixels, bit_depth = Path(source.name), source.pixels, source.bit_depth
    elif isinstance(source, Image.Image):
        pixels, bit_depth = _read_image(source, max_pixels, notes)
        path = Path(os.fsdecode(getattr(source, "filename", "") or "array"))
    elif isinstance(source, str | os.PathLike):
        path = Path(source)
        pixels, bit_depth = _read_file(path, max_pixels, notes)
    else:
        path = Path("array")
        pixels, bit_depth = _read_array(source)
    pixels = _settle_alpha(pixels, notes)
    pixels = _resample(pixels, size, max_pixels, notes)
    if paper is not None:
        pixels = _lay_on(pixels, paper, f"alpha composited on {background}", notes)
    pixels = np.ascontiguousarray(pixels)
    pixels.flags.writeable = False
    name = path.name.encode(
        errors="replace"
    ).decode()  # a name that is no Unicode could not be written to a report
    return Picture(pixels, bit_depth, name, tuple(dict.fromkeys(notes)))


def bundled_picture(size: int = 128) -> Picture:
    """Load the cat Chelsea, which comes with the package: RGB, `size` x `size` pixels, 32 or 128."""
    if size not in BUNDLED_SIZES:
        raise ConfigError(f"the bundled picture has the sizes 32 and 128, not {size}")
    with resources.as_file(resources.files("coordfit") / "data" / f"chelsea-{size}.png") as path:
        return load_picture(path)


def save_picture(path: str | os.PathLike[str], pixels: NDArray[np.floating], *, bit_depth: int = 8) -> None:
    """Write a picture, whole or not at all, without any metadata.

    Parameters
    ----------
    path
        The suffix says the format: .png, or with 8 bits .jpg, .tif, .webp, .bmp.
    pixels
        (H, W, C) floats, C as in `Picture`; clipped to [0, 1] and rounded to the nearest level.
    bit_depth
        8 or 16.

    Raises
    ------
    PictureError
        The pixels are no picture, hold NaN, or the format cannot hold them.
    OutputError
        The file cannot be written.
    """
    path = Path(path)
    if pixels.ndim != 3 or not 1 <= pixels.shape[2] <= 4 or 0 in pixels.shape or pixels.dtype.kind != "f":
        what = f"{pixels.dtype} of shape {pixels.shape}"
        raise PictureError(f"cannot save {printable(path)}: pixels must be floats (H, W, 1 to 4), not {what}")
    if bit_depth not in (8, 16):
        raise PictureError(f"cannot save {printable(path)}: the bit depth must be 8 or 16, not {bit_depth}")
    if path.suffix.lower() == ".png":
        _save_png(path, pixels, bit_depth)
    else:
        content = _encode(path, pixels, bit_depth)
        with atomic_write(path) as file:
            file.write(content)


# --- sources ------------------------------------------------------------------------------------------------


def _read_file(path: Path, max_pixels: int, notes: list[str]) -> tuple[Pixels, int]:
    """Decode a file: pixels and bit depth."""
    _check_file(path)
    label = printable(path)
    # Opened here, since Pillow leaves files it opened itself to the garbage collector when a decoder fails.
    with (
        _one_error(label),
        _pillow_warnings(max_pixels, notes),
        path.open("rb") as file,
        Image.open(file) as image,
    ):
        _check_pixels(image.size, max_pixels, label)
        if image.format == "EPS":
            raise PictureError(f"{label} is PostScript, a program that is not run here: export it as PNG")
        _note_frames(image, notes)
        return _decode(image, max_pixels, label, notes)


def _read_image(image: Image.Image, max_pixels: int, notes: list[str]) -> tuple[Pixels, int]:
    """Decode a Pillow image at the frame it stands on: pixels and bit depth."""
    label = f"the Pillow image ({image.mode})"
    with _one_error(label), _pillow_warnings(max_pixels, notes):
        _check_pixels(image.size, max_pixels, label)
        return _decode(image, max_pixels, label, notes)


def _read_array(source: Any) -> tuple[Pixels, int]:
    """Take an array (H, W) or (H, W, C): pixels, never sharing memory with it, and bit depth."""
    if isinstance(source, np.ma.MaskedArray):
        raise PictureError("a masked array is no picture: fill it first, with .filled()")
    if not hasattr(source, "__array__"):
        what = type(source).__name__
        raise PictureError(f"a picture is a path, a Pillow image or an array, not a {what}")
    with _one_error("the array"):
        array = np.asarray(source)
    if array.ndim == 2:
        array = array[:, :, np.newaxis]
    if array.ndim != 3 or not 1 <= array.shape[2] <= 4:
        cure = (
            ": channels come last, so use .transpose(1, 2, 0)" if array.shape[:1] in ((1,), (3,), (4,)) else ""
        )
        raise PictureError(f"a picture has shape (H, W) or (H, W, 1 to 4), not {np.shape(source)}{cure}")
    if array.size == 0:
        raise PictureError(f"the array has no pixels: its shape is {np.shape(source)}")
    return _scale(array, "the array")


def _check_file(path: Path) -> None:
    """Refuse what is no file with something in it."""
    label = printable(path)
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise PictureError(f"there is no file {label}: check the name and the folder") from error
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise PictureError(f"cannot open {label}: {cause}") from error
    if stat.S_ISDIR(status.st_mode):
        raise PictureError(f"{label} is a folder: name one picture in it")
    if not stat.S_ISREG(status.st_mode):
        raise PictureError(f"{label} is a pipe or device: save the picture to a file first")
    if status.st_size == 0:
        raise PictureError(f"{label} is empty (0 bytes): get the picture again")


def _check_pixels(size: tuple[int, int], max_pixels: int, label: str) -> None:
    """Refuse a picture (width, height) without pixels or with more than memory is meant for."""
    width, height = size
    if width < 1 or height < 1:
        raise PictureError(f"{label} has no pixels: its size is {width}x{height}")
    if width * height > max_pixels:
        count = f"{width}x{height} = {width * height} pixels"
        raise PictureError(f"{label} has {count}, more than {max_pixels}: make it smaller, or raise max_pixels")


@contextmanager
def _one_error(label: str) -> Iterator[None]:
    """Turn whatever a decoder raises into one `PictureError`; plugins fail in undocumented ways too."""
    try:
        yield
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError(f"{label} is not a picture that Pillow can read: save it as PNG or JPEG") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        count = re.search(r"\d+ pixels", str(error))
        size = count[0] if count else "too many pixels"
        raise PictureError(f"{label} has {size}, more than Pillow opens: make it smaller first") from error
    except PermissionError as error:
        raise PictureError(f"cannot open {label}: no permission to read it") from error
    except MemoryError as error:
        raise PictureError(f"{label} does not fit into memory: make it smaller first") from error
    except Exception as error:
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        raise PictureError(f"{label} cannot be decoded ({detail}): get it again, or save it as PNG") from error


@contextmanager
def _pillow_warnings(max_pixels: int, notes: list[str]) -> Iterator[None]:
    """Turn Pillow's warnings into notes, and that of a decompression bomb into an error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # A plugin may find while decoding that a picture is larger than its header said. Only who asks for
        # more pixels than Pillow warns of gets them, up to twice as many, where Pillow itself raises.
        if max_pixels <= (Image.MAX_IMAGE_PIXELS or 0):
            warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield
    told = (str(warning.message) for warning in caught if issubclass(warning.category, UserWarning))
    notes.extend("Pillow says: " + " ".join(message.split()) for message in told)


# --- decoding -----------------------------------------------------------------------------------------------


def _decode(image: Image.Image, max_pixels: int, label: str, notes: list[str]) -> tuple[Pixels, int]:
    """Decode an opened image: upright pixels (H, W, C), alpha still as it came, and bit depth."""
    raw_mode = _raw_mode(image)
    turned = _turns_by_itself(image)
    image.load()
    _check_pixels(image.size, max_pixels, label)  # an icon's size is only known now
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


def _note_frames(image: Image.Image, notes: list[str]) -> None:
    """Say it if there are more frames than the first; the layers of a PSD are not frames but one picture."""
    try:
        frames = getattr(image, "n_frames", 1)
    except Exception:  # a damaged later frame does not matter, but Pillow may be left standing on it
        image.seek(0)
        return
    if frames > 1 and image.format != "PSD":
        notes.append(f"first of {frames} frames")


def _decode_deep(image: Image.Image, raw_mode: str, label: str) -> tuple[Pixels, int]:
    """Pixels and bit depth of the single-channel modes I;16*, I and F, which `convert` would clip at 255."""
    levels = np.asarray(image)[:, :, np.newaxis]
    if image.mode == "F":
        return _scale(levels, label)
    if image.mode == "I":  # 32 bits that hold a 16-bit picture, as portable greymaps arrive
        if levels.min() < 0 or levels.max() > _MAX_16_BIT:
            extent = f"{levels.min()} to {levels.max()}"
            raise PictureError(
                f"{label} holds levels from {extent}, more than 16 bits: save it with 8 or 16 bits"
            )
        levels = levels.astype(np.uint16)
    if raw_mode == "I;12":
        return np.divide(levels, np.float32(4095), dtype=np.float32), 16
    pixels, bit_depth = _scale(levels, label)
    return _apply_key(pixels, levels, image.info.get("transparency")), bit_depth


def _decode_8_bit(image: Image.Image, raw_mode: str, label: str, notes: list[str]) -> tuple[Pixels, int]:
    """Pixels of the modes with 8 bits per sample, and 8."""
    is_deep = re.search(";16[BLN]$", raw_mode) is not None  # "BGR;16" are 16 bits for all three
    if is_deep:
        notes.append("16-bit colour arrives from Pillow as 8-bit")
    if image.mode in _PREMULTIPLIED_MODES:
        pixels, bit_depth = _scale(np.asarray(image), label)
        return _unpremultiply(pixels), bit_depth
    levels = np.asarray(_to_plain_mode(image, label, notes))
    if raw_mode == "LA;16B":  # Pillow spreads this one grey over three channels
        levels = levels[:, :, [0, 3]]
    levels = levels.reshape(*levels.shape[:2], -1)
    pixels, bit_depth = _scale(levels, label)
    if image.mode not in ("1", "L", "RGB"):
        return pixels, bit_depth
    key = image.info.get("transparency")
    if image.mode == "1" and key:  # 255 from newer Pillows; from older ones the sample in the file, 1
        key = 255
    elif key is not None and not isinstance(key, bytes):
        key = np.asarray(key) >> 8 if is_deep else np.asarray(key) * _KEY_SCALES.get(raw_mode, 1)
    return _apply_key(pixels, levels, key), bit_depth


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


def _apply_key(pixels: Pixels, levels: NDArray[Any], key: Any) -> Pixels:
    """Add alpha: 0 where the levels (H, W, C) equal the colour that the file declares transparent, else 1."""
    if key is None or isinstance(key, bytes) or np.size(key) != levels.shape[2]:
        return pixels
    alpha = (levels != np.reshape(key, -1)).any(axis=2, keepdims=True)
    return np.concatenate([pixels, alpha.astype(np.float32)], axis=2)


def _scale(values: NDArray[Any], label: str) -> tuple[Pixels, int]:
    """Bring levels, or floats in [0, 1], of any shape to float32 in [0, 1]: a new array, and bit depth."""
    if values.dtype.kind == "f":
        _check_range(values, label)
        return np.clip(values, 0, 1).astype(np.float32), 8
    if values.dtype.kind == "b":
        return values.astype(np.float32), 8
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        bit_depth = 8 * values.dtype.itemsize
        return np.divide(values, np.float32(2**bit_depth - 1), dtype=np.float32), bit_depth
    cure = "make it uint8 or uint16, or divide by its highest possible level"
    raise PictureError(f"{label} holds {values.dtype}, whose white is not known: {cure}")


def _check_range(values: NDArray[np.floating], label: str) -> None:
    """Refuse floats outside [0, 1], saying what probably was meant."""
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise PictureError(f"{label} holds NaN or infinite values: replace them first")
    if low < -_ROUNDING:
        cure = "add 1 and divide by 2" if low >= -1 and high <= 1 else "shift and scale it to that range"
    elif high > 1 + _ROUNDING:
        cure = (
            f"divide by {255 if high <= 255 else _MAX_16_BIT if high <= _MAX_16_BIT else 'its highest level'}"
        )
    else:
        return
    raise PictureError(f"{label} holds values from {low:g} to {high:g}, but colours lie in [0, 1]: {cure}")


# --- alpha, size --------------------------------------------------------------------------------------------


def _settle_alpha(pixels: Pixels, notes: list[str]) -> Pixels:
    """Drop alpha that says nothing, and colour that nobody sees: no network should spend itself on them."""
    if pixels.shape[2] not in (2, 4):
        return pixels
    alpha = pixels[:, :, -1]
    if (alpha == 1).all():
        notes.append("opaque alpha channel dropped")
        return pixels[:, :, :-1]
    hidden = (alpha == 0) & pixels[:, :, :-1].any(axis=2)
    if hidden.any():
        pixels[hidden, :-1] = 0
        notes.append(f"colour of {np.count_nonzero(hidden)} fully transparent pixels set to 0")
    return pixels


def _premultiply(pixels: Pixels) -> Pixels:
    """Multiply colour by alpha (H, W, C): only so may pixels be averaged."""
    alpha = pixels[:, :, -1:]
    return np.concatenate([pixels[:, :, :-1] * alpha, alpha], axis=2)


def _unpremultiply(pixels: Pixels) -> Pixels:
    """Divide colour by alpha (H, W, C); where alpha is nothing, so is colour."""
    alpha = np.where(pixels[:, :, -1:] < _NO_ALPHA, np.float32(0), pixels[:, :, -1:])
    colour = np.zeros_like(pixels[:, :, :-1])
    np.divide(pixels[:, :, :-1], alpha, out=colour, where=alpha > 0)
    return np.concatenate([np.minimum(colour, 1), alpha], axis=2)


def _lay_on(pixels: Pixels, paper: tuple[int, int, int], note: str, notes: list[str]) -> Pixels:
    """Composite alpha on a colour of levels 0 to 255, in encoded values as browsers do; grey stays grey."""
    if pixels.shape[2] not in (2, 4):
        return pixels
    notes.append(note)
    colour, alpha = pixels[:, :, :-1], pixels[:, :, -1:]
    under = np.asarray(paper, np.float32) / 255
    if len(set(paper)) == 1:
        under = under[: colour.shape[2]]
    return np.clip(colour * alpha + under * (1 - alpha), 0, 1)


def _parse_colour(text: str) -> tuple[int, int, int]:
    """Read a colour as three levels 0 to 255."""
    try:
        levels = ImageColor.getrgb(text)
    except (ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"background {text!r} is no colour: give a name or #rrggbb") from error
    if len(levels) == 4 and levels[3] != 255:
        raise ConfigError(f"background {text!r} is not opaque: give a name or #rrggbb")
    return levels[0], levels[1], levels[2]


def _check_size(size: Any) -> None:
    """Refuse a size that is neither one nor two positive integers."""
    lengths = size if isinstance(size, tuple | list) and len(size) == 2 else (size,)
    whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) and n >= 1 for n in lengths)
    if size is not None and not whole:
        raise ConfigError(f"size {size!r} is neither a number of pixels nor (width, height)")


def _target_size(width: int, height: int, size: int | tuple[int, int]) -> tuple[int, int]:
    """Width and height of the resampled picture; the shorter side is rounded, half up, and at least 1."""
    if not isinstance(size, int | np.integer):
        return int(size[0]), int(size[1])
    longer = max(width, height)
    wide, high = (max(1, (2 * side * int(size) + longer) // (2 * longer)) for side in (width, height))
    return wide, high


def _resample(pixels: Pixels, size: int | tuple[int, int] | None, max_pixels: int, notes: list[str]) -> Pixels:
    """Bring pixels (H, W, C) to a size, channel by channel in float: Pillow resamples no 16-bit colour."""
    height, width, channels = pixels.shape
    target = (width, height) if size is None else _target_size(width, height, size)
    if target == (width, height):
        return pixels
    if target[0] * target[1] > max_pixels:
        count = f"{target[0]}x{target[1]} = {target[0] * target[1]} pixels"
        needed = f"{target[0] * target[1] * channels * 4 / 1e9:.1f} GB for its colours alone"
        raise ConfigError(f"size asks for {count}, {needed}; {max_pixels} pixels are the most: make it smaller")
    has_alpha = channels in (2, 4)
    source = _premultiply(pixels) if has_alpha else pixels
    resampled = np.empty((target[1], target[0], channels), np.float32)
    for channel in range(channels):
        plane = Image.fromarray(np.ascontiguousarray(source[:, :, channel]))
        resampled[:, :, channel] = np.asarray(plane.resize(target, Image.Resampling.LANCZOS))
    np.clip(resampled, 0, 1, out=resampled)  # Lanczos overshoots at edges
    notes.append(f"resampled from {width}x{height} to {target[0]}x{target[1]}")
    return _unpremultiply(resampled) if has_alpha else resampled


# --- writing ------------------------------------------------------------------------------------------------


def _save_png(path: Path, pixels: NDArray[np.floating], bit_depth: int) -> None:
    """Write a PNG a few rows at a time, so that no second copy of the picture is needed."""
    height, width, channels = pixels.shape
    with atomic_write(path) as file, PngWriter(file, width, height, channels, bit_depth) as png:
        for start in range(0, height, _ROWS_AT_ONCE):
            png.write_rows(quantize(pixels[start : start + _ROWS_AT_ONCE], bit_depth))


def _encode(path: Path, pixels: NDArray[np.floating], bit_depth: int) -> bytes:
    """Encode in one of the other formats."""
    label = printable(path)
    if path.suffix.lower() not in _SAVE_FORMATS:
        known = ", ".join([".png", *_SAVE_FORMATS])
        raise PictureError(f"cannot save {label}: its suffix names no format known here ({known})")
    name, options = _SAVE_FORMATS[path.suffix.lower()]
    if bit_depth == 16:
        raise PictureError(f"cannot save {label}: only .png is written with 16 bits")
    if pixels.shape[2] in (2, 4) and name in _FORMATS_WITHOUT_ALPHA:
        raise PictureError(
            f"cannot save {label}: {name} has no alpha, so save as .png or lay it on a background"
        )
    levels = quantize(pixels)
    content = BytesIO()
    try:
        Image.fromarray(levels[:, :, 0] if levels.shape[2] == 1 else levels).save(content, name, **options)
    except (OSError, ValueError) as error:
        raise PictureError(f"cannot save {label} as {name} ({error}): save it as .png") from error
    return content.getvalue()
