"""Laplace laws in integers: the same on every machine, near the law they stand for, and values of any size."""

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
import slow_decoder
from hypothesis import given, settings
from hypothesis import strategies as st

from coordfit.codec import laws
from coordfit.codec.contexts import NEIGHBOURS
from coordfit.codec.law_tables import SLOTS, DamagedError
from coordfit.codec.rans import Decoder, Encoder

EVERY_LAW = [(k, fraction) for k in range(laws.SCALES) for fraction in range(laws.FRACTIONS)]


def test_the_laws_are_those_of_rational_arithmetic():
    for k, fraction in EVERY_LAW:
        assert laws.bounds(k, fraction).tolist() == slow_decoder.law(k, fraction)


def test_no_exponential_is_near_a_tie_so_that_its_last_bits_do_not_matter():
    for k, factor in enumerate(laws.decay_factors()):
        exact = 2**32 * math.exp(-(2 ** (-k / 4)))  # wrong by 2^-20 at most
        assert abs(exact - factor) < 0.5 - 2**-18


def test_the_tables_are_these():
    tables = laws.law_tables()
    arrays = tables.start.astype("<u4"), tables.frequency.astype("<u4"), tables.symbol_of_slot
    digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
    assert digest == "d7da3f273f18e7969a637d231482c3e4ca0931a61807d90d09157f935b18e22f"


def test_the_page_of_the_format_has_these_numbers():
    page = Path(__file__).parents[2] / "docs" / "reference" / "codec_format.md"
    if not page.exists():
        pytest.skip("the pages are not in a source distribution")
    text, factors = page.read_text(encoding="utf-8"), laws.decay_factors()
    assert f"begin `{factors[0]}, {factors[1]}, {factors[2]}` and end `{factors[-1]}`" in text
    assert f"has the bounds `{', '.join(map(str, laws.bounds(0, 8)))}`" in text
    assert ", ".join(map(str, NEIGHBOURS)) in text


def test_every_symbol_has_a_slot_and_nearly_its_mass():
    for k, fraction in EVERY_LAW:
        frequency = np.diff(laws.bounds(k, fraction))
        b, mean, radius = 2 ** (k / 4) / 16, (fraction - 8) / 16, laws.radii()[k]
        edges = np.arange(-radius, radius + 2) - 0.5 - mean
        below = np.where(edges < 0, np.exp(-abs(edges) / b) / 2, 1 - np.exp(-abs(edges) / b) / 2)
        masses = np.append(np.diff(below), below[0] + 1 - below[-1])
        assert frequency.sum() == SLOTS
        assert frequency.min() >= 1
        assert abs(frequency / SLOTS - masses).max() < frequency.size * masses.max() / SLOTS + 1.1 / SLOTS


@st.composite
def value_groups(draw):
    numbers = st.one_of(st.integers(-3, 3), st.integers(-300, 300), st.integers(-(2**24) + 1, 2**24 - 1))
    means = st.one_of(st.integers(-40, 40), st.integers(-32767, 32767))
    triple = st.tuples(numbers, means, st.integers(0, laws.SCALES - 1))
    return draw(st.lists(st.lists(triple, max_size=12), max_size=4))


@settings(deadline=None)
@given(value_groups())
def test_values_of_any_size_come_back_from_two_decoders(groups):
    groups = [np.array(group, np.int64).reshape(-1, 3).T for group in groups]
    encoder = Encoder(laws.law_tables())
    for values, means, scales in groups:
        laws.put_values(encoder, values, means, scales)
    data = encoder.finish(2)
    decoder, stream = Decoder(data, laws.law_tables(), 2), slow_decoder.Stream(data, 2)
    for values, means, scales in groups:
        assert laws.take_values(decoder, means, scales).tolist() == values.tolist()
        assert stream.values(means.tolist(), scales.tolist()) == values.tolist()
    decoder.finish()


def test_a_value_beyond_all_bounds_is_refused():
    one = np.ones(1, np.int64)
    with pytest.raises(ValueError, match="beyond 16777215"):
        laws.put_values(Encoder(laws.law_tables()), one << 24, 0 * one, 0 * one)
    encoder = Encoder(laws.law_tables())
    encoder.put([3], [0])  # an escape
    for _ in range(40):
        laws._put_bits(encoder, one)
    with pytest.raises(DamagedError, match="beyond all bounds"):
        laws.take_values(Decoder(encoder.finish(1), laws.law_tables(), 1), 0 * one, 0 * one)


def test_the_best_scale_is_that_of_the_values():
    rng = np.random.default_rng(0)
    for b in (0.25, 1.0, 8.0):
        values = np.rint(rng.laplace(0, b, 4000)).astype(np.int64)
        assert abs(laws.best_scale(values) - 4 * np.log2(16 * b)) < 2
    assert laws.best_scale(np.zeros(5, np.int64)) == 0
