"""The CUDA kernels: their texts, which instances there are, and how one is launched. Imports no array library.

A kernel is a C++ template in one of the `.cu` files beside this one. Those files include nothing, so they
compile wherever NVRTC is: `source` puts the texts together that a file needs. With CuPy a loader is

    def get_function(file, expression, formulas):
        module = cupy.RawModule(code=source(file, formulas), options=OPTIONS, name_expressions=[expression])
        return module.get_function(expression)

which compiles what is used and no more (CuPy keeps it on disk). The tests put the same texts through g++
instead, behind the same `Launcher`. Activations, losses and optimizers are formulas: structs whose text is
generated (`lowering.cuda_text`) and stands before the file's, which kernels take as template parameters.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...lowering.cuda_text import CudaFormula

OPTIONS = ("-std=c++17",)

FILES: dict[str, tuple[str, ...]] = {
    "features.cu": ("storage.cu",),
    "batch_order.cu": ("storage.cu",),
    "elementwise.cu": ("storage.cu",),
    "partials.cu": ("storage.cu",),
    "loss.cu": ("storage.cu",),
    "head.cu": ("storage.cu",),
    "optimizers.cu": ("storage.cu",),
}
"""Files that hold kernels, each with the files whose text goes before its own."""

ARRAY_DTYPES: dict[str, tuple[str, ...]] = {
    "float": ("float32",),
    "double": ("float64",),
    "bf16": ("uint16", "bfloat16"),
    "half": ("uint16", "float16"),
    "int64": ("int64",),
    "uint32": ("uint32",),
}
"""C++ types of array elements, and the names of the dtypes that have their bits."""

FORMULAS = ("F", "L", "P", "R")
"""Template parameters that are formulas: an activation, a loss, the activation before, an optimizer's rule."""

SCALAR_DTYPES = {"int": "int32", "int64": "int64", "double": "float64"}
"""C++ types of the other arguments. All real numbers travel as double, and kernels narrow them."""

_MAX_GRID_Y = 65_535  # CUDA's limit, and so ours for the members of one launch


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel: its name, the type of its elements or its own, and whether it is an array."""

    name: str
    type: str
    is_array: bool


@dataclass(frozen=True)
class Kernel:
    """One kernel template.

    Parameters
    ----------
    name, file : str
    signature : str
        Its parameters as they stand in the file, without `const` and `__restrict__`.
    template : tuple of str
        Names of its template parameters, formulas last; a parameter whose type is one of FORMULAS is a formula.
    instances : tuple of tuples of str
        What they stand for in each instance that is compiled, but for formulas.
    block : int
        Threads of a block.
    """

    name: str
    file: str
    signature: str
    template: tuple[str, ...] = ()
    instances: tuple[tuple[str, ...], ...] = ((),)
    block: int = 256

    def expression(self, instance: tuple[str, ...], formulas: Sequence[CudaFormula] = ()) -> str:
        """Return the C++ name of an instance, with formulas in the order of the parameters."""
        words = (*instance, *(formula.name for formula in formulas))
        return f"{self.name}<{', '.join(words)}>" if words else self.name

    @property
    def takes_formulas(self) -> bool:
        """Whether a launch brings formulas."""
        return any(name in FORMULAS for name in self.template)

    def parameters(self, instance: tuple[str, ...]) -> list[Parameter]:
        """The parameters of an instance, with its types in the place of the template's."""
        if instance not in self.instances:
            known = ", ".join(self.expression(each) for each in self.instances)
            raise ValueError(f"there is no kernel {self.expression(instance)}; there are {known}")
        types = dict(zip(self.template, instance, strict=False))
        found = []
        for text in self.signature.split(","):
            type_name, name = text.split()
            element = type_name.removesuffix("*")
            if wide := re.fullmatch(r"wide<(\w+)>", element):
                element = "double" if types[wide[1]] == "double" else "float"
            found.append(Parameter(name, types.get(element, element), type_name.endswith("*")))
        return found


_FLOATS = (("float",), ("double",))
_STORED = (*_FLOATS, ("bf16",), ("half",))
# Computed in the first type, stored in the second.
_FEATURES = (("float", "float"), ("double", "double"), ("float", "bf16"), ("float", "half"))
_CASTS = (("float", "bf16"), ("float", "half"), ("bf16", "float"), ("half", "float"))
# Parameters, and their copy in 16 bits; without one, its type does not matter.
_UPDATED = (("float", "float"), ("float", "bf16"), ("float", "half"), ("double", "double"))
_HEADS = tuple((*stored, str(channels)) for stored in _STORED for channels in (1, 2, 3, 4))

