"""The PNG writer, read back by Pillow and by a small decoder that knows nothing of either."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from coordfit.errors import PictureError
from coordfit.images.formats.png import PngWriter, quantize

CHANNELS = {0: 1, 4: 2, 2: 3, 6: 4}


def read_chunks(content):
    """Split a PNG into (kind, data), checking every CRC."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    position, chunks = 8, []
    while position < len(content):
        (length,) = struct.unpack_from(">I", content, position)
        kind, data = content[position + 4 : position + 8], content[position + 8 : position + 8 + length]
        assert len(data) == length
        (checksum,) = struct.unpack_from(">I", content, position + 8 + length)
        assert checksum == zlib.crc32(kind + data)
        chunks.append((kind, data))
        position += 12 + length
    return chunks


def decode(content):
    """Undo the filters byte by byte, as the specification puts it: levels (H, W, C) and the filters used."""
    chunks = read_chunks(content)
    assert chunks[0][0] == b"IHDR"
    assert chunks[-1] == (b"IEND", b"")
    assert {kind for kind, _ in chunks[1:-1]} == {b"IDAT"}
    width, height, depth, colour_type, *rest = struct.unpack(">IIBBBBB", chunks[0][1])
    assert rest == [0, 0, 0]
    pixel = CHANNELS[colour_type] * depth // 8
    stream = zlib.decompress(b"".join(data for kind, data in chunks if kind == b"IDAT"))
    assert len(stream) == height * (1 + width * pixel)
    above, rows, filters = bytes(width * pixel), [], []
    for start in range(0, len(stream), 1 + width * pixel):
        row = bytearray(stream[start + 1 : start + 1 + width * pixel])
        for i in range(len(row)):
            predictor = {0: 0, 1: row[i - pixel] if i >= pixel else 0, 2: above[i]}[stream[start]]
            row[i] = (row[i] + predictor) % 256
        filters.append(stream[start])
        rows.append(bytes(row))
        above = rows[-1]
    levels = np.frombuffer(b"".join(rows), ">u2" if depth == 16 else "u1")
    return levels.reshape(height, width, -1), filters


def encode(levels, parts=1):
    """Write levels (H, W, C) in so many parts."""
    file = io.BytesIO()
    height, width, channels = levels.shape
    with PngWriter(file, width, height, channels, 8 * levels.dtype.itemsize) as png:
        for part in np.array_split(levels, parts):
            png.write_rows(part)
    return file.getvalue()


def sample(shape, dtype, kind="noise"):
    """Levels of a kind that leads to one filter or the other."""
    rng = np.random.default_rng(shape)
    top = np.iinfo(dtype).max
    if kind == "noise":
        return rng.integers(0, top, shape, dtype, endpoint=True)
    if kind == "columns":  # every row like the one above
        return np.broadcast_to(rng.integers(0, top, (1, *shape[1:]), dtype), shape)
    return np.broadcast_to(rng.integers(0, top, (shape[0], 1, shape[2]), dtype), shape)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    kind=st.sampled_from(["noise", "columns", "rows"]),
    parts=st.integers(1, 10),
)
def test_round_trip(shape, dtype, kind, parts):
    levels = sample(shape, dtype, kind)
    content = encode(levels, parts)
    decoded, _ = decode(content)
    assert decoded.dtype.itemsize == levels.dtype.itemsize
    np.testing.assert_array_equal(decoded, levels)
    image = Image.open(io.BytesIO(content))
    if dtype == np.uint8 or shape[2] == 1:
        np.testing.assert_array_equal(np.asarray(image).reshape(shape), levels)
    else:  # Pillow keeps the high bytes, and spreads grey over three channels
        kept = np.asarray(image)[:, :, [0, 3]] if shape[2] == 2 else np.asarray(image)
        np.testing.assert_array_equal(kept, levels >> 8)


@pytest.mark.parametrize(("kind", "expected"), [("columns", 2), ("rows", 1)])
def test_the_cheaper_filter_is_taken(kind, expected):
    _, filters = decode(encode(sample((6, 40, 3), np.uint8, kind)))
    assert filters[1:] == [expected] * 5


