"""Compare the figures of README.md and docs/ with the records in bench/results/.

    python -m bench.figures             # what differs, and figures without a claim; 1 if there are some
    python -m bench.figures --write     # write the records' figures into the pages
    python -m bench.figures --unbound   # figures that no record gives, and the commands that make them

Which record gives a figure, and how, is said in this folder, a file for each page: a `Claim` for a sentence or
a row, a `Table` for a whole table, and `Unbound` for what has no record.
"""

from __future__ import annotations

from ..command_line import Parser, run_main
from . import faults_in, listed, pending
from .pages import ROOT, mended


def main() -> int:
    """Compare, print, and write what is asked for."""
    parser = Parser(prog="python -m bench.figures", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the records' figures into the pages")
    parser.add_argument("--unbound", action="store_true", help="print the figures that no record gives")
    options = parser.parse_args()
    if options.unbound:
        print(
            *(f"{part.page}: {part.text}\n    {part.why} {part.command}".rstrip() for part in listed()),
            sep="\n",
        )
        print(
            *(
                f"{claim.page}: {claim.text}\n    not in {claim.records} yet: {claim.command}"
                for claim in pending()
            ),
            sep="\n",
        )
        return 0
    faults = faults_in()
    for fault in faults:
        print(f"{fault.page}: {fault.told}")
    if options.write:
        for page in {fault.page for fault in faults}:
            file = ROOT / page
            text = mended(file.read_text(encoding="utf-8"), [fault for fault in faults if fault.page == page])
            file.write_text(text, encoding="utf-8")
    return 1 if faults else 0


if __name__ == "__main__":
    run_main("figures", main)
