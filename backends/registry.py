"""From the word a user types (`--device gpu:1`) to a backend, or to the reason why not."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

from .base import Backend

_MOST_DIGITS = 3
PRECISIONS = ("float32", "tf32", "bf16", "fp16")


class Entry(NamedTuple):
    """What is known of a backend before its library is imported."""

    package: str
    """Has `why_unavailable(index)`, and a module `backend` that is imported if there is no reason why."""
    class_name: str
    words: tuple[str, ...]
    """What a user types; those in `indexed` may be followed by `:N`."""
    options: tuple[str, ...] = ()
    """Arguments that its class takes beside `fused`."""

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
    """The device asked for is not there; the message says why and what to do."""


def get_backend(
    device: str = "auto", *, fused: str = "auto", threads: int | None = None, precision: str = "float32"
) -> Backend:
    """Return a backend for a device word.

    Parameters
    ----------
    device : str
        `auto` takes the GPU where one answers and the CPU otherwise, and keeps the reason in
        `backend.fallback_reason`. Every other word means that device and nothing else. On the CPU, Numba
        compiles the element-wise loops if it is installed; `numpy` and `numba` ask for one of the two.
        `torch` runs the generic bodies on PyTorch's tensors.
    fused : {"auto", "always", "never"}
        See `Backend`.
    threads : int, optional
        Worker threads of the CPU; None takes the cores that this process may use.
    precision : {"float32", "tf32", "bf16", "fp16"}
        In what products of float32 arrays may be computed, and activations kept; sums and parameters are
        float32 always. All but float32 are for a GPU alone, and a reason for `auto` not to take the CPU.

    Raises
    ------
    ValueError
        The word is none of `DEVICE_WORDS`, `threads` is less than 1, or there is no such precision there.
    DeviceUnavailableError
        The device is not there. For `auto` only with a precision that the CPU does not have.
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
    """Return every known backend with the reason why it cannot run here, or an empty string if it can."""
    return {name: _why_unavailable(name) for name in ENTRIES}


def _parse(device: str) -> tuple[str, int]:
    """Return the backend that a word means, or `auto` or `cpu`, and the number behind its colon."""
    word, colon, number = device.partition(":")
    names = {"auto": "auto", "cpu": "cpu"} | {word: name for name, e in ENTRIES.items() for word in e.words}
    name = names.get(word, "")
    is_index = not colon or (
        name in ENTRIES and ENTRIES[name].indexed and number.isascii() and number.isdigit()
    )
    if not name or not is_index or len(number) > _MOST_DIGITS:
        raise ValueError(f"unknown device {device!r}; use one of: {DEVICE_WORDS}")
    return name, int(number or 0)


def _why_unavailable(name: str, index: int = 0) -> str:
    reason: str = importlib.import_module(ENTRIES[name].package, __package__).why_unavailable(index)
    return reason


def _make(name: str, options: dict[str, Any]) -> Backend:
    """Make a backend with those of the options that it takes."""
    taken = ENTRIES[name].options
    if options["precision"] != "float32" and "precision" not in taken:
        precision = options["precision"]
        raise ValueError(f"precision {precision} is for a GPU; {name} computes in float32 or float64")
    if reason := _why_unavailable(name, options["index"]):
        raise DeviceUnavailableError(reason)
    module = importlib.import_module(f"{ENTRIES[name].package}.backend", __package__)
    backend_class: type[Backend] = getattr(module, ENTRIES[name].class_name)
    return backend_class(options["fused"], **{key: options[key] for key in taken})
