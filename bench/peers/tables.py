"""Say from a record how coordfit stands beside the best peer of each case, as Markdown."""

from __future__ import annotations

import statistics
from typing import Any

Result = dict[str, Any]
COLUMNS = (
    "case",
    "processors",
    "coordfit, ms",
    "best peer",
    "ms",
    "what it was given",
    "best peer / coordfit",
    "products alone, ms",
    "share of the limit",
)


def seconds(result: Result) -> dict[str, float]:
    """Return the median seconds of a step by peer: of one processor, or by the clock."""
    clock = result["processor" if result["cores"] == 1 else "wall"]
    return {name: statistics.median(values) for name, values in clock.items()}


def best_peer(result: Result) -> str | None:
    """Return the fastest that is not coordfit."""
    others = {name: value for name, value in seconds(result).items() if not name.startswith("coordfit")}
    return min(others, key=lambda name: others[name]) if others else None


def ratio(result: Result) -> float | None:
    """Return the best peer's time over coordfit's: the median over rounds."""
    clock, best = result["processor" if result["cores"] == 1 else "wall"], best_peer(result)
    if best is None or "coordfit" not in clock:
        return None
    return statistics.median(theirs / ours for theirs, ours in zip(clock[best], clock["coordfit"], strict=True))


def given(result: Result) -> str:
    """Return what the best peer was given."""
    best = best_peer(result)
    return (
        "" if best is None else ", ".join(f"{name} {value}" for name, value in result["settings"][best].items())
    )


def is_rendering(result: Result) -> bool:
    """Whether a picture is rendered, which is told apart from steps."""
    return bool(result["case"].startswith("render"))


def table(results: list[Result]) -> list[str]:
    """Return the lines of a table with a row for each case and number of processors."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for result in results:
        times, best = seconds(result), best_peer(result)
        ours = times.get("coordfit")
        cells = [
            result["case"],
            str(result["cores"]),
            _milliseconds(ours),
            best or "",
            _milliseconds(times[best]) if best else "",
            given(result),
            _number(ratio(result), ".2f"),
            _milliseconds(result.get("products")),
            _number(share_of_limit(result), ".0%"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def share_of_limit(result: Result) -> float | None:
    """Return the time of products, or of Adam's traffic if that is more, over coordfit's: the roofline.

    The two may overlap, so that their sum is no limit.
    """
    ours = seconds(result).get("coordfit")
    return max(result["products"], result["traffic"]) / ours if ours and "products" in result else None


def steps(results: list[Result], cores: int) -> list[Result]:
    """Return the cases of a number of processors that are no renderings."""
    return [result for result in results if result["cores"] == cores and not is_rendering(result)]


def ratios(results: list[Result]) -> dict[str, float]:
    """Return the best peer's time over coordfit's by case, where both were measured."""
    return {result["case"]: value for result in results if (value := ratio(result)) is not None}


def means(results: list[Result]) -> list[str]:
    """Return a line for each number of processors: geometric mean and least of the ratios over steps."""
    lines = []
    for cores in dict.fromkeys(result["cores"] for result in results):
        if found := ratios(steps(results, cores)).values():
            mean, clock = statistics.geometric_mean(found), "processor time" if cores == 1 else "wall clock"
            lines.append(
                f"{len(found)} steps, {cores} processors, {clock}: best peer / coordfit has the geometric mean"
                f" {mean:.2f} and is {min(found):.2f} at least"
            )
    return lines


def _milliseconds(value: float | None) -> str:
    return "" if value is None else format(1e3 * value, ".3g" if value < 0.9995 else ".0f")


def _number(value: float | None, pattern: str) -> str:
    return "" if value is None else format(value, pattern)
