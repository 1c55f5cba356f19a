"""Compiled code on disk: told apart by all the sources here, and never a reason to fail.

Numba keeps the code of a function beside its source and takes it to be good while that one file stays as it is.
But the interpreter's loop holds code from every file here: after an update of one of them the old code would
still run. And a cache that cannot be read or written (cut short by a crash, a full disk) would end the run.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba.core import caching, sigutils

_FunctionCache: Any = caching.FunctionCache  # which has no types
_HERE = Path(__file__).parent
_DIGITS = 12


def sources() -> list[Path]:
    """The files whose code is compiled, or goes into code that is."""
    return sorted([*_HERE.glob("*.py"), *_HERE.parent.glob("bodies.py")])


def has_code(function: Callable[..., Any]) -> bool | None:
    """Whether a compiled function has code on disk; None where there is nowhere to keep it."""
    cache = getattr(function, "_cache", None)
    return not cache.is_empty if isinstance(cache, Cache) else None


@functools.cache
def version() -> str:
    """A few hexadecimal digits of all sources."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources())).hexdigest()[:_DIGITS]


class Cache(_FunctionCache):  # type: ignore[misc]
    """The code of one function for each of the types that it met.

    Raises
    ------
    RuntimeError
        There is nowhere to write it; from the constructor.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        # In the names of the files, so that an index and what it points to are never of two versions.
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
        """The code for a signature; None where there is none that can be used."""
        try:
            found = super().load_overload(signature, target_context)
        except Exception:  # whatever the unpickling of damaged bytes raises
            with contextlib.suppress(OSError):
                self._cache_file.flush()
            return None
        # Two processes that compiled at once for two types may have taken the same name for their code.
        wanted, _ = sigutils.normalize_signature(signature)  # type: ignore[no-untyped-call]
        return found if found is not None and found.signature.args == wanted else None

    def save_overload(self, signature: Any, code: Any) -> None:
        """Keep code, where that can be done, and remove that of other sources."""
        with contextlib.suppress(Exception):  # the code itself is there
            super().save_overload(signature, code)
            for path in Path(self._cache_path).glob(self._every_version):
                if self._version not in path.name:
                    path.unlink(missing_ok=True)
