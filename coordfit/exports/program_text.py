"""Put the parts of a written program together."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ..files import escaped
from ..signals.facts import SignalFacts
from .arrays import ModelArrays

_WIDTH = 100


def formula(activation: Any, formulas: Mapping[str, str]) -> str:
    """Return the formula of a built-in activation, with its fields."""
    fields = {name: repr(float(value)) for name, value in asdict(activation).items()}
    return formulas[activation.name].format(**fields)


def last_or_hidden(arrays: ModelArrays, formulas: Mapping[str, str], counter: str) -> str:
    """Return the formula of layer number `counter`: the last one's, or that of the others."""
    *hidden, last = (formula(activation, formulas) for activation in arrays.activations)
    if not hidden or hidden[0] == last:
        return last
    return f"{hidden[0]} if {counter} < {len(hidden)} else {last}"


def comment(paragraphs: Sequence[str]) -> str:
    """Return paragraphs as lines of a comment."""
    lines = [line for text in paragraphs for line in textwrap.wrap(escaped(text), _WIDTH)]
    return "".join(f"# {line}\n" for line in lines)


def units_of(signal: SignalFacts) -> dict[str, Any]:
    """Return the numbers of a signal's own units, for a program; of a picture there are none."""
    if signal.frame is None:
        return {}
    start = signal.to_network(np.zeros(signal.dimensions))
    numbers = {"units": signal.units, "start": start, "spread": signal.frame.spread, "low": signal.frame.low}
    listed = {name: np.asarray(values).tolist() for name, values in numbers.items()}
    return {"D": signal.dimensions, "C": signal.channels, **listed}


def in_order(parts: Sequence[str]) -> str:
    """Return parts of a Python file, two blank lines before each function."""
    return "\n\n".join(part.strip("\n") + "\n" for part in parts if part)
