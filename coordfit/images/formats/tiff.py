"""Read TIFF by tifffile, which keeps 16 bits and floats.

Only layouts that a test compares with an independent reader are read. Pillow reads those with fewer than 8
bits, JPEG, CCITT and CMYK. The rest is refused.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...errors import PictureError
from ...files import printable
from .alpha import unpremultiply
from .decoding import decode, note_frames, turn_upright, xmp_orientation
from .levels import Levels, as_levels, check_pixels, highest, to_pixels

if TYPE_CHECKING:
    from tifffile import TiffPage

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_NUM_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1}
_UNCOMPRESSED, _CCITT, _LZW, _JPEG, _DEFLATE, _PACKBITS = 1, (2, 3, 4), 5, 7, (8, 32946), 32773
_PREMULTIPLIED, _STRAIGHT = 1, 2  # kinds of ExtraSamples that are alpha
_MOST_SAMPLES = 8
# Tags with one number; of a damaged file tifffile returns any type and length.
_NUMBERS = (
    "imagewidth", "imagelength", "imagedepth", "samplesperpixel", "photometric", "compression", "planarconfig",
    "predictor", "fillorder", "rowsperstrip", "tilewidth", "tilelength", "tiledepth",
)  # fmt: skip
_CURE = "save it as PNG, or as a grey or RGB TIFF of 8 or 16 bits, uncompressed or with LZW or Deflate"


def read_tiff(file: BinaryIO, number: int, max_pixels: int, label: str, notes: list[str]) -> tuple[Levels, int]:
    """Return upright levels (H, W, C) and bit depth of one page of an open file, 0 the first."""
    from tifffile import TiffFile

    file.seek(0)
    with TiffFile(file) as tiff:
        page: Any = tiff.pages[number]
        if not all(isinstance(getattr(page, name), int) for name in _NUMBERS):
            raise PictureError(f"{label} has damaged tags: get it again, or save it as PNG")
        check_pixels((page.imagewidth, page.imagelength), max_pixels, label)
        if number == 0:
            note_frames(lambda: len(tiff.pages), notes)
        if _is_left_to_pillow(page):
            file.seek(0)
            with Image.open(file, formats=["TIFF"]) as image:
                image.seek(number)
                return decode(image, max_pixels, label, notes)
        _check_layout(page, max_pixels, label)
        levels, bit_depth = _as_colours(page, _decode_samples(page, file), label, notes)
        if 34675 in page.tags:
            notes.append("embedded colour profile not applied")
        orientation = page.tags.valueof(274)
        if orientation is not None:
            return turn_upright(levels, orientation, "EXIF", notes), bit_depth
        return turn_upright(levels, xmp_orientation(page.tags.valueof(700)), "XMP", notes), bit_depth


def read_samples(path: Path, max_pixels: int, least_channels: int = 1) -> NDArray[Any]:
    """Return the samples (H, W, S) of a TIFF's first page as they are: any numbers, any number of channels.

    What strips and tiles unpack to is bounded as for pictures.

    Raises
    ------
    PictureError
        The file is no TIFF, damaged, compressed otherwise, too large, or has fewer channels.
    """
    from tifffile import TiffFile

    label = printable(path)
    with path.open("rb") as file, TiffFile(file) as tiff:
        page: Any = tiff.pages[0]
        if not all(isinstance(getattr(page, name), int) for name in _NUMBERS):
            raise PictureError(f"{label} has damaged tags: get it again, or save it as PNG")
        if page.samplesperpixel < least_channels:
            raise PictureError(f"{label} has {page.samplesperpixel} channels")
        check_pixels((page.imagewidth, page.imagelength * page.samplesperpixel), 4 * max_pixels, label)
        if reason := _samples_not_read(page, kinds="uif"):
            raise PictureError(f"{label} {reason}, which is not read from TIFF: {_CURE}")
        if page.is_tiled:
            check_pixels((page.tilewidth, page.tilelength), max_pixels, f"a tile of {label}")
        return _decode_samples(page, file)


def _is_left_to_pillow(page: TiffPage) -> bool:
    """Whether Pillow reads the layout, as tests show, and tifffile alone does not."""
    layout = page.photometric, page.samplesperpixel, page.bitspersample
    if page.sampleformat != 1 or page.planarconfig != 1 or page.imagedepth != 1:
        return False
    if page.compression == _JPEG:
        return layout in ((_BLACK_IS_ZERO, 1, 8), (_RGB, 3, 8), (_YCBCR, 3, 8))
    if page.compression in _CCITT:
        return layout in ((_WHITE_IS_ZERO, 1, 1), (_BLACK_IS_ZERO, 1, 1))
    if page.compression not in (_UNCOMPRESSED, _LZW, *_DEFLATE, _PACKBITS):
        return False
    if layout == (_CMYK, 4, 8):
        return bool(page.tags.valueof(332, 1) == 1)  # the inks are cyan, magenta, yellow and black
    few_bits = page.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _PALETTE) and layout[1:] in (
        (1, 1), (1, 2), (1, 4),
    )  # fmt: skip
    return few_bits or layout == (_BLACK_IS_ZERO, 1, 12)


def _check_layout(page: TiffPage, max_pixels: int, label: str) -> None:
    """Refuse a layout that `_as_colours` does not know, and a file that contradicts itself."""
    reason = _colours_not_read(page) or _samples_not_read(page)
    if reason:
        raise PictureError(f"{label} {reason}, which is not read from TIFF: {_CURE}")
    if page.is_tiled:
        check_pixels((page.tilewidth, page.tilelength), max_pixels, f"a tile of {label}")


def _colours_not_read(page: TiffPage) -> str:
    """Return why the page's samples cannot be turned into colours; "" if they can."""
    colours = _NUM_COLOURS.get(page.photometric, 0)
    spare = page.samplesperpixel - colours
    if colours == 0:
        return f"has colours of the kind {_name(page.photometric)}"
    if page.photometric == _PALETTE and page.bitspersample != 8:
        return "has a palette of more than 256 colours"
    # Most readers take a fourth sample of RGB without a stated meaning for alpha.
    is_alpha = page.photometric == _RGB and spare == 1 and not page.extrasamples
    if not 0 <= spare <= _MOST_SAMPLES - colours or not (is_alpha or len(page.extrasamples) == spare):
        return f"has {page.samplesperpixel} samples for a colour of {colours}"
    return ""


