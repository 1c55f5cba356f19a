"""Write and parse the header of a tensor file: names, types, shapes, places, and one JSON text of metadata."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .strict_json import parse_strict_json

FORMAT = "coordfit"
FORMAT_VERSION = 1
RESERVED_KEYS = ("format", "format_version", "sha256")
"""Keys of the metadata that the format uses itself."""

MAX_HEADER_BYTES = 4 * 2**20
_MAX_TENSORS = 4096  # a checkpoint of the deepest network has under 1000
_SAFETENSORS_METADATA = "__metadata__"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")

# Types that NumPy and safetensors share. Bool is left out, since its bytes could be neither 0 nor 1.
DTYPES = {
    **{f"F{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    **{f"I{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"U{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
}
CODES = {dtype: code for code, dtype in DTYPES.items()}


class RefusedError(Exception):
    """Raised for a file that cannot be used; the text completes "cannot load FILE: it ..."."""


class Place(NamedTuple):
    """Type, shape and bytes of one tensor, `start` to `stop`, counted from the end of the header."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    stop: int

    def stand_in(self) -> NDArray[Any]:
        """Return an array of this type and shape that repeats one element, and so takes no memory."""
        return np.broadcast_to(np.zeros((), self.dtype), self.shape)


def can_name_a_tensor(name: str) -> bool:
    """Whether a tensor in a file may have this name."""
    return _NAME.fullmatch(name) is not None and name != _SAFETENSORS_METADATA


def encode_header(arrays: Mapping[str, NDArray[Any]], text: str) -> tuple[bytes, list[str]]:
    """Return the first bytes of a file, and the names of the arrays in the order in which they follow.

    Wide types come first, so that each array begins at a multiple of its own width.
    """
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    header: dict[str, Any] = {_SAFETENSORS_METADATA: {FORMAT: text}}
    end = 0
    for name in order:
        array, start = arrays[name], end
        end += array.nbytes
        shape = list(array.shape)
        header[name] = {"dtype": CODES[array.dtype], "shape": shape, "data_offsets": [start, end]}
    written = json.dumps(header, separators=(",", ":")).encode("ascii")
    written += b" " * (-len(written) % 8)
    return len(written).to_bytes(8, "little") + written, order


def parse_header(data: bytes) -> tuple[int, dict[str, Any], dict[str, Place]]:
    """Parse 8 bytes of length (little-endian) and the JSON after them.

    safetensors itself accepts equal keys, and reads metadata from named files alone.

    Returns
    -------
    begin
        Where the first tensor begins, in bytes.
    document
        The metadata, with `RESERVED_KEYS`.
    places
        The place of each tensor by name, not yet compared with the file's size.

    Raises
    ------
    RefusedError
        The header is damaged, too large, or not one that `save_tensors` writes.
    """
    size = int.from_bytes(data[:8], "little")
    if data[8:9] != b"{":
        raise RefusedError("is no safetensors file; name a model that coordfit saved")
    if size > MAX_HEADER_BYTES:
        raise RefusedError(f"has a header of {size} bytes, over the limit of {MAX_HEADER_BYTES}")
    if 8 + size > len(data):
        raise RefusedError("is cut short; copy it again or make it anew")
    header = _parse_json(data[8 : 8 + size], "header")
    if len(header) > _MAX_TENSORS:
        raise RefusedError(f"has {len(header)} tensors, over the limit of {_MAX_TENSORS}; is it a model file?")
    document = _parse_document(header.pop(_SAFETENSORS_METADATA, None))
    return 8 + size, document, {name: _parse_place(name, entry) for name, entry in header.items()}


def _parse_document(metadata: Any) -> dict[str, Any]:
    """Return the JSON text under our key in safetensors' metadata, after checking format and version."""
    text = metadata.get(FORMAT) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise RefusedError(
            "is a safetensors file, but coordfit did not write it; name a model that coordfit saved"
        )
    try:
        encoded = text.encode("utf-8")
    except UnicodeEncodeError as error:  # JSON can escape half a character
        raise RefusedError("has damaged metadata; copy it again or make it anew") from error
    document = _parse_json(encoded, "metadata")
    version = document.get("format_version")
    if document.get("format") != FORMAT or type(version) is not int or version < 1:
        raise RefusedError("does not tell its format; name a model that coordfit saved")
    if version > FORMAT_VERSION:
        raise RefusedError(
            f"has format version {version}, this coordfit reads up to {FORMAT_VERSION}; install a newer one"
        )
    return document


def _parse_json(text: bytes, what: str) -> dict[str, Any]:
    try:
        value = parse_strict_json(text)
    except ValueError as error:
        raise RefusedError(
            f"has a damaged {what} ({one_line(error)}); copy it again or make it anew"
        ) from error
    if not isinstance(value, dict):
        raise RefusedError(f"has a damaged {what} (no object); copy it again or make it anew")
    return value


def _parse_type(name: str, entry: Any) -> np.dtype[Any]:
    code = entry.get("dtype") if isinstance(entry, dict) else None
    if not isinstance(code, str) or code not in DTYPES:
        raise RefusedError(f"has a tensor {name} of unknown type {str(code)[:20]!r}; make it anew")
    return DTYPES[code]


def _parse_place(name: str, entry: Any) -> Place:
    if not _NAME.fullmatch(name):
        raise RefusedError(f"has a tensor with an impossible name, {name[:40]!r}; make it anew")
    dtype = _parse_type(name, entry)
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    try:
        if not (_are_counts(shape) and _are_counts(offsets)):
            raise ValueError
        place = Place(dtype, tuple(shape), *offsets)
        place.stand_in()  # safetensors allows shapes that NumPy does not
        if math.prod(shape) * place.dtype.itemsize != place.stop - place.start:
            raise ValueError
    except (TypeError, ValueError, OverflowError) as error:
        raise RefusedError(f"has a tensor {name} of impossible shape; make it anew") from error
    return place


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def check_layout(places: Sequence[Place], size: int) -> None:
    """Refuse tensors that overlap, leave a gap, or do not fill the `size` bytes after the header."""
    end = 0
    for place in sorted(places, key=lambda place: (place.start, place.stop)):
        if place.start != end:
            raise RefusedError("is damaged (its tensors do not touch); copy it again or make it anew")
        end = place.stop
    if end != size:
        raise RefusedError("is cut short or too long; copy it again or make it anew")


def one_line(error: Exception) -> str:
    """Return the start of an error's text, without line breaks."""
    return "".join(c if c.isprintable() else " " for c in str(error))[:120]
