"""Read and write files of named tensors with metadata; files of strangers are safe to read.

The container is safetensors: data only, never code. One JSON text under its metadata key ``coordfit`` adds
metadata with numbers and structure, and a SHA-256 over tensors and metadata, which finds flipped bits.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize

from ..errors import ModelFileError
from . import FilePath, atomic_write, jsonable, pieces, printable
from .tensor_header import (
    CODES,
    DTYPES,
    FORMAT,
    FORMAT_VERSION,
    MAX_HEADER_BYTES,
    RESERVED_KEYS,
    Place,
    RefusedError,
    can_name_a_tensor,
    check_layout,
    encode_header,
    one_line,
    parse_header,
)

# A loaded file comes into memory; a mapped one is read through once, and stays on disk. The largest picture
# that Pillow decodes has 36 GiB of tiles in float64, with the networks of `auto`.
MAX_BYTES = 4 * 2**30
MAX_MAPPED_BYTES = 64 * 2**30
_PIECE_BYTES = 1 << 20

Check = Callable[[Mapping[str, NDArray[Any]], Mapping[str, Any]], object]
"""A caller's test of what a file declares; see `load_tensors`."""

# Name, type code, shape, and little-endian bytes in C order or the `_FilePart` that holds them.
_Entry = tuple[str, str, tuple[int, ...], Any]


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
        keys ``format``, ``format_version`` and ``sha256`` are reserved.

    OutputError if the file cannot be written; ModelFileError for NaN or infinity, which could not be loaded;
    TypeError or ValueError for a name, a type or metadata that cannot be stored.
    """
    arrays = {name: _storable(name, array) for name, array in tensors.items()}
    for name, array in arrays.items():
        if not _is_finite(array):
            raise ModelFileError(f"cannot save {printable(path)}: tensor {name} holds NaN or infinity")
    if taken := set(metadata) & set(RESERVED_KEYS):
        raise ValueError(f"the metadata cannot have a key {min(taken)!r}: the format uses it")
    document = {"format": FORMAT, "format_version": FORMAT_VERSION, **jsonable(metadata)}
    entries = [(name, CODES[array.dtype], array.shape, _bytes_of(array)) for name, array in arrays.items()]
    document["sha256"] = _digest(entries, document)
    header, order = encode_header(arrays, json.dumps(document, allow_nan=False))
    try:
        parse_header(header)  # what is written must be readable: size and depth are within the bounds
    except RefusedError as error:
        raise ValueError(f"the metadata cannot be stored: the file {error}") from error
    with atomic_write(path) as file:
        file.write(header)
        for name in order:
            for piece in pieces(_bytes_of(arrays[name])):  # a large model is not copied in memory
                file.write(piece.data)


def _storable(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return the array in C order and little-endian, as safetensors stores it."""
    if not can_name_a_tensor(name):
        raise ValueError(f"no name for a tensor in a file: {name!r}")
    dtype = np.asarray(array).dtype.newbyteorder("<")
    if dtype not in CODES:
        raise TypeError(f"tensor {name} has the type {dtype.name}, which cannot be stored")
    return np.asarray(array, dtype=dtype, order="C")


