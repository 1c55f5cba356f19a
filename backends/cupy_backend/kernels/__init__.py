"""The CUDA kernels: their texts, their instances, and launches. Imports no array library.

A kernel is a C++ template in one of the `.cu` files beside this one. Those files include nothing, so they
compile wherever NVRTC is: `source` puts before each the texts that it needs. With CuPy a loader is

    def get_function(file, expression, formulas):
        module = cupy.RawModule(code=source(file, formulas), options=OPTIONS, name_expressions=[expression])
        return module.get_function(expression)

which compiles only the kernels in use (CuPy keeps them on disk). The tests compile the same texts with g++,
behind the same `Launcher`. Activations, losses and optimizers are generated structs (`lowering.cuda_text`) that
stand before the file's text and are template parameters of kernels.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...lowering.cuda_text import CudaFormula

OPTIONS = ("-std=c++17",)
SHARED = "storage.cu"
"""The file whose text stands before every other one."""

ARRAY_DTYPES: dict[str, tuple[str, ...]] = {
    "float": ("float32",),
    "double": ("float64",),
    "bf16": ("uint16", "bfloat16"),
    "half": ("uint16", "float16"),
    "int64": ("int64",),
    "uint32": ("uint32",),
}
"""Names of the dtypes with the bits of each C++ type of array elements."""

CHUNK = 8
"""Columns that a thread reads at once (`chunk` in storage.cu)."""

DECLARATION = r"__global__ void (?:__launch_bounds__\(.*\) )?(\w+)"
"""How a kernel is declared, as a regular expression with its name."""

FORMULAS = ("F", "L", "P", "R")
"""Template parameters that are formulas: an activation, a loss, the previous activation, an update rule."""

SCALAR_DTYPES = {"int": "int32", "int64": "int64", "double": "float64"}
"""C++ types of the other arguments. All real numbers are passed as double, and kernels narrow them."""

_MAX_GRID_Y = 65_535  # CUDA's limit: the most members of one launch


@dataclass(frozen=True)
class Parameter:
    """A parameter of a kernel; `type` is that of the elements if it is an array."""

    name: str
    type: str
    is_array: bool


@dataclass(frozen=True)
class Kernel:
    """One kernel template.

    Parameters
    ----------
    name, file : str
    signature : tuple of (type, name)
        Its parameters, without `const` and `__restrict__`.
    template : tuple of str
        Names of its template parameters; those in FORMULAS come last.
    instances : tuple of tuples of str
        Values of the other template parameters in each instance.
    """

    name: str
    file: str
    signature: tuple[tuple[str, str], ...]
    template: tuple[str, ...]
    instances: tuple[tuple[str, ...], ...]

    @property
    def block(self) -> int:
        """Threads of a block."""
        return 1 if self.name == "advance" else 256

    def expression(self, instance: tuple[str, ...], formulas: Sequence[CudaFormula] = ()) -> str:
        """Return the C++ name of an instance, with formulas in the order of the parameters."""
        words = (*instance, *(formula.name for formula in formulas))
        return f"{self.name}<{', '.join(words)}>" if words else self.name

    def parameters(self, instance: tuple[str, ...]) -> list[Parameter]:
        """Return the parameters of an instance, with its own types."""
        if instance not in self.instances:
            known = ", ".join(self.expression(each) for each in self.instances)
            raise ValueError(f"there is no kernel {self.expression(instance)}; there are {known}")
        types = dict(zip(self.template, instance, strict=False))
        found = []
        for type_name, name in self.signature:
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
# Types of the parameters and of their 16-bit copy; without a copy, the second does not matter.
_UPDATED = (("float", "float"), ("float", "bf16"), ("float", "half"), ("double", "double"))
# Channels, and chunks of eight columns for each thread: two are too many registers for doubles.
_HEADS = tuple(
    (stored, str(channels), str(chunks))
    for (stored,) in _STORED
    for channels in (1, 2, 3, 4)
    for chunks in (1, 2)
    if (stored, chunks) != ("double", 2)
)

FILES: dict[str, dict[str, tuple[tuple[str, ...], ...]]] = {
    "features.cu": {
        **dict.fromkeys(("fourier_features", "pixel_fourier_features", "grid_fourier_features"), _FEATURES),
        "take_rows": _STORED,
    },
    "batch_order.cu": {"batch_order": ((),)},
    "elementwise.cu": {
        **dict.fromkeys(("bias_activation", "activation_backward", "column_sums"), _STORED),
        "add": _FLOATS,
        "cast": _CASTS,
    },
    "partials.cu": {"sum_partials": _FLOATS},
    "loss.cu": {"loss_and_gradient": _STORED},
    "head.cu": {"head_step": _HEADS},
    "optimizers.cu": {"advance": ((),), "optimizer_step": _UPDATED},
    "muon.cu": {
        **dict.fromkeys(("muon_direction", "muon_normalize"), _FLOATS),
        "muon_update": _UPDATED,
    },
}
"""The kernels of each file, with the instances of each."""


@functools.cache
def _text(file: str) -> str:
    return (Path(__file__).parent / file).read_text(encoding="utf-8")


def _declared(file: str) -> Iterator[Kernel]:
    """Yield the kernels of a file, as its text declares them."""
    pattern = r"(?:template <([^>]*)>\s*)?" + DECLARATION + r"\(([^)]*)\)"
    for template, name, signature in re.findall(pattern, _text(file)):
        plain = re.sub(r"\bconst |__restrict__ ", "", " ".join(signature.split()))
        parameters = (text.split() for text in plain.split(","))
        names = tuple(word.split()[1] for word in template.split(",") if word)
        yield Kernel(name, file, tuple((kind, own) for kind, own in parameters), names, FILES[file][name])


KERNELS = {kernel.name: kernel for file in FILES for kernel in _declared(file)}


def source(file: str, formulas: Sequence[CudaFormula] = ()) -> str:
    """Return the text of a file to compile, with all that it needs; errors name file and line."""
    texts = {SHARED: _text(SHARED)} | {formula.name: formula.text for formula in formulas}
    return "".join(f'#line 1 "{part}"\n{text}' for part, text in (texts | {file: _text(file)}).items())


def groups_of_rows(width: int, block: int = 256) -> int:
    """Return the rows of an array (rows, width) that one block reads at once, as `tile_of` in storage.cu."""
    return block // min(width, block)


def blocks_for(count: int, at_once: int = 256, most: int = 1024) -> int:
    """Return how many blocks `count` items take, `at_once` each; beyond `most`, blocks take several turns.

    It depends on the size and not on the device, and so does the order of every sum.
    """
    return max(1, min(-(-count // at_once), most))


Function = Callable[[tuple[int, ...], tuple[int, ...], tuple[Any, ...]], object]
"""A loaded kernel, called as CuPy's functions with the grid, the block and the arguments."""


class Launcher:
    """Launches kernels by name, with every argument in the type of its signature.

    CUDA does not convert arguments: of another type, they would be read as other numbers without an error.

    Parameters
    ----------
    get_function : callable
        Return the function for a file, an instance's name and its formulas; called once for each.
    scalars : mapping
        The scalar type of each dtype in `SCALAR_DTYPES`, e.g. {"float64": numpy.float64, ...}.
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
        """Launch `name<instance, formulas>` on a grid of (blocks, members); None is a null pointer.

        Arrays are contiguous inside a member: strides between members are arguments of their own.
        """
        kernel = KERNELS[name]
        formulas = tuple(a for a in arguments if isinstance(a, CudaFormula))
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
