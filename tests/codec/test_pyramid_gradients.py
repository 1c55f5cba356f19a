"""Gradients of a pyramid's training by hand, against finite differences and PyTorch."""

import functools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import latents_of, whole_matrix
from support import needs

from coordfit.codec import laws
from coordfit.codec.contexts import COARSER, NEIGHBOURS, Level, Scan
from coordfit.codec.pyramid.decoder_network import DecoderNetwork, decoder_shapes
from coordfit.codec.pyramid.laplace import laplace_bits
from coordfit.codec.pyramid.rate_model import RateModel, context_shapes
from coordfit.codec.pyramid.soft_rounding import noisy_round, soft_round

SIZE, CHANNELS = (13, 10), (1, 3, 0, 2, 1)
# What PyTorch compiles rounds tiny numbers to 0, from then on in the whole process, and Hypothesis minds.
floats = functools.partial(st.floats, allow_subnormal=False)


def shapes():
    return [level.shape for level in latents_of(*SIZE, CHANNELS)]


def latents(rng):
    return [rng.laplace(0, 1.5, shape) for shape in shapes()]


def weights_of(rng, sizes):
    weights = [rng.normal(size=size) / math.sqrt(size[1]) for size in sizes]
    return weights, [np.zeros(size) for size in sizes]


def slope(function, array, place, h=1e-5):
    """The derivative of a function of nothing by a number in an array."""
    kept = array[place]
    values = []
    for array[place] in (kept - h, kept + h):
        values.append(function())
    array[place] = kept
    return (values[1] - values[0]) / (2 * h)


def check(function, arrays, gradients, rng, places=12):
    for array, gradient in zip(arrays, gradients, strict=True):
        for flat in rng.integers(0, array.size, places if array.size else 0):
            place = np.unravel_index(flat, array.shape)
            assert gradient[place] == pytest.approx(slope(function, array, place), rel=1e-4, abs=1e-5)


@given(floats(-30, 30), floats(-30, 30), floats(-2.7, 3.9))
def test_bits_have_these_derivatives(y, mean, log_scale):
    at = np.array([y]), np.array([mean]), np.array([log_scale])
    bits, d_y, d_log_scale = laplace_bits(*at)

    def again():
        return laplace_bits(*at)[0]

    assert d_log_scale[0] == pytest.approx(slope(again, at[2], 0), rel=1e-4, abs=1e-5)
    if abs(abs(y - mean) - 0.5) > 1e-3 and abs(y - mean) > 1e-3:
        assert d_y[0] == pytest.approx(slope(again, at[0], 0), rel=1e-4, abs=1e-5)
        assert -d_y[0] == pytest.approx(slope(again, at[1], 0), rel=1e-4, abs=1e-5)
    assert 0 <= bits < 15.01


@pytest.mark.parametrize("scale", [0, 7, 16, 28, 39])
def test_bits_in_training_are_those_of_the_integer_laws(scale):
    radius = int(min(laws.radii()[scale], 9))
    log_scale = np.array([math.log(2 ** (scale / 4) / 16)])
    for fraction in (0, 5, 8):
        for value in range(-radius, radius + 1):
            symbol = value + laws.radii()[scale]
            expected = laws.law_tables().bits([symbol], [16 * scale + fraction])
            found = laplace_bits(np.array([float(value)]), np.array([(fraction - 8) / 16]), log_scale)[0]
            assert found == pytest.approx(expected, abs=0.05 if expected < 10 else 1.0)


@given(floats(-9, 9), st.sampled_from([0.1, 0.3, 1.0]))
def test_soft_rounding_is_between_a_value_and_its_integer(x, temperature):
    value, steep = soft_round(np.array([x]), temperature)
    assert min(x, round(x)) - 1e-6 <= value[0] <= max(x, round(x)) + 1e-6
    if abs(abs(x - round(x)) - 0.25) < 0.249:
        around = [soft_round(np.array([x + h]), temperature)[0][0] for h in (-1e-6, 1e-6)]
        assert steep[0] == pytest.approx((around[1] - around[0]) / 2e-6, rel=1e-3, abs=1e-6)


def test_noise_between_two_soft_roundings_has_this_slope():
    x = np.linspace(-2, 2, 40) + 1e-3
    found = [noisy_round(x + h, 0.3, np.random.default_rng(0)) for h in (-1e-6, 0, 1e-6)]
    np.testing.assert_allclose((found[2][0] - found[0][0]) / 2e-6, found[1][1], rtol=1e-4, atol=1e-4)
    assert abs(found[1][0] - x).max() < 1.5


def test_the_gradient_of_the_rate_is_that_of_finite_differences(monkeypatch):
    monkeypatch.setattr("coordfit.codec.pyramid.rate_model._BATCH", 60)
    rng = np.random.default_rng(0)
    weights, gradients = weights_of(rng, context_shapes(7))
    y = latents(rng)
    d_y = [np.zeros_like(level) for level in y]
    model = RateModel(shapes(), weights, gradients)
    model.add_gradient(y, d_y, 2.0)
    found = [gradient.copy() for gradient in gradients]

    def bits():
        return 2.0 * model.bits(y)

    check(bits, [*weights, *y], [*found, *d_y], rng)


