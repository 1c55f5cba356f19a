"""cublasLt without a GPU: products, plans and autotuning on a fake in NumPy, descriptors on the real library.

`COORDFIT_REQUIRE=cublaslt` turns the skip where the real library is missing into a failure.
"""

import contextlib
import ctypes
import dataclasses
import itertools
import sqlite3
import types

import numpy as np
import pytest
from coordfit.backends.cupy_backend.cublaslt import library as library_module
from coordfit.backends.cupy_backend.cublaslt.autotune import Autotuner, Tier
from coordfit.backends.cupy_backend.cublaslt.autotune_cache import Choices
from coordfit.backends.cupy_backend.cublaslt.descriptors import Attribute, Descriptor
from coordfit.backends.cupy_backend.cublaslt.layer_products import (
    backward_input,
    backward_weights,
    forward,
    matmul,
)
from coordfit.backends.cupy_backend.cublaslt.library import (
    Algorithm,
    CublasLtError,
    CublasLtUnavailableError,
    HeuristicResult,
    Library,
    load,
)
from coordfit.backends.cupy_backend.cublaslt.plans import Operation, Planner, RefusedError, Workspace
from coordfit.backends.cupy_backend.cublaslt.products import (
    PRECISIONS,
    Epilogue,
    Pointers,
    Product,
    Strides,
    Types,
)
from coordfit.backends.cupy_backend.cublaslt.survey import refused_products
from support import needs
from support.cases import over
from support.fake_cublaslt import (
    INVALID_VALUE,
    NOT_SUPPORTED,
    R16BF,
    ROW_ORDER,
    SUCCESS,
    WORKSPACE_STEP,
    FakeCublasLt,
    from_bfloat16,
    lowest_bit,
    to_bfloat16,
    to_tf32,
)

from coordfit.backends import FusedUnavailableError

