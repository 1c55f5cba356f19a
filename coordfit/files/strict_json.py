"""Read and write strict JSON: no NaN, no infinity, no key twice, valid Unicode alone."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .atomic import atomic_write
from .names import FilePath
from .reading import read_text

# A hundred times what a document of a run has.
_MAX_BYTES = 2**22


def read_json(path: Path) -> Any:
    """Read a document that `write_json` may have written, and that is small; see `read_text`.

    Raises
    ------
    OSError
        It cannot be read, or is too large.
    ValueError
        It is not JSON, or nested too deeply.
    """
    try:
        return json.loads(read_text(path, max_bytes=_MAX_BYTES))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def write_json(path: FilePath, document: Any) -> None:
    """Write `document` as strict JSON in UTF-8, indented by 2, atomically.

    Raises
    ------
    OutputError
        The file cannot be written.
    TypeError, ValueError
        The document holds what JSON cannot express; see `jsonable`. The file is not touched.
    """
    text = json.dumps(jsonable(document), indent=2, allow_nan=False, ensure_ascii=False)
    with atomic_write(path) as file:
        file.write(text.encode("utf-8") + b"\n")


def jsonable(value: Any) -> Any:
    """Turn `value` into what strict JSON can express.

    Dataclasses and mappings become objects, lists, tuples, ranges and arrays become lists, paths text,
    enumeration members their values, NumPy scalars Python numbers. NaN and infinities become None, since JSON
    has no word for them; text that is not valid Unicode (a path can be that) has the odd bytes escaped.

    Raises
    ------
    TypeError
        Something in `value` is of another type.
    ValueError
        Two keys of a mapping are the same text.
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
    """Turn the keys into text."""
    result = {str(jsonable(key)): jsonable(item) for key, item in mapping.items()}
    if len(result) != len(mapping):
        raise ValueError("two keys of a mapping would be the same in JSON")
    return result


def _from_array(value: Any) -> Any:
    """Return the Python numbers of an array or array scalar, by ``tolist``, which needs no array library."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(plain, (bool, int, float, str, list)):
        raise TypeError(f"JSON cannot tell a {type(value).__name__}")
    return plain
