"""The kernels compiled by g++ behind simt.hpp, for NumPy arrays, and helpers for their tests."""

import concurrent.futures
import ctypes
import hashlib
import math
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
from coordfit.backends.cupy_backend.kernels import FORMULAS, KERNELS, Launcher, source
from coordfit.backends.lowering.cuda_text import cuda_activation, cuda_loss, cuda_rule
from support import components

from coordfit.network.activations import Identity, ReLU, Sigmoid, Sine, Tanh
from coordfit.network.losses import MAE, MSE, Huber
from coordfit.optimizers.adam import Adam
from coordfit.optimizers.sgd import SGD

# Kernels whose threads wait for each other; the others may run in a loop.
COOPERATIVE = {
    "activation_backward",
    "column_sums",
    "sum_partials",
    "loss_and_gradient",
    "head_step",
    "optimizer_step",
    "muon_normalize",
}
SCALARS = {"int32": np.int32, "int64": np.int64, "float64": np.float64}
C_TYPES = {"int32": ctypes.c_int32, "int64": ctypes.c_int64, "float64": ctypes.c_double}
FLAGS = (
    "-std=c++20",
    "-O0",
    "-ffp-contract=off",
    "-shared",
    "-fPIC",
    "-pthread",
    "-Wall",
    "-Wno-unknown-pragmas",
)
HEADER = Path(__file__).parent / "simt.hpp"
# Files that are compiled together, since the headers alone take a second: two lots for two cores.
UNITS = (
    ("features.cu", "batch_order.cu", "elementwise.cu", "optimizers.cu"),
    ("partials.cu", "loss.cu", "head.cu", "muon.cu"),
)


ACTIVATIONS = [cuda_activation(f()) for f in (Identity, ReLU, Tanh, Sigmoid, Sine)]
LOSSES = [cuda_loss(loss()) for loss in (MSE, MAE, Huber)]
RULES = [cuda_rule(rule) for rule in (Adam(), SGD(), SGD(0.9), SGD(0.9, True))]
# Formulas of the tests' own, compiled with the others.
OUTSIDE = (
    [cuda_activation(f) for f in components.ACTIVATIONS],
    [cuda_loss(loss) for loss in components.LOSSES],
    [cuda_rule(rule) for rule in components.RULES],
)
RELU, SIGMOID = ACTIVATIONS[1], ACTIVATIONS[3]


def formulas_of(name, instance):
    """Return the formulas with which an instance is compiled at first; others follow on demand."""
    if name == "head_step":
        some = [(SIGMOID, LOSSES[0], RELU)]
        every = [(f, loss, RELU) for f in ACTIVATIONS for loss in LOSSES]
        return every if instance == ("double", "3", "1") else some
    of_kernel = {
        **dict.fromkeys(("bias_activation", "activation_backward"), ACTIVATIONS + OUTSIDE[0]),
        "loss_and_gradient": LOSSES + OUTSIDE[1],
        "optimizer_step": RULES + OUTSIDE[2],
    }
    return [(formula,) for formula in of_kernel[name]] if name in of_kernel else [()]


IN_A_LOOP, AS_THREADS, AS_FIBERS = range(3)


class Launch(ctypes.Structure):
    """`simt::Launch` of simt.hpp."""

    _fields_ = (
        ("grid", ctypes.c_int * 3),
        ("threads", ctypes.c_int),
        ("way", ctypes.c_int),
        ("backwards", ctypes.c_int),
    )