KERNELS: dict[str, Kernel] = {
    kernel.name: kernel
    for kernel in (
        Kernel(
            "fourier_features",
            "features.cu",
            "T* coordinates, int64 coordinates_stride, T* B, int64 B_stride, O* out, int64 out_stride, "
            "int64 rows, int m",
            ("T", "O"),
            _FEATURES,
        ),
        Kernel(
            "pixel_fourier_features",
            "features.cu",
            "int64* index, int64 index_stride, T* B, int64 B_stride, O* out, int64 out_stride, int64 rows, "
            "int m, int64 columns, double x_scale, double x_start, double y_scale, double y_start",
            ("T", "O"),
            _FEATURES,
        ),
        Kernel(
            "grid_fourier_features",
            "features.cu",
            "T* cos_x, T* sin_x, T* cos_y, T* sin_y, int64 pitch, O* out, int64 start, int64 rows, int m, "
            "int64 width",
            ("T", "O"),
            _FEATURES,
        ),
        Kernel(
            "take_rows",
            "features.cu",
            "T* array, int64 array_stride, int64* index, int64 index_stride, T* out, int64 out_stride, "
            "int64 rows, int width",
            ("T",),
            _STORED,
        ),
        Kernel(
            "batch_order",
            "batch_order.cu",
            "int64* step, int64 step_offset, uint32* seeds, int64* out, int64 out_stride, int64 n, "
            "int64 batch_size",
        ),
        Kernel(
            "bias_activation",
            "elementwise.cu",
            "T* z, int64 z_stride, wide<T>* bias, int64 bias_stride, T* y, int64 y_stride, int64 rows, "
            "int width, F activation",
            ("T", "F"),
            _STORED,
        ),
        Kernel(
            "activation_backward",
            "elementwise.cu",
            "T* dy, int64 dy_stride, T* saved, int64 saved_stride, T* dz, int64 dz_stride, int64 count, "
            "F activation",
            ("T", "F"),
            _STORED,
        ),
        Kernel(
            "column_sums",
            "elementwise.cu",
            "T* x, int64 x_stride, wide<T>* partials, int64 partials_stride, int64 rows, int width",
            ("T",),
            _STORED,
        ),
        Kernel(
            "add",
            "elementwise.cu",
            "T* total, int64 total_stride, T* part, int64 part_stride, int64 count",
            ("T",),
            _FLOATS,
        ),
        Kernel(
            "cast",
            "elementwise.cu",
            "T* from, int64 from_stride, O* to, int64 to_stride, int64 count",
            ("T", "O"),
            _CASTS,
        ),
        Kernel(
            "sum_partials",
            "partials.cu",
            "T* partials, int64 partials_stride, T* out, int64 out_stride, int parts, int64 width, "
            "int accumulate",
            ("T",),
            _FLOATS,
        ),
        Kernel(
            "sum_values",
            "partials.cu",
            "double* partials, int64 partials_stride, int parts, double scale, O* history, "
            "int64 history_stride, int64 length, int64* step, int64 step_offset, int accumulate",
            ("O",),
            _FLOATS,
        ),
        Kernel(
            "loss_and_gradient",
            "loss.cu",
            "T* prediction, int64 prediction_stride, wide<T>* target, int64 target_stride, "
            "wide<T>* weights, int64 weights_stride, T* dy, int64 dy_stride, double* partials, "
            "int64 partials_stride, int64 rows, int channels, double gradient_scale, L loss",
            ("T", "L"),
            _STORED,
        ),
        Kernel(
            "head_step",
            "head.cu",
            "T* h, int64 h_stride, wide<T>* W, int64 W_stride, wide<T>* b, int64 b_stride, wide<T>* target, "
            "int64 target_stride, wide<T>* weights, int64 weights_stride, wide<T>* y, int64 y_stride, "
            "T* saved, int64 saved_stride, T* dh, int64 dh_stride, wide<T>* partials, "
            "int64 partials_stride, int64 bias_offset, double* values, int64 values_stride, int64 rows, "
            "int hidden, F activation, L loss, P previous, double gradient_scale",
            ("T", "C", "F", "L", "P"),
            _HEADS,
        ),
        Kernel("advance", "optimizers.cu", "int64* step", block=1),
        Kernel(
            "optimizer_step",
            "optimizers.cu",
            "T* parameters, T* gradient, T* state_0, T* state_1, T* state_2, T* state_3, S* compute_copy, "
            "int64 stride, int64 count, int64* step, double* learning_rate, int64 learning_rate_stride, "
            "R rule, double loss_scale",
            ("T", "S", "R"),
            _UPDATED,
        ),
    )
}


