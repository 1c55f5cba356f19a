"""Read and write strict JSON: no NaN, no infinity, no key twice, valid Unicode only."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .atomic import write_bytes
from .names import FilePath
from .reading import read_text

_MAX_BYTES = 2**22  # a hundred times the size of a run's document
_MAX_DEPTH = 32


def read_json(path: Path) -> Any:
    """Read a small document, such as `write_json` writes.

    OSError if it cannot be read or is too large; ValueError if it is not strict JSON, or nested too deeply.
    """
    return parse_strict_json(read_text(path, max_bytes=_MAX_BYTES))


def parse_strict_json(text: str | bytes) -> Any:
    """Parse a document of bounded depth; ValueError if it is not strict JSON in UTF-8."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):  # parsers differ in which one they take
            raise ValueError("a key is there twice")
        return result

    def finite(number: str) -> float:
        value = float(number)
        if not math.isfinite(value):
            raise ValueError("a number is too large")
        return value

    def no_constant(name: str) -> None:
        raise ValueError(f"{name} is no number of JSON")

    def check_depth(value: Any, levels: int) -> None:
        if isinstance(value, (dict, list)):
            if levels == 0:
                raise RecursionError
            for item in value.values() if isinstance(value, dict) else value:
                check_depth(item, levels - 1)

    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        value = json.loads(text, object_pairs_hook=unique, parse_constant=no_constant, parse_float=finite)
        check_depth(value, _MAX_DEPTH)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return value


def write_json(path: FilePath, document: Any) -> None:
    """Write `document` as strict JSON in UTF-8, indented by 2, atomically.

    TypeError or ValueError, before the file is touched, if JSON cannot express the document; see `jsonable`.
    """
    text = json.dumps(jsonable(document), indent=2, allow_nan=False, ensure_ascii=False)
    write_bytes(path, text.encode("utf-8") + b"\n")


def jsonable(value: Any) -> Any:
    """Turn `value` into what strict JSON can express; TypeError for other types.

    Dataclasses and mappings become objects; lists, tuples, ranges and arrays become lists; paths become text,
    enumeration members their values, NumPy scalars Python numbers. NaN and infinities become None. Bytes of a
    path that are not valid Unicode are escaped. ValueError if two keys of a mapping are the same text.
    """
    if isinstance(value, enum.Enum):
        return jsonable(value.value)
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, os.PathLike):
        return jsonable(os.fsdecode(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return _json_object(value)
    if isinstance(value, (list, tuple, range)):
        return [jsonable(item) for item in value]
    return jsonable(_from_array(value))


def _json_object(mapping: Mapping[Any, Any]) -> dict[str, Any]:
    result = {str(jsonable(key)): jsonable(item) for key, item in mapping.items()}
    if len(result) != len(mapping):
        raise ValueError("two keys of a mapping would be the same in JSON")
    return result


def _from_array(value: Any) -> Any:
    """Return the Python numbers of an array by its `tolist`, without importing an array library."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(plain, (bool, int, float, str, list)):
        raise TypeError(f"JSON cannot tell a {type(value).__name__}")
    return plain
