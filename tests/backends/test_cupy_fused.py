"""The fused bodies of the GPU on the pretended CuPy: their tiers, and equal results on all of them."""

import itertools

import numpy as np
import pytest
from coordfit.backends.base import Backend
from coordfit.backends.cupy_backend.cublaslt.autotune import Autotuner
from coordfit.backends.cupy_backend.cublaslt.library import CublasLtError
from coordfit.backends.cupy_backend.cublaslt.plans import Planner
from support.cases import over, slow, very_slow
from test_primitives import (
    CALLS,
    OWN,
    SHARED,
    TYPICAL,
    Memory,
    column_major,
    every_second,
    in_float64,
    on_host,
    problem,
    train_by_hand,
    train_on,
)

from coordfit.backends import FusedUnavailableError
from coordfit.network.activations import ReLU, Tanh, make_activation
from coordfit.network.losses import make_loss
from coordfit.network.mlp import MLP
from coordfit.network.parameters import ParameterLayout

fake_cupy = pytest.importorskip("support.fake_cupy")
pytestmark = [
    pytest.mark.usefixtures("machine"),
    pytest.mark.skipif(bool(fake_cupy.why_unavailable()), reason=fake_cupy.why_unavailable() or "-"),
]

EPILOGUES = {"ReLU": 6, "bias": 4, "db": 256}


def refusing(*epilogues, **options):
    """Return a backend whose cublasLt refuses some epilogues."""
    backend = fake_cupy.CupyOnHost(**options)
    backend.lt.refuses = lambda query: query.epilogue in epilogues
    return backend


def timed(fastest):
    """Return a backend that times its products, on a device where `fastest` names the faster tier."""
    backend = fake_cupy.CupyOnHost()

    def timer(run):
        if backend.gpu.time(run) is None:
            return None
        is_fused = backend.lt.ran_epilogue != 1
        return 1.0 if is_fused == (fastest == "epilogues") else 2.0

    backend.gpu.autotuner = Autotuner(Planner(backend.gpu.load_cublaslt()), timer=timer)
    return backend


TIERS = {
    "epilogues are faster": lambda: timed("epilogues"),
    "kernels are faster": lambda: timed("kernels"),
    "all epilogues": lambda: refusing(),
    "no db": lambda: refusing(256),
    "plain products": lambda: refusing(*EPILOGUES.values()),
    "CuPy's products": lambda: fake_cupy.CupyWithoutLt(),
    "everything is refused": lambda: refusing(1, *EPILOGUES.values()),
}
TIMED = [name for name in TIERS if "faster" in name]  # timing takes long, and chooses among the others
CASES_OF_TIERS = [*(name for name in TIERS if name not in TIMED), *very_slow(*TIMED)]
PRODUCTS = [name for name in CALLS if name.startswith(("matmul", "linear", "backward"))]


# -- every tier gives the same ---------------------------------------------------------------------------


@pytest.mark.parametrize("tier", CASES_OF_TIERS)
@over("name", PRODUCTS)
def test_every_tier_gives_what_the_formulas_give(tier, name):
    backend = TIERS[tier]()
    with backend.activate():
        for sizes, dtype in itertools.product(
            TYPICAL, ("float32",) if tier in TIMED else ("float32", "float64")
        ):
            memory = Memory(backend, problem(sizes, dtype), offers=True)
            found = on_host(backend, CALLS[name].run(backend, memory))
            bound = {"float32": 4e-6, "float64": 2e-14}[dtype]
            for key, expected in CALLS[name].oracle(in_float64(memory.data)).items():
                np.testing.assert_allclose(found[key], expected, atol=bound * max(1, np.abs(expected).max()))
            memory.assert_inputs_unchanged()
    assert not backend.lt.faults
    assert {route for routes in backend.routes().values() for route in routes} == {"fused"}


