"""The context network in integers: exact, near the float one, and never ahead of what is decoded."""

import itertools

import numpy as np
import pytest
import slow_decoder
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import float_network, latents_of, network

from coordfit.codec import contexts, laws
from coordfit.codec.contexts import COARSER, INPUTS, NEIGHBOURS, SKEW, ContextNetwork, Layer, Level, Scan
from coordfit.codec.law_tables import DamagedError
from coordfit.codec.rans import Decoder, Encoder


def test_every_neighbour_belongs_to_a_step_before():
    assert all(dx + SKEW * dy < 0 for dy, dx in NEIGHBOURS)


sizes = st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12))


@settings(deadline=None)
@given(sizes, st.integers(0, 3))
def test_contexts_are_those_of_the_definition(shape, coarse_channels):
    rng = np.random.default_rng(0)
    values = rng.integers(-400, 400, shape)
    coarser = rng.integers(-400, 400, (coarse_channels, -(-shape[1] // 2), -(-shape[2] // 2)))

    def seen(array, c, y, x):
        inside = c < array.shape[0] and 0 <= y < array.shape[1] and 0 <= x < array.shape[2]
        return min(max(array[c, y, x], -255), 255) if inside else 0

    scan = Scan(Level(5, shape), coarser)
    scan.show(slice(None), values.ravel()[scan.order])
    found = scan.contexts(slice(None))
    places = [np.unravel_index(i, shape) for i in scan.order]
    for (c, y, x), context in zip(places, found, strict=True):
        own = [seen(values, c, y + dy, x + dx) for dy, dx in NEIGHBOURS]
        above = [seen(coarser, c, y // 2 + dy, x // 2 + dx) for dy, dx in COARSER]
        assert context.tolist() == [*own, *above, 5, c]
    steps = [x + SKEW * y for _, y, x in places]
    assert sorted(zip(steps, scan.order.tolist(), strict=True)) == [
        *zip(steps, scan.order.tolist(), strict=True)
    ]
    parts = [steps[part] for part in scan.steps()]
    assert [*itertools.chain(*parts)] == steps
    assert all(len(set(part)) <= 1 for part in parts)


@st.composite
def integer_networks(draw):
    units = [INPUTS, *draw(st.lists(st.integers(1, 32), max_size=2)), 2]
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    extreme = draw(st.booleans())
    layers = []
    for pair in itertools.pairwise(units):
        weights, biases = rng.integers(-1023, 1024, pair), rng.integers(-(2**28), 2**28 + 1, pair[1])
        if extreme:
            weights, biases = np.full(pair, rng.choice([-1023, 1023])), np.full(pair[1], 2**28)
        layers.append(Layer(weights, biases, draw(st.integers(1, 24))))
    return ContextNetwork(layers)


@settings(deadline=None)
@given(integer_networks())
def test_float64_products_are_exact_integers(network):
    rng = np.random.default_rng(0)
    inputs = rng.choice([-255, -1, 0, 1, 255], (600, INPUTS))
    layers = [(layer.weights.ravel().tolist(), layer.biases.tolist(), layer.shift) for layer in network.layers]
    means, scales = network.laws(inputs.astype(np.float64))
    some = [0, 1, 2, 510, 511, 512, 513, 599]
    expected = [slow_decoder.run(layers, row) for row in inputs[some].tolist()]
    assert [*zip(means[some].tolist(), scales[some].tolist(), strict=True)] == expected


@pytest.mark.parametrize("bits", [8, 9, 11])
def test_integer_laws_are_near_those_of_the_float_network(bits):
    weights, biases = float_network(3)
    inputs = np.rint(np.random.default_rng(0).laplace(0, 2, (5000, INPUTS)))
    y = inputs
    for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
        y = (np.maximum(y, 0) if i else y) @ w + b
    means, scales = contexts.quantise(weights, biases, bits).laws(inputs.copy())
    wrong = (
        np.abs(means / 16 - y[:, 0]).mean(),
        np.abs(scales / 4 - np.clip(4 + y[:, 1] / np.log(2), 0, 9.75)).mean(),
    )
    rounding = 1 / 64, 1 / 16  # the mean error of numbers that are rounded to sixteenths and to quarters
    assert wrong[0] < rounding[0] + 2.0 ** (3 - bits)
    assert wrong[1] < rounding[1] + 2.0 ** (4 - bits)


@pytest.mark.parametrize("size", [1e-12, 0.0, 1e-3, 1.0, 30.0, 1e4])
def test_weights_of_any_size_become_a_network(size):
    weights, biases = float_network()
    made = contexts.quantise([w * size for w in weights], [b * size for b in biases])
    means, scales = made.laws(np.full((3, INPUTS), -255.0))
    assert np.isin(scales, range(laws.SCALES)).all()
    assert (np.abs(means) <= 32767).all()


@settings(deadline=None)
@given(sizes, st.sampled_from([0.2, 2.0, 400.0]))
def test_a_level_comes_back(shape, spread):
    values = latents_of(shape[1], shape[2], [shape[0]], spread)[0]
    coarser = latents_of(-(-shape[1] // 2), -(-shape[2] // 2), [2], spread, seed=1)[0]
    encoder = Encoder(laws.law_tables())
    contexts.put_level(encoder, network(), Level(0, shape), values, coarser)
    decoder = Decoder(encoder.finish(1), laws.law_tables(), 1)
    assert np.array_equal(contexts.take_level(decoder, network(), Level(0, shape), coarser), values)
    decoder.finish()


def test_contexts_save_bits():
    """A picture whose neighbours tell its values takes fewer bits with the network that knows it."""
    rng = np.random.default_rng(0)
    values = np.rint(rng.laplace(0, 1, (1, 40, 40)).cumsum(1).cumsum(2) / 9).astype(int)
    blind = contexts.quantise(*([array * 0 for array in arrays] for arrays in float_network()))
    sizes = []
    for net in (network(spread=0.0), blind):
        encoder = Encoder(laws.law_tables())
        contexts.put_level(encoder, net, Level(0, values.shape), values, np.zeros((0, 20, 20), int))
        sizes.append(len(encoder.finish(1)))
    assert sizes[0] < 0.7 * sizes[1]


BAD_LAYERS = {
    "a weight is beyond 1023": lambda: Layer(np.full((2, 2), 1024), np.zeros(2, int), 1),
    "a bias beyond": lambda: Layer(np.zeros((2, 2), int), np.full(2, -(2**28) - 1), 1),
    "shift is 1 to 24": lambda: Layer(np.zeros((2, 2), int), np.zeros(2, int), 0),
    "1 to 32 inputs": lambda: Layer(np.zeros((33, 2), int), np.zeros(2, int), 1),
    "23 inputs": lambda: ContextNetwork([Layer(np.zeros((2, 2), int), np.zeros(2, int), 1)]),
    "does not fit": lambda: ContextNetwork(
        [Layer(np.zeros((a, b), int), np.zeros(b, int), 1) for a, b in [(INPUTS, 3), (4, 2)]]
    ),
}


@pytest.mark.parametrize("message", BAD_LAYERS)
def test_impossible_layers_are_refused(message):
    with pytest.raises(ValueError, match=message):
        BAD_LAYERS[message]()


def test_the_float_network_comes_back_from_the_integers():
    weights, biases = float_network(3)
    found = contexts.weights_of(contexts.quantise(weights, biases, 11))
    for w, b, both in zip(weights, biases, found, strict=True):
        np.testing.assert_allclose(both, np.column_stack([w.T, b]), atol=0.004)


@settings(deadline=None, max_examples=40)
@given(integer_networks(), sizes, st.sampled_from([1, 3, 3000]), st.sampled_from([1, 4]))
def test_numba_decodes_the_same_levels_and_ends_at_the_same_word(network, shape, spread, lanes):
    pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    coarser = rng.integers(-400, 400, (2, -(-shape[1] // 2), -(-shape[2] // 2)))
    values = np.rint(rng.laplace(0, spread, shape)).astype(np.int64)  # a spread of 3000 is beyond most laws
    encoder = Encoder(laws.law_tables())
    contexts.put_level(encoder, network, Level(1, shape), values, coarser)
    data = encoder.finish(lanes)
    for compiled in (False, True):
        decoder = Decoder(data, laws.law_tables(), lanes, compiled)
        found = contexts.take_level(decoder, network, Level(1, shape), coarser)
        decoder.finish()
        assert found.dtype == np.int32
        assert np.array_equal(found, values)


def test_numba_clips_what_a_context_sees_of_values_without_escapes():
    pytest.importorskip("numba")
    weights = np.zeros((INPUTS, 2), int)
    weights[0, 0] = 32  # the mean is the neighbour on the left, and 45
    network = ContextNetwork([Layer(weights, np.array([45 * 32, 40]), 1)])
    level, none = Level(0, (1, 30, 30)), np.zeros((0, 15, 15), int)
    values = np.random.default_rng(0).integers(295, 306, level.shape)  # 255 is seen of them
    encoder = Encoder(laws.law_tables())
    contexts.put_level(encoder, network, level, values, none)
    decoder = Decoder(encoder.finish(1), laws.law_tables(), 1, True)
    assert np.array_equal(contexts.take_level(decoder, network, level, none), values)


def test_numba_refuses_a_level_that_ends_too_early():
    pytest.importorskip("numba")
    level, none = Level(0, (1, 40, 40)), np.zeros((0, 20, 20), int)
    encoder = Encoder(laws.law_tables())
    contexts.put_level(encoder, network(), level, latents_of(40, 40, [1], spread=9.0)[0], none)
    data = encoder.finish(1)
    for end in (4, len(data) // 2 & ~1, len(data) - 2):
        with pytest.raises(DamagedError, match="ends too early"):
            contexts.take_level(Decoder(data[:end], laws.law_tables(), 1, True), network(), level, none)
