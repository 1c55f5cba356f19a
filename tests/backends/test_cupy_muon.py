"""A step of Muon on the GPU, all matrices as one batch, against the generic body in float64."""

import numpy as np
import pytest
from coordfit.backends.cupy_backend.cublaslt.autotune import Autotuner
from coordfit.backends.cupy_backend.cublaslt.plans import Planner
from coordfit.backends.numpy_backend.backend import NumpyBackend
from support import fake_cupy

from coordfit.optimizers.muon import Orthogonalizer

N, GAP = 8, 7
SIZE = N * N
REFERENCE = NumpyBackend(fused="never", threads=1)
OWN_RATES = np.array([[0.5], [0.25], [0.0]])


def problem(members, layers, scale=1.0):
    """Return parameters, momenta and gradients (K, P) with a gap before each matrix, and where those start."""
    rng = np.random.default_rng(0)
    parameters, *rest = rng.standard_normal((3, members, layers * (SIZE + GAP)))
    return [parameters, *(scale * array for array in rest)], [GAP + (SIZE + GAP) * i for i in range(layers)]


def stepped(backend, arrays, starts, dtype, rate, shape=(N, N), steps=2):
    """Return parameters and momenta after some steps."""
    parameters, momenta, *gradients = (backend.asarray(array.copy(), dtype) for array in arrays)
    backend.parameters_changed(parameters)
    ensemble = parameters.shape[:-1]
    orthogonalize = Orthogonalizer(backend, (*ensemble, *shape), dtype, 3)
    rate = rate if isinstance(rate, float) else backend.asarray(rate)
    for _ in range(steps):
        backend.muon_step(
            parameters, gradients, momenta, orthogonalize=orthogonalize, learning_rate=rate, momentum=0.9,
            scale=0.2, out=backend.zeros((*ensemble, SIZE), dtype), starts=starts,
        )  # fmt: skip
    return backend.to_numpy(parameters), backend.to_numpy(momenta)


def assert_as_the_generic_body(arrays, starts, dtype, rate, **options):
    backend = fake_cupy.CupyOnHost("always")
    found = stepped(backend, arrays, starts, dtype, rate, **options)
    expected = stepped(REFERENCE, arrays, starts, "float64", rate, **options)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12 if dtype == "float64" else 2e-5)
    kernels = {name: count for name, count in fake_cupy.machine.counts.items() if "muon" in name}
    return kernels | {"products": len(backend.lt.ran)}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("members", "layers"), [(1, 1), (1, 3), (3, 2)])
def test_a_step_of_all_matrices_is_the_step_of_each(machine, dtype, members, layers):
    arrays, starts = problem(members, layers)
    rate = OWN_RATES[:members] if members > 1 else 0.5
    launched = assert_as_the_generic_body(arrays, starts, dtype, rate)
    # In each of two steps three products for each of three iterations, and a kernel before, between and after.
    assert launched == {"products": 18, "muon_direction": 2, "muon_normalize": 2, "muon_update": 2}


ONE_BY_ONE = {
    "matrices at different distances": ([0, SIZE, 3 * SIZE], 1, (N, N)),
    "two gradients": ([0, SIZE], 2, (N, N)),
    "matrices that are not square": ([0, SIZE], 1, (2 * N, N // 2)),
}


@pytest.mark.parametrize("case", ONE_BY_ONE)
def test_what_is_no_batch_goes_one_by_one(machine, case):
    starts, num_gradients, shape = ONE_BY_ONE[case]
    arrays = list(np.random.default_rng(1).standard_normal((2 + num_gradients, 2, 4 * SIZE)))
    launched = assert_as_the_generic_body(arrays, starts, "float64", 0.5, shape=shape, steps=1)
    assert set(launched) == {"products"}


def test_where_the_library_adds_nothing_a_kernel_does(machine):
    arrays, starts = problem(3, 2)
    backend = fake_cupy.CupyOnHost("always")
    backend.lt.refuses_addends = True
    backend.gpu.autotuner = Autotuner(Planner(backend.gpu.load_cublaslt()), timer=lambda run: (run(), 1.0)[1])
    found = stepped(backend, arrays, starts, "float64", OWN_RATES)
    for one, other in zip(found, stepped(REFERENCE, arrays, starts, "float64", OWN_RATES), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
    assert machine.counts["add"] > 0
    assert machine.counts["matmul"] == 0


def test_more_matrices_than_a_launch_takes_go_one_by_one(machine, monkeypatch):
    monkeypatch.setattr("coordfit.backends.cupy_backend.bodies.muon.MAX_MEMBERS", 5)
    arrays, starts = problem(3, 2)
    assert set(assert_as_the_generic_body(arrays, starts, "float64", 0.5)) == {"products"}


@pytest.mark.parametrize("scale", [1e-18, 1e6])
def test_the_size_of_a_gradient_does_not_matter(machine, scale):
    """Squares of 1e-18 times 1e-18 are 0 in float32."""
    (parameters, momenta, gradients), starts = problem(1, 2)
    backend = fake_cupy.CupyOnHost("always")
    found, expected = (
        stepped(backend, (parameters, by * momenta, by * gradients), starts, "float32", 0.5)[0]
        for by in (scale, 1.0)
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_zero_takes_no_step_and_nan_ruins_its_own_matrix_alone(machine):
    (parameters, momenta, gradients), starts = problem(3, 2)
    places = [slice(start, start + SIZE) for start in starts]
    momenta[1, places[0]] = gradients[1, places[0]] = 0.0
    gradients[2, starts[1] + 3] = np.nan
    backend = fake_cupy.CupyOnHost("always")
    found, _ = stepped(backend, (parameters, momenta, gradients), starts, "float64", 0.5)
    np.testing.assert_array_equal(found[1, places[0]], parameters[1, places[0]])
    assert np.isnan(found[2, places[1]]).all()
    found[2, places[1]] = 0.0
    assert np.isfinite(found).all()


def test_the_copy_in_16_bits_is_written_in_the_same_pass(machine):
    arrays, starts = problem(2, 2)
    backend = fake_cupy.CupyOnHost("always", precision="fp16")
    parameters = backend.asarray(arrays[0], "float32")
    backend.parameters_changed(parameters)
    momenta, gradients = (backend.asarray(array, "float32") for array in arrays[1:])
    before = machine.counts["cast"]
    backend.muon_step(
        parameters, [gradients], momenta, orthogonalize=Orthogonalizer(backend, (2, N, N), "float32", 3),
        learning_rate=0.5, momentum=0.9, scale=0.2, out=backend.zeros((2, SIZE), "float32"), starts=starts,
    )  # fmt: skip
    compute_copy = backend.to_numpy(backend.gpu.compute_copies.of(parameters))
    np.testing.assert_array_equal(compute_copy, backend.to_numpy(parameters).astype(np.float16))
    assert machine.counts["cast"] == before


@pytest.mark.parametrize(
    ("precision", "types"), [("float32", "float32"), ("bf16", "tf32"), ("fp16", "float32")]
)
def test_products_are_in_tf32_where_gradients_have_fewer_bits(machine, precision, types):
    arrays, starts = problem(1, 2)
    backend = fake_cupy.CupyOnHost("always", precision=precision)
    found, _ = stepped(backend, arrays, starts, "float32", 0.5)
    expected, _ = stepped(REFERENCE, arrays, starts, "float64", 0.5)
    assert {row["types"] for row in backend.gpu.autotuner.report()} == {types}
    np.testing.assert_allclose(found, expected, atol=2e-3 if types == "tf32" else 2e-5)
