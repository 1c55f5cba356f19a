"""Run the kernels whose threads wait for each other, compiled with ThreadSanitizer; a child of the tests.

    LD_PRELOAD=libtsan.so python tsan_child.py FOLDER [BROKEN]

Where BROKEN names an edit of EDITS, that kernel is compiled with one barrier less, and run alone.
"""

import sys
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[n]) for n in (0, 2, 3)]

from simt import LOSSES, RELU, RULES, SIGMOID, Shim, launcher  # noqa: E402

BARRIER = "__syncthreads();"
INSTANCES = {
    "column_sums": ("float",),
    "sum_partials": ("float",),
    "loss_and_gradient": ("float",),
    "activation_backward": ("float",),
    "head_step": ("float", "3", "1"),
    "optimizer_step": ("float", "half"),
    "muon_normalize": ("float",),
}


def without_barrier(number, function):
    """Return an edit that removes one barrier of a kernel or a function that kernels call, by number from 0."""

    def edit(text):
        start = text.find(f" {function}(")
        if start < 0:
            return text
        place = start
        for _ in range(number + 1):
            place = text.index(BARRIER, place + 1)
        return text[:place] + text[place + len(BARRIER) :]

    return edit


CALLERS = {"sum_columns": "sum_partials"}  # functions that are no kernels, and a kernel that calls them
# Every barrier: (function, its number). A race must be reported without it.
EDITS = {
    f"{function} without barrier {number}": (function, number)
    for function, count in {
        "column_sums": 1,
        "sum_partials": 1,
        "sum_columns": 2,
        "loss_and_gradient": 1,
        "activation_backward": 1,
        "head_step": 1,
        "optimizer_step": 1,
        "muon_normalize": 2,
    }.items()
    for number in range(count)
}


def run(shim, names):
    launch = launcher(shim)
    f = lambda *shape: np.random.default_rng(0).random(shape).astype(np.float32)  # noqa: E731
    d = lambda *shape: np.zeros(shape)  # noqa: E731

    def go(name, grid, *arguments):
        if name in names:
            launch(name, INSTANCES[name], grid, *arguments, block=64)

    # Several rounds of each loop, or a barrier between rounds would never be needed.
    go("column_sums", (2, 1), f(40, 130), 0, f(2, 130), 0, 40, 130)
    go("column_sums", (2, 1), f(40, 20), 0, f(2, 20), 0, 40, 20)
    go("sum_partials", (1, 1), f(9, 130), 0, f(130), 0, 9, 130, 0, None, 0, 0.0, None)
    go("sum_partials", (1, 2), None, 0, None, 0, 0, 0, 0, d(2, 100), 100, 1.0, f(2))
    go(
        "loss_and_gradient",
        (2, 1),
        f(80, 3),
        0,
        f(80, 3),
        0,
        None,
        0,
        f(80, 3),
        0,
        d(2),
        0,
        80,
        3,
        1.0,
        LOSSES[0],
    )
    go(
        "activation_backward",
        (2, 1),
        f(40, 20),
        0,
        f(40, 20),
        0,
        f(40, 20),
        0,
        f(2, 20),
        0,
        40,
        20,
        1,
        f(9, 20),
        0,
        f(20),
        0,
        9,
        20,
        0,
        RELU,
    )
    head = (f(70, 40), 0, f(40, 3), 0, f(3), 0)
    go(
        "head_step", (1, 1), *head, f(70, 3), 0, None, 0, None, 0, None, 0, f(70, 40), 0, f(1, 131), 0,
        f(1, 40), 0, 128, d(1), 0, 70, 40, 8, SIGMOID, LOSSES[0], RELU, 1.0,
    )  # fmt: skip
    go("muon_normalize", (1, 2), f(2, 12, 12), f(2, 12, 12), 12, -1.0, 1e-30)
    p = [f(100) for _ in range(4)]
    go(
        "optimizer_step", (1, 1), *p, None, None, f(100).astype(np.float16), 0, 100, None, 0, np.array([1]),
        d(1), 0, RULES[0], 1.0,
    )  # fmt: skip


if __name__ == "__main__":
    folder, *broken = sys.argv[1:]
    flags, only = ("-fsanitize=thread", "-g"), set(INSTANCES.items())
    if not broken:
        run(Shim(folder, flags, only=only), set(INSTANCES))
    else:
        function, number = EDITS[broken[0]]
        edit, kernel = without_barrier(number, function), CALLERS.get(function, function)
        run(Shim(folder, flags, edit, only={(kernel, INSTANCES[kernel])}), {kernel})
    print("done")
