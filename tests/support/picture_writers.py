"""Write small picture files from each format's specification, as oracles for coordfit's readers.

Every writer takes levels (H, W, C), uint8 unless its docstring says more, and returns the bytes of a file.
"""

import math
import struct
import zlib
from dataclasses import dataclass

import numpy as np


def bmp(levels):
    """Return 24 bits, rows from the bottom up, padded to four bytes."""
    height, width, _ = levels.shape
    rows = [row[:, ::-1].tobytes() for row in levels[::-1]]
    data = b"".join(row + bytes(-len(row) % 4) for row in rows)
    return (
        b"BM"
        + struct.pack("<IHHIIiiHHIIiiII", 54 + len(data), 0, 0, 54, 40, width, height, 1, 24, *[0] * 6)
        + data
    )


def ppm(levels):
    return b"P6 %d %d 255\n" % (levels.shape[1], levels.shape[0]) + levels.tobytes()


def tga(levels, alpha_bits=8):
    """Return an uncompressed file, the first row at the top."""
    height, width, channels = levels.shape
    order = {1: [0], 2: [0, 1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
    kind, attributes = 3 if channels < 3 else 2, 0x20 + (alpha_bits if channels in (2, 4) else 0)
    header = struct.pack("<BBB5xHHHHBB", 0, 0, kind, 0, 0, width, height, 8 * channels, attributes)
    return header + levels[..., order].tobytes()


def pcx(levels):
    """Return run lengths of one byte each, with the planes of a row one after the other."""
    height, width, channels = levels.shape
    stride = width + width % 2
    header = struct.pack(
        "<BBBBHHHHHH48xBBHH58x", 10, 5, 1, 8, 0, 0, width - 1, height - 1, 72, 72, 0, channels, stride, 1
    )
    planes = np.zeros((height, channels, stride), np.uint8)
    planes[:, :, :width] = levels.swapaxes(1, 2)
    return header + b"".join(bytes([0xC1, byte]) for byte in planes.tobytes())


def sgi(levels):
    """Return an uncompressed file, planes from the bottom up, 8 or 16 bits."""
    height, width, channels = levels.shape
    head = struct.pack(
        ">HBBHHHHII", 474, 0, levels.itemsize, 2 if channels == 1 else 3, width, height, channels, 0, 255
    ).ljust(512, b"\0")
    return head + levels[::-1].transpose(2, 0, 1).astype(levels.dtype.newbyteorder(">")).tobytes()


def qoi(levels):
    """Return a file that encodes each pixel by itself."""
    height, width, channels = levels.shape
    tag = {3: b"\xfe", 4: b"\xff"}[channels]
    pixels = b"".join(tag + pixel.tobytes() for pixel in levels.reshape(-1, channels))
    return b"qoif" + struct.pack(">IIBB", width, height, channels, 0) + pixels + bytes(7) + b"\1"


def ico(levels):
    """Return one bitmap of 32 bits with alpha, rows from the bottom up, and an empty mask."""
    height, width, _ = levels.shape
    pixels = levels[::-1, :, [2, 1, 0, 3]].tobytes() + bytes(height * 4 * math.ceil(width / 32))
    bitmap = struct.pack("<IiiHHIIiiII", 40, width, 2 * height, 1, 32, *[0] * 6) + pixels
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, width, height, 0, 0, 1, 32, len(bitmap), 22) + bitmap


def gif(levels, canvas=None, corner=(0, 0)):
    """Return grey levels in one frame that may be smaller than the canvas (width, height)."""
    height, width, _ = levels.shape
    palette = np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes()
    codes = lzw_codes(levels.tobytes())
    bits = sum(code << 9 * index for index, code in enumerate(codes))
    data = bits.to_bytes(math.ceil(9 * len(codes) / 8), "little")
    blocks = b"".join(
        bytes([len(data[at : at + 255])]) + data[at : at + 255] for at in range(0, len(data), 255)
    )
    frame = b"," + struct.pack("<HHHHB", *corner, width, height, 0) + b"\x08" + blocks + b"\0"
    return b"GIF89a" + struct.pack("<HHBBB", *(canvas or (width, height)), 0xF7, 0, 0) + palette + frame + b";"


def small_frame_webp(frame, canvas, corner):
    """Return an animation of one frame, a WebP of (width, height), without an alpha flag."""

    def chunk(kind, data):
        return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)

    def numbers(*values):
        return b"".join(value.to_bytes(3, "little") for value in values)

    content, width, height = frame
    inside = numbers(corner[0] // 2, corner[1] // 2, width - 1, height - 1, 100) + b"\0" + content[12:]
    body = chunk(b"VP8X", bytes([2, 0, 0, 0]) + numbers(canvas[0] - 1, canvas[1] - 1))
    body += chunk(b"ANIM", bytes(6)) + chunk(b"ANMF", inside)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def lzw_codes(data):
    """Return literal codes of 9 bits, with clear codes before longer codes would be needed."""
    codes = []
    for at in range(0, len(data), 250):
        codes += [256, *data[at : at + 250]]
    return [*codes, 257]


def lzw(data):
    """Pack LZW codes as TIFF does, from the highest bit."""
    codes = lzw_codes(data)
    size = math.ceil(9 * len(codes) / 8)
    bits = 0
    for code in codes:
        bits = bits << 9 | code
    return (bits << 8 * size - 9 * len(codes)).to_bytes(size, "big")


def packbits(data):
    return b"".join(
        bytes([len(data[at : at + 128]) - 1]) + data[at : at + 128] for at in range(0, len(data), 128)
    )


@dataclass
class Tiff:
    """The layout of a TIFF's samples.

    Attributes
    ----------
    order
        "<" or ">".
    compression
        1 none, 5 LZW, 8 Deflate, 32773 PackBits.
    tile
        (height, width), or None for strips of `rows`.
    extras
        Of each sample beyond the colours: 0 without a meaning, 1 premultiplied alpha, 2 straight alpha.
    """

    photometric: int = 1
    order: str = "<"
    planar: bool = False
    compression: int = 1
    differences: bool = False
    tile: tuple[int, int] | None = None
    rows: int = 3
    extras: tuple[int, ...] = ()

    def write(self, samples, **tags):
        """Return the file of samples (H, W, S) of any type, with further tags such as t274=6."""
        height, width, number = samples.shape
        planes = np.split(samples, number, axis=2) if self.planar else [samples]
        parts = [self._pack(part) for plane in planes for part in self._parts(plane)]
        kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
        bits = [8 * samples.itemsize] * number
        offsets, at = [], 8
        for part in parts:
            offsets.append(at)
            at += len(part)
        entries = {256: [width], 257: [height], 258: bits, 259: [self.compression], 262: [self.photometric]}
        entries |= {277: [number], 284: [1 + self.planar], 317: [1 + self.differences], 339: [kind] * number}
        entries |= {338: list(self.extras)} if self.extras else {}
        if self.tile:
            entries |= {
                322: [self.tile[1]],
                323: [self.tile[0]],
                324: offsets,
                325: [len(part) for part in parts],
            }
        else:
            entries |= {273: offsets, 278: [self.rows], 279: [len(part) for part in parts]}
        entries |= {int(name[1:]): value for name, value in tags.items()}
        mark = b"II*\0" if self.order == "<" else b"MM\0*"
        return mark + struct.pack(self.order + "I", at) + b"".join(parts) + self._directory(entries, at)

    def _parts(self, plane):
        height, width, _ = plane.shape
        high, wide = self.tile or (self.rows, width)
        for top in range(0, height, high):
            for left in range(0, width, wide):
                part = plane[top : top + high, left : left + wide]
                if self.tile:
                    part = np.pad(part, ((0, high - part.shape[0]), (0, wide - part.shape[1]), (0, 0)), "edge")
                yield part

    def _pack(self, part):
        if self.differences:
            part = np.concatenate([part[:, :1], np.diff(part, axis=1)], axis=1)
        data = part.astype(part.dtype.newbyteorder(self.order)).tobytes()
        return {1: bytes, 5: lzw, 8: zlib.compress, 32773: packbits}[self.compression](data)

    def _directory(self, entries, at):
        head, body = b"", b""
        after = at + 2 + 12 * len(entries) + 4
        for tag, values in sorted(entries.items()):
            code, size = (
                ("I", 4) if tag in (273, 279, 324, 325) else ("B", 1) if isinstance(values, bytes) else ("H", 2)
            )
            packed = struct.pack(f"{self.order}{len(values)}{code}", *values)
            if len(packed) > 4:
                place, body = (
                    struct.pack(self.order + "I", after + len(body)),
                    body + packed + bytes(len(packed) % 2),
                )
            else:
                place = packed.ljust(4, b"\0")
            head += struct.pack(self.order + "HHI", tag, {4: 4, 2: 3, 1: 1}[size], len(values)) + place
        return struct.pack(self.order + "H", len(entries)) + head + bytes(4) + body
