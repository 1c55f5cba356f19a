"""Make a backend from a device word such as `gpu:1`, or give the reason why not."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

from .base import Backend

_MAX_DIGITS = 3  # of a device's index
PRECISIONS = ("float32", "tf32", "bf16", "fp16")


class Entry(NamedTuple):
    """A backend as it is known before its library is imported."""

    package: str
    """Has `why_unavailable(index)`, and a module `backend`, imported only if that returns no reason."""
    class_name: str
    words: tuple[str, ...]
    """Device words; `:N` may follow if the backend is `indexed`."""
    options: tuple[str, ...] = ()
    """Arguments of its class beside `fused`."""

    @property
    def indexed(self) -> bool:
        """Whether a word may name one of several devices, as in `gpu:1`."""
        return "index" in self.options


# One line for each backend.
ENTRIES = {
    "numpy": Entry(".numpy_backend", "NumpyBackend", ("numpy",), ("threads",)),
    "numba": Entry(".numba_backend", "NumbaBackend", ("numba",), ("threads",)),
    "cupy": Entry(".cupy_backend", "CupyBackend", ("gpu", "cuda", "cupy"), ("index", "precision")),
    "torch": Entry(".torch_backend", "TorchBackend", ("torch",)),
}
DEVICE_WORDS = ", ".join(
    ["auto", "cpu", *(f"{word}, {word}:N" if e.indexed else word for e in ENTRIES.values() for word in e.words)]
)


class DeviceUnavailableError(RuntimeError):
    """The requested device is unavailable; the message says why and what to do."""


def get_backend(
    device: str = "auto", *, fused: str = "auto", threads: int | None = None, precision: str = "float32"
) -> Backend:
    """Return a backend for a device word.

    Parameters
    ----------
    device : str
        `auto` takes the GPU if it works, else the CPU, and keeps the reason in `backend.fallback_reason`.
        Every other word means that device alone. `cpu` is Numba if that is installed, else NumPy. `torch`
        runs the generic bodies on PyTorch's tensors.
    fused : {"auto", "always", "never"}
        See `Backend`.
    threads : int, optional
        Worker threads of the CPU; None takes the cores that this process may use.
    precision : {"float32", "tf32", "bf16", "fp16"}
        Precision of products of float32 arrays and of stored activations; sums and parameters stay float32.
        All but float32 need a GPU.

    Raises
    ------
    ValueError
        The word is none of `DEVICE_WORDS`, `threads` is less than 1, or the device lacks the precision.
    DeviceUnavailableError
        The device is unavailable; with `auto`, only if the precision needs a GPU.
    """
    name, index = _parse(device)
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be 1 or more, not {threads}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    if precision != "float32" and fused == "never":
        raise ValueError(f"precision {precision} is of fused bodies; leave it out, or fused=never")
    options = {"fused": fused, "threads": threads, "index": index, "precision": precision}
    if name not in ("auto", "cpu"):
        return _make(name, options)
    if name == "cpu":
        return _make(_library_of_cpu(), options)
    try:
        return _make("cupy", options)
    except DeviceUnavailableError as reason:
        if precision != "float32":
            raise DeviceUnavailableError(f"precision {precision} needs a GPU: {reason}") from None
        backend = _make(_library_of_cpu(), options)
        backend.fallback_reason = str(reason)
        return backend


def _library_of_cpu() -> str:
    return "numpy" if _why_unavailable("numba") else "numba"


def available_backends() -> dict[str, str]:
    """Return why each backend cannot run here, by name; an empty string if it can."""
    return {name: _why_unavailable(name) for name in ENTRIES}


def _parse(device: str) -> tuple[str, int]:
    """Return the backend of a word, or `auto` or `cpu`, and the number after its colon."""
    word, colon, number = device.partition(":")
    names = {"auto": "auto", "cpu": "cpu"} | {word: name for name, e in ENTRIES.items() for word in e.words}
    name = names.get(word, "")
    is_index = not colon or (
        name in ENTRIES and ENTRIES[name].indexed and number.isascii() and number.isdigit()
    )
    if not name or not is_index or len(number) > _MAX_DIGITS:
        raise ValueError(f"unknown device {device!r}; use one of: {DEVICE_WORDS}")
    return name, int(number or 0)


def _why_unavailable(name: str, index: int = 0) -> str:
    reason: str = importlib.import_module(ENTRIES[name].package, __package__).why_unavailable(index)
    return reason


def _make(name: str, options: dict[str, Any]) -> Backend:
    """Make a backend with the options that it takes."""
    taken = ENTRIES[name].options
    if options["precision"] != "float32" and "precision" not in taken:
        precision = options["precision"]
        raise ValueError(f"precision {precision} is for a GPU; {name} computes in float32 or float64")
    if reason := _why_unavailable(name, options["index"]):
        raise DeviceUnavailableError(reason)
    module = importlib.import_module(f"{ENTRIES[name].package}.backend", __package__)
    backend_class: type[Backend] = getattr(module, ENTRIES[name].class_name)
    return backend_class(options["fused"], **{key: options[key] for key in taken})
