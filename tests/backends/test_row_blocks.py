"""Row blocks and threads on the CPU change no results, and steps allocate nothing."""

import contextlib
import functools
import itertools
import tracemalloc

import numpy as np
import pytest
import threadpoolctl
from coordfit.backends.numpy_backend.backend import NumpyBackend
from coordfit.backends.protocols import Partition
from support.cases import over

import coordfit
from coordfit.backends import get_backend
from coordfit.encoders.fourier import FourierEncoder
from coordfit.encoders.identity import IdentityEncoder
from coordfit.encoders.registry import join_encoders
from coordfit.network.activations import make_activation
from coordfit.network.losses import make_loss
from coordfit.network.mlp import MLP, initial_parameters
from coordfit.optimizers.adam import Adam
from coordfit.optimizers.base import ElementwiseOptimizer
from coordfit.optimizers.muon import Muon
from coordfit.pixels.rows import GridRows
from coordfit.pixels.training_pixels import TrainingPixels
from coordfit.signals.grid import SampleGrid
from coordfit.training.step import TrainingStep

SIZES = (32, 256, 256, 3)


@pytest.fixture(params=["numpy", "numba"])
def make_backend(request, monkeypatch):
    """Return a function that makes a CPU backend which divides even the smallest optimizer step."""

    def make(**options):
        backend = get_backend(request.param, **options)
        if request.param == "numba":
            monkeypatch.setattr("coordfit.backends.numba_backend.host._MIN_WORKER_NUMBERS", 1)
        monkeypatch.setattr("coordfit.backends.numpy_backend.host._MIN_WORKER_ELEMENTS", 1)
        return backend

    if request.param == "numba":
        pytest.importorskip("numba")
    return make