def source(file: str, formulas: Sequence[CudaFormula] = ()) -> str:
    """Return the text of a file to compile, with what it needs before it; errors name their file and line."""
    texts = [(part, _text(part)) for part in FILES[file]]
    texts += {formula.name: formula.text for formula in formulas}.items()
    return "".join(f'#line 1 "{part}"\n{text}' for part, text in (*texts, (file, _text(file))))


@functools.cache
def _text(file: str) -> str:
    return (Path(__file__).parent / file).read_text(encoding="utf-8")


def name_expressions(file: str) -> list[str]:
    """Return the C++ names of all instances in a file that take no formulas."""
    kernels = (k for k in KERNELS.values() if k.file == file and not k.takes_formulas)
    return [kernel.expression(instance) for kernel in kernels for instance in kernel.instances]


def groups_of_rows(width: int, block: int = 256) -> int:
    """Rows of an array (rows, width) that one block takes at once, as `tile_of` in storage.cu lays them out."""
    return block // min(width, block)


def blocks_for(count: int, at_once: int = 256, most: int = 1024) -> int:
    """Blocks for `count` things where one takes `at_once` of them; the kernels go round if that is not enough.

    It depends on the size alone and not on the device, and with it the order of every sum.
    """
    return max(1, min(-(-count // at_once), most))


Function = Callable[[tuple[int, ...], tuple[int, ...], tuple[Any, ...]], object]
"""What a loader returns: called with the grid, the block and the arguments, as CuPy's functions are."""


class Launcher:
    """Launches kernels by name, with every argument as the type that its signature has.

    An argument of another type than the kernel's is not converted by CUDA but read as other bits, so that
    nothing but wrong numbers would tell.

    Parameters
    ----------
    get_function : callable
        Returns the function for a file, the name of an instance, and its formulas; called once for each.
    scalars : mapping
        For each dtype in `SCALAR_DTYPES` what makes a scalar of it, e.g. {"float64": numpy.float64, ...}.
    """

    def __init__(
        self,
        get_function: Callable[[str, str, tuple[CudaFormula, ...]], Function],
        scalars: Mapping[str, Callable[[Any], Any]],
    ) -> None:
        self._get_function = get_function
        self._casts = {c_type: scalars[dtype] for c_type, dtype in SCALAR_DTYPES.items()}
        self._null = scalars["int64"](0)  # a null pointer is eight bytes of zero
        self._loaded: dict[tuple[Any, ...], tuple[Function, list[Parameter]]] = {}

    def __call__(
        self,
        name: str,
        instance: tuple[str, ...],
        grid: tuple[int, int],
        *arguments: Any,
        block: int | None = None,
    ) -> None:
        """Launch `name<instance, formulas>` on a grid of (blocks, members); None stands for a null pointer.

        Arrays must be contiguous inside a member: strides between members are arguments of their own. Formulas
        are the arguments that are a `CudaFormula`.
        """
        kernel = KERNELS[name]
        formulas = tuple(a for a in arguments if isinstance(a, CudaFormula)) if kernel.takes_formulas else ()
        key = (name, instance, *(formula.name for formula in formulas))
        if key not in self._loaded:
            parameters = kernel.parameters(instance)
            function = self._get_function(kernel.file, kernel.expression(instance, formulas), formulas)
            self._loaded[key] = (function, parameters)
        function, parameters = self._loaded[key]
        if len(arguments) != len(parameters):
            raise TypeError(f"{name} takes {len(parameters)} arguments, not {len(arguments)}")
        if not (grid[0] > 0 and 0 < grid[1] <= _MAX_GRID_Y):
            raise ValueError(f"{name} cannot be launched on a grid of {grid}")
        typed = tuple(self._cast(*pair) for pair in zip(parameters, arguments, strict=True))
        function((*grid, 1), (block or kernel.block, 1, 1), typed)

    def _cast(self, parameter: Parameter, argument: Any) -> Any:
        if parameter.type in FORMULAS:
            if not isinstance(argument, CudaFormula):
                raise TypeError(f"{parameter.name} must be a formula, not {argument!r}")
            return argument.values
        if not parameter.is_array:
            return self._casts[parameter.type](argument)
        if argument is None:
            return self._null
        if (dtype := str(argument.dtype)) not in ARRAY_DTYPES[parameter.type]:
            raise TypeError(f"{parameter.name} must be an array of {parameter.type}, not of {dtype}")
        return argument
