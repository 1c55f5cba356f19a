"""A compressed picture as bytes: a header, one rANS stream of all integers, and a checksum.

`docs/reference/codec_format.md` has the format bit by bit. Everything that a file claims is bounded before
memory is taken for it.
"""

from __future__ import annotations

import importlib.util
import math
import stat
import struct
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..backends import get_backend
from ..errors import CompressedFileError
from ..files import FilePath, atomic_write, printable
from .contexts import MOST_BIAS, MOST_SHIFT, MOST_WEIGHT, ContextNetwork, Layer, put_level, take_level
from .header import Header, LayerHead, Tensor, level_size, pack, unpack
from .law_tables import DamagedError, Integers
from .laws import MOST_VALUE, best_scale, law_tables, put_values, take_values
from .rans import Decoder, Encoder, lane_count

MAGIC = b"\x93CFC"
VERSION = 1
MOST_BYTES = 1 << 30
_NUMBA_PAYS = 1 << 21  # latents
MOST_LATENTS = 1 << 25  # 16 megapixels with three channels from half the size down
_BIT_DEPTHS = {0: 8, 1: 16}  # by the flags
_PREFIX = struct.Struct("<4sBBI")
_CHECKSUM = struct.Struct("<I")


@dataclass(frozen=True)
class ScaledArray:
    """The numbers `values * 2^exponent`; integers of up to four axes."""

    values: Integers
    exponent: int = 0


@dataclass(frozen=True)
class Compressed:
    """All that a compressed picture holds; levels come finest first.

    Attributes
    ----------
    latents
        Of level l, (C, ceil(height / 2^l), ceil(width / 2^l)); C may be 0.
    steps
        What a latent of each level is worth; kept in float32.
    synthesis
        The quantised network that makes colours of latents.
    bit_depth
        8 or 16, of the levels that are drawn.
    """

    height: int
    width: int
    latents: Sequence[Integers]
    steps: Sequence[float]
    network: ContextNetwork
    synthesis: Sequence[ScaledArray] = ()
    bit_depth: int = 8


def encode(picture: Compressed, compiled: bool | None = False) -> bytes:
    """Return a compressed picture as bytes; `compiled` takes Numba's loops, for equal bytes.

    None takes them if Numba is installed and saves more time than its import takes.
    """
    header, encoder = _header_of(picture), Encoder(law_tables())
    for _ in _put_parts(encoder, picture, header):
        pass
    packed = pack(header)
    stream = encoder.finish(lane_count(header.latents), _takes_numba(compiled, header))
    length = _PREFIX.size + len(packed) + len(stream) + _CHECKSUM.size
    if length > MOST_BYTES:
        raise ValueError("a compressed picture cannot be stored: it has more than 2^30 bytes")
    data = _PREFIX.pack(MAGIC, VERSION, int(picture.bit_depth == 16), length) + packed + stream
    return data + _CHECKSUM.pack(zlib.crc32(data))


def bits_of_parts(picture: Compressed) -> dict[str, float]:
    """Return the bits of each part of a file: header, context network, levels by their index, and decoder.

    The entropy of what is coded; the states of the lanes count as header.
    """
    header, encoder = _header_of(picture), Encoder(law_tables())
    fixed = _PREFIX.size + len(pack(header)) + 4 * lane_count(header.latents) + _CHECKSUM.size
    bits, before = {"header": 8.0 * fixed}, 0.0
    for part in _put_parts(encoder, picture, header):
        after = encoder.bits()
        bits[part] = after - before
        before = after
    return bits


def _put_parts(encoder: Encoder, picture: Compressed, header: Header) -> Iterator[str]:
    """Add the parts of a picture in their order; yield the name of each after it."""
    for layer, head in zip(picture.network.layers, header.layers, strict=True):
        _put(encoder, layer.weights, head.weights)
        _put(encoder, layer.biases >> head.biases.exponent, head.biases)
    yield "context network"
    coarser = _nothing(header)
    for level, latents in reversed([*zip(header.levels(), picture.latents, strict=True)]):
        put_level(encoder, picture.network, level, latents, coarser)
        coarser = latents
        yield f"level {level.index}"
    for array, tensor in zip(picture.synthesis, header.arrays, strict=True):
        _put(encoder, array.values, tensor)
    yield "decoder network"


def decode(
    data: bytes,
    name: str = "the compressed picture",
    most_latents: int = MOST_LATENTS,
    compiled: bool | None = False,
) -> Compressed:
    """Return the compressed picture of bytes; CompressedFileError, with this name, if it cannot be used.

    `most_latents` bounds time and memory: 40 bytes for each, or 100 in a narrow picture. `compiled` is as
    in `encode`.
    """
    try:
        header, stream, bit_depth = _split(data)
        if header.latents > most_latents:
            raise DamagedError(f"has {header.latents} latents, more than the limit of {most_latents}")
        with one_blas_thread():
            return _decode(header, stream, bit_depth, _takes_numba(compiled, header))
    except DamagedError as error:
        raise CompressedFileError(f"cannot load {name}: it {error}") from error
    except MemoryError as error:
        raise CompressedFileError(f"cannot load {name}: it needs more memory than there is") from error