def _samples_not_read(page: TiffPage, kinds: str = "") -> str:
    """Return why the page's samples cannot be read, as colours or as numbers of some kinds; "" if they can."""
    if page.compression not in (_UNCOMPRESSED, _LZW, *_DEFLATE, _PACKBITS):
        return f"is compressed by {_name(page.compression)}"
    if page.dtype is None or np.ndim(page.bitspersample) or page.bitspersample % 8:
        return f"has samples of {_name(page.bitspersample)} bits and the format {_name(page.sampleformat)}"
    is_colour = page.dtype.kind == "f" or (page.dtype.kind == "u" and page.dtype.itemsize <= 2)
    if not (is_colour or page.dtype.kind in kinds):
        return f"holds {page.dtype}, whose white is not known"
    if page.predictor not in (1, 2) or (page.predictor == 2 and page.dtype.kind == "f"):
        return f"has the predictor {_name(page.predictor)}"
    if page.fillorder != 1 or page.imagedepth != 1 or page.tiledepth != 1:
        return "has bits in reverse order, or is a volume"
    if len(page.dataoffsets) != _num_segments(page) or not all(page.databytecounts):
        return "lacks some of its strips or tiles"
    return ""


def _name(value: Any) -> str:
    """Return the name of a tag's value, or the start of the value."""
    return str(getattr(value, "name", value))[:40]


def _num_segments(page: TiffPage) -> int:
    """Return how many strips or tiles the picture must have."""
    height, width = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    return planes * math.ceil(page.imagelength / height) * math.ceil(page.imagewidth / width)


