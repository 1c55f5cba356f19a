"""Make the table of `docs/how_to/gpu.md` from a report.

Run as `python -m bench.gpu.figures [FILE] [--page docs/how_to/gpu.md]`.
There is no table without a report, or with one of `--quick`: the path has not been measured then.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ..command_line import Parser
from .report import Report
from .summary import of_peers

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench" / "results"
BEGIN, END = "<!-- figures of bench.gpu -->", "<!-- end of figures -->"
_PEERS = {
    "PyTorch, graph": "torch graph",
    "compiled, graph": "torch compiled, graph",
    "eager": "torch eager",
    "JAX": "jax scan",
}
Row = dict[str, Any]


def record() -> Path | None:
    """Return the record in `bench/results` that the page shows: the first by name, or None."""
    return next(iter(sorted(RESULTS.glob("gpu-*.json"))), None)


def table(content: Row) -> str:
    """Return microseconds of a step, ours and the peers', as Markdown; ValueError if the report has none."""
    report = Report(content["quick"], content)
    timed = [row for row in report.rows("timings") if "milliseconds" in row]
    machine = next((row for row in report.rows("machine") if "gpu" in row), None)
    if report.quick or machine is None or not timed:
        raise ValueError("the report has no figures: it is of --quick, or no step was timed")
    run = report.runs[report.parts["timings"]["run"]]
    lines = [
        f"Microseconds of a step on one {machine['gpu']} (driver for CUDA {machine['cuda_driver']}, CuPy "
        f"{machine['library']}, commit {run['commit'][:8]}, {run['date'][:10]}). All checks of that run hold: "
        f"{report.holds}.",
        "",
        f"| width | rows | networks | precision | coordfit | {' | '.join(_PEERS)} |",
        f"|{'---|' * (5 + len(_PEERS))}",
    ]
    for row in timed:
        alone = row["members"] == 1
        found = of_peers(report, (row["width"], row["rows"], row["precision"])) if alone else {}
        cells = [
            row["width"],
            row["rows"],
            row["members"],
            row["precision"],
            f"{1e3 * row['milliseconds']:.0f}",
        ]
        cells += [f"{1e3 * found[name]:.0f}" if name in found else "" for name in _PEERS.values()]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def with_table(page: str, text: str) -> str:
    """Return the page with the table between its two marks, in place of what is there."""
    before, found, rest = page.partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not (found and found_end):
        raise ValueError(f"the page has no marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def main(arguments: list[str] | None = None) -> int:
    """Print the table, or put it into a page."""
    parser = Parser(prog="python -m bench.gpu.figures", description=__doc__)
    parser.add_argument("report", nargs="?", type=Path, help="default: the one in bench/results")
    parser.add_argument("--page", type=Path, help="put the table between the marks of this file")
    options = parser.parse_args(arguments)
    try:
        if (file := options.report or record()) is None:
            raise ValueError(f"there is no report of a GPU in {RESULTS.relative_to(ROOT)}")
        text = table(json.loads(file.read_text(encoding="utf-8")))
        if options.page is None:
            print(text)
        else:
            page = options.page.read_text(encoding="utf-8")
            options.page.write_text(with_table(page, text), encoding="utf-8")
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"no figures: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
