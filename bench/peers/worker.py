"""Run one peer in a process: read a JSON command a line from stdin, answer with a JSON line."""

from __future__ import annotations

import importlib
import json
import math
import sys
import time
from typing import Any

from .cases import CASES, Problem

# Peer to (module, class, variant).
PEERS = {
    "coordfit": ("ours", "Coordfit", "numba-always"),
    "coordfit-numpy": ("ours", "Coordfit", "numpy-always"),
    "coordfit-generic": ("ours", "Coordfit", "numpy-never"),
    "torch-eager-1": ("torch_peer", "Torch", "eager-1"),
    "torch-eager-2": ("torch_peer", "Torch", "eager-2"),
    "torch-compile-1": ("torch_peer", "Torch", "compile-1"),
    "torch-compile-2": ("torch_peer", "Torch", "compile-2"),
    "torch-loop-1": ("torch_peer", "Torch", "loop-1"),
    "torch-loop-2": ("torch_peer", "Torch", "loop-2"),
    "jax": ("jax_peer", "Jax", "jit"),
}


def main() -> None:
    """Answer commands until stdin ends."""
    module, name, variant = PEERS[sys.argv[1]]
    peer = getattr(importlib.import_module(f".{module}", __package__), name)(variant)
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries may print; answers must stay clean
    for line in sys.stdin:
        print(json.dumps(_answer(peer, json.loads(line))), file=answers, flush=True)


def _answer(peer: Any, command: dict[str, Any]) -> Any:
    if command["do"] == "prepare":
        peer.prepare(Problem.make(next(case for case in CASES if case.name == command["case"])))
        return peer.run(command["steps"])
    if command["do"] == "gemm":
        from .ours import gemm_rate

        return gemm_rate()
    return _time(peer, command["seconds"])


def _time(peer: Any, seconds: float) -> float:
    """Return seconds of one step: as many steps as fill the time, after some that are not counted."""
    time.sleep(0.1)  # threads of the peer before may still be spinning
    start, warm_up = time.perf_counter(), 0
    while warm_up == 0 or time.perf_counter() - start < 0.2 * seconds:
        peer.run(1)
        warm_up += 1
    one = (time.perf_counter() - start) / warm_up
    steps = max(1, math.ceil(seconds / one))
    start = time.perf_counter()
    peer.run(steps)
    return (time.perf_counter() - start) / steps


if __name__ == "__main__":
    main()
