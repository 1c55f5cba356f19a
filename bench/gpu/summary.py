"""Sum up a report in eighty lines: what does not hold, the figures, where the time goes, and the aims."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .report import Report, is_bad
from .tables import cell

LINES, LETTERS = 80, 118
Row = dict[str, Any]
_KEY = ("width", "rows", "precision")
# Microseconds of a step of width 256 and all pixels of 128x128, by GPU and precision.
STEP_AIMS = {"H100": {"bf16": 110, "tf32": 200}, "H200": {"bf16": 100, "tf32": 190}}
PEER_AIM, SECONDS_AIM = 1.3, 0.2


def summary(report: Report) -> list[str]:
    """Return at most `LINES` lines."""
    text = [*_head(report), *_bad(report), *_ceilings(report), *_steps(report), *_kernels(report)]
    text = [*text[: LINES - 12], *_fits(report), *_aims(report)]
    return [line if len(line) <= LETTERS else line[: LETTERS - 3] + "..." for line in text]


def _head(report: Report) -> Iterator[str]:
    run = report.runs[-1]
    machine = next(iter(report.rows("machine")), {})
    seconds = sum(part["seconds"] for part in report.parts.values())
    yield f"{report.name}: {machine.get('gpu', 'no GPU')}, CuPy {machine.get('library')}, " + (
        f"cublasLt {machine.get('cublaslt')}, commit {run['commit'][:8]}{' and changes' * bool(run['dirty'])}, "
        f"{run['date']}, {seconds:.0f} s in {len(report.parts)} parts"
    )
    yield f"All checks hold: {report.holds}"


def _bad(report: Report, most: int = 22) -> Iterator[str]:
    """Yield a line for each part with rows that are no results, and the first few of those."""
    for name, part in report.parts.items():
        bad = [row for row in part["rows"] if is_bad(row)]
        if bad and most > 1:
            most -= 1
            yield f"{name}: {len(bad)} of {len(part['rows'])} rows are no results"
            for row in bad[: min(3, most)]:
                most -= 1
                about = " ".join(
                    cell(row[key]) for key in ("what", "tier", "peer", *_KEY, "members") if key in row
                )
                why = row.get("fault") or f"error {cell(row.get('error'))} of {cell(row.get('limit'))}"
                yield f"    {about}: {why} {row.get('not_recorded', '')}"


def _ceilings(report: Report) -> Iterator[str]:
    for row in report.rows("ceilings"):
        if "fault" not in row:
            figures = ("GB/s", "tflops", "microseconds of a node", "microseconds of a launch")
            yield f"{row['what']}: " + ", ".join(f"{cell(row[k])} {k}" for k in figures if k in row)


def of_peers(report: Report, key: tuple[Any, ...]) -> dict[str, float]:
    """Return milliseconds of each peer's step of a width, rows and precision."""
    rows = [
        row for part in report.parts for row in report.rows(part) if "peer" in row and "milliseconds" in row
    ]
    return {row["peer"]: row["milliseconds"] for row in rows if tuple(row[k] for k in _KEY) == key}


def _steps(report: Report) -> Iterator[str]:
    rows = [row for row in report.rows("timings") if "milliseconds" in row]
    if rows:
        yield "microseconds of a step: width rows precision members | ours, TFLOP/s | fastest peer, ratio"
    for row in rows:
        key = tuple(row[k] for k in _KEY)
        found = of_peers(report, key) if row["members"] == 1 else {}
        fastest = min(found, key=lambda name: found[name], default=None)
        beside = (
            ""
            if fastest is None
            else f"{1e3 * found[fastest]:.1f} {fastest}, {found[fastest] / row['milliseconds']:.2f}"
        )
        yield (
            f"  {key[0]:>4} {key[1]:>6} {key[2]:<8} {row['members']:>2} | {1e3 * row['milliseconds']:7.1f}, "
            f"{row['tflops']:6.1f} | {beside}"
        )
    for row in report.rows("recipes"):
        if "milliseconds" in row:
            yield f"  recipe {row['recipe']} {row['precision']}: {1e3 * row['milliseconds']:.1f}"


def _kernels(report: Report, most: int = 9) -> Iterator[str]:
    rows = [row for row in report.rows("kernels") if "kernel" in row]
    if not rows:
        return
    title = rows[0]["table"]
    yield f"microseconds of a step by kernel, {title}"
    of_first = [row for row in rows if row["table"] == title]
    for row in [*of_first[: most - 2], *of_first[-2:]]:
        launches = f"{row['launches']:.1f} launches, {row['share']:.0%}"
        yield f"  {row['microseconds']:7.1f} ({launches}) {row['kernel']}"


def _fits(report: Report) -> Iterator[str]:
    rows = [row for row in report.rows("seconds to PSNR") if "psnr" in row and row["until"] != "the end"]
    for row in rows[:6]:
        yield (
            f"recipe {row['recipe']} {row['precision']} until {row['until']} dB: {row['psnr']:.2f} dB after "
            f"{row['steps']} steps, {row['training seconds']:.3f} s of training, "
            f"{row['seconds of the call']:.2f} s"
        )


def _aims(report: Report) -> Iterator[str]:
    for what, found, aim, is_met in aims(report):
        verdict = "not measured" if found is None else f"{found:.3g}, {'met' if is_met else 'MISSED'}"
        yield f"aim: {what} {aim:g}: {verdict}"


def aims(report: Report) -> Iterator[tuple[str, float | None, float, bool]]:
    """Yield each aim: its subject, what was found, the aim, and whether it is met."""
    gpu = report.name.upper()
    step_aims = next((found for name, found in STEP_AIMS.items() if name in gpu), {})
    for precision, aim in step_aims.items():
        key = (256, 16384, precision)
        ours = [
            1e3 * row["milliseconds"]
            for row in report.rows("timings")
            if "milliseconds" in row and row["members"] == 1 and tuple(row[k] for k in _KEY) == key
        ]
        found = ours[0] if ours else None
        yield (
            f"us of a step, width 256, full batch, {precision}, at most",
            found,
            aim,
            bool(ours and found <= aim),
        )
        theirs = of_peers(report, key).get("torch graph")
        ratio = 1e3 * theirs / ours[0] if ours and theirs else None
        yield (
            f"PyTorch's graph over it, {precision}, at least",
            ratio,
            PEER_AIM,
            bool(ratio and ratio >= PEER_AIM),
        )
    times = [
        row["40 dB"] for row in report.rows("seconds to PSNR") if row.get("40 dB") and row["until"] != "the end"
    ]
    found = min(times, default=None)
    yield "s of training to 40 dB, at most", found, SECONDS_AIM, bool(times and found <= SECONDS_AIM)
