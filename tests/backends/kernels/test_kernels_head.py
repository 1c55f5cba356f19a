"""The output layer: forward, loss and backward in one kernel, against NumPy in float64."""

import numpy as np
from coordfit.backends.cupy_backend.kernels import CHUNK
from coordfit.backends.lowering.cuda_text import cuda_activation, cuda_loss
from coordfit.backends.numpy_backend.backend import NumpyBackend
from simt import DTYPES, assert_close, decode, encode, wide
from support.cases import over

from coordfit.network.activations import make_activation
from coordfit.network.losses import make_loss

NUMPY = NumpyBackend(fused="never", threads=1)
RELU = make_activation("relu")
OMEGA, DELTA, BLOCK = 2.0, 0.3, 64
# dh is summed before it is rounded.
SUMS = {
    "double": {"rtol": 1e-12, "atol": 1e-14},
    "float": {"rtol": 1e-5, "atol": 1e-7},
    "bf16": {"rtol": 0.02, "atol": 0.02},
    "half": {"rtol": 0.02, "atol": 0.02},
}
# (rows, hidden, C): tails of a block of rows and of a chunk of columns; teams of 4 to 32; two chunks each.
SHAPES = [(1, 1, 1), (31, 31, 2), (32, 64, 3), (33, 33, 4), (40, 100, 3), (9, 256, 1), (7, 260, 3)]


def layer(rng, stored, K, own, rows, hidden, channels):
    """Return h after a ReLU, W, b, target and weights."""
    dtype, shared = DTYPES[wide(stored)], K if own else 1
    h = encode(np.maximum(rng.standard_normal((K, rows, hidden)), 0), stored)
    W = (rng.standard_normal((K, hidden, channels)) / np.sqrt(hidden)).astype(dtype)
    b = rng.standard_normal((K, 1, channels)).astype(dtype)
    target = rng.random((shared, rows, channels)).astype(dtype)
    weights = rng.random((shared, rows, 1)).astype(dtype)
    return h, W, b, target, weights


def step(launch, memory, stored, arrays, activation, loss, *, own=1, weighted=True, blocks=2, y=None):
    """Return dW, db, value and dh of one launch and the second stage."""
    h, W, b, target, weights = (memory.put(array) for array in arrays)
    K, rows, hidden = h.shape
    channels, dtype = W.shape[-1], W.dtype
    bias_offset = -(-hidden * channels // 64) * 64  # as the flat buffer of parameters has it
    width = bias_offset + channels
    dh, sums = memory.room(h.shape, h.dtype), memory.room((K, blocks, hidden), dtype)
    partials, values = memory.room((K, blocks, width), dtype), memory.room((K, blocks), np.float64)
    size, chunks = rows * channels, 1 if hidden <= 32 * CHUNK else 2
    team = next(team for team in (4, 8, 16, 32) if team * chunks * CHUNK >= hidden)
    launch(
        "head_step", (stored, str(channels), str(chunks)), (blocks, K),
        h, rows * hidden, W, hidden * channels, b, channels,
        target, own * size, weights if weighted else None, own * rows, y, size, None, 0, dh, rows * hidden,
        partials, blocks * width, sums, blocks * hidden, bias_offset, values, blocks, rows, hidden, team,
        cuda_activation(make_activation(activation, omega=OMEGA)), cuda_loss(make_loss(loss, delta=DELTA)),
        cuda_activation(RELU), 1 / size, block=BLOCK,
    )  # fmt: skip
    gradient, value = memory.room((K, width), dtype), memory.room((K,), dtype)
    arguments = (partials, blocks * width, gradient, width, blocks, width, 0, values, blocks, 1 / size, value)
    launch("sum_partials", (wide(stored),), (3, K), *arguments, block=BLOCK)
    np.testing.assert_allclose(sums.sum(axis=1), decode(dh, stored).sum(axis=1), **SUMS[stored])
    gap = gradient[:, hidden * channels : bias_offset]
    np.testing.assert_array_equal(gap, np.zeros_like(gap))
    dW = np.ascontiguousarray(gradient[:, : hidden * channels]).reshape(W.shape)
    return dW, np.ascontiguousarray(gradient[:, None, bias_offset:]), value, dh


def oracle(stored, arrays, activation, loss, *, weighted=True):
    h, *others = arrays
    h, (W, b, target, weights) = decode(h, stored), (array.astype(float) for array in others)
    f = make_activation(activation, omega=OMEGA)
    y, saved = NUMPY.linear(h, W, b, f)
    value, dy = NUMPY.loss_and_gradient(
        make_loss(loss, delta=DELTA), y, target, divisor=y[0].size, weights=weights if weighted else None
    )
    dW, db = np.zeros_like(W), np.zeros_like(b)
    dz = NUMPY.activation_backward(f, dy, saved)
    dh = NUMPY.linear_backward(dz, h, W, dW=dW, db=db, previous=(RELU, h))
    return y, (dW, db, value, dh)


def check(found, expected, stored):
    for one, other, kind in zip(found, expected, [*[wide(stored)] * 3, stored], strict=True):
        assert_close(one, other, kind)


@over("shape", SHAPES)
def test_a_step_of_the_head(launch, memory, rng, case, shape):
    stored, K, own = case
    rows, hidden, channels = shape
    hidden = min(hidden, 256) if stored == "double" else hidden  # a thread has registers for one chunk of them
    arrays = layer(rng, stored, K, own, rows, hidden, channels)
    y = memory.room((K, rows, channels), DTYPES[wide(stored)])
    expected_y, expected = oracle(stored, arrays, "sigmoid", "mse")
    check(step(launch, memory, stored, arrays, "sigmoid", "mse", own=own, y=y), expected, stored)
    assert_close(y, expected_y, wide(stored))


@over("activation", ["identity", "relu", "tanh", "sigmoid", "sine"])
@over("loss", ["mse", "mae", "huber"])
@over("weighted", [False, True])
def test_every_activation_and_loss(launch, memory, rng, activation, loss, weighted):
    arrays = layer(rng, "double", 1, 1, 33, 17, 3)
    _, expected = oracle("double", arrays, activation, loss, weighted=weighted)
    found = step(launch, memory, "double", arrays, activation, loss, weighted=weighted, blocks=1)
    check(found, expected, "double")


def test_blocks_without_rows_leave_zeros(launch, memory, rng):
    arrays = layer(rng, "float", 1, 1, 3, 40, 3)
    _, expected = oracle("float", arrays, "sigmoid", "mse")
    check(step(launch, memory, "float", arrays, "sigmoid", "mse", blocks=4), expected, "float")


def test_a_nan_reaches_every_gradient_of_its_row(launch, memory, rng):
    arrays = layer(rng, "float", 1, 1, 5, 8, 3)
    arrays[0][0, 2, 3] = np.nan
    dW, db, value, dh = step(launch, memory, "float", arrays, "sigmoid", "huber", blocks=1)
    assert np.isnan(value).all()
    assert np.isnan(db).all()
    assert np.isnan(dW).all()
    positive = arrays[0][0, 2] > 0
    assert np.isnan(dh[0, 2][positive]).all()
    assert np.isfinite(np.delete(dh[0], 2, axis=0)).all()