class Shim:
    """Compiles kernel files with g++ into a folder, once for each text, and calls their kernels.

    Parameters
    ----------
    flags : extra words for g++.
    edit : changes a file's text before it is compiled, to see a test fail.
    only : instances to compile, as (name, types); all if None.
    """

    def __init__(self, folder, flags=(), edit=lambda text: text, only=None):
        self.folder, self.flags, self.edit, self.only = Path(folder), flags, edit, only
        # ThreadSanitizer knows threads alone.
        self.cooperative_way = AS_THREADS if "-fsanitize=thread" in flags else AS_FIBERS
        self.with_threads = self.backwards = False
        self._libraries = {}

    def get_function(self, file, expression, formulas=()):
        (unit,) = (unit for unit in UNITS if file in unit)
        name = expression.partition("<")[0]
        entry = self._entry(unit, expression)
        if entry is None:
            words = expression.partition("<")[2].removesuffix(">").split(", ")
            instance = tuple(words[: len(words) - len(formulas)])
            library = self._built((file,), [(name, instance, tuple(formulas))])
            entry = getattr(ctypes.CDLL(str(library)), entry_name(expression))

        def call(grid, block, arguments):
            way = self.cooperative_way if name in COOPERATIVE else IN_A_LOOP
            way = AS_THREADS if self.with_threads else way
            launch = Launch((ctypes.c_int * 3)(*grid), block[0], way, self.backwards)
            code = entry(launch, *(as_c(argument) for argument in arguments))
            assert code == 0, f"the threads of a block of {name} do not wait at the same barriers"

        return call

    def _entry(self, unit, expression):
        """Return a function of the unit's first compilation, or None."""
        if unit not in self._libraries:
            self._libraries[unit] = ctypes.CDLL(str(self.compiled(unit)))
        return getattr(self._libraries[unit], entry_name(expression), None)

    def compiled(self, unit):
        """Return the shared object of some files, compiled if missing."""
        kernels = [kernel for kernel in KERNELS.values() if kernel.file in unit]
        return self._built(
            unit,
            [
                (kernel.name, instance, formulas)
                for kernel in kernels
                for instance in kernel.instances
                for formulas in formulas_of(kernel.name, instance)
                if self.only is None or (kernel.name, instance) in self.only
            ],
        )

    def _built(self, unit, instances):
        """Return the shared object of some instances of kernels in some files."""
        formulas = {f.name: f for *_, formulas in instances for f in formulas}.values()
        text = self.edit(joined(unit, tuple(formulas))) + "".join(self._entries(instances))
        words = ["g++", *FLAGS, *self.flags]
        key = hashlib.sha256("\0".join([*words, HEADER.read_text(), text]).encode()).hexdigest()[:24]
        library = self.folder / f"{Path(unit[0]).stem}-{key}.so"
        if not library.exists():
            # Under another name until it is whole: another process may do the same.
            work = library.with_suffix(f".{os.getpid()}")
            command = [*words, "-include", str(HEADER), "-x", "c++", "-", "-o", str(work)]
            done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=False)
            assert done.returncode == 0, done.stderr
            work.replace(library)
        return library

    def _entries(self, instances):
        yield '\n#line 1 "entries"\n'
        for name, instance, formulas in instances:
            kernel, left = KERNELS[name], list(formulas)
            takes, gives = [], []
            for p in kernel.parameters(instance):
                if p.type in FORMULAS:  # given by value to the kernel, and by its address to the entry
                    takes.append(f"const {left.pop(0).name}* {p.name}")
                    gives.append(f"*{p.name}")
                else:
                    takes.append(f"{p.type}{'*' if p.is_array else ''} {p.name}")
                    gives.append(p.name)
            expression = kernel.expression(instance, formulas)
            yield (
                f'extern "C" int {entry_name(expression)}(simt::Launch launch, {", ".join(takes)}) '
                f"{{ return simt::run(launch, [=] {{ {expression}({', '.join(gives)}); }}); }}\n"
            )

    def compile_all(self):
        """Compile every file, all at once."""
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(self.compiled, UNITS))


def joined(unit, formulas=()):
    """Return the texts of some files, with shared parts once."""
    whole = [source(file, formulas) for file in unit]
    parts = [part for text in whole for part in re.split(r"(?=^#line 1 )", text, flags=re.MULTILINE)]
    return "".join(dict.fromkeys(parts))


def entry_name(expression):
    return "entry_" + "_".join("".join(c if c.isalnum() else " " for c in expression).split())


def as_c(argument):
    if isinstance(argument, np.ndarray):
        assert argument.flags.c_contiguous
        return ctypes.c_void_p(argument.ctypes.data)
    return C_TYPES[argument.dtype.name](argument)


def why_no_compiler():
    return "" if shutil.which("g++") else "g++, which stands in for the GPU, is not installed"


def launcher(shim):
    return Launcher(shim.get_function, SCALARS)


# -- memory ----------------------------------------------------------------------------------------------

_GUARD = 64


class Memory:
    """Arrays between guards: reads past the end give NaN, and `check` finds writes there."""

    def __init__(self):
        self._guarded = []

    def room(self, shape, dtype):
        """Return an unwritten array: every byte is 0xFF, a NaN in each type."""
        dtype, size = np.dtype(dtype), math.prod(shape)
        whole = np.full((size + 2 * _GUARD) * dtype.itemsize, 0xFF, np.uint8).view(dtype)
        self._guarded.append((whole[:_GUARD], whole[-_GUARD:]))
        return whole[_GUARD : _GUARD + size].reshape(shape)

    def put(self, array):
        """Return a copy of an array between guards."""
        place = self.room(np.shape(array), np.asarray(array).dtype)
        place[...] = array
        return place

    def check(self):
        for guards in self._guarded:
            for guard in guards:
                assert (guard.view(np.uint8) == 0xFF).all(), "a kernel wrote outside of an array"


# -- the types in which kernels store numbers ------------------------------------------------------------

DTYPES = {"float": np.float32, "double": np.float64, "bf16": np.uint16, "half": np.float16}
# Relative to the largest number: some roundings of the arithmetic, and one of the storage.
TOLERANCES = {"float": 4e-6, "double": 2e-14, "bf16": 2.0**-8, "half": 2.0**-11 + 4e-6}


def wide(stored):
    """Return the type in which a kernel computes."""
    return "double" if stored == "double" else "float"


def encode(array, stored):
    """Round numbers to a stored type; bf16 by its integer formula, as 16-bit words."""
    if stored != "bf16":
        with np.errstate(over="ignore"):
            return np.asarray(array).astype(DTYPES[stored])
    words = np.asarray(array).astype(np.float32).view(np.uint32).astype(np.uint64)
    rounded = (words + 0x7FFF + ((words >> 16) & 1)) >> 16
    return np.where(np.isnan(array), 0x7FC0, rounded).astype(np.uint16)


def decode(array, stored):
    """Return stored numbers as float64."""
    if stored == "bf16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float64)


def assert_close(found, expected, stored, tolerance=None):
    """Assert that a stored array agrees with a float64 oracle to its type's tolerance, NaNs included."""
    bound = (tolerance or TOLERANCES[stored]) * max(1.0, np.nanmax(np.abs(expected), initial=0.0))
    np.testing.assert_allclose(decode(found, stored), expected, rtol=0.0, atol=bound)
