"""Loss and gradient, and the second stage of sums, against NumPy in float64."""

import numpy as np
from coordfit.backends.cupy_backend.bodies.sums import NO_COLUMNS
from coordfit.backends.lowering.cuda_text import cuda_loss
from coordfit.backends.numpy_backend.backend import NumpyBackend
from simt import DTYPES, assert_close, decode, encode, wide
from support.cases import over

from coordfit.network.losses import make_loss

NUMPY = NumpyBackend(fused="never", threads=1)
DELTA = 0.5
NAMES = ["mse", "mae", "huber"]


@over("name", NAMES)
@over(("rows", "channels"), [(1, 1), (31, 3), (32, 4), (257, 3)])
@over("weighted", [False, True])
def test_loss_and_gradient(launch, memory, rng, case, name, rows, channels, weighted):
    stored, K, own = case
    shared, size, blocks = K if own else 1, rows * channels, 2
    prediction = encode(rng.standard_normal((K, rows, channels)), stored)
    target = rng.standard_normal((shared, rows, channels)).astype(DTYPES[wide(stored)])
    weights = rng.random((shared, rows, 1)).astype(DTYPES[wide(stored)])
    dy = memory.room(prediction.shape, prediction.dtype)
    partials, value = memory.room((K, blocks), np.float64), memory.room((K,), np.float64)
    scale = 128.0
    launch(
        "loss_and_gradient", (stored,), (blocks, K), memory.put(prediction), size,
        memory.put(target), own * size, memory.put(weights) if weighted else None, own * rows, dy, size,
        partials, blocks, rows, channels, scale / size,
        cuda_loss(make_loss(name, delta=DELTA)), block=32,
    )  # fmt: skip
    launch("sum_partials", ("double",), (1, K), *NO_COLUMNS, partials, blocks, 1 / size, value, block=32)
    expected_value, expected_dy = NUMPY.loss_and_gradient(
        make_loss(name, delta=DELTA),
        decode(prediction, stored),
        target.astype(float),
        divisor=size,
        weights=weights.astype(float) if weighted else None,
    )
    assert_close(value, expected_value, wide(stored))
    assert_close(dy, scale * expected_dy, stored)


@over("name", NAMES)
def test_a_nan_reaches_value_and_gradient(launch, memory, stored, name):
    prediction = encode(np.array([0.5, np.nan, 0.5, -0.5]), stored)
    target = memory.put(np.full(4, 0.5, DTYPES[wide(stored)]))
    dy, partials = memory.room((4,), prediction.dtype), memory.room((1,), np.float64)
    loss = cuda_loss(make_loss(name, delta=DELTA))
    arguments = (memory.put(prediction), 0, target, 0, None, 0, dy, 0, partials, 0, 4, 1, 1.0, loss)
    launch("loss_and_gradient", (stored,), (1, 1), *arguments, block=32)
    assert np.isnan(partials[0])
    slope = {"mse": -2.0, "mae": -1.0, "huber": -DELTA}[name]
    np.testing.assert_array_equal(decode(dy, stored), [0.0, np.nan, 0.0, slope])


@over("stored", ["float", "double"])
@over("value_parts", [1, 31, 33, 257])
@over("accumulate", [0, 1])
def test_columns_and_a_loss_are_added_up_in_one_launch(launch, memory, rng, stored, value_parts, accumulate):
    K, parts, width = 3, 70, 37
    partials = rng.standard_normal((K, parts, width)).astype(DTYPES[stored])
    values, start = (
        rng.standard_normal((K, value_parts)),
        rng.standard_normal((K, width)).astype(DTYPES[stored]),
    )
    out, value = memory.put(start), memory.room((K,), DTYPES[stored])
    launch(
        "sum_partials", (stored,), (3, K), memory.put(partials), parts * width, out, width, parts, width,
        accumulate, memory.put(values), value_parts, 0.5, value, block=64,
    )  # fmt: skip
    assert_close(out, accumulate * start.astype(float) + partials.astype(float).sum(axis=1), stored)
    assert_close(value, 0.5 * values.sum(axis=1), stored)
