"""A cache of compiled code on disk that depends on all sources here, and whose faults are ignored.

Numba's own cache holds while a function's own file is unchanged. But the interpreter's loop contains code from
every file here, so an update of another file would run old code. And an unreadable or unwritable cache (after a
crash, on a full disk) would end the run.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba.core import caching, sigutils

_FunctionCache: Any = caching.FunctionCache  # untyped
_HERE = Path(__file__).parent
_DIGITS = 12


def sources() -> list[Path]:
    """Return the files with compiled code."""
    return sorted([*_HERE.glob("*.py"), *_HERE.parent.glob("bodies.py")])


def has_code(function: Callable[..., Any]) -> bool | None:
    """Whether a compiled function has code on disk; None if it cannot be cached."""
    cache = getattr(function, "_cache", None)
    return not cache.is_empty if isinstance(cache, Cache) else None


@functools.cache
def version() -> str:
    """Return a hash of all sources, of a few hexadecimal digits."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources())).hexdigest()[:_DIGITS]


class Cache(_FunctionCache):  # type: ignore[misc]
    """The compiled code of one function, by argument types.

    Raises
    ------
    RuntimeError
        From the constructor: no folder is writable.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        # The version is in the files' names, so that an index never points to code of another version.
        self._version, base = f".{version()}.", self._impl.filename_base
        self._every_version = base.partition("-")[0] + "-*.nb[ci]"
        stamp = self._impl.locator.get_source_stamp()
        files: Any = caching.IndexDataCacheFile
        self._cache_file = files(self._cache_path, base + self._version[:-1], stamp)

    @property
    def is_empty(self) -> bool:
        """Whether no code of these sources is on disk."""
        return not Path(self._cache_file._index_path).exists()

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        """Return the code for a signature, or None if there is no usable one."""
        try:
            found = super().load_overload(signature, target_context)
        except Exception:  # unpickling damaged bytes may raise anything
            with contextlib.suppress(OSError):
                self._cache_file.flush()
            return None
        # Two processes that compile for two types at once may have used the same file name.
        wanted, _ = sigutils.normalize_signature(signature)  # type: ignore[no-untyped-call]
        return found if found is not None and found.signature.args == wanted else None

    def save_overload(self, signature: Any, code: Any) -> None:
        """Save code if possible, and remove that of other versions."""
        with contextlib.suppress(Exception):  # the run continues with the code in memory
            super().save_overload(signature, code)
            for path in Path(self._cache_path).glob(self._every_version):
                if self._version not in path.name:
                    path.unlink(missing_ok=True)
