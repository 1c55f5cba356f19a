"""Kernels of lowered formulas: compiled once for each text, cached on disk, and called by address."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba.core import types
from numba.core.ccallback import CFunc

from ...lowering import lowered_activation, lowered_loss, lowered_rule, numbers_of
from ...lowering.numba_text import backward_text, forward_text, loss_text, update_text
from ...protocols import Activation, Array, ElementwiseLoss, UpdateRule
from ...user_cache import cache_folder
from .addresses import address_of
from .cache import Cache


class Kernel(NamedTuple):
    """A compiled kernel's address, 0 for no work, and its coefficients."""

    address: int
    coefficients: Array

    @property
    def fields(self) -> dict[str, int]:
        """The fields of an instruction that names this kernel."""
        return {"kernel": self.address, "table": address_of(self.coefficients)}


@functools.lru_cache(maxsize=512)
def forward_kernel(activation: Activation, dtype: np.dtype[Any]) -> Kernel:
    """Return the kernel of bias and activation."""
    formula, values = lowered_activation(activation)
    text = forward_text(formula, dtype.name, saves_input=activation.saves_input)
    return _kernel(text, 7, values)


@functools.lru_cache(maxsize=512)
def backward_kernel(activation: Activation, dtype: np.dtype[Any]) -> Kernel:
    """Return the kernel of an activation's derivative, of address 0 if dz is dy."""
    formula, values = lowered_activation(activation)
    (dz,) = formula.functions["backward"].outputs
    return _kernel("" if dz.value == "dy" else backward_text(formula, dtype.name), 6, values)


@functools.lru_cache(maxsize=512)
def loss_kernel(loss: ElementwiseLoss, dtype: np.dtype[Any], scale: float) -> Kernel:
    """Return the kernel of a loss; `scale` is its last coefficient."""
    formula, values = lowered_loss(loss)
    return _kernel(loss_text(formula, dtype.name), 8, (*values, scale), sums=True)


@functools.lru_cache(maxsize=512)
def update_kernel(rule: UpdateRule, dtype: np.dtype[Any]) -> Kernel:
    """Return the kernel of an optimizer's update; its coefficients are the rule's fields."""
    numbers = numbers_of(rule)
    text = update_text(lowered_rule(rule), dtype.name, list(numbers))
    return _kernel(text, 13, tuple(numbers.values()))


def _kernel(text: str, arguments: int, values: tuple[float, ...], *, sums: bool = False) -> Kernel:
    address = int(_compiled(text, arguments, sums).address) if text else 0
    return Kernel(address, np.array(values or (0.0,), np.float64))


@functools.cache
def _compiled(text: str, arguments: int, sums: bool = False) -> Any:
    """Return the compiled kernel in a text, which takes integers; the cache keeps its code alive.

    With `sums` it may add numbers in another order, as vectors do.
    """
    scope: dict[str, Any] = {"__name__": __name__, "__package__": __package__}
    exec(compile(text, str(_file_of(text)), "exec"), scope)  # runs only our own text, not the file
    pair = ((types.intp,) * arguments, types.void)
    compiled: Any = CFunc(
        scope["kernel"],
        pair,
        locals={},
        options={"error_model": "numpy", "fastmath": {"reassoc"} if sums else False},
    )
    with contextlib.suppress(RuntimeError):  # no writable place for a cache
        compiled._cache = Cache(scope["kernel"])
    compiled.compile()
    return compiled


def _file_of(text: str) -> Path:
    """Return a file with a text, named by its content, for Numba's cache; it is missing if unwritable."""
    name = f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.py"
    try:
        file = cache_folder() / "formulas" / name
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_suffix(f".{os.getpid()}")
            part.write_text(text, encoding="utf-8")
            part.replace(file)
    except (OSError, RuntimeError):  # RuntimeError: the user has no home folder
        return Path("<formula>")
    return file
