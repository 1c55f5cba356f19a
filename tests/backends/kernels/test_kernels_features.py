"""Features and gathered rows against NumPy in float64."""

import numpy as np
import pytest
from coordfit.backends.numpy_backend.backend import NumpyBackend
from simt import DTYPES, assert_close, decode, encode
from support.cases import over

from coordfit.pixels.rows import GridRows
from coordfit.signals.grid import SampleGrid

NUMPY = NumpyBackend(fused="never", threads=1)
MEMBERS = pytest.mark.parametrize(("K", "own"), [(1, 1), (3, 1), (3, 0)])
TYPES = [("float", "float"), ("double", "double"), ("float", "bf16"), ("float", "half")]
# (rows, m): narrower than a warp, wider than a block, tails on both axes.
SHAPES = [(1, 1), (31, 2), (33, 7), (257, 64), (5, 97)]
# A phase of 30 cycles has lost five bits of a float's mantissa.
TOLERANCES = {"float": 4e-5, "double": 1e-13, "bf16": 2.0**-8, "half": 2.0**-11 + 4e-5}


@MEMBERS
@pytest.mark.parametrize("types", TYPES, ids=" to ".join)
@over(("rows", "m"), SHAPES)
def test_fourier_features(launch, memory, rng, K, own, types, rows, m):
    dtype = DTYPES[types[0]]
    v = rng.random((K if own else 1, rows, 2)).astype(dtype)
    B = (10 * rng.standard_normal((K, m, 2))).astype(dtype)
    out = memory.room((K, rows, 2 * m), DTYPES[types[1]])
    launch(
        "fourier_features", types, (3, K), memory.put(v), own * rows * 2, memory.put(B), m * 2,
        out, rows * 2 * m, rows, m, block=64,
    )  # fmt: skip
    expected = NUMPY.fourier_features(v.astype(float), B.astype(float))
    assert_close(out, expected, types[1], TOLERANCES[types[1]])


@pytest.mark.parametrize("types", TYPES, ids=" to ".join)
def test_large_phases_keep_their_digits(launch, memory, types):
    """Subtracting whole turns is exact before the multiplication by 2 pi, and not after it."""
    v = np.array([[1.0, 0.0], [0.25, 0.0], [0.125, 0.0]], DTYPES[types[0]])
    B = np.array([[4098.0, 0.0]], DTYPES[types[0]])
    out = memory.room((3, 2), DTYPES[types[1]])
    launch("fourier_features", types, (1, 1), memory.put(v), 0, memory.put(B), 0, out, 0, 3, 1)
    expected = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    assert_close(out, expected, types[1], 3e-7 if types[0] == "float" else 1e-15)


def test_a_nan_coordinate_gives_nan_features_in_its_row_alone(launch, memory):
    v = np.array([[0.1, 0.2], [np.nan, 0.2], [0.3, 0.4]], np.float32)
    B = np.ones((5, 2), np.float32)
    out = memory.room((3, 10), np.float32)
    launch("fourier_features", ("float", "float"), (1, 1), memory.put(v), 0, memory.put(B), 0, out, 0, 3, 5)
    np.testing.assert_array_equal(np.isnan(out).all(axis=1), [False, True, False])


@MEMBERS
@pytest.mark.parametrize("types", TYPES, ids=" to ".join)
@over("stride", [1, 2])
def test_features_of_pixels_by_number(launch, memory, rng, K, own, types, stride):
    precision = np.dtype(DTYPES[types[0]]).name
    rows = GridRows(NUMPY, SampleGrid.of(23, 37).cropped(3, 2, 31, 17), stride, precision)
    n, m = 33, 6
    index = rng.integers(0, rows.size, (K if own else 1, n))
    B = (5 * rng.standard_normal((K, m, 2))).astype(precision)
    out = memory.room((K, n, 2 * m), DTYPES[types[1]])
    counts, (x_scale, y_scale), (x_start, y_start) = rows.lattice
    lattice = counts[0], x_scale, x_start, y_scale, y_start
    launch(
        "pixel_fourier_features", types, (2, K), memory.put(index), own * n, memory.put(B), m * 2, out,
        n * 2 * m, n, m, *lattice, block=32,
    )  # fmt: skip
    expected = NUMPY.fourier_features(rows.take(index).astype(float), B.astype(float))
    assert_close(out, expected, types[1], TOLERANCES[types[1]])


@over("types", TYPES)
@over(("start", "stop"), [(0, 1), (0, 13 * 11), (5, 38), (26, 39)])
def test_grid_features_from_tables(launch, memory, rng, types, start, stop):
    width, height, m = 13, 11, 5
    x, y = (rng.uniform(-1, 1, (n, 2 * m)).astype(DTYPES[types[0]]) for n in (width, height))
    out = memory.room((stop - start, 2 * m), DTYPES[types[1]])
    arguments = memory.put(x), memory.put(y), out, start, stop - start, m, width
    launch("grid_fourier_features", types, (2, 1), *arguments, block=32)
    expected = NUMPY.grid_fourier_features(x.astype(float), y.astype(float), slice(start, stop))
    assert_close(out, expected, types[1])


@over(("rows", "width"), [(1, 1), (31, 3), (32, 32), (33, 40), (257, 65)])
def test_take_rows(launch, memory, rng, case, rows, width):
    stored, K, own = case
    array = encode(rng.standard_normal((K if own else 1, 50, width)), stored)
    index = rng.integers(0, 50, (K, rows))
    out = memory.room((K, rows, width), DTYPES[stored])
    launch(
        "take_rows", (stored,), (3, K), memory.put(array), own * 50 * width, memory.put(index), rows, out,
        rows * width, rows, width, block=64,
    )  # fmt: skip
    expected = [decode(array[k * own][index[k]], stored) for k in range(K)]
    np.testing.assert_array_equal(decode(out, stored), expected)