def _bytes_of(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a view of the bytes of a contiguous array."""
    return array.reshape(-1).view(np.uint8)


def load_tensors(
    path: FilePath, check: Check | None = None, *, max_bytes: int = MAX_BYTES
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read a file that `save_tensors` wrote; nothing in the file is trusted.

    Parameters
    ----------
    path
        The file.
    check
        Called before any tensor is read, with arrays of the declared types and shapes that take no memory,
        and the metadata. It raises if they cannot be what the caller wants.
    max_bytes
        A larger file is refused before it is read.

    Returns
    -------
    tensors
        Writable arrays, C order, native byte order, all floats finite.
    metadata
        The metadata that `save_tensors` was given, as JSON holds it.

    ModelFileError if the file is missing, too large, damaged, of a newer format, or of another format.
    """
    with _opened(path, max_bytes, check) as found:
        data = found.read_all()
        try:
            views = deserialize(data)  # type: ignore[no-untyped-call]
        except SafetensorError as error:
            raise RefusedError(f"is damaged ({one_line(error)}); copy it again or make it anew") from error
        entries = [(name, view["dtype"], tuple(view["shape"]), view["data"]) for name, view in views]
        found.check_digest(entries)
        return {entry[0]: _array_of(entry) for entry in entries}, found.metadata


def map_tensors(
    path: FilePath, check: Check | None = None, *, max_bytes: int = MAX_MAPPED_BYTES
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Map a file like `load_tensors`, but leave the tensors in it until their elements are needed.

    The file is read through once for its checksum, a piece at a time. The tensors are views of one map of the
    file, read-only and little-endian; their floats may be NaN or infinite.
    """
    with _opened(path, max_bytes, check) as found:
        found.check_digest(
            (name, CODES[place.dtype], place.shape, found.part(place)) for name, place in found.places.items()
        )
        data = np.memmap(found.file, np.uint8, "r")[found.begin :]
        return {
            name: data[place.start : place.stop].view(place.dtype).reshape(place.shape)
            for name, place in found.places.items()
        }, found.metadata


def read_metadata(path: FilePath) -> dict[str, Any]:
    """Return the metadata of a file of any size, without verifying the checksum."""
    with _opened(path, MAX_MAPPED_BYTES) as found:
        return found.metadata


@dataclass(frozen=True)
class _OpenFile:
    """An open file and its header; the tensors begin at byte `begin` of `size`."""

    file: BinaryIO
    size: int
    begin: int
    document: dict[str, Any]
    places: dict[str, Place]

    @property
    def metadata(self) -> dict[str, Any]:
        return {name: value for name, value in self.document.items() if name not in RESERVED_KEYS}

    def part(self, place: Place) -> _FilePart:
        return _FilePart(self.file, self.begin + place.start, place.stop - place.start)

    def read_all(self) -> bytes:
        self.file.seek(0)
        data = self.file.read(self.size + 1)
        if len(data) != self.size:
            raise RefusedError("changed while it was read; try again")
        return data

    def check_digest(self, entries: Iterable[_Entry]) -> None:
        if _digest(entries, self.document) != self.document.get("sha256"):
            raise RefusedError("is damaged (the checksum differs); copy it again or make it anew")


@contextlib.contextmanager
def _opened(path: FilePath, max_bytes: int, check: Check | None = None) -> Iterator[_OpenFile]:
    """Open a regular file of bounded size, parse its header and call `check`; every refusal is one error."""
    try:
        with _regular_file(Path(path), max_bytes) as (file, size):
            begin, document, places = parse_header(file.read(min(size, 8 + MAX_HEADER_BYTES)))
            check_layout([*places.values()], size - begin)
            found = _OpenFile(file, size, begin, document, places)
            if check is not None:
                check({name: place.stand_in() for name, place in places.items()}, found.metadata)
            yield found
    except RefusedError as error:
        raise ModelFileError(f"cannot load {printable(path)}: it {error}") from error
    except MemoryError as error:
        raise ModelFileError(f"cannot load {printable(path)}: it needs more memory than there is") from error


@contextlib.contextmanager
def _regular_file(path: Path, max_bytes: int) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file of bounded size; yield it and its size."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise RefusedError("is a folder; name the model file in it")
        if not stat.S_ISREG(status.st_mode):  # a pipe or device may never end
            raise RefusedError("is a device or a pipe; name a model file")
        if status.st_size > max_bytes:
            size = f"{status.st_size} bytes"
            raise RefusedError(f"has {size}, over the limit of {max_bytes}; is it a model file?")
        file = path.open("rb")
    except FileNotFoundError as error:
        raise RefusedError("does not exist; check the path") from error
    except OSError as error:
        raise _unreadable(error) from error
    except ValueError as error:
        raise RefusedError("has no possible file name; check the path") from error
    with file:
        try:
            yield file, status.st_size
        except OSError as error:
            raise _unreadable(error) from error


def _unreadable(error: OSError) -> RefusedError:
    return RefusedError(f"cannot be read ({os.strerror(error.errno or 0)}); check the path")


class _FilePart:
    """A part of a file that is read a piece at a time."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self.file, self.start, self.size = file, start, size

    def pieces(self) -> Iterator[bytes]:
        self.file.seek(self.start)
        left = self.size
        while left:
            piece = self.file.read(min(left, _PIECE_BYTES))
            if not piece:
                raise RefusedError("changed while it was read; try again")
            left -= len(piece)
            yield piece


def _array_of(entry: _Entry) -> NDArray[Any]:
    """Return a finite copy of one tensor in native byte order."""
    name, code, shape, raw = entry
    view = np.frombuffer(raw, dtype=DTYPES[code]).reshape(shape)
    array = view.astype(view.dtype.newbyteorder("="))
    if not _is_finite(array):
        cure = "fit again, e.g. with a lower learning rate"
        raise RefusedError(f"holds NaN or infinity in tensor {name}; {cure}")
    return array


def _is_finite(array: NDArray[Any]) -> bool:
    return array.dtype.kind != "f" or all(bool(np.isfinite(piece).all()) for piece in pieces(array))


def _digest(entries: Iterable[_Entry], document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the metadata (without the digest) and the tensors by name, in hexadecimal.

    The bytes of a tensor follow its name, type and shape, which determine their number, so no two contents
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
    """Return the bytes of a tensor in parts, so that neither file nor map is read whole."""
    if isinstance(raw, _FilePart):
        return raw.pieces()
    return pieces(raw) if isinstance(raw, np.ndarray) else (raw,)


def _canonical(value: Any) -> bytes:
    """Return JSON with one spelling for each content, ended by a line break."""
    text = json.dumps(value, allow_nan=False, sort_keys=True, separators=(",", ":"))
    return text.encode("ascii") + b"\n"