def save(path: FilePath, picture: Compressed, compiled: bool | None = False) -> None:
    """Write a compressed picture, atomically; OutputError if it cannot be written."""
    data = encode(picture, compiled)
    with atomic_write(path) as file:
        file.write(data)


def load(path: FilePath, most_latents: int = MOST_LATENTS, compiled: bool | None = False) -> Compressed:
    """Return the compressed picture of a file; CompressedFileError if it cannot be used; see `decode`."""
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a file")
        if status.st_size > MOST_BYTES:
            raise ValueError(f"it has {status.st_size} bytes, more than the limit of {MOST_BYTES}")
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CompressedFileError(f"cannot load {printable(path)}: {reason}") from error
    return decode(data, printable(path), most_latents, compiled)


def one_blas_thread() -> AbstractContextManager[None]:
    """Let the BLAS use one thread in a block: its products are too small for more."""
    return get_backend("numpy", threads=1).activate()


def _takes_numba(compiled: bool | None, header: Header) -> bool:
    if compiled is not None:
        return compiled
    return importlib.util.find_spec("numba") is not None and (
        "numba" in sys.modules or header.latents >= _NUMBA_PAYS
    )


def is_compressed(path: FilePath) -> bool:
    """Whether a file begins as one of this format does."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def _header_of(picture: Compressed) -> Header:
    header = Header(
        picture.height,
        picture.width,
        [np.shape(latents)[0] for latents in picture.latents],
        [float(np.float32(step)) for step in picture.steps],
        [_layer_head(layer) for layer in picture.network.layers],
        [_tensor(array.values, array.exponent) for array in picture.synthesis],
    )
    for level, latents in zip(header.levels(), picture.latents, strict=True):
        if np.shape(latents) != level.shape:
            raise ValueError(f"level {level.index} has the shape {np.shape(latents)}, not {level.shape}")
    return header


def _layer_head(layer: Layer) -> LayerHead:
    bits = int(np.bitwise_or.reduce(layer.biases))
    zeros = min(MOST_SHIFT, (bits & -bits).bit_length() - 1) if bits else 0
    return LayerHead(_tensor(layer.weights), _tensor(layer.biases >> zeros, zeros), layer.shift)


def _tensor(values: Integers, exponent: int = 0) -> Tensor:
    return Tensor(np.shape(values), best_scale(values), exponent)


def _put(encoder: Encoder, values: Integers, tensor: Tensor) -> None:
    flat = np.asarray(values, np.int64).ravel()
    put_values(encoder, flat, np.zeros_like(flat), np.full_like(flat, tensor.scale))


def _take(decoder: Decoder, tensor: Tensor, most: int) -> Integers:
    size = math.prod(tensor.shape)
    values = take_values(decoder, np.zeros(size, np.int64), np.full(size, tensor.scale))
    if abs(values).max() > most:
        raise DamagedError(f"holds a number beyond {most}")
    return values.reshape(tensor.shape)


def _nothing(header: Header) -> Integers:
    """Return the level before the coarsest: no channels."""
    return np.zeros((0, *level_size(header.height, header.width, len(header.channels))), np.int64)


def _split(data: bytes) -> tuple[Header, bytes, int]:
    """Return the header, the stream and the bit depth of bytes whose checksum is right."""
    if len(data) < _PREFIX.size or data[: len(MAGIC)] != MAGIC:
        raise DamagedError("is not a compressed picture of coordfit")
    _, version, flags, length = _PREFIX.unpack_from(data)
    if version != VERSION or flags not in _BIT_DEPTHS:
        raise DamagedError(f"has format version {version}.{flags}; this coordfit reads version {VERSION}.0")
    if len(data) != length or length < _PREFIX.size + _CHECKSUM.size:
        raise DamagedError(f"has {len(data)} bytes but should have {length}; copy it again")
    body, checksum = data[: -_CHECKSUM.size], data[-_CHECKSUM.size :]
    if _CHECKSUM.pack(zlib.crc32(body)) != checksum:
        raise DamagedError("is damaged (its checksum differs); copy it again")
    header, position = unpack(body, _PREFIX.size)
    return header, body[position:], _BIT_DEPTHS[flags]


def _decode(header: Header, stream: bytes, bit_depth: int, compiled: bool) -> Compressed:
    decoder = Decoder(stream, law_tables(), lane_count(header.latents), compiled)
    network = ContextNetwork([_take_layer(decoder, head) for head in header.layers])
    latents = [_nothing(header)]
    for level in reversed(header.levels()):
        latents.append(take_level(decoder, network, level, latents[-1]))
    arrays = [ScaledArray(_take(decoder, tensor, MOST_VALUE), tensor.exponent) for tensor in header.arrays]
    decoder.finish()
    return Compressed(header.height, header.width, latents[:0:-1], header.steps, network, arrays, bit_depth)


def _take_layer(decoder: Decoder, head: LayerHead) -> Layer:
    weights = _take(decoder, head.weights, MOST_WEIGHT)
    shift = head.biases.exponent
    return Layer(weights, _take(decoder, head.biases, MOST_BIAS >> shift) << shift, head.shift)
