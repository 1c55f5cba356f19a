"""Bias, activations, their derivatives, sums over rows and sums of buffers against NumPy in float64."""

import numpy as np
from coordfit.backends.cupy_backend.kernels import groups_of_rows
from coordfit.backends.lowering.cuda_text import cuda_activation
from simt import DTYPES, assert_close, decode, encode, wide
from support.cases import over

from coordfit.network.activations import make_activation

SHAPES = [(1, 1), (31, 3), (32, 32), (33, 31), (257, 65)]
OMEGA = 3.0
NAMES = ["identity", "relu", "tanh", "sigmoid", "sine"]


@over("name", NAMES)
@over(("rows", "width"), SHAPES)
def test_bias_and_activation(launch, memory, rng, case, name, rows, width):
    stored, K, own = case
    f = make_activation(name, omega=OMEGA)
    z = encode(rng.standard_normal((K, rows, width)), stored)
    bias = rng.standard_normal((K if own else 1, width)).astype(DTYPES[wide(stored)])
    z_put = memory.put(z)
    y = memory.room(z.shape, z.dtype) if f.saves_input else z_put
    launch(
        "bias_activation", (stored,), (2, K), z_put, rows * width, memory.put(bias),
        own * width, y, rows * width, rows, width, cuda_activation(f), block=64,
    )  # fmt: skip
    total = decode(z, stored) + bias[:, None, :].astype(float)
    assert_close(y, f.forward(np, total), stored)
    if f.saves_input:
        assert_close(z_put, total, stored)


@over("name", NAMES)
def test_an_activation_keeps_nan_and_infinity(launch, memory, stored, name):
    f = make_activation(name, omega=OMEGA)
    z = np.array([[np.nan, np.inf, -np.inf, 1.0]])
    z_put, bias = memory.put(encode(z, stored)), memory.put(np.zeros(4, DTYPES[wide(stored)]))
    arguments = (z_put, 0, bias, 0, z_put, 0, 1, 4, cuda_activation(f))
    launch("bias_activation", (stored,), (1, 1), *arguments)
    with np.errstate(invalid="ignore"):
        assert_close(z_put, np.atleast_2d(f.forward(np, z)), stored, 0.01)


@over("name", NAMES)
@over("target", ["dy", "saved", "new"])
@over(("rows", "width"), [(19, 13), (21, 16), (3, 900)])
def test_activation_backward(launch, memory, rng, stored, name, target, rows, width):
    """Whole chunks and others, more chunks than threads, tails of two rows at once; in place and beside."""
    K, blocks, count = 3, 2, rows * width
    f = make_activation(name, omega=OMEGA)
    dy, z = (encode(rng.standard_normal((K, rows, width)), stored) for _ in range(2))
    saved = z if f.saves_input else encode(f.forward(np, decode(z, stored)), stored)
    saved[:, 1, 5] = encode(np.nan, stored)
    dy[:, 2, 7] = encode(np.nan, stored)
    places = {"dy": memory.put(dy), "saved": memory.put(saved), "new": memory.room(dy.shape, dy.dtype)}
    dz, partials = places[target], memory.room((K, blocks, width), DTYPES[wide(stored)])
    parts, columns = 5, 37  # of the next layer, whose sums two more blocks add up
    others = rng.standard_normal((K, parts, columns)).astype(partials.dtype)
    sums = memory.put(np.ones((K, columns), partials.dtype))
    launch(
        "activation_backward", (stored,), (blocks + 2, K), places["dy"], count, places["saved"],
        count, dz, count, partials, blocks * width, rows, width, blocks,
        memory.put(others), parts * columns, sums, columns, parts, columns, 1, cuda_activation(f), block=96,
    )  # fmt: skip
    expected = f.backward(np, decode(dy, stored), decode(saved, stored))
    # ReLU's mask hides a NaN of dy where y is 0, as NumPy's does.
    assert_close(dz, expected, stored)
    assert_close(partials.sum(axis=1), expected.sum(axis=1), wide(stored))
    assert_close(sums, 1 + others.astype(float).sum(axis=1), wide(stored))


@over(("rows", "width"), [*SHAPES, (2, 100)])
@over("accumulate", [False, True])
def test_column_sums(launch, memory, rng, stored, rows, width, accumulate):
    K, block, blocks = 3, 32, 2
    x = encode(rng.standard_normal((K, rows, width)), stored)
    total = DTYPES[wide(stored)]
    partials = memory.room((K, blocks, width), total)
    arguments = (memory.put(x), rows * width, partials, blocks * width, rows, width)
    launch("column_sums", (stored,), (blocks, K), *arguments, block=block)
    db = memory.put(np.ones((K, width), total)) if accumulate else memory.room((K, width), total)
    arguments = (partials, blocks * width, db, width, blocks, width, int(accumulate), None, 0, 0.0, None)
    launch("sum_partials", (wide(stored),), (2, K), *arguments, block=block)
    expected = decode(x, stored).sum(axis=1) + accumulate
    assert_close(db, expected, wide(stored))


def test_a_nan_reaches_the_sum_of_its_column_alone(launch, memory):
    x = np.ones((33, 5), np.float32)
    x[30, 2] = np.nan
    partials, db = memory.room((2, 5), np.float32), memory.room((5,), np.float32)
    launch("column_sums", ("float",), (2, 1), memory.put(x), 0, partials, 0, 33, 5, block=32)
    launch("sum_partials", ("float",), (1, 1), partials, 0, db, 0, 2, 5, 0, None, 0, 0.0, None, block=32)
    np.testing.assert_array_equal(db, [33, 33, np.nan, 33, 33])


@over("stored", ["float", "double"])
@over(("K", "own"), [(1, 1), (3, 1), (3, 0)])
@over("count", [1, 31, 257])
def test_add(launch, memory, rng, stored, K, own, count):
    total = rng.standard_normal((K, count)).astype(DTYPES[stored])
    part = rng.standard_normal((K if own else 1, count)).astype(DTYPES[stored])
    put = memory.put(total)
    launch("add", (stored,), (2, K), put, count, memory.put(part), own * count, count, block=32)
    np.testing.assert_array_equal(put, total + part)


def test_rows_at_once_as_the_kernels_count_them():
    assert [groups_of_rows(width, 256) for width in (1, 3, 64, 129, 256, 257)] == [256, 85, 4, 1, 1, 1]
