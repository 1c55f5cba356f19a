"""The kernels compiled by g++ behind simt.hpp, for NumPy arrays, and what tests of them share."""

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

from backends.cupy_backend.kernels import KERNELS, Launcher, source

# Kernels whose threads wait for each other; the others may run in a loop.
COOPERATIVE = {
    "column_sums",
    "sum_partials",
    "sum_values",
    "loss_and_gradient",
    "head_forward",
    "head_step",
    "adam_step",
}
SCALARS = {"int32": np.int32, "int64": np.int64, "float64": np.float64}
C_TYPES = {"int32": ctypes.c_int32, "int64": ctypes.c_int64, "float64": ctypes.c_double}
FLAGS = ("-std=c++20", "-O0", "-ffp-contract=off", "-shared", "-fPIC", "-pthread", "-Wall")
HEADER = Path(__file__).parent / "simt.hpp"
# Files that are compiled together, since the headers alone take a second: two lots for two cores.
UNITS = (
    ("features.cu", "batch_order.cu", "elementwise.cu", "optimizers.cu"),
    ("partials.cu", "loss.cu", "head.cu"),
)


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
    """Compiles kernel files with g++ into a folder, once for each text, and calls what is in them.

    Parameters
    ----------
    flags : extra words for g++.
    edit : changes a file's text before it is compiled, to see a test fail.
    only : instances to compile, as (name, types); all where there is none.
    """

    def __init__(self, folder, flags=(), edit=lambda text: text, only=None):
        self.folder, self.flags, self.edit, self.only = Path(folder), flags, edit, only
        # ThreadSanitizer knows threads alone.
        self.cooperative_way = AS_THREADS if "-fsanitize=thread" in flags else AS_FIBERS
        self.with_threads = self.backwards = False
        self._libraries = {}

    def get_function(self, file, expression):
        (unit,) = (unit for unit in UNITS if file in unit)
        if unit not in self._libraries:
            self._libraries[unit] = ctypes.CDLL(str(self.compiled(unit)))
        entry = getattr(self._libraries[unit], entry_name(expression))
        name = expression.partition("<")[0]

        def call(grid, block, arguments):
            way = self.cooperative_way if name in COOPERATIVE else IN_A_LOOP
            way = AS_THREADS if self.with_threads else way
            launch = Launch((ctypes.c_int * 3)(*grid), block[0], way, self.backwards)
            code = entry(launch, *(as_c(argument) for argument in arguments))
            assert code == 0, f"the threads of a block of {name} do not wait at the same barriers"

        return call

    def compiled(self, unit):
        """The shared object of some files; compiled where it is not there yet."""
        text = self.edit(joined(unit)) + "".join(self._entries(unit))
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

    def _entries(self, unit):
        yield '\n#line 1 "entries"\n'
        for kernel in KERNELS.values():
            for instance in kernel.instances if kernel.file in unit else ():
                if self.only is not None and (kernel.name, instance) not in self.only:
                    continue
                parameters = kernel.parameters(instance)
                takes = ", ".join(f"{p.type}{'*' if p.is_array else ''} {p.name}" for p in parameters)
                gives = ", ".join(p.name for p in parameters)
                expression = kernel.expression(instance)
                yield (
                    f'extern "C" int {entry_name(expression)}(simt::Launch launch, {takes}) '
                    f"{{ return simt::run(launch, [=] {{ {expression}({gives}); }}); }}\n"
                )

    def compile_all(self):
        """Compile every file, all at once."""
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(self.compiled, UNITS))


def joined(unit):
    """The texts of some files, each part that they share once."""
    parts = [part for file in unit for part in re.split(r"(?=^#line 1 )", source(file), flags=re.MULTILINE)]
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
    """Arrays with guards around them: who reads past the end gets NaN, who writes there is told."""

    def __init__(self):
        self._guarded = []

    def room(self, shape, dtype):
        """An array that no kernel has written yet: every byte is 0xFF, a NaN in each type."""
        dtype, size = np.dtype(dtype), math.prod(shape)
        whole = np.full((size + 2 * _GUARD) * dtype.itemsize, 0xFF, np.uint8).view(dtype)
        self._guarded.append((whole[:_GUARD], whole[-_GUARD:]))
        return whole[_GUARD : _GUARD + size].reshape(shape)

    def put(self, array):
        """A copy of an array between guards."""
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
    """The type in which a kernel computes."""
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
    """Stored numbers as float64."""
    if stored == "bf16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float64)


def assert_close(found, expected, stored, tolerance=None):
    """A stored array agrees with a float64 oracle to its type's tolerance; NaNs stand at the same places."""
    bound = (tolerance or TOLERANCES[stored]) * max(1.0, np.nanmax(np.abs(expected), initial=0.0))
    np.testing.assert_allclose(decode(found, stored), expected, rtol=0.0, atol=bound)
