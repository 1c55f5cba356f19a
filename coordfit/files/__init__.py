"""Write files whole or not at all, and read them without trust; run folders and histories.

Every result goes through `atomic_write`, except ``history.csv``, which grows row by row so that a killed run
keeps its curve. `Outputs` checks the names that a command writes before it begins.
"""

from .atomic import atomic_write, write_bytes
from .folders import RUNS, make_folder, new_run_folder, prepare_output_folder
from .history import HistoryWriter, read_history
from .mapped import forget_pages, pieces
from .names import FilePath, escaped, printable
from .outputs import Outputs
from .reading import read_text
from .strict_json import jsonable, read_json, write_json

__all__ = [
    "RUNS",
    "FilePath",
    "HistoryWriter",
    "Outputs",
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
    "read_json",
    "read_text",
    "write_bytes",
    "write_json",
]
