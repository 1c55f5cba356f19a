"""Read and write files of named tensors with metadata, safe to read from strangers.

The container is safetensors: data only, never code. Two things are added to it, both in one JSON text under
the metadata key ``coordfit``: metadata with numbers and structure (safetensors knows text alone), and a
SHA-256 over tensors and metadata, so that damage is found (safetensors would load a flipped bit). What the
tensors mean is left to the callers.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize

from ..errors import ModelFileError
from . import FilePath, atomic_write, jsonable, pieces, printable

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "MAX_BYTES",
    "MAX_MAPPED_BYTES",
    "Check",
    "load_tensors",
    "map_tensors",
    "read_metadata",
    "save_tensors",
]

FORMAT = "coordfit"
FORMAT_VERSION = 1

# Bounds on what a file may ask of the machine. The file's size bounds the tensors, since none may claim more
# than is there. A file that is loaded comes into memory; one that is mapped does not, and is only read through
# once. The largest picture that Pillow decodes has 36 GiB of tiles in float64, with the networks of `auto`.
MAX_BYTES = 4 * 2**30
MAX_MAPPED_BYTES = 64 * 2**30
_MAX_HEADER_BYTES = 4 * 2**20
_MAX_TENSORS = 4096  # a checkpoint of the deepest network has under 1000
_MAX_DEPTH = 32

_METADATA = "__metadata__"  # the name safetensors has for its metadata
_OURS = ("format", "format_version", "sha256")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")

# Types NumPy and safetensors both know. Left out are bool, whose bytes could be neither 0 nor 1, and complex.
_DTYPES = {
    **{f"F{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    **{f"I{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"U{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}

# One entry as safetensors gives it: name, type code, shape, little-endian bytes in C order.
_Entry = tuple[str, str, tuple[int, ...], Any]

# What a header says of a tensor: type, shape, first byte and the one after the last, counted after the header.
_Place = tuple[np.dtype[Any], tuple[int, ...], int, int]

# What a caller compares with what a file declares, before its tensors are read; see `load_tensors`.
Check = Callable[[Mapping[str, NDArray[Any]], Mapping[str, Any]], object]


class _RefusedError(Exception):
    """Raised for a file that cannot be used; the text completes "cannot load FILE: it ..."."""


# --- save ---------------------------------------------------------------------------------------------------


def save_tensors(path: FilePath, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> None:
    """Write tensors and metadata to one safetensors file, atomically.

    Parameters
    ----------
    path
        The file; see `coordfit.files.atomic_write`.
    tensors
        Arrays of any shape, memory layout and byte order, of 16 to 64 bit float or 8 to 64 bit integer type.
        Names are letters, digits, ``_``, ``.`` and ``-``.
    metadata
        What `coordfit.files.jsonable` accepts; tuples come back as lists, non-finite numbers as None. The
        names ``format``, ``format_version`` and ``sha256`` are taken.

    Raises
    ------
    OutputError
        The file cannot be written.
    ModelFileError
        A tensor holds NaN or infinity: such a file could not be loaded, and would replace one that can.
    TypeError, ValueError
        A name, a type or the metadata cannot be stored.
    """
    arrays = {name: _storable(name, array) for name, array in tensors.items()}
    for name, array in arrays.items():
        if not _is_finite(array):
            raise ModelFileError(f"cannot save {printable(path)}: tensor {name} holds NaN or infinity")
    if taken := set(metadata) & set(_OURS):
        raise ValueError(f"the metadata cannot have a key {min(taken)!r}: the format uses it")
    document = {"format": FORMAT, "format_version": FORMAT_VERSION, **jsonable(metadata)}
    entries = [(name, _CODES[array.dtype], array.shape, _raw(array)) for name, array in arrays.items()]
    document["sha256"] = _digest(entries, document)
    head, order = _head(arrays, json.dumps(document, allow_nan=False))
    try:
        _document(_header(head))  # what is written can be read: size and depth are within the bounds
    except _RefusedError as error:
        raise ValueError(f"the metadata cannot be stored: the file {error}") from error
    with atomic_write(path) as file:  # piece by piece: no large model is copied in memory, no map read into it
        file.write(head)
        for name in order:
            for piece in pieces(_raw(arrays[name])):
                file.write(piece.data)


def _head(arrays: Mapping[str, NDArray[Any]], text: str) -> tuple[bytes, list[str]]:
    """Return the head of a file, with the place of each array, and the order of the arrays after it.

    Wide types come first, so that each array begins at a multiple of its own width.
    """
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    header: dict[str, Any] = {_METADATA: {FORMAT: text}}
    end = 0
    for name in order:
        array, start = arrays[name], end
        end += array.nbytes
        header[name] = {
            "dtype": _CODES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
    written = json.dumps(header, separators=(",", ":")).encode("ascii")
    written += b" " * (-len(written) % 8)
    return len(written).to_bytes(8, "little") + written, order


def _storable(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return the array in C order and little-endian, as safetensors wants it; the same shape."""
    if not _NAME.fullmatch(name) or name == _METADATA:
        raise ValueError(f"no name for a tensor in a file: {name!r}")
    dtype = np.asarray(array).dtype.newbyteorder("<")
    if dtype not in _CODES:
        raise TypeError(f"tensor {name} has the type {dtype.name}, which cannot be stored")
    return np.asarray(array, dtype=dtype, order="C")


