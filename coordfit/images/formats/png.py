"""Write PNG files row by row, 8 or 16 bits deep, so that a picture need not fit into memory.

Pillow needs the whole picture at once, and has no 16-bit colour.
"""

from __future__ import annotations

import struct
import zlib
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from ...errors import PictureError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # number of channels -> grey, grey + alpha, RGB, RGBA
MAX_SIDE = 2**31 - 1
_SUB, _UP = 1, 2

_BLOCK_BYTES = 2**20  # of the picture, filtered at once
_IDAT_BYTES = 2**18  # of one chunk


def quantize(pixels: NDArray[np.floating], bit_depth: int = 8) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Round colours of any shape, clipped to [0, 1], to the nearest level of 8 or 16 bits.

    PictureError if a colour is NaN; ValueError if `pixels` are not floating, or the bit depth is another.
    """
    dtype = _sample_dtype(bit_depth)
    if pixels.dtype.kind != "f":
        raise ValueError(f"colours must be floating, in [0, 1]; these are {pixels.dtype}")
    # Half precision is exact up to 2048 only, too few for 65535 levels.
    levels = np.clip(pixels, 0, 1, dtype=np.result_type(pixels.dtype, np.float32))
    if np.isnan(levels).any():
        raise PictureError("the picture holds NaN, which has no colour: the fit that made it has diverged")
    levels *= np.iinfo(dtype).max
    rounded: NDArray[np.uint8] | NDArray[np.uint16] = np.rint(levels, out=levels).astype(dtype)
    return rounded


class PngWriter:
    """Stream rows of pixels into a PNG.

    Memory holds one row and less than one chunk of compressed bytes. Each row is filtered with Sub or Up,
    whichever has the smaller sum of absolute differences. On photographs the files are within 3 % of those by
    all five filters, and unlike Paeth both cost one subtraction. ValueError for a size, number of channels or
    bit depth that PNG does not have.

    Parameters
    ----------
    file
        Binary file open for writing; it is written in order, never sought, and stays open.
    width, height
        Size in pixels, at least 1.
    channels
        1 grey, 2 grey + alpha, 3 RGB, 4 RGBA; alpha is straight, not premultiplied.
    bit_depth
        8 or 16.
    """

    def __init__(self, file: BinaryIO, width: int, height: int, channels: int, bit_depth: int = 8) -> None:
        if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
            raise ValueError(f"a PNG is 1 to {MAX_SIDE} pixels wide and high, not {width}x{height}")
        if channels not in _COLOUR_TYPES:
            raise ValueError(f"a PNG has 1 to 4 channels, not {channels}")
        self._file = file
        self._dtype = _sample_dtype(bit_depth)
        self._shape = (width, channels)
        self._pixel_bytes = channels * self._dtype.itemsize
        self._rows_left = height
        self._last_row = np.zeros(width * self._pixel_bytes, np.uint8)  # zeros above the first row
        self._compressor = zlib.compressobj()
        self._pending = bytearray()
        self._closed = False
        file.write(_SIGNATURE)
        header = (width, height, bit_depth, _COLOUR_TYPES[channels], 0, 0, 0)
        self._write_chunk(b"IHDR", struct.pack(">IIBBBBB", *header))

    def write_rows(self, rows: NDArray[np.unsignedinteger]) -> None:
        """Append rows (n, W, C), uint8 or uint16 by the bit depth, from the top down.

        ValueError for a wrong type or shape, too many rows, or a closed writer.
        """
        self._check(rows)
        self._rows_left -= len(rows)
        step = max(1, _BLOCK_BYTES // self._last_row.size)
        for start in range(0, len(rows), step):
            block = np.ascontiguousarray(rows[start : start + step], self._dtype.newbyteorder(">"))
            filtered = self._filter(block.view(np.uint8).reshape(len(block), -1))
            self._pending += self._compressor.compress(filtered.data)
            self._write_pending(_IDAT_BYTES)

    def close(self) -> None:
        """End the PNG, but leave the file open; closing again does nothing.

        ValueError if rows are missing; the file is then no valid PNG.
        """
        if self._closed:
            return
        if self._rows_left:
            raise ValueError(f"the PNG lacks {self._rows_left} of its rows")
        self._closed = True
        self._pending += self._compressor.flush()
        self._write_pending(1)
        self._write_chunk(b"IEND", b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:  # an error about missing rows would hide the first
            self.close()

    def _check(self, rows: NDArray[np.unsignedinteger]) -> None:
        if self._closed:
            raise ValueError("the PNG is closed")
        if rows.dtype.newbyteorder("=") != self._dtype:
            raise ValueError(f"rows of this PNG must be {self._dtype.name}, not {rows.dtype.name}")
        if rows.ndim != 3 or rows.shape[1:] != self._shape:
            raise ValueError(
                f"rows of this PNG must have shape (n, W, C) = (n, {self._shape[0]}, {self._shape[1]})"
            )
        if len(rows) > self._rows_left:
            raise ValueError(f"{len(rows)} rows came, but the PNG has {self._rows_left} left")

    def _filter(self, block: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Filter rows of bytes (n, B), each with its filter's number in front: (n, 1 + B)."""
        sub = block.copy()
        sub[:, self._pixel_bytes :] -= block[:, : -self._pixel_bytes]
        up = block.copy()
        up[0] -= self._last_row
        up[1:] -= block[:-1]
        self._last_row = block[-1].copy()
        use_up = _cost(up) < _cost(sub)
        filtered = np.empty((len(block), 1 + block.shape[1]), np.uint8)
        filtered[:, 0] = np.where(use_up, _UP, _SUB)
        filtered[:, 1:] = np.where(use_up[:, None], up, sub)
        return filtered

    def _write_pending(self, at_least: int) -> None:
        """Write IDAT chunks while `at_least` compressed bytes are pending."""
        while len(self._pending) >= at_least:
            self._write_chunk(b"IDAT", bytes(self._pending[:_IDAT_BYTES]))
            del self._pending[:_IDAT_BYTES]

    def _write_chunk(self, kind: bytes, data: bytes) -> None:
        """Write one chunk: length, kind, data, CRC of kind and data."""
        checksum = zlib.crc32(data, zlib.crc32(kind))
        self._file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum))


def _sample_dtype(bit_depth: int) -> np.dtype[np.unsignedinteger]:
    """Return the type of one sample, in the machine's byte order."""
    if bit_depth not in (8, 16):
        raise ValueError(f"the bit depth must be 8 or 16, not {bit_depth}")
    return np.dtype(np.uint8 if bit_depth == 8 else np.uint16)


def _cost(residuals: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Sum the absolute differences in each row, (n, B) -> (n,); a byte of 255 means -1."""
    differences: NDArray[np.uint8] = np.minimum(residuals, np.negative(residuals))
    cost: NDArray[np.int64] = differences.sum(axis=1, dtype=np.int64)
    return cost
