"""Types of options: from the text of a command line or a variable to a value, or a usage error."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from ..config import STORED, did_you_mean, kind_of

_MOST_DIGITS = 10  # of a length in pixels


FUSED = ("auto", "always", "never")


PRECISIONS = ("float32", "tf32", "bf16", "fp16")


_TRUTH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


_MOST_THREADS = 1024


class UsageError(Exception):
    """The words on the command line do not fit together."""


def converter(spec: dataclasses.Field[Any]) -> Callable[[str], Any]:
    """From the text of an option to the value of a field."""
    kind, word = kind_of(spec), spec.metadata["word_for_none"]
    if "tuple" in kind:
        return parse_size
    convert: Callable[[str], Any] = float if "float" in kind else str if "str" in kind else int
    names = spec.metadata["names"]

    def read(text: str) -> Any:
        if text in names:
            return text
        return None if word and text == word else convert(text)

    read.__name__ = f"{'number' if convert is not str else 'text'}{f' or {word}' if word else ''}"
    return read


def list_converter(spec: dataclasses.Field[Any]) -> Callable[[str], list[Any]]:
    """From `1,2,5` to the values of a field; names and truth values are checked with the settings."""
    convert = text_converter(spec)

    def read(text: str) -> list[Any]:
        return [convert(part.strip()) for part in text.split(",")]

    read.__name__ = f"list of {getattr(convert, '__name__', 'value')}"
    return read


def text_converter(spec: dataclasses.Field[Any]) -> Callable[[str], Any]:
    """As `converter`, for a field of any kind."""
    return _truth if spec.type == "bool" else str if spec.metadata["choices"] else converter(spec)


def count(name: str) -> Callable[[str], Any]:
    """Reads a number of things, one at least."""
    return checked(name, int, lambda n: n >= 1, "a whole number of 1 or more")


def _truth(text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return _TRUTH[text.lower()]


def each(read: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """From `8,16` to what each part says."""

    def read_all(text: str) -> list[Any]:
        return [read(part.strip()) for part in text.split(",")]

    return read_all


def tile_side(text: str) -> str | int:
    """Return `auto`, `none` or the side of a tile in pixels."""
    if text in ("auto", "none"):
        return text
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is neither auto, nor none, nor a number of pixels")
    return int(text)


def parse_size(text: str) -> int | tuple[int, int]:
    """`N` for the longer side, or `WxH`."""
    numbers = text.lower().split("x")
    if len(numbers) > 2 or not all(_is_length(n) and int(n) > 0 for n in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; use N or WxH, e.g. 256 or 320x200")
    return int(numbers[0]) if len(numbers) == 1 else (int(numbers[0]), int(numbers[1]))


def _is_length(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS


def parse_crop(text: str) -> tuple[int, int, int, int]:
    """Return left, top, width and height from `X,Y,W,H`, in pixels."""
    numbers = text.split(",")
    if len(numbers) != 4 or not all(_is_length(n.strip()) for n in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is no crop; use X,Y,W,H in pixels, e.g. 0,0,64,64")
    left, top, width, height = (int(n) for n in numbers)
    return left, top, width, height


def checked(
    name: str, convert: Callable[[str], Any], fits: Callable[[Any], bool], wanted: str
) -> Callable[[str], Any]:
    """Return a converter that refuses a value that does not fit, and says what is wanted."""

    def read(text: str) -> Any:
        try:
            value = convert(text)
        except ValueError:
            value = None
        if value is None or not fits(value):
            raise argparse.ArgumentTypeError(f"{name} must be {wanted}, not {text!r}")
        return value

    return read


def one_of(name: str, words: Sequence[str]) -> Callable[[str], str]:
    """Reads one of some words; another is answered with the nearest."""

    def read(text: str) -> str:
        if text not in words:
            meant = did_you_mean(text, words)
            raise argparse.ArgumentTypeError(f"{name} must be one of {', '.join(words)}, not {text!r}{meant}")
        return text

    return read


thread_count = checked(
    "threads", int, lambda n: 1 <= n <= _MOST_THREADS, f"a whole number from 1 to {_MOST_THREADS}"
)


fused_mode = one_of("fused", FUSED)


stored = one_of("stored", STORED)


precision = one_of("precision", PRECISIONS)
