"""The 16-bit types: rounding to nearest, ties to even, at every edge that they have."""

import numpy as np
import pytest
from simt import DTYPES, decode, encode


def every_word():
    return np.arange(2**16, dtype=np.uint16)


def edges():
    """Return float32 numbers at, just below and just above every number and tie of both 16-bit types."""
    with np.errstate(invalid="ignore"):
        halves = every_word().view(np.float16).astype(np.float32)
    words = [halves.view(np.uint32), every_word().astype(np.uint32) << 16]
    offsets = [-1, 0, 1, 0xFFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0x8001]
    found = np.concatenate([(word + np.uint32(o % 2**32)) for word in words for o in offsets])
    subnormal = np.ldexp(np.arange(-4100, 4100, dtype=np.float32), -26)  # half's ties below its normal numbers
    return np.concatenate([found.view(np.float32), subnormal.astype(np.float32)])


def cast(launch, memory, array, source, target):
    out = memory.room(array.shape, DTYPES[target])
    launch("cast", (source, target), (7, 1), memory.put(array), 0, out, 0, array.size)
    return out


@pytest.mark.parametrize("target", ["bf16", "half"])
def test_rounding_is_to_nearest_with_ties_to_even(launch, memory, target):
    numbers = edges()
    expected = encode(numbers, target)
    found = cast(launch, memory, numbers, "float", target)
    is_nan = np.isnan(numbers)
    assert np.isnan(decode(found[is_nan], target)).all()
    np.testing.assert_array_equal(found.view(np.uint16)[~is_nan], expected.view(np.uint16)[~is_nan])


@pytest.mark.parametrize("source", ["bf16", "half"])
def test_every_number_widens_to_itself(launch, memory, source):
    words = every_word().view(DTYPES[source])
    with np.errstate(invalid="ignore"):
        expected = decode(words, source).astype(np.float32)
    np.testing.assert_array_equal(cast(launch, memory, words, source, "float"), expected)


def test_bf16_agrees_with_ml_dtypes(launch, memory):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    numbers = edges()[~np.isnan(edges())]
    with np.errstate(over="ignore"):
        expected = numbers.astype(ml_dtypes.bfloat16).view(np.uint16)
    np.testing.assert_array_equal(cast(launch, memory, numbers, "float", "bf16"), expected)


@pytest.mark.parametrize("K", [1, 3])
def test_members_are_cast_each_from_its_own_place(launch, memory, rng, K):
    array = rng.standard_normal((K, 40)).astype(np.float32)  # 33 of 40 numbers of each member
    out = memory.room((K, 37), np.float16)
    launch("cast", ("float", "half"), (2, K), memory.put(array), 40, out, 37, 33, block=32)
    np.testing.assert_array_equal(out[:, :33], array[:, :33].astype(np.float16))
    assert np.isnan(out[:, 33:]).all()
