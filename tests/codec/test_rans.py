"""Interleaved rANS: against a decoder of one symbol at a time, its cost, and streams that end too early."""

import numpy as np
import pytest
import slow_decoder
from hypothesis import given, settings
from hypothesis import strategies as st

from coordfit.codec.law_tables import SLOTS, DamagedError, LawTables
from coordfit.codec.rans import Decoder, Encoder, lane_count

EVEN, SURE, RARE = [0, SLOTS // 2, SLOTS], [0, 1, SLOTS - 1, SLOTS], [0, SLOTS - 1, SLOTS]
WIDE = [*range(0, 255 * 128, 128), SLOTS]
LAWS = [EVEN, SURE, RARE, WIDE]
TABLES = LawTables.of(LAWS)


@st.composite
def groups(draw):
    laws = draw(st.lists(st.lists(st.integers(0, len(LAWS) - 1), max_size=40), max_size=6))
    return [([draw(st.integers(0, len(LAWS[law]) - 2)) for law in group], group) for group in laws]


def encoded(groups, lanes, tables=TABLES, compiled=False):
    encoder = Encoder(tables)
    for symbols, laws in groups:
        encoder.put(symbols, laws)
    return encoder.finish(lanes, compiled)


def decoded(data, groups, lanes, compiled=False):
    decoder = Decoder(data, TABLES, lanes, compiled)
    symbols = [decoder.take(laws).tolist() for _, laws in groups]
    decoder.finish()
    return symbols


@given(groups(), st.sampled_from([1, 2, 8, 64]))
def test_two_decoders_find_the_symbols_that_were_encoded(groups, lanes):
    data = encoded(groups, lanes)
    expected = [symbols for symbols, _ in groups]
    assert decoded(data, groups, lanes) == expected
    stream = slow_decoder.Stream(data, lanes)
    assert [stream.group([LAWS[law] for law in laws]) for _, laws in groups] == expected
    assert not stream.words
    assert set(stream.states) == {1 << 16}


@settings(deadline=None, max_examples=30)
@given(groups(), st.sampled_from([1, 8]))
def test_numba_writes_the_same_bytes_and_reads_them(groups, lanes):
    pytest.importorskip("numba")
    data = encoded(groups, lanes, compiled=True)
    assert data == encoded(groups, lanes)
    assert decoded(data, groups, lanes, compiled=True) == [symbols for symbols, _ in groups]


@pytest.mark.parametrize("lanes", [1, 64])
def test_a_stream_costs_little_more_than_the_entropy_of_its_laws(lanes):
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.full(40, 0.3), 50)
    bounds = [
        np.append(np.arange(40) + np.floor(np.cumsum([0, *w[:-1]]) * (SLOTS - 40)), SLOTS) for w in weights
    ]
    tables = LawTables.of(bounds)
    laws = rng.integers(0, 50, 100_000)
    slots = rng.integers(0, SLOTS, laws.size)
    symbols = tables.symbol_of_slot[(laws << 15) + slots]  # each with its probability
    size = 8 * len(encoded([(symbols, laws)], lanes, tables))
    entropy = tables.bits(symbols, laws)
    assert entropy < size < 1.003 * entropy + 32 * lanes


def test_a_stream_is_the_same_whatever_the_memory_of_its_symbols():
    symbols, laws = np.tile([0, 1, 1, 0], 20), np.zeros(80, np.int64)
    strided = np.repeat(symbols, 3).astype(">i2")[::3]
    assert encoded([(strided, laws.astype(np.uint8))], 8) == encoded([(symbols, laws)], 8)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_stream_that_is_cut_or_changed_is_refused(compiled):
    if compiled:
        pytest.importorskip("numba")
    rng = np.random.default_rng(1)
    groups = [(rng.integers(0, 2, 30), np.zeros(30, np.int64)) for _ in range(9)]
    data = encoded(groups, 4)
    for end in range(len(data)):
        with pytest.raises(DamagedError, match="ends too early"):
            decoded(data[:end], groups, 4, compiled)
    with pytest.raises(DamagedError, match="does not end as it must"):
        decoded(data + bytes(2), groups, 4, compiled)
    with pytest.raises(DamagedError, match="impossible state"):
        decoded(bytes(4) + data[4:], groups, 4, compiled)


def test_a_lane_that_still_holds_a_symbol_is_refused():
    decoder = Decoder(encoded([([1], [0])], 1), TABLES, 1)
    with pytest.raises(DamagedError, match="does not end as it must"):
        decoder.finish()


@pytest.mark.parametrize("law", [[0, SLOTS], [0, 5, 5, SLOTS], [1, 5, SLOTS], [0, 5, SLOTS - 1], range(SLOTS)])
def test_impossible_laws_are_refused(law):
    with pytest.raises(ValueError, match="2 to 256 frequencies"):
        LawTables.of([law])


@pytest.mark.parametrize("symbol", [-1, 2])
def test_a_symbol_outside_its_law_is_refused(symbol):
    with pytest.raises(ValueError, match="outside"):
        Encoder(TABLES).put([symbol], [0])


def test_lanes_follow_from_the_number_of_symbols():
    assert [lane_count(n) for n in (0, 1, 16383, 16384, 786336, 10**8)] == [1, 1, 1, 2, 64, 1024]
