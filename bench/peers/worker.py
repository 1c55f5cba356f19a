"""Run one peer in a process: read a JSON command a line from stdin, answer with a JSON line."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import sys
import time
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .cases import CASES, Case, Problem
from .yardsticks import rates

# Variants of libraries; a library has a module for steps and one for renderings.
PEERS = {
    "coordfit": "numba-always",
    "coordfit-numpy": "numpy-always",
    "coordfit-generic": "numpy-never",
    "torch-eager": "eager",
    "torch-compile": "compile",
    "torch-whole": "whole",
    "jax": "jit",
}
TUNING_SECONDS = 0.3

Setting = dict[str, Any]
# Wall-clock seconds and seconds of all processors of one step.
Times = tuple[float, float]


class Peer(Protocol):
    """A library that takes the steps of a problem.

    `stride` is the number of steps that it takes at least; `run` takes as many as are asked, or as fill the
    last stride.
    """

    stride: int

    def settings(self, case: Case, cores: int) -> dict[str, list[Any]]:
        """Return what an expert would try for a case: names, and values from the likeliest on."""

    def prepare(self, problem: Problem, setting: Setting) -> None:
        """Build everything that a step needs."""

    def run(self, steps: int) -> list[float] | NDArray[Any]:
        """Take steps (or render), to the end; return the loss of each step (or the mean of each rendering)."""


def main() -> None:
    """Answer commands until stdin ends."""
    peer_name, cores = sys.argv[1], int(sys.argv[2])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    peer: Any = None
    with contextlib.redirect_stdout(sys.stderr):  # libraries may print; answers must stay clean
        for line in sys.stdin:
            command = json.loads(line)
            if command["do"] == "prepare":
                case = next(case for case in CASES if case.name == command["case"])
                peer = make_peer(peer_name, case)
                answer = _prepared(peer, case, command["steps"], cores)
            elif command["do"] == "rates":
                answer = rates(command["bytes"])
            else:
                answer = timed(peer, command["seconds"])
            print(json.dumps(answer), file=sys.__stdout__, flush=True)


def make_peer(name: str, case: Case) -> Peer:
    """Return the peer that takes the steps of a case, or renders it."""
    library = name.partition("-")[0]
    if case.render:
        made: Peer = importlib.import_module(f".{library}_render", __package__).Rendering(PEERS[name])
    else:
        made = importlib.import_module(f".{library}_steps", __package__).Steps(PEERS[name])
    return made


def _prepared(peer: Peer, case: Case, steps: int, cores: int) -> Any:
    problem = Problem.make(case)
    setting = tuned(peer, problem, cores)
    peer.prepare(problem, setting)
    return {"losses": np.asarray(peer.run(steps)).tolist(), "setting": setting}


def tuned(peer: Peer, problem: Problem, cores: int) -> Setting:
    """Return the fastest setting, found one name after the other from the first values on."""
    offered = peer.settings(problem.case, cores)
    best = {name: values[0] for name, values in offered.items()}
    if all(len(values) == 1 for values in offered.values()):
        return best
    known: dict[str, float] = {}
    for name, values in offered.items():
        for value in values:
            tried = best | {name: value}
            if (key := json.dumps(tried)) not in known:
                peer.prepare(problem, tried)
                known[key] = min(timed(peer, TUNING_SECONDS)[0] for _ in range(2))
            if known[key] < known[json.dumps(best)]:
                best = tried
    return best


def timed(peer: Peer, seconds: float) -> Times:
    """Return the times of one step: as many steps as fill the seconds, after some that are not counted."""
    time.sleep(0.1)  # threads of the peer before may still be spinning
    start, warm_up = time.perf_counter(), 0
    while warm_up == 0 or time.perf_counter() - start < 0.2 * seconds:
        peer.run(peer.stride)
        warm_up += peer.stride
    one = (time.perf_counter() - start) / warm_up
    steps = max(1, math.ceil(seconds / one / peer.stride)) * peer.stride
    start, processor = time.perf_counter(), time.process_time()
    peer.run(steps)
    return (time.perf_counter() - start) / steps, (time.process_time() - processor) / steps


if __name__ == "__main__":
    main()