def _raw(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the bytes of a contiguous array, not copied."""
    return array.reshape(-1).view(np.uint8)


# --- load ---------------------------------------------------------------------------------------------------


def load_tensors(
    path: FilePath, check: Check | None = None, *, max_bytes: int = MAX_BYTES
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read a file that `save_tensors` wrote; nothing in the file is trusted.

    Parameters
    ----------
    path
        The file.
    check
        Called with what the file declares, before any tensor is read: arrays of the declared types and shapes
        that take no memory, and the metadata. It raises where they cannot be what the caller wants.
    max_bytes
        A larger file is refused before it is read.

    Returns
    -------
    tensors
        Writable arrays of their own, C order, native byte order, all floats finite.
    metadata
        What `save_tensors` was given, as JSON holds it.

    Raises
    ------
    ModelFileError
        The file is missing, too large, damaged, of a newer format, or no file of this format at all. The
        message is one line and says what to do.
    """
    with _refusals_of(path), _described(Path(path), max_bytes) as found:
        if check is not None:
            check(found.declared(), found.metadata)
        tensors = _tensors(found.whole(), found.document)
    return tensors, found.metadata


def map_tensors(
    path: FilePath, check: Check | None = None, *, max_bytes: int = MAX_MAPPED_BYTES
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Map a file like `load_tensors`, but leave the tensors in it until their elements are needed.

    The file is read through once for its checksum, a piece at a time; it is not kept in memory.

    Returns
    -------
    tensors
        Views of one map of the file, read-only and little-endian. Floats are those of the file, finite or not.
    metadata
        See `load_tensors`.
    """
    with _refusals_of(path), _described(Path(path), max_bytes) as found:
        if check is not None:
            check(found.declared(), found.metadata)
        entries = [
            (name, _CODES[dtype], shape, _FilePart(found.file, found.begin + start, stop - start))
            for name, (dtype, shape, start, stop) in found.places.items()
        ]
        if _digest(entries, found.document) != found.document.get("sha256"):
            raise _RefusedError("is damaged (the checksum differs); copy it again or make it anew")
        data = np.memmap(found.file, np.uint8, "r")
        return {
            name: data[found.begin + start : found.begin + stop].view(dtype).reshape(shape)
            for name, (dtype, shape, start, stop) in found.places.items()
        }, found.metadata


def read_metadata(path: FilePath) -> dict[str, Any]:
    """Return the metadata alone, of a file that may be large; the checksum is not verified."""
    with _refusals_of(path), _described(Path(path), MAX_MAPPED_BYTES) as found:
        return found.metadata


@contextlib.contextmanager
def _refusals_of(path: FilePath) -> Iterator[None]:
    """Turn a refusal into the error for users."""
    try:
        yield
    except _RefusedError as error:
        raise ModelFileError(f"cannot load {printable(path)}: it {error}") from error
    except MemoryError as error:
        raise ModelFileError(f"cannot load {printable(path)}: it needs more memory than there is") from error


def _place(name: str, entry: Any) -> _Place:
    """Return what the header says of one tensor."""
    _check_entry(name, entry)
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        raise _RefusedError(f"has a tensor {name} of impossible shape; make it anew")
    dtype = _DTYPES[entry["dtype"]]
    if math.prod(shape) * dtype.itemsize != offsets[1] - offsets[0]:
        raise _RefusedError(f"has a tensor {name} of impossible shape; make it anew")
    try:
        _stand_in(dtype, shape)
    except (ValueError, OverflowError) as error:  # safetensors allows shapes that NumPy does not
        raise _RefusedError(f"has a tensor {name} of impossible shape; make it anew") from error
    return dtype, tuple(shape), offsets[0], offsets[1]


def _stand_in(dtype: np.dtype[Any], shape: Sequence[int]) -> NDArray[Any]:
    """Return an array of that type and shape whose elements are all the same one, so it takes no memory."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def _check_places(places: Mapping[str, _Place], size: int) -> None:
    """Refuse tensors that overlap, leave a gap, or go past the end."""
    end = 0
    for _, _, start, stop in sorted(places.values(), key=lambda place: place[2:]):
        if start != end:
            raise _RefusedError("is damaged (its tensors do not touch); copy it again or make it anew")
        end = stop
    if end != size:
        raise _RefusedError("is cut short or too long; copy it again or make it anew")


class _FilePart:
    """A stretch of a file, read a piece at a time."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self.file, self.start, self.size = file, start, size

    def pieces(self) -> Iterator[bytes]:
        self.file.seek(self.start)
        left = self.size
        while left:
            piece = self.file.read(min(left, 1 << 20))
            if not piece:
                raise _RefusedError("changed while it was read; try again")
            left -= len(piece)
            yield piece


@dataclass(frozen=True)
class _Described:
    """An open file and what its header says, before any tensor is read."""

    file: BinaryIO
    size: int
    begin: int
    """Where the first tensor begins, in bytes."""
    document: dict[str, Any]
    places: dict[str, _Place]

    @property
    def metadata(self) -> dict[str, Any]:
        return {name: value for name, value in self.document.items() if name not in _OURS}

    def declared(self) -> dict[str, NDArray[Any]]:
        """Return arrays of the declared types and shapes that take no memory."""
        return {name: _stand_in(dtype, shape) for name, (dtype, shape, _, _) in self.places.items()}

    def whole(self) -> bytes:
        """Read the whole content of the file."""
        self.file.seek(0)
        data = self.file.read(self.size + 1)
        if len(data) != self.size:
            raise _RefusedError("changed while it was read; try again")
        return data


@contextlib.contextmanager
def _described(path: Path, max_bytes: int) -> Iterator[_Described]:
    """Open a file of bounded size and read its header; the tensors lie in the file as it says."""
    with _opened(path, max_bytes) as (file, size):
        head = file.read(min(size, 8 + _MAX_HEADER_BYTES))
        header = _header(head)
        document = _document(header)
        begin = 8 + int.from_bytes(head[:8], "little")
        places = {name: _place(name, entry) for name, entry in header.items() if name != _METADATA}
        _check_places(places, size - begin)
        yield _Described(file, size, begin, document, places)


@contextlib.contextmanager
def _opened(path: Path, max_bytes: int) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file of bounded size; yield it and its size."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise _RefusedError("is a folder; name the model file in it")
        if not stat.S_ISREG(status.st_mode):  # a pipe or device may never end
            raise _RefusedError("is a device or a pipe; name a model file")
        if status.st_size > max_bytes:
            raise _RefusedError(
                f"has {status.st_size} bytes, over the limit of {max_bytes}; is it a model file?"
            )
        file = path.open("rb")
    except FileNotFoundError as error:
        raise _RefusedError("does not exist; check the path") from error
    except OSError as error:
        raise _unreadable(error) from error
    except ValueError as error:
        raise _RefusedError("has no possible file name; check the path") from error
    with file:
        try:
            yield file, status.st_size
        except OSError as error:
            raise _unreadable(error) from error


def _unreadable(error: OSError) -> _RefusedError:
    return _RefusedError(f"cannot be read ({os.strerror(error.errno or 0)}); check the path")


def _header(data: bytes) -> dict[str, Any]:
    """Return the header of a safetensors file: 8 bytes of length (little-endian), then JSON.

    It is read here because safetensors gives the metadata of files alone, not of bytes, and does not see two
    equal keys. The layout of the tensors is left to safetensors.
    """
    size = int.from_bytes(data[:8], "little")
    if data[8:9] != b"{":
        raise _RefusedError("is no safetensors file; name a model that coordfit saved")
    if size > _MAX_HEADER_BYTES:
        raise _RefusedError(f"has a header of {size} bytes, over the limit of {_MAX_HEADER_BYTES}")
    if 8 + size > len(data):
        raise _RefusedError("is cut short; copy it again or make it anew")
    header = _json(data[8 : 8 + size], "header")
    if len(header) > _MAX_TENSORS:
        raise _RefusedError(f"has {len(header)} tensors, over the limit of {_MAX_TENSORS}; is it a model file?")
    return header


def _document(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return our JSON text in the header, after checking format and version."""
    metadata = header.get(_METADATA)
    text = metadata.get(FORMAT) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise _RefusedError(
            "is a safetensors file, but coordfit did not write it; name a model that coordfit saved"
        )
    try:
        encoded = text.encode("utf-8")
    except UnicodeEncodeError as error:  # JSON can escape half a character
        raise _RefusedError("has damaged metadata; copy it again or make it anew") from error
    document = _json(encoded, "metadata")
    version = document.get("format_version")
    if document.get("format") != FORMAT or type(version) is not int or version < 1:
        raise _RefusedError("does not tell its format; name a model that coordfit saved")
    if version > FORMAT_VERSION:
        raise _RefusedError(
            f"has format version {version}, this coordfit reads up to {FORMAT_VERSION}; install a newer one"
        )
    return document


def _tensors(data: bytes, document: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return the arrays of the file, after all checks."""
    try:
        found = deserialize(data)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise _RefusedError(f"is damaged ({_one_line(error)}); copy it again or make it anew") from error
    entries = [(name, view["dtype"], tuple(view["shape"]), view["data"]) for name, view in found]
    if _digest(entries, document) != document.get("sha256"):
        raise _RefusedError("is damaged (the checksum differs); copy it again or make it anew")
    return {entry[0]: _array(entry) for entry in entries}


def _check_entry(name: str, entry: object) -> None:
    """Refuse names and types that `save_tensors` never writes."""
    if not _NAME.fullmatch(name):
        raise _RefusedError(f"has a tensor with an impossible name, {name[:40]!r}; make it anew")
    code = entry.get("dtype") if isinstance(entry, dict) else None
    if not isinstance(code, str) or code not in _DTYPES:
        raise _RefusedError(f"has a tensor {name} of unknown type {str(code)[:20]!r}; make it anew")


def _array(entry: _Entry) -> NDArray[Any]:
    """Return a copy of one tensor in native byte order, finite."""
    name, code, shape, raw = entry
    view = np.frombuffer(raw, dtype=_DTYPES[code]).reshape(shape)
    array = view.astype(view.dtype.newbyteorder("="))
    if not _is_finite(array):
        raise _RefusedError(
            f"holds NaN or infinity in tensor {name}; fit again, e.g. with a lower learning rate"
        )
    return array


# --- both ---------------------------------------------------------------------------------------------------


def _is_finite(array: NDArray[Any]) -> bool:
    """Whether an array holds neither NaN nor infinity."""
    return array.dtype.kind != "f" or all(bool(np.isfinite(piece).all()) for piece in pieces(array))


def _digest(entries: Iterable[_Entry], document: Mapping[str, Any]) -> str:
    """Return the SHA-256 over the metadata (but the digest) and the tensors by name, in hexadecimal.

    The bytes of a tensor follow its name, type and shape, which determine their number; so no two contents
    give the same stream. White space and the order of keys in the metadata do not count.
    """
    digest = hashlib.sha256()
    digest.update(_canonical({name: value for name, value in document.items() if name != "sha256"}))
    for name, code, shape, raw in sorted(entries, key=lambda entry: entry[0]):
        digest.update(_canonical([name, code, list(shape)]))
        for piece in _parts(raw):
            digest.update(piece)
    return digest.hexdigest()


def _parts(raw: Any) -> Iterable[Any]:
    """Return the bytes of a tensor one stretch after the other: neither file nor map is read whole."""
    if isinstance(raw, _FilePart):
        return raw.pieces()
    return pieces(raw) if isinstance(raw, np.ndarray) else (raw,)


def _canonical(value: Any) -> bytes:
    """Return JSON with one spelling for each content, ended by a line break."""
    text = json.dumps(value, allow_nan=False, sort_keys=True, separators=(",", ":"))
    return text.encode("ascii") + b"\n"


def _json(text: bytes, what: str) -> dict[str, Any]:
    """Parse a strict JSON object of bounded depth: no NaN, no infinity, no key twice."""
    try:
        value = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite_number,
        )
        _check_depth(value, _MAX_DEPTH)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else _one_line(error)
        raise _RefusedError(f"has a damaged {what} ({reason}); copy it again or make it anew") from error
    if not isinstance(value, dict):
        raise _RefusedError(f"has a damaged {what} (no object); copy it again or make it anew")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of its pairs, refusing a key that is there twice: readers differ in which they take."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key is there twice")
    return result


def _no_constant(name: str) -> None:
    """Refuse NaN, Infinity and -Infinity, which are not JSON."""
    raise ValueError(f"{name} is no number of JSON")


def _finite_number(text: str) -> float:
    """Parse a number, and refuse one that no float can hold."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _check_depth(value: Any, levels: int) -> None:
    """Refuse what is nested deeper than `levels`, so that no later reader runs out of stack."""
    if isinstance(value, (dict, list)):
        if levels == 0:
            raise RecursionError
        for item in value.values() if isinstance(value, dict) else value:
            _check_depth(item, levels - 1)


def _one_line(error: Exception) -> str:
    """Return the start of an error's text, fit for a message of one line."""
    return "".join(c if c.isprintable() else " " for c in str(error))[:120]
