"""The fastest algorithm for each product, kept on disk for one GPU and one version of cublasLt.

Timings are noisy, and algorithms round differently. So the first choice is final, and every later run of this
user on this machine repeats it bit by bit. Algorithms in the file are only compared with those that the library
offers, and never passed to it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ...user_cache import cache_folder

if TYPE_CHECKING:
    import sqlite3


class Choice(NamedTuple):
    """The fastest candidate for a product, and the milliseconds of all candidates by tier."""

    tier: str
    algorithm: bytes
    milliseconds: dict[str, list[float | None]]


class Choices:
    """The choices of one GPU and one library.

    Parameters
    ----------
    file : Path
        An SQLite database, made if missing; other processes may use it at the same time.
    gpu, library : str
        Names of the device and the library's version.

    Raises
    ------
    OSError
        From every method: the file cannot be written, or is no such database.
    """

    def __init__(self, file: Path, gpu: str, library: str) -> None:
        self.file, self._of = file, (gpu, library)
        file.parent.mkdir(parents=True, exist_ok=True)
        self.find("")  # the file can be read

    def find(self, product: str) -> Choice | None:
        """Return the choice for a product, or None."""
        with self._connected() as database:
            return self._found(database, product)

    def keep(self, product: str, choice: Choice) -> Choice:
        """Keep a choice unless an earlier one exists; return the kept one."""
        tier, algorithm, milliseconds = choice
        row = (*self._of, product, tier, algorithm, json.dumps(milliseconds))
        with self._connected() as database:
            database.execute("INSERT OR IGNORE INTO products VALUES (?, ?, ?, ?, ?, ?)", row)
            return self._found(database, product) or choice

    def forget(self, product: str) -> None:
        """Drop the choice for a product, which the library does not offer any more."""
        with self._connected() as database:
            database.execute(
                "DELETE FROM products WHERE gpu = ? AND library = ? AND product = ?", (*self._of, product)
            )

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """Open a connection and a transaction: processes and threads share only the file."""
        try:
            import sqlite3  # late, since a Python may be built without it
        except ImportError as error:
            raise OSError(f"this Python has no sqlite3: {error}") from error
        try:
            with contextlib.closing(sqlite3.connect(self.file, timeout=10.0)) as database, database:
                database.execute(
                    "CREATE TABLE IF NOT EXISTS products (gpu TEXT, library TEXT, product TEXT, tier TEXT, "
                    "algorithm BLOB, milliseconds TEXT, PRIMARY KEY (gpu, library, product))"
                )
                yield database
        except sqlite3.Error as error:
            raise OSError(f"{self.file}: {error}") from error

    def _found(self, database: sqlite3.Connection, product: str) -> Choice | None:
        row = database.execute(
            "SELECT tier, algorithm, milliseconds FROM products WHERE gpu = ? AND library = ? AND product = ?",
            (*self._of, product),
        ).fetchone()
        return None if row is None else Choice(row[0], row[1], json.loads(row[2]))


def choices_file() -> Path:
    """Return the file of a user's choices."""
    return cache_folder() / "products.sqlite"
