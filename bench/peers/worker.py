"""One peer in a process of its own: reads a JSON command a line from stdin, answers with a JSON line."""

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
    "coordfit": ("ours", "Coordfit", "auto"),
    "coordfit-generic": ("ours", "Coordfit", "never"),
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
    """Seconds of one step: as many steps as fill the time, after one that is not counted."""
    start = time.perf_counter()
    peer.run(1)
    one = time.perf_counter() - start
    steps = max(1, math.ceil(seconds / max(one, 1e-6)))
    start = time.perf_counter()
    peer.run(steps)
    return (time.perf_counter() - start) / steps


if __name__ == "__main__":
    main()