def test_half_of_the_latents_estimate_the_gradient_of_all(monkeypatch):
    monkeypatch.setattr("coordfit.codec.pyramid.rate_model._BATCH", 60)
    rng = np.random.default_rng(0)
    weights, gradients = weights_of(rng, context_shapes(7))
    y = latents(rng)
    model = RateModel(shapes(), weights, gradients)
    d_all = [np.zeros_like(level) for level in y]
    bits = model.add_gradient(y, d_all, 1.0)
    d_weights = [gradient.copy() for gradient in gradients]
    d_mean = [np.zeros_like(level) for level in y]
    estimates = [model.add_gradient(y, d_mean, 1.0, [i]) for i in range(len(model.batches))]
    assert len(estimates) > 3
    assert np.mean(estimates) == pytest.approx(bits)
    for mean, whole in zip(d_mean, d_all, strict=True):
        np.testing.assert_allclose(mean / len(estimates), whole, atol=1e-12)
    for both, whole in zip(gradients, d_weights, strict=True):
        np.testing.assert_allclose((both - whole) / len(estimates), whole, atol=1e-12)


def test_training_sees_the_contexts_that_the_integer_network_sees():
    rng = np.random.default_rng(1)
    y = [np.rint(level) for level in latents(rng)]
    weights, gradients = weights_of(rng, context_shapes(3))
    model = RateModel(shapes(), weights, gradients)
    model.bits(y)
    for i, level in enumerate(y):
        if not level.size:
            continue
        coarser = y[i + 1] if i + 1 < len(y) else np.zeros((0, 1, 1))
        scan = Scan(Level(i, level.shape), coarser)
        scan.show(slice(None), level.ravel()[scan.order])
        seen = np.array([view.ravel() for view in model._canvases[i].views])
        expected = scan.contexts(slice(None))[:, : len(NEIGHBOURS) + len(COARSER)]
        assert np.array_equal(seen.T[scan.order], expected)


def test_the_gradient_of_the_squared_error_is_that_of_finite_differences(monkeypatch):
    monkeypatch.setattr("coordfit.codec.pyramid.decoder_network._PIXELS", 40)
    rng = np.random.default_rng(0)
    weights, gradients = weights_of(rng, decoder_shapes(sum(CHANNELS), 6, 3))
    y, target = latents(rng), rng.normal(size=(3, *SIZE))
    d_y = [np.zeros_like(level) for level in y]
    decoder = DecoderNetwork(shapes(), SIZE, weights, gradients)
    decoder.squared_error(y, target, d_y)

    def half_error():
        return float(np.square(decoder.forward(y) - target).sum()) / 2

    check(half_error, [*weights, *y], [*gradients, *d_y], rng)


def test_pytorch_finds_the_same_gradients():
    torch = needs.library("torch")
    rng = np.random.default_rng(3)
    context, d_context = weights_of(rng, context_shapes(7))
    decoding, d_decoding = weights_of(rng, decoder_shapes(sum(CHANNELS), 6, 3))
    y, target = latents(rng), rng.normal(size=(3, *SIZE))
    d_y = [np.zeros_like(level) for level in y]
    DecoderNetwork(shapes(), SIZE, decoding, d_decoding).squared_error(y, target, d_y)
    bits = RateModel(shapes(), context, d_context).add_gradient(y, d_y, 0.7)
    leaves = [torch.tensor(a, requires_grad=True) for a in (*y, *decoding, *context)]
    error, expected = torch_objective(torch, leaves[: len(y)], leaves[len(y) :], torch.tensor(target))
    (error + 0.7 * expected).backward()
    assert bits == pytest.approx(expected.item())
    for gradient, leaf in zip([*d_y, *d_decoding, *d_context], leaves, strict=True):
        np.testing.assert_allclose(
            gradient, torch.zeros_like(leaf) if leaf.grad is None else leaf.grad, atol=1e-9
        )


def torch_objective(torch, y, weights, target):
    """Half the squared error, and the bits, as PyTorch has them."""
    first, last, *context = weights
    features = []
    for i, level in enumerate(y):
        a_y, a_x = (torch.tensor(whole_matrix(n, 1 << i)) for n in SIZE)
        features.append(a_y @ level @ a_x.T)
    x = torch.cat(features).reshape(-1, target[0].numel())
    z = first @ torch.cat([x, torch.ones_like(x[:1])])
    out = z[6:] + last @ torch.relu(z[:6])
    error = (out.reshape(target.shape) - target).square().sum() / 2
    bits = 0.0
    for i, level in enumerate(y):
        for c in range(level.shape[0]):
            coarser = y[i + 1][c] if i + 1 < len(y) and c < y[i + 1].shape[0] else torch.zeros(9, 9).double()
            bits = bits + torch_bits(torch, level[c], coarser, context, (i, c))
    return error, bits


def torch_bits(torch, values, coarser, weights, place):
    height, width = values.shape
    own = torch.nn.functional.pad(values, (3, 3, 3, 0))
    above = torch.nn.functional.pad(coarser, (1, 1, 1, 1)).repeat_interleave(2, 0).repeat_interleave(2, 1)
    rows = [own[3 + dy : 3 + dy + height, 3 + dx : 3 + dx + width] for dy, dx in NEIGHBOURS]
    rows += [above[2 + 2 * dy : 2 + 2 * dy + height, 2 + 2 * dx : 2 + 2 * dx + width] for dy, dx in COARSER]
    rows += [torch.full((height, width), float(n)).double() for n in place]
    x = torch.stack(rows).reshape(len(rows), -1)
    for i, w in enumerate(weights):
        x = torch.relu(x) if i else x
        x = w @ torch.cat([x, torch.ones_like(x[:1])])
    d = (values.reshape(-1) - x[0]).abs()
    b = torch.exp(x[1].clamp(math.log(1 / 16), math.log(1 / 16) + 39 / 4 * math.log(2)))

    def below(t):
        return 0.5 - 0.5 * torch.sign(t) * torch.expm1(-t.abs() / b)

    return -torch.log2(below(d + 0.5) - below(d - 0.5) + 2.0**-15).sum()
