"""A file gives the same pixels by other products, other instructions and other numbers of threads."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from coordfit.codec import PyramidSettings, Target, compress, decompress

try:
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__
except ImportError:
    __cpu_dispatch__, __cpu_features__ = [], {}

SIMD = " ".join(name for name in __cpu_dispatch__ if __cpu_features__.get(name))
NEEDS = {"Prescott": "SSE3", "Sandybridge": "AVX", "Haswell": "AVX2", "SkylakeX": "AVX512F"}
MACHINES = {
    "no SIMD in NumPy": {"NPY_DISABLE_CPU_FEATURES": SIMD},
    "two BLAS threads": {"OPENBLAS_NUM_THREADS": "2"},
    **{
        f"OpenBLAS for {core}": {"OPENBLAS_CORETYPE": core}
        for core in NEEDS
        if __cpu_features__.get(NEEDS[core])
    },
}
DECODE = """
import hashlib, sys
from coordfit.codec import decompress
print(hashlib.sha256(decompress(sys.stdin.buffer.read()).tobytes()).hexdigest())
"""


@pytest.fixture(scope="module")
def data():
    """A picture that is wide enough for products in several blocks, with its latents beyond some laws."""
    y, x = np.mgrid[:150, :610]
    waves = np.stack([np.sin(x / 9 + c) + (x * y % (61 + c) > 30) for c in range(3)], 2)
    pixels = (60 * waves + 80).clip(0, 255).astype(np.uint8)
    return compress(pixels, Target(lmbda=2e-4), steps=3, settings=PyramidSettings())[0]


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_another_machine_draws_the_same_pixels(machine, data):
    child = subprocess.run(
        [sys.executable, "-c", DECODE],
        input=data,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"} | MACHINES[machine],
        capture_output=True,
        check=True,
    )
    assert child.stdout.decode().strip() == hashlib.sha256(decompress(data).tobytes()).hexdigest()
