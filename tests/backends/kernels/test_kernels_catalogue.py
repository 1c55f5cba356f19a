"""The catalogue of kernels agrees with their sources; launches cast what they are given."""

import re
from pathlib import Path

import coordfit.backends.cupy_backend.kernels as kernels
import numpy as np
import pytest
from coordfit.backends.cupy_backend.kernels import (
    ARRAY_DTYPES,
    DECLARATION,
    FILES,
    KERNELS,
    SHARED,
    Launcher,
    blocks_for,
    source,
)
from coordfit.backends.lowering.cuda_text import cuda_activation, cuda_rule

from coordfit.network.activations import Sine
from coordfit.optimizers.sgd import SGD

FOLDER = Path(kernels.__file__).parent
SCALARS = {"int32": np.int32, "int64": np.int64, "float64": np.float64}


@pytest.mark.parametrize("file", FILES)
def test_every_kernel_of_a_file_has_instances(file):
    text = (FOLDER / file).read_text(encoding="utf-8")
    assert sorted(re.findall(DECLARATION, text)) == sorted(FILES[file])
    assert text.count("__global__") == len(FILES[file])


def test_every_file_is_named():
    assert {*FILES, SHARED} == {path.name for path in FOLDER.glob("*.cu")}


def test_a_declaration_is_read_with_its_templates():
    kernel = KERNELS["column_sums"]
    assert kernel.template == ("T",)
    types = ("T*", "int64", "wide<T>*", "int64", "int64", "int")
    names = ("x", "x_stride", "partials", "partials_stride", "rows", "width")
    assert kernel.signature == tuple(zip(types, names, strict=True))
    assert KERNELS["head_step"].template == ("T", "C", "chunks", "F", "L", "P")


@pytest.mark.parametrize("file", FILES)
def test_sources_include_nothing_and_add_without_atomics(file):
    assert "#include" not in source(file)
    assert "atomic" not in source(file).replace("Floating-point atomics", "")


def test_arrays_and_scalars_have_a_dtype():
    for kernel in KERNELS.values():
        for instance in kernel.instances:
            for parameter in kernel.parameters(instance):
                known = ARRAY_DTYPES if parameter.is_array else kernels.SCALAR_DTYPES
                assert parameter.type in (*known, *kernels.FORMULAS), (kernel.name, parameter)


def test_names_of_instances():
    assert KERNELS["batch_order"].expression(()) == "batch_order"
    assert KERNELS["column_sums"].expression(("bf16",)) == "column_sums<bf16>"


def test_wide_is_float_for_all_but_double():
    types = {p.name: p.type for p in KERNELS["head_step"].parameters(("bf16", "3", "1"))}
    assert (types["h"], types["W"], types["values"]) == ("bf16", "float", "double")
    types = {p.name: p.type for p in KERNELS["head_step"].parameters(("double", "3", "1"))}
    assert (types["h"], types["W"]) == ("double", "double")


class Calls(list):
    """A loader whose functions note their calls."""

    loads = 0

    def get_function(self, file, expression, formulas):
        self.loads += 1
        return lambda *call: self.append((file, expression, *call))


@pytest.fixture
def calls():
    return Calls()


@pytest.fixture
def launch(calls):
    return Launcher(calls.get_function, SCALARS)


def test_a_launch_casts_every_scalar_and_loads_once(launch, calls):
    a, sine = np.zeros(4, np.float32), cuda_activation(Sine())
    for _ in range(2):
        launch("bias_activation", ("float",), (3, 2), a, 4, a, np.int32(0), a, True, 4, 1, sine)
    assert calls.loads == 1
    file, expression, grid, block, arguments = calls[-1]
    assert (file, expression, grid, block) == (
        "elementwise.cu",
        f"bias_activation<float, {sine.name}>",
        (3, 2, 1),
        (256, 1, 1),
    )
    names = ["ndarray", "int64", "ndarray", "int64", "ndarray", "int64", "int64", "int32", "ndarray"]
    assert [type(argument).__name__ for argument in arguments] == names


def test_none_is_a_null_pointer_of_eight_bytes(launch, calls):
    p, rate = np.zeros(4), np.zeros(1)
    step, rule = np.ones(1, np.int64), cuda_rule(SGD())
    launch(
        "optimizer_step", ("double", "double"), (1, 1), p, p, None, None, None, None, None, 4, 4, None,
        0, step, rate, 0, rule, 1,
    )  # fmt: skip
    nulls = calls[-1][-1][2:7]
    assert [(null.dtype.name, int(null)) for null in nulls] == [("int64", 0)] * 5


@pytest.mark.parametrize("dtype", ["float64", "int32", "uint16"])
def test_an_array_of_another_type_is_refused(launch, dtype):
    total, part = np.zeros(4, np.float32), np.zeros(4, dtype)
    with pytest.raises(TypeError, match=f"part must be an array of float, not of {dtype}"):
        launch("add", ("float",), (1, 1), total, 0, part, 0, 4)


def test_what_cannot_be_launched_is_refused(launch):
    step = np.zeros(1, np.int64)
    with pytest.raises(TypeError, match="advance takes 1 arguments, not 2"):
        launch("advance", (), (1, 1), step, 0)
    with pytest.raises(ValueError, match=r"no kernel add<bf16>; there are add<float>, add<double>"):
        launch("add", ("bf16",), (1, 1), step)
    for grid in ((0, 1), (1, 0), (1, 65_536)):
        with pytest.raises(ValueError, match="cannot be launched on a grid"):
            launch("advance", (), grid, step)


def test_blocks_depend_on_the_size_alone():
    assert [blocks_for(n) for n in (0, 1, 256, 257, 10**9)] == [1, 1, 1, 2, 1024]
    assert blocks_for(33, 32, most=2) == 2