def _decode_samples(page: TiffPage, file: BinaryIO) -> NDArray[Any]:
    """Return all samples (H, W, S), in the machine's byte order."""
    assert page.dtype is not None
    unpack = _unpacker(int(page.compression))
    page.compression = _UNCOMPRESSED  # segments are unpacked here, within bounds
    samples = np.empty((page.imagelength, page.imagewidth, page.samplesperpixel), page.dtype)
    of_pixel = 1 if page.planarconfig == 2 else page.samplesperpixel
    for index, (offset, length) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
        file.seek(offset)
        height, width = _segment_size(page, index)
        row_bytes = width * of_pixel * page.dtype.itemsize
        packed = unpack(file.read(length), row_bytes, height)
        block, (plane, _, top, left, _), _ = page.decode(packed, index)
        assert block is not None
        place = samples[top : top + height, left : left + width, plane * of_pixel : (plane + 1) * of_pixel]
        place[:] = block[0, : place.shape[0], : place.shape[1]]
    return samples


def _segment_size(page: TiffPage, index: int) -> tuple[int, int]:
    """Return height and width of a tile, padding included, or of a strip; the last may be lower."""
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    top = index % math.ceil(page.imagelength / page.rowsperstrip) * page.rowsperstrip
    return min(page.rowsperstrip, page.imagelength - top), page.imagewidth


def _unpacker(compression: int) -> Callable[[bytes, int, int], bytes]:
    """Return the decompressor (packed, row_bytes, height) -> bytes, bounded by the size asked for."""
    if compression == _UNCOMPRESSED:
        return lambda packed, row_bytes, height: packed
    if compression in _DEFLATE:
        return lambda packed, row_bytes, height: zlib.decompressobj().decompress(packed, row_bytes * height)
    return partial(_unpack_by_pillow, compression)


def _unpack_by_pillow(compression: int, packed: bytes, row_bytes: int, height: int) -> bytes:
    """Unpack a segment as a grey picture of bytes by Pillow, which has LZW without imagecodecs."""
    entries = {256: row_bytes, 257: height, 258: 8, 259: compression, 262: _BLACK_IS_ZERO, 277: 1, 278: height}
    entries |= {273: 8 + 2 + 12 * 9 + 4, 279: len(packed)}
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, entries[tag]) for tag in sorted(entries))
    head = struct.pack("<4sIH", b"II*\0", 8, len(entries)) + directory + bytes(4)
    with Image.open(io.BytesIO(head + packed), formats=["TIFF"]) as image:
        return image.tobytes()


def _as_colours(page: TiffPage, samples: NDArray[Any], label: str, notes: list[str]) -> tuple[Levels, int]:
    """Return levels (H, W, C) and bit depth of samples (H, W, S)."""
    colours = _NUM_COLOURS[page.photometric]
    kinds = [int(kind) for kind in page.extrasamples] or [_STRAIGHT] * (samples.shape[2] - colours)
    alpha = next((index for index, kind in enumerate(kinds) if kind in (_PREMULTIPLIED, _STRAIGHT)), None)
    used = [*range(colours), *([] if alpha is None else [colours + alpha])]
    if len(used) < samples.shape[2]:
        notes.append(f"{samples.shape[2] - len(used)} channels that are neither colour nor alpha dropped")
        samples = samples[:, :, used]
    levels, bit_depth = as_levels(samples, label)
    if page.photometric == _PALETTE:
        levels = np.concatenate([_palette(page)[levels[:, :, 0]], levels[:, :, 1:]], axis=2)
    elif page.photometric == _WHITE_IS_ZERO:
        np.subtract(highest(levels), levels[:, :, 0], out=levels[:, :, 0])
    if alpha is not None and kinds[alpha] == _PREMULTIPLIED:
        levels = unpremultiply(to_pixels(levels))
    return levels, bit_depth


def _palette(page: TiffPage) -> NDArray[Any]:
    """Return a palette (256, 3) of 16 bits as uint8."""
    table = np.zeros((256, 3), np.uint16)
    stored = np.asarray(page.colormap, np.uint16).T[:256]
    table[: len(stored)] = stored
    return table.astype(np.uint8) if table.max() < 256 else (table >> 8).astype(np.uint8)
