"""Convert the text of an option or of an environment variable to a value, or refuse it."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, get_args

from ..config import STORED
from ..fit_options import FusedMode, Precision
from ..option_checks import did_you_mean, kind_of

Converter = Callable[[str], Any]

FUSED: tuple[str, ...] = get_args(FusedMode)
PRECISIONS: tuple[str, ...] = get_args(Precision)
_TRUTH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_MOST_DIGITS = 10  # of a length in pixels
_MOST_THREADS = 1024


class UsageError(Exception):
    """The command line cannot be carried out as it is."""


def number_or_word(spec: dataclasses.Field[Any]) -> Converter:
    """Return the converter of a field with numbers, sizes or free text, and with its own words."""
    kind, word = kind_of(spec), spec.metadata["word_for_none"]
    if "tuple[int" in kind:
        return parse_size
    convert: Converter = float if "float" in kind else str if "str" in kind else int
    names = spec.metadata["names"]

    def read(text: str) -> Any:
        if text in names:
            return text
        if "tuple" in kind and "x" in text:
            return tuple(float(number) for number in text.split("x"))
        return None if word and text == word else convert(text)

    read.__name__ = f"{'number' if convert is not str else 'text'}{f' or {word}' if word else ''}"
    return read


def converter_of(spec: dataclasses.Field[Any]) -> Converter:
    """Return the converter of any field; choices are checked with the settings."""
    return _truth if spec.type == "bool" else str if spec.metadata["choices"] else number_or_word(spec)


def _truth(text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return _TRUTH[text.lower()]


def each(read: Converter) -> Converter:
    """Return the converter of values with commas between them, such as `8,16`, to a list."""

    def read_all(text: str) -> list[Any]:
        return [read(part.strip()) for part in text.split(",")]

    read_all.__name__ = f"list of {getattr(read, '__name__', 'value')}"
    return read_all


def axis_names(text: str) -> tuple[str, ...]:
    """Return the names of axes from `z,y,x` or `zyx`."""
    names = tuple(part.strip() for part in text.split(",")) if "," in text else tuple(text)
    if not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r} names no axes; use different names, e.g. z,y,x")
    return names


def axis_numbers(text: str) -> tuple[float, ...]:
    """Return one number for all axes, or one for each, from `0.5` or `2,0.5,0.5`."""
    return tuple(float(part) for part in text.split(","))


def value_range(text: str) -> str | tuple[float, float]:
    """Return `array`, `channel`, or the lowest and the highest value from `LOW,HIGH`."""
    if text in ("array", "channel"):
        return text
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not low < high:
        raise argparse.ArgumentTypeError(f"{text!r} is neither array, nor channel, nor LOW,HIGH")
    return low, high


def tile_side(text: str) -> str | int:
    """Return `auto`, `none` or the side of a tile in pixels."""
    if text in ("auto", "none"):
        return text
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is neither auto, nor none, nor a number of pixels")
    return int(text)


def parse_size(text: str, *, most: int = 2) -> int | tuple[int, ...]:
    """Return `N`, the longest side, or the sides of `WxH`, with up to `most` axes."""
    numbers = text.lower().split("x")
    if len(numbers) > most or not all(_is_length(n) and int(n) > 0 for n in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; use N or WxH, e.g. 256 or 320x200")
    return int(numbers[0]) if len(numbers) == 1 else tuple(int(number) for number in numbers)


def parse_shape(text: str) -> int | tuple[int, ...]:
    """Return `N`, the longest side, or the sides of `WxH`, `WxHxD` or four axes, x first."""
    return parse_size(text, most=4)


def _is_length(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS


def parse_crop(text: str, *, axes: Sequence[int] = (2,)) -> tuple[int, ...]:
    """Return left, top, width and height from `X,Y,W,H`, in pixels; of other signals more or fewer numbers."""
    numbers = text.split(",")
    if len(numbers) not in [2 * n for n in axes] or not all(_is_length(n.strip()) for n in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is no crop; use X,Y,W,H in pixels, e.g. 0,0,64,64")
    return tuple(int(number) for number in numbers)


def parse_window(text: str) -> tuple[int, ...]:
    """Return the first sample along each of 1 to 4 axes, x first, and then the sides."""
    return parse_crop(text, axes=(1, 2, 3, 4))


def parse_part(text: str) -> tuple[float, ...]:
    """Return left, top, width and height from `X,Y,W,H`, in pixels and parts of them."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 4 or not all(0.0 <= n < 10.0**_MOST_DIGITS for n in numbers) or 0.0 in numbers[2:]:
        raise argparse.ArgumentTypeError(f"{text!r} is no window; use X,Y,W,H in pixels, e.g. 60.5,40,8,6")
    return numbers


def checked(name: str, convert: Converter, fits: Callable[[Any], bool], wanted: str) -> Converter:
    """Return a converter that refuses values that do not fit, and says what is wanted."""

    def read(text: str) -> Any:
        try:
            value = convert(text)
        except ValueError:
            value = None
        if value is None or not fits(value):
            raise argparse.ArgumentTypeError(f"{name} must be {wanted}, not {text!r}")
        return value

    return read


def count(name: str) -> Converter:
    """Return a converter to a positive integer."""
    return checked(name, int, lambda n: n >= 1, "a whole number of 1 or more")


def one_of(name: str, words: Sequence[str]) -> Converter:
    """Return a converter that accepts some words, and suggests the nearest for another."""

    def read(text: str) -> str:
        if text not in words:
            meant = did_you_mean(text, words)
            raise argparse.ArgumentTypeError(f"{name} must be one of {', '.join(words)}, not {text!r}{meant}")
        return text

    return read


seed = checked("seed", int, lambda n: n >= 0, "a whole number of 0 or more")
thread_count = checked(
    "threads", int, lambda n: 1 <= n <= _MOST_THREADS, f"a whole number from 1 to {_MOST_THREADS}"
)
fused_mode = one_of("fused", FUSED)
stored = one_of("stored", STORED)
precision = one_of("precision", PRECISIONS)
