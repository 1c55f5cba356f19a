"""Files that a reader finds whole, old or new, and never half written; run folders and histories.

Everything a run leaves behind goes through `atomic_write`, except ``history.csv``, which grows row by row so
that a killed run keeps its curve.
"""

from .atomic import atomic_write
from .folders import RUN_FILES, make_folder, new_run_folder, prepare_output_folder
from .history import HistoryWriter, read_history
from .mapped import forget_pages, pieces
from .names import FilePath, escaped, printable
from .strict_json import jsonable, write_json

__all__ = [
    "RUN_FILES",
    "FilePath",
    "HistoryWriter",
    "atomic_write",
    "escaped",
    "forget_pages",
    "jsonable",
    "make_folder",
    "new_run_folder",
    "pieces",
    "prepare_output_folder",
    "printable",
    "read_history",
    "write_json",
]
