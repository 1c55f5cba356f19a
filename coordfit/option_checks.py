"""Describe one setting of a fit for the command line, and check its values."""

from __future__ import annotations

import dataclasses
import difflib
import math
import sys
from collections.abc import Iterable
from typing import Any

from .components import Names
from .errors import ConfigError

POSITIVE = (math.ulp(0.0), math.inf)
NOT_NEGATIVE = (0.0, math.inf)
FRACTION = (0.0, 1.0)


def option(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    limits: tuple[float, float] | None = None,
    group: str,
    word_for_none: str = "",
    names: tuple[str, ...] = (),
    is_new: bool = False,
) -> Any:
    """Return a field of `FitConfig` with its facts for the command line and the checks.

    `limits` are inclusive. `word_for_none` is typed for None. `names` are words that are allowed beside
    numbers. Files of 0.1 lack a setting that `is_new`, and mean its default.
    """
    facts: dict[str, Any] = {"help": help, "choices": choices, "limits": limits, "group": group}
    facts |= {"word_for_none": word_for_none, "names": names, "is_new": is_new}
    return dataclasses.field(default=default, metadata=facts)


def check_setting(spec: dataclasses.Field[Any], value: Any) -> None:
    """Raise ConfigError for a value of the wrong type, outside the choices, or outside the limits."""
    expected = kind_of(spec)
    if value is None and "None" in expected:
        return
    if isinstance(spec.metadata["choices"], Names) and not isinstance(value, str):
        return  # a component, checked by `resolved`
    if not _has_type(value, expected):
        wanted = expected.replace(" | None", "").replace("tuple[int, int]", "(width, height)")
        wanted = wanted.replace("tuple[float, ...]", "a tuple of numbers")
        raise ConfigError(f"{spec.name} must be {wanted}, not {value!r}")
    choices, limits, names = (spec.metadata[key] for key in ("choices", "limits", "names"))
    if isinstance(value, str) and names:
        if value not in names:
            raise ConfigError(f"{spec.name} must be a number or {' or '.join(names)}, not {value!r}")
        return
    if choices and value not in choices:
        raise ConfigError(
            f"{spec.name} must be one of {', '.join(choices)}, not {value!r}{did_you_mean(value, choices)}"
        )
    for number in value if isinstance(value, tuple) else (value,):
        if limits and not (limits[0] <= number <= min(limits[1], sys.float_info.max)):  # true for NaN
            raise ConfigError(f"{spec.name} must be {_in_words(limits)}, not {number!r}")


def kind_of(spec: dataclasses.Field[Any]) -> str:
    """Return the Python types of a field's values, `str` for words with a type of their own."""
    return "str" if spec.metadata["choices"] else str(spec.type).replace("Auto", "str")


def _has_type(value: Any, expected: str) -> bool:
    if isinstance(value, bool) or "bool" in expected:
        return isinstance(value, bool) and "bool" in expected
    if isinstance(value, tuple):
        if "tuple[float, ...]" in expected:
            return bool(value) and all(type(n) in (int, float) for n in value)
        return "tuple" in expected and len(value) == 2 and all(type(n) is int for n in value)
    if isinstance(value, int):
        return "int" in expected or "float" in expected
    return ("float" in expected and isinstance(value, float)) or ("str" in expected and isinstance(value, str))


def _in_words(limits: tuple[float, float]) -> str:
    low, high = limits
    if limits == POSITIVE:
        return "a finite number above 0"
    return f"a finite number of {low:g} or more" if math.isinf(high) else f"between {low:g} and {high:g}"


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return a question for the nearest known word, with `prefix` before it, or "".

    Near are words with few different letters, with `name` as their beginning, and with these initials: `lr` is
    near `learning_rate`.
    """
    words = {word.replace("-", "_"): word for word in known}
    asked = name.lower().replace("-", "_")
    longer = [word for word in words if len(asked) > 2 and word.startswith(asked)]
    of_initials = [word for word in words if "_" in word and asked == "".join(p[:1] for p in word.split("_"))]
    near = [*difflib.get_close_matches(asked, words, n=1), *longer, *of_initials]
    return f"; did you mean {prefix + words[near[0]]!r}?" if near else ""
