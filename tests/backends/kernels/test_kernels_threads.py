"""No races, no dependence on the order of blocks, and a stand-in for the GPU that detects faults."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import simt
from coordfit.backends.cupy_backend.kernels import DECLARATION, FILES, source
from simt import Memory
from support import needs
from support.cases import very_slow
from tsan_child import EDITS, INSTANCES, run, without_barrier

pytestmark = pytest.mark.slow

CHILD = Path(__file__).with_name("tsan_child.py")

# -- ThreadSanitizer -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def under_tsan(request, tmp_path_factory):
    """Return a function that runs the child under ThreadSanitizer and returns its output."""
    if reason := simt.why_no_compiler():
        needs.skip("tsan", reason)
    words = ["g++", "-print-file-name=libtsan.so"]
    found = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False).stdout.strip()
    if not Path(found).is_absolute():
        needs.skip("tsan", "g++ has no libtsan.so")
    cache = getattr(request.config, "cache", None)
    folder = cache.mkdir("coordfit-kernels") if cache else tmp_path_factory.mktemp("tsan")
    environment = os.environ | {
        "LD_PRELOAD": str(Path(found).resolve()),
        "TSAN_OPTIONS": "exitcode=66",
        "OPENBLAS_NUM_THREADS": "1",
    }

    def child(*arguments):
        command = [sys.executable, str(CHILD), str(folder), *arguments]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        if "unexpected memory mapping" in done.stderr:
            needs.skip("tsan", "ThreadSanitizer cannot map its memory under this kernel (vm.mmap_rnd_bits)")
        return done

    return child


def test_threads_never_race(under_tsan):
    done = under_tsan()
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"
    assert "WARNING: ThreadSanitizer" not in done.stderr


@pytest.mark.parametrize("edit", ["sum_columns without barrier 0", *very_slow("head_step without barrier 0")])
def test_a_missing_barrier_is_reported(under_tsan, edit):
    assert edit in EDITS
    done = under_tsan(edit)
    assert "WARNING: ThreadSanitizer: data race" in done.stderr
    assert done.returncode == 66


# -- the stand-in ----------------------------------------------------------------------------------------


def everything(shim):
    """Return the bytes that a launch of each cooperative kernel writes."""
    written = []
    inner = shim.get_function

    class Recorder:
        @staticmethod
        def get_function(file, expression, formulas):
            function = inner(file, expression, formulas)

            def call(grid, block, arguments):
                function(grid, block, arguments)
                written.append(b"".join(a.tobytes() for a in arguments if isinstance(a, np.ndarray)))

            return call

    run(Recorder, set(INSTANCES))
    return written


def test_the_order_of_blocks_does_not_matter(shim):
    forwards = everything(shim)
    shim.backwards = True
    try:
        assert everything(shim) == forwards
    finally:
        shim.backwards = False
    assert len(forwards) == len(INSTANCES) + 2


def test_fibers_and_threads_give_the_same(shim):
    with_fibers = everything(shim)
    shim.with_threads = True
    try:
        assert everything(shim) == with_fibers
    finally:
        shim.with_threads = False


def test_a_loop_and_threads_give_the_same(launch, shim, memory, rng):
    """Kernels without barriers run in a loop in other tests; here concurrently, as on a GPU."""
    z, bias = rng.standard_normal((33, 40)).astype(np.float32), rng.random(40).astype(np.float32)
    coordinates, B = rng.random((33, 2)).astype(np.float32), rng.random((40, 2)).astype(np.float32)
    tanh, results = simt.ACTIVATIONS[2], []
    for shim.with_threads in (False, True):
        put, features = memory.put(z), memory.room((33, 80), np.float32)
        order, taken = memory.room((33,), np.int64), memory.room((33, 40), np.float32)
        launch("bias_activation", ("float",), (2, 1), put, 0, bias, 0, put, 0, 33, 40, tanh, block=64)
        launch(
            "fourier_features", ("float", "float"), (2, 1), coordinates, 0, B, 0, features, 0, 33, 40, block=64
        )
        seeds = np.array([3], np.uint32)
        launch("batch_order", (), (2, 1), np.array([2]), 0, seeds, order, 0, 40, 33, block=64)
        launch("take_rows", ("float",), (2, 1), memory.put(np.tile(z, (2, 1))), 0, order, 0, taken, 0, 33, 40)
        results.append([array.tobytes() for array in (put, features, order, taken)])
    assert results[0] == results[1]


def test_the_list_of_cooperative_kernels_is_complete():
    """A kernel with barriers that runs in a loop would end the process; this test fails first."""
    waits = set()
    for file in FILES:
        own = source(file).rpartition("#line 1 ")[2]
        _, *kernels = re.split(DECLARATION, own)
        for name, text in zip(kernels[::2], kernels[1::2], strict=True):
            if any(word in text for word in ("__syncthreads(", "sum_columns(", "sum_of_lanes(")):
                waits.add(name)
    assert waits == simt.COOPERATIVE


def test_threads_that_part_at_a_barrier_are_noticed(shim, tmp_path):
    edited = simt.Shim(
        tmp_path,
        edit=lambda text: text.replace(
            "if (share == 0 && j < width) {", "if (share == 1) return; if (j < width) {"
        ),
        only={("sum_partials", ("float",))},
    )
    with pytest.raises(AssertionError, match="do not wait at the same barriers"):
        run(edited, {"sum_partials"})


def test_a_write_past_the_end_is_noticed(shim, tmp_path):
    instance = ("float", "half")
    edited = simt.Shim(
        tmp_path, edit=lambda text: text.replace("i < count;", "i <= count;"), only={("cast", instance)}
    )
    memory = Memory()
    numbers, out = np.ones(6, np.float32), memory.room((5,), np.float16)
    simt.launcher(edited)("cast", instance, (1, 1), numbers, 0, out, 0, 5)
    with pytest.raises(AssertionError, match="wrote outside of an array"):
        memory.check()


def test_an_edit_takes_out_one_barrier():
    text = source("partials.cu")
    assert (
        without_barrier(1, "sum_columns")(text).count("__syncthreads();") == text.count("__syncthreads();") - 1
    )