def make_step(backend, *, members=None, batch_rows=512, own_frequencies=False, dtype="float32", muon=False):
    rng = np.random.default_rng(3)
    ensemble = () if members is None else (members,)
    draws = [initial_parameters(SIZES, "he", omega=30.0, rng=rng) for _ in range(members or 1)]
    parameters = backend.asarray(np.stack(draws) if members else draws[0], dtype)
    shape = (*ensemble, 16, 2) if own_frequencies else (16, 2)
    encoder = FourierEncoder(backend, backend.asarray(rng.normal(0.0, 5.0, shape), dtype))
    hidden, last = make_activation("relu"), make_activation("sigmoid")
    mlp = MLP(backend, SIZES, parameters, hidden, last, rows=1, dtype=dtype)
    adams = {"dtype": dtype, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
    optimizer = ElementwiseOptimizer(backend, parameters, Adam(), dtype=dtype)
    if muon:
        optimizer = Muon(backend, parameters, mlp.layout, momentum=0.95, **adams)
    coordinates = backend.asarray(rng.uniform(size=(600, 2)), dtype)
    target = backend.asarray(rng.uniform(size=(600, 3)), dtype)
    pixels = TrainingPixels(backend, coordinates, target)
    return TrainingStep(backend, encoder, mlp, make_loss("mse"), optimizer, pixels, batch_rows)


def batches(count, rows, members=None):
    rng = np.random.default_rng(5)
    ensemble = () if members is None else (members,)
    return [rng.integers(0, 600, (*ensemble, rows)) for _ in range(count)]


@pytest.fixture(autouse=True)
def every_step_is_worth_sharing(monkeypatch):
    monkeypatch.setattr("coordfit.backends.numpy_backend.backend._MIN_WORKER_FLOPS", 1)
    monkeypatch.setattr("coordfit.backends.numpy_backend.backend._MIN_WORKER_ROWS", 1)


@contextlib.contextmanager
def small_buffers_of_numpy(backend):
    """NumPy casts through a buffer for each operand; before 2.3 they take 98 kB in every thread."""
    before = np.getbufsize()
    backend.run_workers([lambda: np.setbufsize(512)] * backend.threads)  # each thread has a setting of its own
    try:
        yield
    finally:
        backend.run_workers([lambda: np.setbufsize(before)] * backend.threads)


@pytest.mark.parametrize(
    ("threads", "members", "full", "muon"),
    [
        (1, None, False, False),
        (2, None, True, True),
        (1, 4, True, True),
        (2, 4, False, False),
        (2, 4, False, True),
    ],
)
def test_a_step_allocates_nothing_once_warm(make_backend, threads, members, full, muon):
    backend = make_backend(threads=threads)
    step = make_step(backend, members=members, batch_rows=600 if full else 512, muon=muon)
    order = itertools.cycle([None] if full else batches(3, 512))
    with backend.activate(), small_buffers_of_numpy(backend):
        for _ in range(4):
            step(next(order), 1e-3)
        buffers = [
            a.ctypes.data for part in step.parts for layer in part.mlp.layers[:-1] for a in (layer.y, layer.dW)
        ]
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(5):
                step(next(order), 1e-3)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    again = [
        a.ctypes.data for part in step.parts for layer in part.mlp.layers[:-1] for a in (layer.y, layer.dW)
    ]
    assert buffers == again
    # A layer's activations alone are 512 x 256 x 4 = 524 kB, its weights 262 kB. What remains are Python's own
    # small objects.
    assert peak - before < 60_000


def blas_threads():
    return [lib["num_threads"] for lib in threadpoolctl.threadpool_info() if lib["user_api"] == "blas"]


def test_the_blas_has_one_thread_while_a_backend_computes():
    before, seen = blas_threads(), []
    backend = NumpyBackend(threads=2)
    small, large = np.ones((8, 8), np.float32), np.ones((256, 256), np.float32)
    with backend.activate():
        backend.run_workers([lambda: seen.append({*blas_threads()}), lambda: None])
        backend.matmul(large, large)
        seen.append({*blas_threads()})
        backend.matmul(small, small)
        seen.append({*blas_threads()})
    assert seen == [{1}, {1}, {1}]  # of every BLAS that is loaded: SciPy brings one of its own
    assert blas_threads() == before


@pytest.mark.parametrize(
    "shapes", [((500, 90), (90, 300)), ((90, 500), (500, 301)), ((3, 200, 90), (90, 257))], ids=str
)
@pytest.mark.parametrize("transposed", [False, True])
def test_a_large_product_of_one_worker_is_shared_out(shapes, transposed, monkeypatch):
    backend, rng = NumpyBackend(threads=3), np.random.default_rng(0)
    a, b = (rng.standard_normal(shape) for shape in shapes)
    taken, matmul = [], np.matmul
    monkeypatch.setattr(np, "matmul", lambda a, b, **o: taken.append(a.shape) or matmul(a, b, **o))
    with backend.activate():
        found = backend.matmul(a.swapaxes(-1, -2).copy() if transposed else a, b, transpose_a=transposed)
    assert len(taken) == 3
    np.testing.assert_allclose(found, a @ b, rtol=1e-12, atol=1e-12)
    assert found.shape == (a @ b).shape


def train_members(backend, members, own_batches, own_frequencies):
    """Return parameters and losses of a few steps."""
    rates = np.geomspace(1e-3, 1e-2, members)[:, None]
    order = batches(4, 100, members if own_batches else None)
    step = make_step(backend, members=members, batch_rows=100, own_frequencies=own_frequencies, dtype="float64")
    with backend.activate():
        values = [np.array(step(batch, rates)) for batch in order]
    return step.mlp.parameters, np.stack(values)


@functools.cache
def taught_by_one_worker(members, own_batches, own_frequencies):
    return train_members(NumpyBackend(fused="never"), members, own_batches, own_frequencies)


@pytest.mark.parametrize(("threads", "members"), [(1, 7), (2, 2), (2, 3), (2, 7), (3, 2), (3, 4), (3, 7)])
@over(("own_batches", "own_frequencies"), [(False, True), (True, False), (True, True)])
def test_members_on_workers_learn_what_one_worker_would_teach_them(
    make_backend, threads, members, own_batches, own_frequencies
):
    expected, expected_values = taught_by_one_worker(members, own_batches, own_frequencies)
    parameters, values = train_members(make_backend(threads=threads), members, own_batches, own_frequencies)
    np.testing.assert_allclose(values, expected_values, rtol=1e-10)
    np.testing.assert_allclose(parameters, expected, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("full", [False, True])
def test_features_from_the_table_are_those_computed_in_the_step(monkeypatch, full):
    def train():
        backend = NumpyBackend(threads=2)
        step = make_step(backend, batch_rows=600 if full else 128, dtype="float64")
        with backend.activate():
            return [float(step(batch, 1e-3)) for batch in ([None] * 5 if full else batches(5, 128))]

    with_table = train()
    monkeypatch.setattr("coordfit.network.cost.FEATURE_TABLE_BYTES", 0)
    np.testing.assert_allclose(train(), with_table, rtol=1e-12)


GRIDS = [
    SampleGrid.of(5, 7),
    SampleGrid.of(1, 9),
    SampleGrid.of(8, 1),
    SampleGrid.of(6, 4).resized(13, 11).cropped(2, 3, 7, 5),
]


@over("grid", GRIDS)
@pytest.mark.parametrize("fused", ["auto", "never"])
def test_grid_features_are_those_of_the_coordinates(make_backend, grid, fused):
    backend = make_backend(fused=fused)
    B = np.random.default_rng(0).normal(0.0, 10.0, (6, 2))
    encoder = FourierEncoder(backend, B)
    features = encoder.on_grid(grid.axes(), "float64")
    expected = encoder(grid.coordinates(np.arange(len(grid))))
    np.testing.assert_allclose(features(slice(0, len(grid))), expected, atol=1e-12)
    for start, stop in itertools.combinations(range(0, len(grid) + 1, 4), 2):
        np.testing.assert_array_equal(
            features(slice(start, stop)), features(slice(0, len(grid)))[start:stop], err_msg=f"{start}:{stop}"
        )


@over("grid", GRIDS)
@over("stride", [1, 2, 3])
def test_grid_rows_are_the_coordinates_of_every_so_many_pixels(grid, stride):
    rows = GridRows(NumpyBackend(), grid, stride, "float64")
    pixels = np.arange(len(grid)).reshape(*grid.shape)[::stride, ::stride].ravel()
    assert rows.size == len(pixels)
    expected = grid.coordinates(pixels)
    np.testing.assert_allclose(rows.rows(slice(0, len(pixels))), expected, atol=1e-15)
    index = np.random.default_rng(0).integers(0, len(pixels), (3, 4))
    np.testing.assert_allclose(rows.take(index), expected[index], atol=1e-15)


@over(("threads", "stride"), [(1, 2), (2, 1)])
@pytest.mark.parametrize("kinds", ["one", "own frequencies", "mixed"])
def test_the_table_of_features_is_what_the_encoder_gives(make_backend, monkeypatch, kinds, stride, threads):
    monkeypatch.setattr("coordfit.backends.numpy_backend.backend._MIN_WORKER_FLOPS", 1)
    backend, grid = make_backend(threads=threads), SampleGrid.of(50, 37)
    draw = np.random.default_rng(0).normal
    own = [FourierEncoder(backend, draw(0.0, 10.0, (m, 2))) for m in (6, 6, 6)]
    if kinds == "mixed":
        own[1:] = [FourierEncoder(backend, np.eye(2)), IdentityEncoder(backend)]
    encoder = own[0] if kinds == "one" else join_encoders(backend, own, "float64")
    rows = GridRows(backend, grid, stride, "float64")
    pixels = TrainingPixels(backend, rows, np.zeros((rows.size, 3)))
    table = pixels.feature_table(encoder, "float64")
    everything = slice(0, rows.size)
    np.testing.assert_allclose(table.rows(everything), encoder(rows.rows(everything)), atol=1e-12)


def test_memory_of_a_large_picture_is_the_picture_and_a_constant(monkeypatch):
    monkeypatch.setattr("coordfit.network.cost.FEATURE_TABLE_BYTES", 0)  # a constant too, but a large one
    pixels = np.random.default_rng(0).integers(0, 256, (768, 1024, 3), dtype=np.uint8)
    tracemalloc.start()
    try:
        result = coordfit.fit(pixels, device="cpu", steps=2, hidden_size=16, num_frequencies=8, threads=2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    picture = result.picture.pixels.nbytes
    assert peak < 1.2 * picture + 30e6


@pytest.mark.parametrize("own_frequencies", [False, True])
@pytest.mark.parametrize("muon", [False, True])
def test_members_in_groups_are_trained_as_all_at_once(make_backend, monkeypatch, muon, own_frequencies):
    """A worker's groups of members share its buffers and nothing else."""
    steps, order = [], batches(3, 200, 5)
    for groups in ([[slice(0, 2)], [slice(2, 5)]], [[slice(0, 1), slice(1, 2)], [slice(2, 4), slice(4, 5)]]):
        backend = make_backend(threads=2)
        partitions = [Partition(of_worker, [slice(0, 120), slice(120, 200)]) for of_worker in groups]
        deal = backend.partition
        monkeypatch.setattr(
            backend, "partition", lambda n, *a, to=partitions, deal=deal: to if n == 200 else deal(n, *a)
        )
        step = make_step(backend, members=5, batch_rows=200, own_frequencies=own_frequencies, muon=muon)
        with backend.activate():
            values = [np.array(step(batch, 1e-3)) for batch in order]
        steps.append((values, np.array(step.gradient), np.array(step.mlp.parameters)))
    assert len({part.mlp.layers[0].output_buffer.ctypes.data for part in step.parts}) == 2, "one for a worker"
    for at_once, in_groups in zip(*steps, strict=True):
        np.testing.assert_array_equal(in_groups, at_once)


def test_a_worker_takes_as_many_members_at_once_as_fit_a_block(monkeypatch):
    monkeypatch.setattr(NumpyBackend, "block_bytes", 1_000_000)
    few, many = (NumpyBackend(threads=2).partition(256, 16, row_bytes, 10**6)[0] for row_bytes in (1000, 9000))
    assert few.groups == [slice(0, 3), slice(3, 6), slice(6, 8)]
    assert few.blocks == [slice(0, 256)]
    assert many.groups == [slice(k, k + 1) for k in range(8)]
    assert [block.stop - block.start for block in many.blocks] == [85, 85, 86]


@pytest.mark.parametrize(("members", "dealt"), [(1, None), (2, [1, 1]), (3, [1, 2]), (5, [2, 3])])
def test_few_rows_are_dealt_out_by_members(monkeypatch, members, dealt):
    monkeypatch.setattr("coordfit.backends.numpy_backend.backend._MIN_WORKER_ROWS", 256)
    partitions = NumpyBackend(threads=2).partition(256, members, 1000, 10**6)
    if dealt is None:
        assert [partition.members for partition in partitions] == [None]
    else:
        assert [partition.members.stop - partition.members.start for partition in partitions] == dealt
    order = batches(3, 200)
    alone, together = (make_step(NumpyBackend(threads=t), members=members, batch_rows=200) for t in (1, 2))
    for step in (alone, together):
        with step.backend.activate():
            for batch in order:
                step(batch, 1e-3)
    np.testing.assert_allclose(together.mlp.parameters, alone.mlp.parameters, rtol=1e-4, atol=1e-6)