# Of a product against float64 on the same rounded operands, relative to the largest element: the rounding of
# sums and of the result.
TOLERANCES = {"float64": 1e-13, "float32": 2e-6, "float16": 1e-3, "bfloat16": 8e-3}
PRECISIONS_AND_MIXED = PRECISIONS | {
    "bfloat16 -> float32": Types("bfloat16", "float32"),
    "float16 -> float32": Types("float16", "float32"),
}
NUMPY_TYPES = {"float64": np.float64, "float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}
SIZES = [(33, 7, 130), (1, 1, 1), (16, 128, 64)]  # rows, n_in, n_out
ENSEMBLES = {"one": (1, False), "three": (3, False), "three on a shared X": (3, True)}

STREAM = 7

REASON = "the heuristic answers CUBLAS_STATUS_NOT_SUPPORTED (15), the requested functionality is not supported"


def each(name, values):
    return pytest.mark.parametrize(name, values, ids=[str(value) for value in values])


# -- host memory that plays the device -------------------------------------------------------------------


class Memory:
    """Aligned blocks with gaps between the members, which no product may touch."""

    def __init__(self):
        self.blocks = []

    def block(self, num_bytes, offset=0):
        """Return the address of some bytes, on a multiple of 256 plus an offset."""
        raw = np.full(num_bytes + 512, 0xFF, np.uint8)
        start = -raw.ctypes.data % 256 + offset
        self.blocks.append(raw)
        return raw[start : start + num_bytes]

    def array(self, values, dtype, gap=0, offset=0):
        """Put values (K, ...) into memory; return an array in the storage type, and its stride in elements."""
        values = np.asarray(values, np.float64)
        members, elements = values.shape[0], values[0].size
        stride = elements + gap
        stored = NUMPY_TYPES[dtype]
        flat = self.block(members * stride * np.dtype(stored).itemsize, offset).view(stored)
        rounded = to_bfloat16(values.astype(np.float32)) if dtype == "bfloat16" else values.astype(stored)
        flat.reshape(members, stride)[:, :elements] = rounded.reshape(members, elements)
        return Placed(flat.reshape(members, stride), values.shape, dtype)

    def result(self, shape, dtype, gap=0):
        """Return memory for a result, full of NaN."""
        return self.array(np.full(shape, np.nan), dtype, gap)


@dataclasses.dataclass
class Placed:
    flat: np.ndarray
    shape: tuple
    dtype: str

    @property
    def pointer(self):
        return self.flat.ctypes.data

    @property
    def stride(self):
        return self.flat.shape[1]

    def values(self):
        """Return the values in memory as float64 of shape (K, ...)."""
        stored = self.flat[:, : np.prod(self.shape[1:], dtype=int)]
        values = from_bfloat16(stored) if self.dtype == "bfloat16" else stored
        return values.astype(np.float64).reshape(self.shape)

    def gap_is_untouched(self):
        gap = self.flat[:, np.prod(self.shape[1:], dtype=int) :]
        return bool((np.ascontiguousarray(gap).view(np.uint8) == 0xFF).all())


@pytest.fixture
def memory():
    return Memory()


@pytest.fixture
def fake():
    fake = FakeCublasLt()
    yield fake
    assert fake.faults == []


@pytest.fixture
def library(fake):
    return Library(fake)


@pytest.fixture
def planner(library):
    planner = Planner(library)
    yield planner
    planner.close()
    assert library.functions.live == {}, "descriptors are left over"


@pytest.fixture
def workspace(memory):
    return Workspace(memory.block(256).ctypes.data, 32 << 20)


def random(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape)


def as_operand(values, precision):
    """Return values as the arithmetic reads them from memory."""
    return to_tf32(values.astype(np.float32)).astype(np.float64) if precision.tf32 else values


def assert_close(placed, expected):
    assert placed.gap_is_untouched()
    scale = np.maximum(np.abs(expected).max(), 1e-3)
    tolerance = TOLERANCES[placed.dtype] * scale
    np.testing.assert_allclose(placed.values(), expected, rtol=0, atol=tolerance, equal_nan=False)


# -- the products ----------------------------------------------------------------------------------------


class Layer:
    """One layer in memory, for a precision and an ensemble; members may share x."""

    def __init__(self, memory, sizes, precision, members, shared):
        self.rows, self.n_in, self.n_out = sizes
        self.sizes, self.types, self.members, self.shared = sizes, precision, members, shared
        operand, output = precision.operand, precision.output
        self.memory = memory
        self.x = memory.array(random(1 if shared else members, self.rows, self.n_in), operand, 5)
        self.W = memory.array(random(members, self.n_in, self.n_out), operand, 3)
        self.b = memory.array(random(members, 1, self.n_out), output, 1)
        self.y = memory.result((members, self.rows, self.n_out), output, 2)
        self.dz = memory.array(random(members, self.rows, self.n_out) * 0.5, operand, 4)
        self.dx = memory.result((members, self.rows, self.n_in), output, 6)
        gradient = precision.for_gradients().output
        self.dW = memory.result((members, self.n_in, self.n_out), gradient, 3)
        self.db = memory.result((members, 1, self.n_out), gradient, 7)

    def see(self, placed):
        return as_operand(placed.values(), self.types)

    def x_stride(self):
        return 0 if self.shared else self.x.stride

    def forward(self, **epilogue):
        return forward(
            self.sizes,
            self.types,
            members=self.members,
            strides=Strides(self.x_stride(), self.W.stride, self.y.stride, self.b.stride),
            **epilogue,
        )

    def forward_pointers(self, bias=True, relu=True):
        return Pointers(self.x.pointer, self.W.pointer, self.y.pointer, self.b.pointer if bias else 0)

    def z(self, bias=True):
        return self.see(self.x) @ self.see(self.W) + (self.b.values() if bias else 0)

    def backward_input(self):
        return backward_input(
            self.sizes,
            self.types,
            members=self.members,
            strides=Strides(self.dz.stride, self.W.stride, self.dx.stride),
        )

    def backward_input_pointers(self):
        return Pointers(self.dz.pointer, self.W.pointer, self.dx.pointer)

    def backward_weights(self, **options):
        return backward_weights(
            self.sizes,
            self.types,
            members=self.members,
            strides=Strides(self.x_stride(), self.dz.stride, self.dW.stride, self.db.stride),
            **options,
        )

    def backward_weights_pointers(self, bias=True):
        return Pointers(self.x.pointer, self.dz.pointer, self.dW.pointer, self.db.pointer if bias else 0)


@pytest.fixture(params=PRECISIONS_AND_MIXED.values(), ids=PRECISIONS_AND_MIXED)
def precision(request):
    return request.param


@pytest.fixture
def small_layer(memory):
    return Layer(memory, (6, 5, 4), PRECISIONS["float32"], 3, shared=False)


FORWARD = [{"bias": bias, "relu": relu} for bias, relu in itertools.product((True, False), repeat=2)]


@over("epilogue", FORWARD)
@over("ensemble", ENSEMBLES.values())
@over("sizes", SIZES)
def test_forward(planner, workspace, memory, precision, sizes, ensemble, epilogue):
    layer = Layer(memory, sizes, precision, *ensemble)
    product, pointers = layer.forward(**epilogue), layer.forward_pointers(**epilogue)
    planner.plan(product, pointers).run(pointers, workspace, STREAM)
    z = layer.z(epilogue["bias"])
    assert_close(layer.y, np.maximum(z, 0) if epilogue["relu"] else z)


@over("ensemble", ENSEMBLES.values())
@over("sizes", SIZES)
def test_backward_input(planner, workspace, memory, precision, sizes, ensemble):
    layer = Layer(memory, sizes, precision, *ensemble)
    product, pointers = layer.backward_input(), layer.backward_input_pointers()
    planner.plan(product, pointers).run(pointers, workspace, STREAM)
    assert_close(layer.dx, layer.see(layer.dz) @ layer.see(layer.W).swapaxes(-1, -2))


@over("accumulate", [False, True])
@over("bias", [True, False])
@over("ensemble", ENSEMBLES.values())
@over("sizes", SIZES)
def test_backward_weights(planner, workspace, memory, precision, sizes, ensemble, bias, accumulate):
    layer = Layer(memory, sizes, precision, *ensemble)
    before = random(*layer.dW.shape) if accumulate else 0.0
    if accumulate:
        layer.dW = layer.memory.array(before, layer.dW.dtype, 3)
    product = layer.backward_weights(bias=bias, accumulate=accumulate)
    assert product.types.output == ("float64" if layer.types.operand == "float64" else "float32")
    pointers = layer.backward_weights_pointers(bias)
    planner.plan(product, pointers).run(pointers, workspace, STREAM)
    assert_close(layer.dW, before + layer.see(layer.x).swapaxes(-1, -2) @ layer.see(layer.dz))
    if bias:  # beta is of dW alone: db is overwritten
        assert_close(layer.db, layer.see(layer.dz).sum(axis=-2, keepdims=True))
    else:
        assert np.isnan(layer.db.values()).all()


@over("transpose_left", [False, True])
@over("transpose_right", [False, True])
@over("members", [1, 3])
def test_any_product(planner, workspace, memory, transpose_left, transpose_right, members):
    left, right = random(members, 4, 5), random(members, 5, 6)
    a = memory.array(left.swapaxes(-1, -2) if transpose_left else left, "float64")
    b = memory.array(right.swapaxes(-1, -2) if transpose_right else right, "float64")
    out = memory.result((members, 4, 6), "float64")
    turns = {"transpose_left": transpose_left, "transpose_right": transpose_right}
    product = matmul((4, 6, 5), PRECISIONS["float64"], members=members, **turns)
    pointers = Pointers(a.pointer, b.pointer, out.pointer)
    planner.plan(product, pointers).run(pointers, workspace, STREAM)
    assert_close(out, left @ right)


@over("members", [1, 3])
@over("transpose_left", [False, True])
def test_a_product_adds_another_matrix(planner, workspace, memory, precision, members, transpose_left):
    left, right, addend = random(members, 4, 5), random(members, 5, 6), random(members, 4, 6)
    a = memory.array(left.swapaxes(-1, -2) if transpose_left else left, precision.operand)
    b, c = memory.array(right, precision.operand), memory.array(addend, precision.output)
    out = memory.result((members, 4, 6), precision.output)
    product = matmul((4, 6, 5), precision, members=members, alpha=0.5, beta=-3.0, transpose_left=transpose_left)
    pointers = Pointers(a.pointer, b.pointer, out.pointer, addend=c.pointer)
    planner.plan(product, pointers).run(pointers, workspace, STREAM)
    seen = as_operand(a.values(), precision), as_operand(b.values(), precision)
    assert_close(
        out, 0.5 * (seen[0].swapaxes(-1, -2) if transpose_left else seen[0]) @ seen[1] - 3 * c.values()
    )
    with pytest.raises(ValueError, match="has an addend exactly if its beta is not 0"):
        planner.plan(product, pointers).run(pointers._replace(addend=0), workspace, STREAM)


@each("case", ["slower", "refused"])
def test_an_addend_is_left_to_a_kernel_where_that_is_faster(planner, workspace, memory, fake, case):
    """Unlike a product that accumulates, one with an addend may be timed: each trial writes the same."""
    a, b, c, out = (memory.array(random(3, 4, 4), "float64") for _ in range(4))
    product = matmul((4, 4, 4), PRECISIONS["float64"], members=3, beta=1.0)
    pointers = Pointers(a.pointer, b.pointer, out.pointer, addend=c.pointer)
    fake.refuses_addends = case == "refused"
    trials = ([5.0, 5.0, 5.0] if case == "slower" else []) + [4.0, 3.0, 4.0]
    times, finished = iter(trials * 2), []
    step = Autotuner(planner, timer=lambda run: (run(), next(times))[1]).resolve(
        product, pointers, workspace, STREAM, finish=lambda: finished.append(1)
    )
    assert (step.tier, step.candidate, len(finished)) == (Tier.PLAIN, 1, 6)
    step.run(pointers, workspace, STREAM)
    assert_close(out, a.values() @ b.values())


def test_relu_in_the_epilogue_turns_nan_into_0(planner, workspace, memory):
    """As NVIDIA's does: activations do not show divergence."""
    layer = Layer(memory, (2, 1, 2), PRECISIONS["float32"], 1, shared=False)
    layer.x.flat[0, 0] = np.nan
    pointers = layer.forward_pointers()
    planner.plan(layer.forward(), pointers).run(pointers, workspace, STREAM)
    assert (layer.y.values()[0, 0] == 0).all()
    assert np.isnan(np.maximum(layer.z()[0, 0], 0)).all()


WRONG = {
    "an empty axis": lambda: forward((0, 1, 1), PRECISIONS["float32"]),
    "no operand type 'int8'": lambda: matmul((1, 1, 1), Types("int8", "int8")),
    "bfloat16 operands give no float16 result": lambda: matmul((1, 1, 1), Types("bfloat16", "float16")),
    "float32 operands give no float64 result": lambda: matmul((1, 1, 1), Types("float32", "float64")),
    "TF32 is for float32": lambda: matmul((1, 1, 1), Types("float64", "float64", tf32=True)),
    "results overlap": lambda: forward(
        (2, 1, 1), PRECISIONS["float32"], members=2, strides=Strides(2, 1, 1, 1)
    ),
    "bias gradients overlap": lambda: backward_weights(
        (2, 1, 2), PRECISIONS["float32"], members=2, strides=Strides(4, 2, 2, 0)
    ),
    "adds to its result or to another matrix, not to both": lambda: Product(
        "p", 4, 4, 4, PRECISIONS["float32"], accumulate=True, beta=1.0
    ),
    "is summed over a right operand as it lies": lambda: Product(
        "p", 1, 1, 1, PRECISIONS["float32"], transpose_right=True, epilogue=Epilogue.BGRADA
    ),
}


@over("message", WRONG)
def test_products_that_make_no_sense_are_refused(message):
    with pytest.raises(ValueError, match=message):
        WRONG[message]()


def test_the_strides_of_one_network_are_no_part_of_the_key():
    one = forward((2, 3, 4), PRECISIONS["float32"], strides=Strides(1, 99, 2, 3))
    assert one == forward((2, 3, 4), PRECISIONS["float32"])
    assert one.strides == Strides()


# -- plans -----------------------------------------------------------------------------------------------


def test_a_plan_is_made_once(planner, workspace, small_layer, fake):
    pointers = small_layer.forward_pointers()
    plan = planner.plan(small_layer.forward(), pointers)
    calls = dict(fake.calls)
    assert planner.plan(small_layer.forward(), pointers) is plan
    assert dict(fake.calls) == calls
    assert calls["cublasLtMatmulAlgoGetHeuristic"] == 1


def test_a_refusal_is_remembered(planner, workspace, small_layer, fake):
    fake.refuses = lambda query: True
    for _ in range(2):
        with pytest.raises(RefusedError, match=r"CUBLAS_STATUS_NOT_SUPPORTED \(15\), the requested"):
            planner.plan(small_layer.forward(), small_layer.forward_pointers())
    assert fake.calls["cublasLtMatmulAlgoGetHeuristic"] == 1


def test_no_algorithm_is_a_refusal_too(planner, workspace, small_layer, fake):
    fake.num_algorithms = 0
    with pytest.raises(RefusedError, match="knows no algorithm"):
        planner.plan(small_layer.forward(), small_layer.forward_pointers())


def test_another_error_of_the_heuristic_is_no_refusal(planner, workspace, small_layer, monkeypatch):
    monkeypatch.setattr("coordfit.backends.cupy_backend.cublaslt.plans.MAX_CANDIDATES", 0)
    with pytest.raises(CublasLtError, match=r"AlgoGetHeuristic: CUBLAS_STATUS_INVALID_VALUE \(7\), the"):
        planner.plan(small_layer.forward(), small_layer.forward_pointers())


def test_a_run_is_one_call(planner, workspace, small_layer, fake):
    pointers = small_layer.forward_pointers()
    plan = planner.plan(small_layer.forward(), pointers)
    fake.calls.clear()
    for _ in range(5):
        plan.run(pointers, workspace, STREAM)
    assert fake.calls == {"cublasLtMatmul": 5}
    assert fake.ran == [(0, STREAM)] * 5


def test_a_plan_serves_other_memory(planner, workspace, memory, fake):
    first, second = (Layer(memory, (6, 5, 4), PRECISIONS["float32"], 1, shared=False) for _ in range(2))
    second.b.flat[...] += 1
    plan = planner.plan(first.forward(), first.forward_pointers())
    for layer in (first, second, first):
        layer.y.flat[...] = np.nan
        plan.run(layer.forward_pointers(), workspace, STREAM)
        assert np.allclose(layer.y.values(), np.maximum(layer.z(), 0), atol=1e-5)
    assert fake.calls["cublasLtMatmulAlgoGetHeuristic"] == 1


@each("offset", [4, 16, 64])
@each("which", ["x", "W", "b", "y"])
def test_less_aligned_memory_has_a_plan_of_its_own(planner, workspace, memory, which, offset, fake):
    layer = Layer(memory, (6, 8, 8), PRECISIONS["float32"], 1, shared=False)
    product, pointers = layer.forward(), layer.forward_pointers()
    plan = planner.plan(product, pointers)
    values = getattr(layer, which).values()
    setattr(layer, which, memory.array(values, "float32", offset=offset))
    moved = layer.forward_pointers()
    with pytest.raises(CublasLtError, match=r"EXECUTION_FAILED|NOT_SUPPORTED"):
        plan.run(moved, workspace, STREAM)
    other = planner.plan(product, moved)
    assert other is not plan
    other.run(moved, workspace, STREAM)
    assert np.allclose(layer.y.values(), np.maximum(layer.z(), 0), atol=1e-5)


def test_alignment_counts_every_member():
    product = matmul((4, 4, 4), PRECISIONS["float32"], members=3, strides=Strides(16, 17, 32))
    assert product.alignments(Pointers(1024, 1024, 1024)) == (64, 4, 128, 256, 256)
    assert product.alignments(Pointers(8, 1024, 1024))[0] == 8


@each("fused", [True, False])
def test_a_run_with_a_pointer_too_few_or_too_many_is_refused(planner, workspace, small_layer, fused):
    product = small_layer.forward(bias=fused, relu=fused)
    pointers = small_layer.forward_pointers(bias=fused, relu=fused)
    plan = planner.plan(product, pointers)
    verb = "takes" if fused else "does not take"
    with pytest.raises(ValueError, match=f"{product.epilogue.name} {verb} a bias or its gradient, not address"):
        plan.run(pointers._replace(vector=0 if fused else 256), workspace, STREAM)


# -- the choice of a tier and an algorithm ---------------------------------------------------------------


class Clock:
    """Runs each tier and candidate, and returns a prepared time."""

    def __init__(self, fake, epilogue, plain=(9.0, 9.0, 9.0)):
        self.fake, self.times = fake, {True: epilogue, False: plain}
        self.trials = 0

    def __call__(self, run):
        self.trials += 1
        run()
        candidate, _ = self.fake.ran[-1]
        return self.times[self.fake.ran_epilogue != Epilogue.NONE][candidate]


def taken(planner, clock, layer, workspace, choices=None, finish=lambda: None, product=None):
    autotuner = Autotuner(planner, timer=clock, choices=choices)
    product = product or layer.forward()
    return autotuner.resolve(product, layer.forward_pointers(), workspace, STREAM, finish=finish)


@each("times", [(3.0, 1.0, 2.0), (1.0, 2.0, 3.0), (3.0, 2.0, 1.0)])
def test_the_fastest_algorithm_is_taken(planner, workspace, small_layer, fake, times):
    step = taken(planner, Clock(fake, times), small_layer, workspace)
    assert (step.tier, step.candidate) == (Tier.EPILOGUE, np.argmin(times))
    assert step.milliseconds == {"epilogue": list(times), "plain product and separate kernels": [9.0] * 3}
    fake.ran.clear()
    step.run(small_layer.forward_pointers(), workspace, STREAM)
    assert fake.ran == [(step.candidate, STREAM)]
    assert_close(small_layer.y, np.maximum(small_layer.z(), 0))


def test_an_epilogue_that_is_slower_than_kernels_is_not_taken(planner, workspace, small_layer, fake):
    finished = []
    clock = Clock(fake, (5.0, 5.0, 5.0), (6.0, 4.0, 6.0))
    step = taken(planner, clock, small_layer, workspace, finish=lambda: finished.append(fake.ran[-1][0]))
    assert (step.tier, step.candidate, step.refused) == (Tier.PLAIN, 1, {})
    assert sorted(finished) == [0, 0, 1, 1, 2, 2], "the kernels are part of a trial of a plain product alone"
    step.run(small_layer.forward_pointers(), workspace, STREAM)
    assert len(finished) == 6, "whoever takes the step launches them"
    finish_by_hand(small_layer, step)
    assert_close(small_layer.y, np.maximum(small_layer.z(), 0))


def test_of_two_passes_the_faster_counts(planner, workspace, small_layer, fake):
    slow_at_first = iter([9.0, 5.0, 6.0, 9.0, 9.0, 9.0, 1.0, 5.0, 6.0, 9.0, 9.0, 9.0])
    step = taken(planner, lambda run: (run(), next(slow_at_first))[1], small_layer, workspace)
    assert (step.tier, step.candidate) == (Tier.EPILOGUE, 0)


def test_at_most_eight_algorithms_are_timed(planner, workspace, small_layer, fake):
    fake.num_algorithms = 20
    clock = Clock(fake, range(9, 1, -1), [9.0] * 8)
    assert taken(planner, clock, small_layer, workspace).candidate == 7


def test_where_nothing_can_be_timed_the_first_is_taken(planner, workspace, small_layer, choices):
    step = taken(planner, lambda run: None, small_layer, workspace, choices)
    assert (step.tier, step.candidate, step.milliseconds) == (Tier.EPILOGUE, 0, {})


def test_an_algorithm_that_does_not_run_is_passed_over(planner, workspace, small_layer, fake):
    fake.broken_algorithms = {0, 2}
    step = taken(planner, Clock(fake, (1.0, 5.0, 1.0)), small_layer, workspace)
    assert (step.candidate, step.refused) == (1, {})
    assert step.milliseconds["epilogue"] == [None, 5.0, None]


def test_a_product_of_which_no_algorithm_runs_is_left_to_the_array_library(
    planner, workspace, small_layer, fake
):
    fake.broken_algorithms = {0, 1, 2}
    step = taken(planner, Clock(fake, ()), small_layer, workspace)
    assert step.tier is Tier.LIBRARY
    assert all("no algorithm runs: cublasLtMatmul: CUBLAS" in reason for reason in step.refused.values())


def test_a_product_that_accumulates_is_not_timed(planner, workspace, small_layer, fake):
    autotuner = Autotuner(planner, timer=Clock(fake, ()))
    product, pointers = small_layer.backward_weights(accumulate=True), small_layer.backward_weights_pointers()
    assert autotuner.resolve(product, pointers, workspace, STREAM).tier is Tier.EPILOGUE
    assert fake.ran == []


def test_nothing_is_planned_while_a_step_is_recorded(planner, workspace, small_layer, fake):
    autotuner, pointers = Autotuner(planner), small_layer.forward_pointers()
    calls = dict(fake.calls)
    with pytest.raises(RuntimeError, match=r"the recorded step has forward 3 x .*, which the steps before"):
        autotuner.resolve(small_layer.forward(), pointers, workspace, STREAM, is_recording=True)
    assert dict(fake.calls) == calls
    step = autotuner.resolve(small_layer.forward(), pointers, workspace, STREAM)
    assert autotuner.resolve(small_layer.forward(), pointers, workspace, STREAM, is_recording=True) is step


def test_what_is_read_off_an_algorithm_is_in_the_report(planner, workspace, small_layer, fake):
    autotuner = Autotuner(planner, timer=Clock(fake, (3.0, 3.0, 1.0)))
    autotuner.resolve(small_layer.forward(), small_layer.forward_pointers(), workspace, STREAM)
    (row,) = autotuner.report()
    assert (row["algorithm"], row["tile"], row["splits"], row["cluster"]) == (2, 20, 3, None)


# -- choices that are kept -------------------------------------------------------------------------------


@pytest.fixture
def choices(tmp_path):
    return Choices(tmp_path / "cache" / "products.sqlite", "a GPU", "13.1.2")


def test_a_later_process_takes_what_was_fastest_without_timing_it(
    library, planner, workspace, small_layer, fake, choices
):
    first = taken(planner, Clock(fake, (3.0, 1.0, 2.0)), small_layer, workspace, choices)
    clock = Clock(fake, (1.0, 3.0, 3.0))
    same = Choices(choices.file, "a GPU", "13.1.2")
    again = taken(Planner(library), clock, small_layer, workspace, same)
    assert clock.trials == 0
    assert (again.tier, again.candidate, again.milliseconds) == (first.tier, 1, first.milliseconds)


@each("other", [("another GPU", "13.1.2"), ("a GPU", "13.2.0")])
def test_choices_are_of_one_gpu_and_one_library(library, planner, workspace, small_layer, fake, choices, other):
    taken(planner, Clock(fake, (3.0, 1.0, 2.0)), small_layer, workspace, choices)
    elsewhere = Choices(choices.file, *other)
    assert taken(planner, Clock(fake, (1.0, 3.0, 3.0)), small_layer, workspace, elsewhere).candidate == 0


def test_of_two_processes_that_choose_at_once_the_first_is_followed(
    library, planner, workspace, small_layer, fake, choices
):
    class Rival(Clock):
        """While this process times, another one keeps its own choice."""

        def __call__(self, run):
            if not self.trials:
                taken(Planner(library), Clock(fake, (3.0, 3.0, 1.0)), small_layer, workspace, choices)
            return super().__call__(run)

    step = taken(planner, Rival(fake, (1.0, 3.0, 3.0)), small_layer, workspace, choices)
    assert (step.candidate, step.milliseconds["epilogue"]) == (2, [3.0, 3.0, 1.0])


def test_a_choice_that_the_library_does_not_offer_is_made_anew(
    library, planner, workspace, small_layer, fake, choices
):
    fake.num_algorithms = 3
    taken(planner, Clock(fake, (3.0, 2.0, 1.0)), small_layer, workspace, choices)
    fake.num_algorithms = 2
    for candidate in (1, 1):
        step = taken(Planner(library), Clock(fake, (3.0, 2.0)), small_layer, workspace, choices)
        assert step.candidate == candidate


@each("damage", ["not a database", "a folder", "a broken table"])
def test_a_file_that_is_no_place_for_choices_says_so(tmp_path, damage):
    file = tmp_path / "products.sqlite"
    if damage == "a folder":
        file.mkdir()
    elif damage == "not a database":
        file.write_bytes(b"mine, and no database" * 100)
    else:
        with contextlib.closing(sqlite3.connect(file)) as database:
            database.execute("CREATE TABLE products (other TEXT)")
    with pytest.raises(OSError, match=r"products\.sqlite"):
        Choices(file, "a GPU", "13.1.2")


def test_a_file_that_goes_bad_in_the_middle_of_a_run_stops_nothing(
    planner, workspace, small_layer, fake, choices
):
    choices.file.write_bytes(b"no database any more" * 100)
    step = taken(planner, Clock(fake, (3.0, 1.0, 2.0)), small_layer, workspace, choices)
    assert step.candidate == 1


def test_algorithms_keep_to_the_workspace(library, workspace, small_layer, fake):
    fake.num_algorithms = 8
    planner = Planner(library, 2 * WORKSPACE_STEP)
    plan = planner.plan(small_layer.forward(), small_layer.forward_pointers())
    assert len(plan.candidates) == 3
    with pytest.raises(CublasLtError, match="INVALID_VALUE"):
        plan.run(small_layer.forward_pointers(), Workspace(256, WORKSPACE_STEP), STREAM, candidate=2)


def test_a_workspace_lies_on_256_bytes():
    with pytest.raises(ValueError, match="a multiple of 256 bytes, not at 0x180"):
        Workspace(0x180)


def test_a_run_that_fails_names_product_and_status(planner, workspace, small_layer, fake):
    pointers = small_layer.forward_pointers()
    plan = planner.plan(small_layer.forward(), pointers)
    fake.broken_algorithms = {0}
    message = r"^cublasLtMatmul: CUBLAS_STATUS_EXECUTION_FAILED \(13\), .* for forward 3 x \(6, 5\) \(5, 4\) in"
    with pytest.raises(CublasLtError, match=message) as caught:
        plan.run(pointers, workspace, STREAM)
    assert caught.value.status == 13


# -- the autotuner ------------------------------------------------------------------------------------------


def finish_by_hand(layer, step):
    """The work of separate kernels after a plain product, and the array library's product."""
    if step.tier is Tier.LIBRARY:
        layer.y.flat[:, : layer.rows * layer.n_out] = layer.z(bias=False).reshape(layer.members, -1)
    z = layer.y.values() + layer.b.values()
    layer.y.flat[:, : layer.rows * layer.n_out] = np.maximum(z, 0).reshape(layer.members, -1)


REFUSALS = {
    Tier.EPILOGUE: lambda query: False,
    Tier.PLAIN: lambda query: query.epilogue != 1,
    Tier.LIBRARY: lambda query: True,
}


@each("tier", list(Tier))
def test_every_tier_computes_the_same(planner, workspace, small_layer, fake, tier):
    fake.refuses = REFUSALS[tier]
    layer, pointers = small_layer, small_layer.forward_pointers()
    step = Autotuner(planner).resolve(layer.forward(), pointers, workspace, STREAM)
    assert step.tier is tier
    if step.tier is not Tier.LIBRARY:
        step.run(pointers, workspace, STREAM)
    if step.tier is not Tier.EPILOGUE:
        finish_by_hand(layer, step)
    assert_close(layer.y, np.maximum(layer.z(), 0))
    assert list(step.refused) == list(Tier)[: list(Tier).index(tier)]


def test_a_step_is_found_once(planner, workspace, small_layer, fake):
    autotuner, pointers = Autotuner(planner), small_layer.forward_pointers()
    fake.refuses = REFUSALS[Tier.LIBRARY]
    step = autotuner.resolve(small_layer.forward(), pointers, workspace, STREAM)
    calls = dict(fake.calls)
    assert autotuner.resolve(small_layer.forward(), pointers, workspace, STREAM) is step
    assert dict(fake.calls) == calls


def test_a_plain_product_has_no_tier_of_an_epilogue(planner, workspace, small_layer):
    nothing = {"bias": False, "relu": False}
    product, pointers = small_layer.forward(**nothing), small_layer.forward_pointers(**nothing)
    assert Autotuner(planner).resolve(product, pointers, workspace, STREAM).tier is Tier.PLAIN


def test_fused_always_does_not_step_below_cublaslt(planner, workspace, memory, fake):
    layer = Layer(memory, (6, 5, 4), PRECISIONS["bfloat16"], 1, shared=False)
    autotuner, pointers = Autotuner(planner, fused="always"), layer.forward_pointers()
    fake.refuses = lambda query: query.operand == R16BF
    with pytest.raises(FusedUnavailableError) as caught:
        autotuner.resolve(layer.forward(), pointers, workspace, STREAM)
    assert str(caught.value) == (
        "fused=always, but cublasLt cannot compute forward (6, 5) (5, 4) in bfloat16 "
        f"(epilogue: {REASON}; plain product and separate kernels: {REASON})"
    )


def test_fused_always_takes_the_plain_product(planner, workspace, small_layer, fake):
    fake.refuses = REFUSALS[Tier.PLAIN]
    pointers = small_layer.forward_pointers()
    autotuner = Autotuner(planner, fused="always")
    assert autotuner.resolve(small_layer.forward(), pointers, workspace, STREAM).tier is Tier.PLAIN


def test_a_fault_of_the_library_is_told_in_the_report_or_loudly(planner, workspace, small_layer, monkeypatch):
    monkeypatch.setattr("coordfit.backends.cupy_backend.cublaslt.plans.MAX_CANDIDATES", 0)
    product, pointers = small_layer.forward(), small_layer.forward_pointers()
    step = Autotuner(planner).resolve(product, pointers, workspace, STREAM)
    assert step.tier is Tier.LIBRARY
    assert all("CUBLAS_STATUS_INVALID_VALUE" in reason for reason in step.refused.values())
    assert "CUBLAS_STATUS_INVALID_VALUE" in planner.probe(product)
    with pytest.raises(CublasLtError, match="CUBLAS_STATUS_INVALID_VALUE"):
        Autotuner(planner, fused="always").resolve(product, pointers, workspace, STREAM)


def test_without_cublaslt_the_array_library_is_left(workspace, small_layer):
    autotuner = Autotuner(None, why="no library")
    step = autotuner.resolve(small_layer.forward(), small_layer.forward_pointers(), workspace, STREAM)
    assert (step.tier, step.plan) == (Tier.LIBRARY, None)
    assert step.refused == {Tier.EPILOGUE: "no library", Tier.PLAIN: "no library"}
    with pytest.raises(ValueError, match="the array library computes this product"):
        step.run(small_layer.forward_pointers(), workspace, STREAM)
    with pytest.raises(FusedUnavailableError, match="no library"):
        Autotuner(None, "always", "no library").resolve(
            small_layer.forward(), small_layer.forward_pointers(), workspace, STREAM
        )


def test_fused_never_asks_for_nothing(planner, workspace, small_layer, fake):
    autotuner = Autotuner(planner, fused="never")
    step = autotuner.resolve(small_layer.forward(), small_layer.forward_pointers(), workspace, STREAM)
    assert step.tier is Tier.LIBRARY
    assert not fake.calls["cublasLtMatmulAlgoGetHeuristic"]
    with pytest.raises(ValueError, match="fused must be one of"):
        Autotuner(planner, fused="sometimes")


def test_what_was_taken_can_be_read_back(library, workspace, memory, fake):
    fake.refuses = lambda query: query.epilogue == Epilogue.BGRADA
    autotuner = Autotuner(Planner(library), timer=Clock(fake, (2.0, 1.0, 3.0), (4.0, 4.5, 5.0)))
    layer = Layer(memory, (6, 5, 4), PRECISIONS["float16"], 3, shared=True)
    autotuner.resolve(layer.forward(), layer.forward_pointers(), workspace, STREAM)
    autotuner.resolve(layer.backward_weights(), layer.backward_weights_pointers(), workspace, STREAM)
    first, second = autotuner.report()
    assert first["tier"] == "epilogue"
    assert first["milliseconds"]["epilogue"] == [2.0, 1.0, 3.0]
    assert (first["choice"], first["candidates"], first["workspace_bytes"]) == (1, 3, WORKSPACE_STEP)
    assert second | {"milliseconds": None, "alignments": None} == {
        "product": "backward weights",
        "rows": 5,
        "columns": 4,
        "inner": 6,
        "members": 3,
        "types": "float16 -> float32",
        "epilogue": "BGRADA",
        "accumulate": False,
        "alpha": 1.0,
        "beta": 0.0,
        "alignments": None,
        "tier": "plain product and separate kernels",
        "refused": {"epilogue": REASON},
        "choice": 0,
        "candidates": 3,
        "milliseconds": None,
        "workspace_bytes": 0,
        "algorithm": 0,
        "tile": 20,
        "splits": 1,
        "cluster": None,
    }


def test_a_survey_asks_for_every_product_in_every_precision(planner, fake):
    fake.refuses = lambda query: query.operand == R16BF or (0 in query.strides[:2] and query.batch > 1)
    table = refused_products(planner, rows=512, width=64)
    assert {row["types"] for row in table} >= {"float64", "float32", "tf32", "bfloat16", "float16"}
    assert {row["epilogue"] for row in table} == {
        "NONE",
        "BIAS",
        "RELU_BIAS",
        "BGRADA",
    }
    assert {row["members"] for row in table if row["beta"]} == {1, 3}
    refused = [row for row in table if row["refused"]]
    assert {row["shared"] for row in refused if "bfloat16" not in row["types"]} == {True}
    assert all(row["refused"] for row in table if "bfloat16" in row["types"] or row["shared"])
    assert len(table) == len({tuple(row.values()) for row in table})
    assert not fake.ran


# -- objects and errors of the library -------------------------------------------------------------------


def test_descriptors_are_destroyed_when_they_are_let_go(library, fake):
    for kind, arguments in {"": (), "MatmulDesc": (68, 0), "MatrixLayout": (0, 4, 4, 4)}.items():
        descriptor = Descriptor(library, kind, *arguments)
        assert len(fake.live) == 1
        descriptor.close()
        descriptor.close()
        assert not fake.live
    Descriptor(library, "MatmulPreference")
    assert not fake.live


def test_a_refused_plan_leaves_nothing_behind(planner, workspace, small_layer, fake):
    before = set(fake.live)
    fake.refuses = lambda query: True
    with pytest.raises(RefusedError):
        planner.plan(small_layer.forward(), small_layer.forward_pointers())
    assert planner.probe(small_layer.forward())
    assert set(fake.live) == before


def test_a_probe_leaves_nothing_behind(planner, small_layer, fake):
    before = set(fake.live)
    assert planner.probe(small_layer.forward()) == ""
    assert set(fake.live) == before


def of_type(attribute, ctype):
    """An attribute as if it had another C type."""
    return types.SimpleNamespace(kind=attribute.kind, number=attribute.number, ctype=ctype)


def test_an_attribute_of_another_kind_is_refused(library):
    layout = Descriptor(library, "MatrixLayout", 0, 4, 4, 4)
    with pytest.raises(ValueError, match="is no attribute of a MatrixLayout"):
        layout.set(Attribute.TRANSPOSE_A, 1)
    with pytest.raises(ValueError, match="is no attribute of a handle"):
        Descriptor(library, "").set(Attribute.TRANSPOSE_A, 1)


def test_an_error_has_the_librarys_own_words(library):
    desc = Descriptor(library, "MatmulDesc", 68, 0)
    message = r"^cublasLtMatmulDescSetAttribute: CUBLAS_STATUS_INVALID_VALUE \(7\), the parameters conflict$"
    with pytest.raises(CublasLtError, match=message) as caught:
        desc.set(of_type(Attribute.EPILOGUE, ctypes.c_uint16), 1)
    assert (caught.value.call, caught.value.status) == ("cublasLtMatmulDescSetAttribute", 7)
    assert library.status_text(99) == "unknown (99), no such status"


def test_the_structures_have_the_sizes_of_the_header():
    assert ctypes.sizeof(Algorithm) == 64
    assert ctypes.sizeof(HeuristicResult) == 96


# -- where the library is --------------------------------------------------------------------------------


class OtherCuda(FakeCublasLt):
    """A library for CUDA 12."""

    def __post_init__(self):
        super().__post_init__()
        self._export("cublasLtGetVersion", ctypes.c_size_t, [], lambda: 120903)


def places(monkeypatch, **libraries):
    """Make the search find these libraries by path; a string is the message of an OSError."""

    def open_library(path):
        if isinstance(libraries[path], str):
            raise OSError(libraries[path])
        return libraries[path], path

    table = [(path, lambda path=path: open_library(path)) for path in libraries]
    monkeypatch.setattr(library_module, "_places", lambda cuda_major: table)


def test_the_first_library_that_loads_is_taken(monkeypatch):
    places(monkeypatch, a="no such file\nmore", b=FakeCublasLt(), c=OtherCuda())
    assert load().path == "b"
    assert load().version == (13, 1, 2)


def test_a_library_for_another_cuda_is_passed_over(monkeypatch):
    places(monkeypatch, a=FakeCublasLt(), b=OtherCuda())
    assert load(cuda_major=12).path == "b"


def test_what_was_tried_is_told(monkeypatch):
    places(monkeypatch, a="no such file\nmore", b=OtherCuda(), c=types.SimpleNamespace())
    with pytest.raises(CublasLtUnavailableError) as caught:
        load(cuda_major=13)
    assert str(caught.value).startswith(
        "no cublasLt library: a: no such file; b: b is for CUDA 12, not 13; c: 'types.SimpleNamespace' object"
    )


@pytest.mark.parametrize(("platform", "name"), [("win32", "cublasLt64_13.dll"), ("linux", "libcublasLt.so.13")])
def test_the_library_is_known_by_its_name_on_each_system(monkeypatch, platform, name):
    monkeypatch.setattr("sys.platform", platform)
    *_, (place, open_library) = library_module._places(13)
    assert (place, open_library.args) == ("by the system", (name,))


# -- the fake refuses what the real library refuses ------------------------------------------------------


def asked(fake, library, product, change=lambda desc, a, b, d: None):
    """Return the heuristic's status for a product after a change of its descriptors."""
    operation = Operation(library, product)
    pointers = Pointers(256, 256, 256, 256)
    operation.point(256 * product.epilogue.has_vector)
    told = [
        fake.live[x.value.value][1] for x in (operation.desc, operation.right, operation.left, operation.out)
    ]
    change(*told)
    handle = Descriptor(library, "")
    try:
        operation.algorithms(handle, product.alignments(pointers), 0)
    except RefusedError:
        return NOT_SUPPORTED
    except CublasLtError as error:
        return error.status
    return SUCCESS


def to_row_order(desc, a, b, d):
    for layout in (a, b, d):
        layout.update(order=ROW_ORDER, ld=layout["columns"])


CHANGES = {
    "no change": (SUCCESS, lambda desc, a, b, d: None),
    "row order": (NOT_SUPPORTED, to_row_order),
    "no bias": (NOT_SUPPORTED, lambda desc, a, b, d: desc.update(bias=0)),
    "unknown types": (NOT_SUPPORTED, lambda desc, a, b, d: d.update(type=3)),
    "matrices that do not fit": (INVALID_VALUE, lambda desc, a, b, d: a.update(rows=9)),
    "columns that overlap": (INVALID_VALUE, lambda desc, a, b, d: b.update(ld=1)),
    "members that are not as many": (INVALID_VALUE, lambda desc, a, b, d: d.update(batch=2)),
}


@pytest.mark.parametrize(("status", "change"), CHANGES.values(), ids=CHANGES)
def test_the_fake_refuses(fake, library, small_layer, status, change):
    assert asked(fake, library, small_layer.forward(), change) == status


def test_the_fake_refuses_a_bias_gradient_of_a_transposed_operand(fake, library):
    product = backward_weights((5, 5, 5), PRECISIONS["float32"])
    assert asked(fake, library, product) == SUCCESS
    change = {"transpose_a": 1}
    assert asked(fake, library, product, lambda desc, a, b, d: desc.update(change)) == NOT_SUPPORTED


def test_the_fake_multiplies_row_major_matrices_without_an_epilogue(fake, library):
    product = forward((6, 5, 4), PRECISIONS["float32"], bias=False, relu=False)
    assert asked(fake, library, product, to_row_order) == SUCCESS


def test_the_fake_refuses_the_algorithm_of_another_product(planner, workspace, small_layer):
    plan = planner.plan(small_layer.forward(), small_layer.forward_pointers())
    product, pointers = small_layer.backward_weights(), small_layer.backward_weights_pointers()
    other = planner.plan(product, pointers)
    other.candidates[0].algorithm = plan.candidates[0].algorithm
    with pytest.raises(CublasLtError, match="INVALID_VALUE"):
        other.run(pointers, workspace, STREAM)


def test_bfloat16_is_rounded_to_nearest_even():
    values = np.array(
        [1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -(2.0**127), np.inf, np.nan], np.float32
    )
    expected = [1.0, 1.0, 1 + 2**-6, 1 + 2**-7, -(2.0**127), np.inf, np.nan]
    np.testing.assert_array_equal(from_bfloat16(to_bfloat16(values)), expected)
    assert lowest_bit(96) == 32


# -- the real library, without a driver ------------------------------------------------------------------


@pytest.fixture(scope="module")
def real():
    try:
        return load()
    except CublasLtUnavailableError as error:
        needs.skip("cublaslt", f"{error}; pip install nvidia-cublas-cu12 cuda-pathfinder")


MAKERS = {"MatmulDesc": (68, 0), "MatrixLayout": (0, 4, 4, 4), "MatmulPreference": ()}


def read_attribute(descriptor, attribute):
    read = getattr(descriptor.library.functions, f"cublasLt{descriptor.kind}GetAttribute")
    read.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    cell, written = attribute.ctype(), ctypes.c_size_t()
    size = ctypes.sizeof(cell)
    status = read(descriptor.value, attribute.number, ctypes.byref(cell), size, ctypes.byref(written))
    assert (status, written.value) == (SUCCESS, size)
    return cell.value


@over("attribute", list(Attribute))
def test_the_real_library_takes_every_attribute(real, attribute):
    descriptor = Descriptor(real, attribute.kind, *MAKERS[attribute.kind])
    descriptor.set(attribute, 128)
    assert read_attribute(descriptor, attribute) == 128
    for wrong in (ctypes.c_uint16, ctypes.c_uint32, ctypes.c_uint64):
        if ctypes.sizeof(wrong) != ctypes.sizeof(attribute.ctype):
            with pytest.raises(CublasLtError, match="CUBLAS_STATUS_INVALID_VALUE"):
                descriptor.set(of_type(attribute, wrong), 128)


def all_told(operation):
    """Return all attributes of a product's descriptor and layouts, as the library has them."""
    return {
        (which, attribute.number): read_attribute(getattr(operation, which), attribute)
        for which in ("desc", "left", "right", "out")
        for attribute in Attribute
        if attribute.kind == getattr(operation, which).kind
    }


def test_the_real_library_keeps_what_it_was_told(real):
    product = forward((33, 7, 130), PRECISIONS["bfloat16"], members=3, strides=Strides(0, 999, 33 * 130, 888))
    operation = Operation(real, product)
    operation.point(4096, 8192)
    told = all_told(operation)
    assert {key[1]: value for key, value in told.items() if key[0] == "desc"} == {
        3: 0,
        4: 0,
        7: 134,
        8: 4096,
        10: 888,
        11: 8192,
        12: 256,
        13: 256 * 33,
    }
    strides = {which: (told[which, 5], told[which, 6]) for which in ("left", "right", "out")}
    assert strides == {"left": (3, 0), "right": (3, 999), "out": (3, 33 * 130)}


@over("precision_name", list(PRECISIONS))
def test_every_product_can_be_told_to_the_real_library(real, precision_name):
    types_, sizes = PRECISIONS[precision_name], (6, 5, 4)
    for members in (1, 3):
        for product in (
            forward(sizes, types_, members=members),
            backward_input(sizes, types_, members=members),
            backward_weights(sizes, types_, members=members),
            matmul(sizes, types_, beta=1.0, members=members),
        ):
            operation = Operation(real, product)
            assert all_told(operation)["desc", 7] == product.epilogue
            operation.close()


def test_the_real_library_has_words_for_a_status(real):
    assert real.version[0] in (12, 13)
    assert real.status_text(NOT_SUPPORTED).startswith("CUBLAS_STATUS_NOT_SUPPORTED (15), the requested")


def test_the_fake_has_the_sizes_of_the_real_library(real):
    """A fake with another size of an attribute than the library's would hide a wrong call."""
    from support.fake_cublaslt import ATTRIBUTES as OF_FAKE

    for kind, attributes in OF_FAKE.items():
        descriptor = Descriptor(real, kind, *MAKERS[kind])
        for number, (_, ctype) in attributes.items():
            descriptor.library.call(
                f"cublasLt{kind}SetAttribute",
                descriptor.value,
                number,
                ctypes.byref(ctype(4)),
                ctypes.sizeof(ctype),
            )
