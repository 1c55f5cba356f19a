"""Compressed pictures as files: what comes back, that bytes are the same everywhere, and hostile files.

`COORDFIT_FUZZ_CASES=100000` mutates so many files.
"""

import dataclasses
import os
import random
import re
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import slow_decoder
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import latents_of, network, picture, same

from coordfit.codec import Compressed, CompressedFileError, ScaledArray, decode, encode, load, save
from coordfit.codec.container import bits_of_parts
from coordfit.codec.rans import lane_count
from coordfit.errors import CoordfitError

MOST_BYTES = 160e6  # arrays may have 2^20 numbers, a few int64 for each while they are decoded
CASES = int(os.environ.get("COORDFIT_FUZZ_CASES", 2000))


def with_checksum(data):
    """The bytes with the length and the checksum that fit them."""
    data = data[:6] + struct.pack("<I", len(data)) + data[10:-4]
    return data + struct.pack("<I", zlib.crc32(data))


# --- what comes back ----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 10),
    st.integers(1, 10),
    st.lists(st.integers(0, 3), min_size=1, max_size=6),
    st.sampled_from([0.0, 0.3, 3.0, 3000.0]),
    st.integers(0, 3),
    st.sampled_from([8, 16]),
)
def test_a_picture_comes_back_from_two_decoders(height, width, channels, spread, seed, bit_depth):
    made = dataclasses.replace(picture(height, width, channels, spread, seed), bit_depth=bit_depth)
    data = encode(made)
    assert same(decode(data), made)
    assert found_by_slow_decoder(data) == found_in(made)


def found_by_slow_decoder(data):
    *size, steps, levels, arrays = slow_decoder.decode(data)
    levels = [sorted(level.items()) for level in levels]
    return *size, steps, levels, [(shape, exponent, values) for shape, exponent, values in arrays]


def found_in(made):
    levels = [[(place, int(value)) for place, value in np.ndenumerate(latents)] for latents in made.latents]
    arrays = [(a.values.shape, a.exponent, a.values.ravel().tolist()) for a in made.synthesis]
    return made.height, made.width, made.bit_depth, list(made.steps), levels, arrays


def test_the_bits_of_the_parts_are_those_of_the_file():
    made = picture(200, 150, [1, 2, 0, 3])
    parts = bits_of_parts(made)
    assert [*parts] == [
        "header",
        "context network",
        "level 3",
        "level 2",
        "level 1",
        "level 0",
        "decoder network",
    ]
    assert sum(parts.values()) == pytest.approx(8 * len(encode(made)), rel=0.002)
    assert parts["level 2"] == 0 < parts["level 3"] < parts["level 0"]


def test_a_file_comes_back(tmp_path):
    made = picture()
    save(tmp_path / "photo.cfc", made)
    assert same(load(tmp_path / "photo.cfc"), made)


@pytest.mark.parametrize("shape", [(1, 700), (700, 1), (300, 2), (65535, 1)])
def test_narrow_pictures_come_back(shape):
    made = Compressed(*shape, [np.ones((int(max(shape) < 1000), *shape), int)], [1.0], network(units=(2,)))
    assert same(decode(encode(made)), made)


def test_many_lanes_come_back():
    made = Compressed(200, 200, latents_of(200, 200, [1]), [1.0], network())
    assert lane_count(40_000) == 4
    assert same(decode(encode(made)), made)


@pytest.mark.parametrize("seed", range(3))
def test_numba_writes_the_same_bytes_and_reads_them(seed):
    pytest.importorskip("numba")
    made = picture(33, 47, seed=seed)
    assert encode(made, compiled=True) == encode(made)
    assert same(decode(encode(made), compiled=True), made)


def test_bytes_do_not_depend_on_memory_layout_or_type():
    made = picture(12, 18)
    moved = [np.asfortranarray(np.repeat(a, 2, axis=2))[:, :, ::2] for a in made.latents]
    narrow = [a.astype(">i2") for a in made.latents]
    arrays = [ScaledArray(np.array(a.values, np.int32, order="F"), a.exponent) for a in made.synthesis]
    for latents in (moved, narrow):
        assert encode(dataclasses.replace(made, latents=latents, synthesis=arrays)) == encode(made)


