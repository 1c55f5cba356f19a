"""Run `coordfit doctor`: report this machine, for bug reports."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from typing import Any

from ..._version import __version__
from ...backends import available_backends, get_backend
from ..exit_codes import EXIT_OK
from ..options import Options
from ..streams import print_json

_PACKAGES = ("numpy", "pillow", "tifffile", "safetensors", "threadpoolctl", "tqdm", "matplotlib")
_OPTIONAL = ("numba", "cupy-cuda12x", "cupy-cuda13x", "cupy", "torch")


def run(options: Options) -> int:
    """Print versions, processor, memory, BLAS and devices."""
    facts = _facts()
    if options.json:
        print_json(facts)
        return EXIT_OK
    for section, content in facts.items():
        print(section)
        for name, value in content.items():
            print(f"  {name:<16} {value}")
    return EXIT_OK


def _facts() -> dict[str, dict[str, Any]]:
    devices = {name: reason or "ready" for name, reason in available_backends().items()}
    cpu = get_backend("cpu").describe()
    facts = {
        "versions": {"coordfit": __version__, "python": platform.python_version(), **_versions()},
        "machine": {"system": platform.platform(), "executable": sys.executable, **_memory()},
        "cpu": {name: value for name, value in cpu.items() if name not in ("device", "library")},
        "backends": devices,
    }
    if devices["cupy"] == "ready":
        gpu = get_backend("gpu")
        facts["gpu"] = gpu.describe() | {f"limit {i}": line for i, line in enumerate(gpu.limits(), 1)}
    return facts


def _versions() -> dict[str, str]:
    found = {}
    for name in (*_PACKAGES, *_OPTIONAL):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            if name in _PACKAGES:
                found[name] = "missing"
    return found


def _memory() -> dict[str, str]:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return {}
    return {"memory": f"{total / 2**30:.1f} GiB"}
