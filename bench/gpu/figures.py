"""README's table of GPU figures from a report: `python -m bench.gpu.figures [FILE] [--readme README.md]`.

Without a report, or with one of `--quick`, there is no table: the path has not been measured then.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- figures of bench.gpu -->", "<!-- end of figures -->"
_PEERS = {"PyTorch, graph": "torch graph", "PyTorch, eager": "torch eager", "JAX": "jax"}
Row = dict[str, Any]


def table(report: Row) -> str:
    """Microseconds of a step, ours and the peers', as Markdown; ValueError where the report has none."""
    timed = [row for row in _rows(report, "timings of one network") if row.get("rung") == "graph"]
    if report["quick"] or not any("milliseconds" in row for row in timed):
        raise ValueError("the report has no figures: it is of --quick, or no step was timed")
    machine = _rows(report, "machine")[0]
    peers = [*_rows(report, "PyTorch"), *_rows(report, "JAX")]
    lines = [
        f"Microseconds of a step on one {machine['gpu']} (driver for CUDA {machine['cuda_driver']}, CuPy "
        f"{machine['library']}, commit {str(machine['commit'])[:8]}). All checks of that run hold: "
        f"{report['holds']}.",
        "",
        f"| width | rows | precision | coordfit | {' | '.join(_PEERS)} |",
        f"|{'---|' * (4 + len(_PEERS))}",
    ]
    for row in timed:
        same = [p for p in peers if all(p.get(key) == row[key] for key in ("width", "rows", "precision"))]
        of_peer = {p["peer"]: p for p in same}
        cells = [row["width"], row["rows"], row["precision"], _microseconds(row)]
        cells += [_microseconds(of_peer.get(name, {})) for name in _PEERS.values()]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _rows(report: Row, part: str) -> list[Row]:
    return list(report["parts"].get(part, []))


def _microseconds(row: Row) -> str:
    return f"{1000.0 * row['milliseconds']:.0f}" if "milliseconds" in row else ""


def with_table(readme: str, text: str) -> str:
    """The README with a table between its two marks, where it says else that there is none."""
    before, found, rest = readme.partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not (found and found_end):
        raise ValueError(f"the README has no marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def main(arguments: list[str] | None = None) -> int:
    """Print the table, or put it into a README."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.figures", description=__doc__)
    parser.add_argument("report", nargs="?", type=Path, default=ROOT / "bench" / "results" / "gpu.json")
    parser.add_argument("--readme", type=Path, help="put the table between the marks of this file")
    options = parser.parse_args(arguments)
    try:
        text = table(json.loads(options.report.read_text(encoding="utf-8")))
        if options.readme is None:
            print(text)
        else:
            readme = options.readme.read_text(encoding="utf-8")
            options.readme.write_text(with_table(readme, text), encoding="utf-8")
    except (OSError, ValueError) as error:
        print(f"no figures: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