# Of a picture of 5x3 pixels in two levels with three arrays, and a network of 23, 2 and 2 units.
OLD_FILE = bytes.fromhex(
    "9343464301008a0000000300050002010000803f020000003f020203012700020927270603020700050026fa00270001"
    "03000009ff7f0600ff7f6a89ffff0b2987c7f8c7a8354e2e3dfc84565089df3978d61d284c1f3b5f220a3f63b7e975d8"
    "8abfb499f987858d6dd88b3b35f295d5e848349668db87a53ac77d65d16bc508a60511816600d0f1dc07"
)


def test_a_file_of_old_decodes_to_these_integers_and_encodes_to_these_bytes():
    made = decode(OLD_FILE)
    assert [a.tolist() for a in made.latents] == [
        [[[1, -1, -5, -7, 2], [3, 0, 1, 0, 4], [2, -10, 3, -5, 1]]],
        [[[-2, 3, 0], [-1, 0, -6]], [[-3, 1, 1], [1, -1, 10]]],
    ]
    assert [a.values.ravel().tolist()[:3] for a in made.synthesis] == [[63, 24, 2], [70000], [0, 0, 0]]
    assert [(a.values.shape, a.exponent) for a in made.synthesis] == [((7, 5), -6), ((), 0), ((3,), 9)]
    assert [layer.biases.tolist() for layer in made.network.layers] == [[91, -309], [0, 9152]]
    assert encode(made) == OLD_FILE


def test_a_flat_picture_takes_almost_nothing():
    flat = [np.zeros(a.shape, int) for a in latents_of(512, 768, [1, 3, 3, 3])]
    sure = network(spread=0.0)  # b = 1
    sure.layers[-1].biases[1] = 0  # b = 1/16
    made = Compressed(512, 768, flat, [1.0] * 4, type(sure)(sure.layers))
    assert len(encode(made)) < 900
    assert same(decode(encode(made)), made)


NO_CHANNELS = [np.zeros((0, 2**16, 13), int), np.zeros((0, 2**15, 7), int)]

BAD_PICTURES = {
    "65535 is possible|0 <= number": {"height": 2**16, "latents": NO_CHANNELS},
    "level 1 has the shape": {"latents": latents_of(9, 13, (1, 3)) [:1] * 2},
    "number of channels of 9": {"latents": latents_of(9, 13, (9, 3))},
    "step of 0": {"steps": [0.0, 1.0]},
    "step of nan": {"steps": [np.nan, 1.0]},
    "side of an array of 0": {"synthesis": [ScaledArray(np.zeros((2, 0), int))]},
    "more than 1048576 numbers": {"synthesis": [ScaledArray(np.zeros(60_000, int))] * 20},
    "number of arrays of 65": {"synthesis": [ScaledArray(np.zeros(1, int))] * 65},
    "number of axes of 5": {"synthesis": [ScaledArray(np.zeros((1,) * 5, int))]},
    "cannot be stored": {"synthesis": [ScaledArray(np.zeros(1, int), 128)]},
    "a value is beyond": {"latents": [latents_of(9, 13, [1])[0] + 2**24, latents_of(9, 13, [1, 3])[1]]},
}  # fmt: skip


@pytest.mark.parametrize("message", BAD_PICTURES)
def test_a_picture_beyond_the_format_is_refused(message):
    made = Compressed(9, 13, latents_of(9, 13, (1, 3)), [1.0, 1.0], network())
    with pytest.raises(ValueError, match=message):
        encode(dataclasses.replace(made, **BAD_PICTURES[message]))


# --- hostile files ------------------------------------------------------------------------------------------

WHOLE = encode(picture(6, 7, (1, 2, 0, 1), units=(2,)))
HEADER = 10 + 5 + 5 * 4 + 1 + 5 * 2 + 1 + 15  # prefix, sizes, levels, layers, arrays


