"""List the formats that Pillow reads, and refuse layouts that it reads wrongly."""

from __future__ import annotations

import re
import struct
from importlib.util import find_spec

from PIL import ImageFile

from ...errors import PictureError

# Pillow's names. TGA is last: it has no signature, and icons can look like it. TIFF has a reader of its own;
# older Pillows have no AVIF.
_AVIF = ("AVIF",) if find_spec("PIL.AvifImagePlugin") else ()
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "PPM", "WEBP", *_AVIF, "ICO", "JPEG2000", "QOI", "PCX", "SGI", "TGA")
FORMATS_IN_WORDS = "PNG, JPEG, GIF, WebP, AVIF, TIFF, BMP, PPM, TGA, ICO, JPEG 2000, QOI, PCX, SGI"

_HEAD_BYTES = 2**22  # searched for the first frame's header; colour profiles come before it


def check_layout(image: ImageFile.ImageFile, raw_mode: str, label: str, notes: list[str]) -> None:
    """Refuse an opened image, not yet decoded, with a layout that Pillow reads wrongly or partly."""
    deep_sgi = image.format == "SGI" and _head(image)[3:4] == b"\2"  # bytes of a sample
    is_whole = image.format in ("PNG", "PPM") and image.tell() == 0  # later frames of a PNG get one byte
    if deep_sgi or (not is_whole and re.search("^(L|LA|RGB|RGBA);16[BLN]$", raw_mode)):
        raise PictureError(f"{label} holds 16 bits, of which Pillow reads 8: save it as PNG")
    if image.format == "JPEG2000":
        _check_jpeg_2000(_head(image), label)
    if image.format == "AVIF" and re.search(rb"av1C..[\x40-\x7f\xc0-\xff]", _head(image), re.DOTALL):
        notes.append("colours of more than 8 bits are read with 8")


def first_frame(image: ImageFile.ImageFile) -> tuple[int, int, int, int] | None:
    """Return left, top, right and bottom of the first frame if it is smaller than the picture."""
    box = (0, 0, *image.size)
    if image.format == "GIF" and image.tile and image.tell() == 0:
        box = image.tile[0][1] or box
    if image.format == "WEBP" and image.tell() == 0:
        found = re.search(b"ANMF....(...)(...)(...)(...)", _head(image), re.DOTALL)
        if found:
            left, top, width, height = (int.from_bytes(number, "little") for number in found.groups())
            box = (2 * left, 2 * top, 2 * left + width + 1, 2 * top + height + 1)
    return None if box == (0, 0, *image.size) else box


def declares_no_alpha(image: ImageFile.ImageFile) -> bool:
    """Whether a TGA declares that it has no alpha; many programs leave its byte at 0."""
    return image.format == "TGA" and not _head(image)[17] & 0x0F


def _head(image: ImageFile.ImageFile) -> bytes:
    assert image.fp is not None
    place = image.fp.tell()
    image.fp.seek(0)
    head: bytes = image.fp.read(_HEAD_BYTES)
    image.fp.seek(place)
    return head


def _check_jpeg_2000(head: bytes, label: str) -> None:
    """Refuse palettes, colours other than RGB and grey, and samples other than 8 bits, or 16 of grey."""
    start = head.find(b"\xff\x4f\xff\x51")
    boxes, header = head[:start], head[start:]
    count = struct.unpack_from(">H", header, 40)[0] if start >= 0 and len(header) > 42 else 0
    components = {tuple(header[at : at + 3]) for at in range(42, 42 + 3 * count, 3)}
    colour = re.search(rb"colr\x01..(....)", boxes, re.DOTALL)
    reason = ""
    if b"pclr" in boxes:
        reason = "has a palette"
    elif colour and colour[1] not in (struct.pack(">I", 16), struct.pack(">I", 17)):
        reason = "has colours that are neither RGB nor grey"
    elif not 1 <= count <= 4 or components not in ({(7, 1, 1)}, {(15, 1, 1)} if count == 1 else None):
        reason = "has samples other than 8 bits, or 16 bits of grey"
    if reason:
        raise PictureError(f"{label} {reason}, which is not read from JPEG 2000: save it as PNG")
