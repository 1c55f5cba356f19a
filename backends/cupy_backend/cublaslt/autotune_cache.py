"""What was fastest for each product, kept on disk for one GPU and one version of cublasLt.

A run that times its products takes others the next time, by noise alone, and another algorithm rounds
otherwise. So the first choice stands: every later run of this user on this machine repeats it bit by bit.
The algorithms in the file are compared with those that the library offers, and never given to it.
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
    """The fastest way to compute a product, and the milliseconds of all ways by the tier."""

    tier: str
    algorithm: bytes
    milliseconds: dict[str, list[float | None]]


class Choices:
    """The choices of one GPU and one library.

    Parameters
    ----------
    file : Path
        An SQLite database, made where it is missing, which other processes may use at the same time.
    gpu, library : str
        For which the choices are.

    Raises
    ------
    OSError
        From every method, where the file cannot be made or written, or is something else.
    """

    def __init__(self, file: Path, gpu: str, library: str) -> None:
        self.file, self._of = file, (gpu, library)
        file.parent.mkdir(parents=True, exist_ok=True)
        self.find("")  # the file can be read

    def find(self, product: str) -> Choice | None:
        """Return what was chosen for a product, or None."""
        with self._connected() as database:
            return self._found(database, product)

    def keep(self, product: str, choice: Choice) -> Choice:
        """Keep a choice, unless there is one already; return the one that stands."""
        tier, algorithm, milliseconds = choice
        row = (*self._of, product, tier, algorithm, json.dumps(milliseconds))
        with self._connected() as database:
            database.execute("INSERT OR IGNORE INTO products VALUES (?, ?, ?, ?, ?, ?)", row)
            return self._found(database, product) or choice

    def forget(self, product: str) -> None:
        """Drop the choice for a product: the library does not offer it any more."""
        with self._connected() as database:
            database.execute(
                "DELETE FROM products WHERE gpu = ? AND library = ? AND product = ?", (*self._of, product)
            )

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """A transaction of its own: processes and threads share nothing but the file."""
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
    """Return where a user's choices lie."""
    return cache_folder() / "products.sqlite"