def test_the_header_ends_where_it_is_thought_to():
    assert WHOLE[HEADER - 5 : HEADER - 2] == struct.pack("<BH", 1, 3)  # the last array has three numbers


def mutated(rng):
    """A damaged file, mostly with a checksum that fits."""
    data = bytearray(WHOLE)
    for _ in range(rng.choice([1, 1, 2, 5])):
        if not data:
            break
        place = rng.randrange(4, HEADER if rng.random() < 0.5 else len(WHOLE)) % len(data)
        match rng.randrange(5):
            case 0:
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                data[place] = rng.choice([0, 1, 2, 127, 128, 255])
            case 2:
                del data[place : place + rng.choice([1, 2, 4, 100])]
            case 3:
                data[place:place] = rng.randbytes(rng.choice([1, 2, 4, 100]))
            case 4:
                data[place : place + 4] = rng.choice([b"\xff" * 4, bytes(4), rng.randbytes(4)])
    return with_checksum(bytes(data)) if rng.random() < 0.8 else bytes(data)


@pytest.mark.very_slow
def test_mutated_files_end_in_one_error_in_bounded_memory():
    """Of a picture of 42 pixels; no file may claim more than 20 000 latents here."""
    rng = random.Random(0)
    told = [refusal(mutated(rng)) for _ in range(CASES)]
    told += [peak_of_refusal(mutated(rng)) for _ in range(CASES // 20)]
    assert all(re.fullmatch("cannot load photo.cfc: it [ -~]{5,120}", text) for text in told if text)
    assert len({text[:40] for text in told if text}) > 15
    assert None in told


def peak_of_refusal(data):
    """The same, watched: one byte too many fails."""
    tracemalloc.start()
    try:
        told = refusal(data)
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()
    return told


def refusal(data):
    """What is said of a file that cannot be used, or None; any other error passes."""
    try:
        decode(data, "photo.cfc", most_latents=20_000)
    except CompressedFileError as error:
        return str(error)
    return None


def test_a_file_cut_anywhere_is_refused():
    for end in range(len(WHOLE) - 4):
        for cut in (WHOLE[:end], with_checksum(WHOLE[:end] + bytes(4)) if end >= 10 else b""):
            with pytest.raises(CompressedFileError):
                decode(cut)


def test_a_file_that_is_too_long_is_refused():
    for longer, reason in [
        (WHOLE + bytes(2), "should have"),
        (with_checksum(WHOLE[:-4] + bytes(6)), "does not end as it must"),
    ]:
        with pytest.raises(CompressedFileError, match=reason):
            decode(longer)


def test_a_flipped_bit_is_found():
    for where in range(8 * len(WHOLE)):
        data = bytearray(WHOLE)
        data[where // 8] ^= 1 << where % 8
        with pytest.raises(CompressedFileError):
            decode(bytes(data))


CLAIMS = {
    "more than the limit of 33554432": (10, b"\xff" * 4),
    "a height of 0": (10, bytes(2)),
    "a number of levels of 17": (14, b"\x11"),
    "a number of channels of 9": (15, b"\x09"),
    "a step of inf": (16, struct.pack("<f", np.inf)),
    "format version 2.0": (4, b"\x02"),
    "is not a compressed picture": (0, b"\x89PNG"),
}


@pytest.mark.parametrize("message", CLAIMS)
def test_a_false_claim_is_told_before_anything_is_allocated(message):
    place, claim = CLAIMS[message]
    data = with_checksum(WHOLE[:place] + claim + WHOLE[place + len(claim) :])
    tracemalloc.start()
    try:
        with pytest.raises(CompressedFileError, match=message):
            decode(data)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_what_is_no_file_is_named(tmp_path):
    for name, make, reason in [
        ("missing", lambda path: None, "No such file"),
        ("folder", lambda path: path.mkdir(), "not a file"),
        ("pipe", os.mkfifo, "not a file"),
        ("empty", lambda path: path.touch(), "not a compressed picture"),
    ]:
        make(tmp_path / name)
        with pytest.raises(CoordfitError, match=f"cannot load .*{name}: .*{reason}"):
            load(tmp_path / name)
