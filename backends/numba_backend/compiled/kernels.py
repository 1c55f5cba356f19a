"""Kernels of lowered formulas: compiled once for each text, kept on disk, and called by their addresses."""

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
    """A compiled kernel's address, 0 where there is nothing to do, and its coefficients."""

    address: int
    coefficients: Array

    @property
    def fields(self) -> dict[str, int]:
        """What an instruction holds of it."""
        return {"kernel": self.address, "table": address_of(self.coefficients)}


@functools.lru_cache(maxsize=512)
def forward_kernel(activation: Activation, dtype: np.dtype[Any]) -> Kernel:
    """Return the kernel of bias and activation."""
    formula, values = lowered_activation(activation)
    text = forward_text(formula, dtype.name, saves_input=activation.saves_input)
    return Kernel(_address(text, 7), _table(values))


@functools.lru_cache(maxsize=512)
def backward_kernel(activation: Activation, dtype: np.dtype[Any]) -> Kernel:
    """Return the kernel of an activation's derivative; none if it leaves dy as it is."""
    formula, values = lowered_activation(activation)
    (dz,) = formula.functions["backward"].outputs
    address = 0 if dz.value == "dy" else _address(backward_text(formula, dtype.name), 6)
    return Kernel(address, _table(values))


@functools.lru_cache(maxsize=512)
def loss_kernel(loss: ElementwiseLoss, dtype: np.dtype[Any], scale: float) -> Kernel:
    """Return the kernel of a loss, whose coefficients end with `scale`."""
    formula, values = lowered_loss(loss)
    return Kernel(_address(loss_text(formula, dtype.name), 8), _table((*values, scale)))


@functools.lru_cache(maxsize=512)
def update_kernel(rule: UpdateRule, dtype: np.dtype[Any]) -> Kernel:
    """Return the kernel of an optimizer's update, whose coefficients are the rule's fields."""
    numbers = numbers_of(rule)
    text = update_text(lowered_rule(rule), dtype.name, list(numbers))
    return Kernel(_address(text, 13), _table(tuple(numbers.values())))


def _table(values: tuple[float, ...]) -> Array:
    return np.array(values or (0.0,), np.float64)


@functools.cache
def _address(text: str, arguments: int) -> int:
    """The address of the kernel in a text, which takes so many integers."""
    compiled = _compiled(text, types.void(*[types.intp] * arguments))
    _ALIVE.append(compiled)
    return int(compiled.address)


_ALIVE: list[Any] = []


def _compiled(text: str, signature: Any) -> Any:
    scope: dict[str, Any] = {"__name__": __name__}
    exec(compile(text, str(_file_of(text)), "exec"), scope)  # of our own text, whatever lies in the file
    pair = (signature.args, signature.return_type)
    compiled: Any = CFunc(scope["kernel"], pair, locals={}, options={"error_model": "numpy"})
    with contextlib.suppress(RuntimeError):  # nowhere to write the cache
        compiled._cache = Cache(scope["kernel"])
    compiled.compile()
    return compiled


def _file_of(text: str) -> Path:
    """A file with a text, named by its content, beside which Numba keeps its code; it may not be there."""
    name = f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.py"
    try:
        file = cache_folder() / "formulas" / name
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_suffix(f".{os.getpid()}")
            part.write_text(text, encoding="utf-8")
            part.replace(file)
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        return Path("<formula>")
    return file
