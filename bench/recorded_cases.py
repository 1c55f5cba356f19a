"""Keep the cases of a study on photographs in a JSON file from run to run."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .command_line import PHOTOGRAPHS, BadInputError, Parser, count, new_file
from .records import Runs

Case = dict[str, Any]
"""What tells a case from others (picture, size, settings ...), and what was measured."""


def study_parser(name: str, doc: str | None, sizes: Sequence[int]) -> argparse.ArgumentParser:
    """Return the options that such studies share; `name` and `doc` are the module's, `sizes` the usual ones."""
    parser = Parser(prog=f"python -m bench.{name}", description=(doc or "").splitlines()[0])
    parser.add_argument("--pictures", nargs="+", choices=PHOTOGRAPHS, default=PHOTOGRAPHS)
    parser.add_argument("--sizes", nargs="+", type=count, default=sizes)
    parser.add_argument("--json", type=new_file, help="write the cases here; those of other runs stay")
    parser.add_argument("--keep", action="store_true", help="do not train again what that file holds")
    parser.add_argument("--show", action="store_true", help="print the table of that file, and no more")
    parser.add_argument("--steps", type=count, help="of each fit, instead of the usual")
    parser.add_argument("--threads", type=count)
    return parser


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return settings that all cases of the run share."""
    return {} if args.steps is None else {"steps": args.steps}


def cases_of(
    args: argparse.Namespace,
    keys: Iterable[Case],
    measure: Callable[[Case], Case],
    threads: int | None = None,
) -> list[Case]:
    """Return the cases that `keys` name: measured, and written as they come, or those of the file.

    Parameters
    ----------
    measure : callable
        From a key to what is measured; the case is both.
    threads
        Of coordfit, for the record.
    """
    runs, asked = Runs(args.json, "cases", ["scikit-image"], threads), []
    for key in keys:
        same = runs.find(key)
        if not (args.show or (args.keep and same)):
            same = [runs.keep(key, measure(key))]
        asked += same
    if not asked:
        raise BadInputError("--show prints the table of a file: name one with these cases by --json")
    return asked