def test_a_byte_of_255_costs_as_little_as_one():
    row = np.arange(200, 100, -1, dtype=np.uint8)  # Sub leaves -1 all along, Up 20
    rows = np.stack([row, row + 20])[:, :, None]
    assert decode(encode(rows))[1] == [1, 1]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_eight_bit_modes(channels):
    levels = sample((5, 7, channels), np.uint8)
    image = Image.open(io.BytesIO(encode(levels)))
    assert image.mode == {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    assert image.info == {}


def test_blocks_and_chunks_are_bounded(monkeypatch):
    monkeypatch.setattr("coordfit.images.formats.png._BLOCK_BYTES", 1000)
    monkeypatch.setattr("coordfit.images.formats.png._IDAT_BYTES", 700)
    levels = sample((40, 50, 3), np.uint16)  # noise does not compress
    content = encode(levels, 3)
    np.testing.assert_array_equal(decode(content)[0], levels)
    sizes = [len(data) for kind, data in read_chunks(content) if kind == b"IDAT"]
    assert set(sizes[:-1]) == {700}
    assert 0 < sizes[-1] <= 700


def test_memory_is_bounded_by_the_rows_given():
    file = io.BytesIO()
    png = PngWriter(file, 1000, 2000, 3)
    rows = sample((100, 1000, 3), np.uint8)
    for _ in range(20):
        png.write_rows(rows)
        assert len(png._pending) < 2**18
    png.close()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(file.getvalue())))[-100:], rows)


def test_big_endian_and_strided_rows():
    levels = sample((6, 5, 3), np.uint16)
    np.testing.assert_array_equal(decode(encode(levels.astype(">u2")))[0], levels)
    np.testing.assert_array_equal(decode(encode(levels[::-1, ::2]))[0], levels[::-1, ::2])


def test_number_of_rows_is_checked():
    png = PngWriter(io.BytesIO(), 3, 4, 1)
    png.write_rows(np.zeros((3, 3, 1), np.uint8))
    with pytest.raises(ValueError, match="lacks 1 of its rows"):
        png.close()
    with pytest.raises(ValueError, match="2 rows came, but the PNG has 1 left"):
        png.write_rows(np.zeros((2, 3, 1), np.uint8))
    png.write_rows(np.zeros((1, 3, 1), np.uint8))
    png.close()
    png.close()
    with pytest.raises(ValueError, match="closed"):
        png.write_rows(np.zeros((0, 3, 1), np.uint8))


def test_an_error_inside_is_not_hidden_by_missing_rows():
    with pytest.raises(KeyError), PngWriter(io.BytesIO(), 3, 4, 1):
        raise KeyError


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((1, 3, 3), np.uint16), "must be uint8, not uint16"),
        (np.zeros((1, 3, 3)), "must be uint8, not float64"),
        (np.zeros((1, 4, 3), np.uint8), r"\(n, 3, 3\)"),
        (np.zeros((1, 3, 1), np.uint8), r"\(n, 3, 3\)"),
        (np.zeros((3, 3), np.uint8), r"\(n, 3, 3\)"),
    ],
)
def test_rows_of_another_picture(rows, message):
    with pytest.raises(ValueError, match=message):
        PngWriter(io.BytesIO(), 3, 4, 3).write_rows(rows)


@pytest.mark.parametrize("arguments", [(0, 1, 1), (1, 0, 1), (2**31, 1, 1), (1, 1, 0), (1, 1, 5), (1, 1, 1, 4)])
def test_impossible_pictures(arguments):
    with pytest.raises(ValueError):
        PngWriter(io.BytesIO(), *arguments)


@pytest.mark.parametrize(("bit_depth", "dtype"), [(8, np.uint8), (16, np.uint16)])
@pytest.mark.parametrize("floating", [np.float32, np.float64])
def test_quantize_gives_every_level_back(bit_depth, dtype, floating):
    levels = np.arange(2**bit_depth, dtype=dtype)
    quantized = quantize((levels / (2**bit_depth - 1)).astype(floating), bit_depth)
    assert quantized.dtype == dtype
    np.testing.assert_array_equal(quantized, levels)


def test_quantize_rounds_and_clips():
    pixels = np.array([-1.0, -0.0, 0.49 / 255, 0.51 / 255, 254.6 / 255, 1.0, 7.0, np.inf, -np.inf])
    before = pixels.copy()
    assert quantize(pixels).tolist() == [0, 0, 0, 1, 255, 255, 255, 255, 0]
    np.testing.assert_array_equal(pixels, before)


def test_quantize_half_precision():
    assert quantize(np.array([1.0, 0.5], np.float16), 16).tolist() == [65535, 32768]


def test_quantize_refuses():
    with pytest.raises(PictureError, match="NaN"):
        quantize(np.array([0.5, np.nan]))
    with pytest.raises(ValueError, match="int64"):
        quantize(np.array([1, 2], np.int64))
    with pytest.raises(ValueError, match="bit depth"):
        quantize(np.array([0.5]), 12)