@pytest.mark.parametrize("tier", CASES_OF_TIERS)
@pytest.mark.parametrize(("activation", "blocks"), [("relu", 3), *slow(("relu", 1), ("sine", 3))])
def test_steps_of_three_networks_on_every_tier(tier, activation, blocks):
    backend = TIERS[tier]()
    with backend.activate():
        parameters, values = train_on(backend, "float64", slice(None), activation, 3, blocks)
    for member in range(3):
        expected, losses = train_by_hand(member, activation, 3)
        np.testing.assert_allclose(parameters[member], expected, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(values[:, member], losses, rtol=1e-11, atol=1e-12)
    assert not backend.lt.faults


def epilogues_that_ran(backend):
    return {row["epilogue"] for row in backend.gpu.autotuner.report() if row["tier"] == "epilogue"}


def test_what_a_step_of_relus_launches(machine):
    backend = refusing(fused="always")
    with backend.activate():
        train_on(backend, "float32", slice(None), "relu", 2)
    assert epilogues_that_ran(backend) == {"RELU_BIAS"}
    # In each step, one for the sigmoid and one for each of four ReLUs: each leaves the sums for a gradient of
    # biases, which the next one adds up.
    assert machine.counts["bias_activation"] == 2
    assert machine.counts["activation_backward"] == 2 * (4 + 1)
    assert machine.counts["column_sums"] == 0
    assert machine.counts["sum_partials"] == 2 * (1 + 1)  # those of the first layer, and the loss
    assert machine.counts["matmul"] == 0


def test_always_refuses_what_cublaslt_cannot():
    backend = refusing(1, *EPILOGUES.values(), fused="always")
    with pytest.raises(FusedUnavailableError, match="cublasLt cannot compute matmul"):
        CALLS["matmul-NN"].run(backend, Memory(backend, problem(OWN, "float32")))


# -- sums over rows, left by the kernel that wrote dz ----------------------------------------------------


@pytest.fixture
def layer():
    rng = np.random.default_rng(0)
    shapes = {"dy": (2, 9, 4), "saved": (2, 9, 4), "x": (2, 9, 5), "W": (2, 5, 4)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def dz_of_tanh(backend, layer):
    return backend.activation_backward(Tanh(), backend.asarray(layer["dy"]), backend.asarray(layer["saved"]))


def gradient_of_bias(backend, layer, dz, db=0.0, *, accumulate=False):
    """Check dW and db of `linear_backward`; return whether the library summed dz for db."""
    x, W = backend.asarray(layer["x"]), backend.asarray(layer["W"])
    found = backend.asarray(np.full((2, 1, 4), db, np.float32))
    expected = backend.to_numpy(dz).sum(axis=1, keepdims=True) + db
    dW = backend.zeros(W.shape, "float32")
    before = len(backend.gpu.autotuner.report())
    backend.linear_backward(dz, x, W, dW=dW, db=found, accumulate=accumulate)
    by_library = [row["epilogue"] == "BGRADA" for row in backend.gpu.autotuner.report()[before:]]
    np.testing.assert_allclose(
        backend.to_numpy(dW), np.swapaxes(layer["x"], 1, 2) @ backend.to_numpy(dz), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(backend.to_numpy(found), expected, rtol=1e-5, atol=1e-6)
    return any(by_library)


@pytest.mark.parametrize(("db", "accumulate"), [(0.0, False), (3.0, True)])
def test_sums_are_taken_from_the_kernel_that_wrote_dz(layer, db, accumulate):
    backend = refusing()
    assert not gradient_of_bias(backend, layer, dz_of_tanh(backend, layer), db, accumulate=accumulate)


def overwritten(backend, layer, dz):
    view = dz[...]
    view[...] = backend.asarray(-layer["dy"])
    return view


def product_into(backend, layer, dz):
    return backend.matmul(backend.asarray(layer["x"]), backend.asarray(layer["W"]), out=dz)


def layer_into(backend, layer, dz):
    x, W, b = (backend.asarray(a) for a in (layer["x"], layer["W"], np.ones((2, 1, 4), np.float32)))
    return backend.linear(x, W, b, make_activation("tanh"), out=dz)[0]


def taken_before(backend, layer, dz):
    gradient_of_bias(backend, layer, dz)
    return dz


STALE = {
    "another layer's output": layer_into,
    "a product": product_into,
    "numbers written through a view": overwritten,
    "a copy in other memory": lambda backend, layer, dz: backend.asarray(-backend.to_numpy(dz)),
    "sums that were taken": taken_before,
}


@pytest.mark.parametrize("case", STALE)
def test_sums_are_not_used_for_what_is_not_their_array(layer, case):
    backend = refusing()
    dz = STALE[case](backend, layer, dz_of_tanh(backend, layer))
    assert gradient_of_bias(backend, layer, dz)


def use_them(backend, layer):
    dz = dz_of_tanh(backend, layer)
    gradient_of_bias(backend, layer, dz)
    return dz


def overwrite_them(backend, layer):
    dz = dz_of_tanh(backend, layer)
    return product_into(backend, layer, dz)


def free_them(backend, layer):
    """Give the array's place to another one, so that the next array has a new place."""
    place = dz_of_tanh(backend, layer).data.ptr
    return [backend.asarray(layer["dy"]) for _ in range(3)], place


@pytest.mark.parametrize("finish", [use_them, overwrite_them, free_them])
def test_memory_of_sums_serves_again_at_another_address_of_dz(layer, finish):
    """A recorded step may use only the memory of the steps before it."""
    backend = refusing()
    alive, memory = [], set()
    for _ in range(4):
        alive.append(finish(backend, layer))
        memory |= {sums.data.ptr for sums in backend.gpu.column_sums.memory()}
    assert len(memory) == 1


def test_sums_that_wait_keep_their_memory(layer):
    backend = refusing()
    first, second = (dz_of_tanh(backend, {**layer, "dy": k * layer["dy"]}) for k in (1, 2))
    assert len(backend.gpu.column_sums.memory()) == 2
    for dz in (second, first):
        assert not gradient_of_bias(backend, layer, dz)


# -- layouts, dtypes, axes -------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [every_second, column_major])
@pytest.mark.parametrize("name", ["adam-later", "sgd-momentum", "backward-tanh"])
def test_memory_that_cannot_be_written_in_place_is_refused(layout, name):
    backend = refusing(fused="always")
    with pytest.raises(FusedUnavailableError, match="writes in place only into contiguous memory"):
        CALLS[name].run(backend, Memory(backend, problem(SHARED, "float32"), layout))


def strange(backend, shape=(2, 3), dtype="float32"):
    return backend.zeros(shape, dtype)


REFUSED = {
    "integers": ((2, 3), "int64", "has no fused body for int64"),
    "two ensemble axes": ((2, 2, 2, 3), "float32", "takes one ensemble axis, not 2"),
    "nothing": ((0, 3), "float32", "takes no empty arrays"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_fused_bodies_do_not_take_is_told(case):
    shape, dtype, reason = REFUSED[case]
    backend = refusing(fused="always")
    a = strange(backend, shape, dtype)
    with pytest.raises(FusedUnavailableError, match=reason):
        backend.matmul(a, a, transpose_b=True)


def test_two_dtypes_together_are_refused():
    backend = refusing(fused="always")
    with pytest.raises(FusedUnavailableError, match="one dtype, not of float32 and float64"):
        backend.matmul(strange(backend), strange(backend, (3, 2), "float64"))


def test_features_of_a_table_with_gaps_are_copied():
    backend = refusing(fused="always")
    rng = np.random.default_rng(0)
    wide, thin = (
        backend.asarray(rng.standard_normal(shape).astype(np.float32)) for shape in ((4, 15), (3, 14))
    )
    table = wide[:, :14]
    found = backend.grid_fourier_features(table, thin, slice(2, 11))
    generic = Backend.grid_fourier_features(refusing(fused="never"), table, thin, slice(2, 11))
    np.testing.assert_allclose(backend.to_numpy(found), backend.to_numpy(generic), rtol=0, atol=1e-6)


# -- precision, workspace, timing ------------------------------------------------------------------------


def error_of_a_product(backend, dtype="float32"):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 64, 64))
    found = backend.to_numpy(backend.matmul(backend.asarray(a.astype(dtype)), backend.asarray(b.astype(dtype))))
    return np.linalg.norm(found - a @ b) / np.linalg.norm(a @ b)


def test_tf32_is_taken_where_it_is_asked_for_and_nowhere_else():
    assert error_of_a_product(refusing()) < 1e-6
    assert 1e-5 < error_of_a_product(refusing(precision="tf32")) < 2e-3
    assert error_of_a_product(refusing(precision="tf32"), "float64") < 1e-14
    assert refusing(precision="tf32").describe()["precision"] == "tf32"


def test_there_is_one_workspace_of_32_mib():
    backend = refusing()
    for n in (8, 16):
        backend.matmul(strange(backend, (n, n)), strange(backend, (n, n)))
    sizes = [buffer.nbytes for buffer in backend.gpu.buffers()]
    assert sizes == [32 << 20]


@pytest.mark.parametrize("fastest", ["epilogues", *slow("kernels")])
def test_a_network_takes_what_is_faster(machine, fastest):
    backend = timed(fastest)
    with backend.activate():
        train_on(backend, "float32", slice(None), "relu", 3)
    tiers = {
        row["epilogue"]: row["tier"] for row in backend.gpu.autotuner.report() if row["epilogue"] != "NONE"
    }
    assert tiers == {
        "RELU_BIAS": "epilogue" if fastest == "epilogues" else "plain product and separate kernels"
    }
    assert machine.counts["graph launches"] > 0, "products are timed in graphs"


def test_products_are_timed_where_that_is_asked_for_and_once_for_all_processes(machine, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    launches = []
    for autotune in (False, True, True):
        backend = fake_cupy.CupyOnHost(autotune=autotune)
        with backend.activate():
            backend.matmul(strange(backend, (4, 4)), strange(backend, (4, 4)))
        (row,) = backend.gpu.autotuner.report()
        assert bool(row["milliseconds"]) == autotune
        launches.append(machine.counts["graph launches"])
    assert launches[0] == 0
    assert launches[2] == launches[1] > 0, "the second process has found what the first one kept"


def test_without_a_place_to_keep_choices_nothing_is_timed_and_limits_say_so(machine, monkeypatch, tmp_path):
    (tmp_path / "coordfit").write_text("a file where a folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    backend = fake_cupy.CupyOnHost(autotune=True)
    with backend.activate():
        backend.matmul(strange(backend, (4, 4)), strange(backend, (4, 4)))
    assert machine.counts["graph launches"] == 0
    assert any(line.startswith("products are not timed, since there is no place") for line in backend.limits())


def test_a_product_that_cannot_be_recorded_leaves_no_recording_behind(machine):
    backend = fake_cupy.CupyOnHost()

    def run():
        if machine.capture is not None:
            raise ZeroDivisionError

    with backend.activate(), pytest.raises(ZeroDivisionError):
        backend.gpu.time(run)
    assert machine.capture is None


def test_an_algorithm_that_breaks_a_recording_counts_as_refused(machine):
    """As some algorithms of cublasLt on a real device, which reports the error at the next launch."""
    backend = fake_cupy.CupyOnHost()

    def run():
        machine.invalidated = machine.capture is not None

    with backend.activate(), pytest.raises(CublasLtError, match=r"recording: .*Invalidated"):
        backend.gpu.time(run)
    assert machine.capture is None


# -- divergence ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tier", ["all epilogues", "plain products"])
@pytest.mark.parametrize("where", ["the last layer", "every layer"])
def test_a_network_that_is_no_number_is_told_by_its_loss(tier, where):
    """cublasLt's ReLU turns NaN into 0, but divergence reaches the last layer first."""
    backend = TIERS[tier]()
    layout = ParameterLayout((4, 8, 8, 3))
    flat = np.random.default_rng(0).standard_normal(layout.size).astype(np.float32)
    last = list(layout.views(np, flat))[-1]
    for array in last if where == "the last layer" else [flat]:
        array[...] = np.nan
    mlp = MLP(backend, layout.layer_sizes, backend.asarray(flat), ReLU(), make_activation("sigmoid"), rows=5,
              dtype="float32")  # fmt: skip
    y = mlp.forward(backend.asarray(np.ones((5, 4), np.float32)))
    value, dy = backend.loss_and_gradient(
        make_loss("mse"), y, backend.asarray(np.zeros((5, 3), np.float32)), divisor=15
    )
    mlp.backward(dy)
    assert np.isnan(backend.to_numpy(value))
    gradients = list(layout.views(np, backend.to_numpy(mlp.gradient)))
    assert np.isnan(gradients[-1][1]).all(), "and so do the gradients of the last layer"


def test_results_of_two_losses_lie_apart():
    """A batch with two kinds of losses holds one value while the next is computed."""
    backend = refusing()
    p, t = backend.asarray(np.full((4, 3), 2.0)), backend.asarray(np.zeros((4, 3)))
    first, _ = backend.loss_and_gradient(make_loss("mse"), p, t, divisor=12)
    second, _ = backend.loss_and_gradient(make_loss("mae"), p, t, divisor=12)
    assert (float(first), float(second)) == (4.0, 2.0)


def test_an_ensemble_of_one_is_shared_by_those_of_several():
    backend, rng = refusing(fused="always"), np.random.default_rng(0)
    x, W, b = (rng.standard_normal(shape) for shape in ((1, 7, 4), (3, 4, 5), (1, 1, 5)))
    y, _ = backend.linear(*(backend.asarray(a) for a in (x, W, b)), make_activation("tanh"))
    np.testing.assert_allclose(backend.to_numpy(y), np.tanh(x @ W + b), atol=1e-13)
