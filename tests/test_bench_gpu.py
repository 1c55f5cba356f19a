"""The measuring code of `python -m bench.gpu`, on the pretended CuPy: it runs, and it tells what fails."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backends.cupy_backend import CupyBackend

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
bench = pytest.importorskip("bench.gpu.__main__")
figures = pytest.importorskip("bench.gpu.figures")
steps = pytest.importorskip("bench.gpu.steps")
fake_cupy = pytest.importorskip("fake_cupy")
on_host = pytest.mark.skipif(bool(fake_cupy.why_unavailable()), reason=fake_cupy.why_unavailable() or "-")


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    monkeypatch.setattr(fake_cupy, "machine", fake_cupy.Machine())


def test_without_a_gpu_it_ends_with_3_and_the_reason():
    if not CupyBackend.why_unavailable():
        pytest.skip("there is a GPU here")
    command = [sys.executable, "-m", "bench.gpu", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith("no GPU to measure: ")
    assert done.stdout == ""


def report_in(folder):
    return json.loads((folder / "gpu.json").read_text())


@on_host
def test_quick_measures_every_part_on_the_pretended_cupy(tmp_path, capsys, monkeypatch):
    for name in ("time_torch", "time_jax"):  # seconds to import, to say that there is no GPU
        monkeypatch.setattr(f"bench.gpu.peers.{name}", lambda *arguments: {"milliseconds": 1.0})
    assert bench.main(["--quick", "--out", str(tmp_path)], make=fake_cupy.CupyOnHost) == 0, (
        capsys.readouterr().out
    )
    report = report_in(tmp_path)
    parts = report["parts"]
    assert set(parts) == set(bench.PARTS)
    assert all(parts.values()), "a part without a row"
    assert parts["machine"][0]["gpu"] == "host memory"
    timed = parts["timings of one network"] + parts["timings of networks together"]
    assert {row["rung"] for row in timed} == set(steps.RUNGS)
    assert {(row["members"], row["precision"]) for row in timed} == {(1, "float32"), (4, "bf16")}
    assert all(row["milliseconds"] > 0 for row in timed)
    assert all(row["holds"] for row in parts["graphs"])
    assert {row["rung"] for row in parts["graphs"]} == {"graph", "two streams"}
    for precision in ("float64", "float32", "tf32", "bf16", "fp16"):
        rows = parts[f"parity in {precision}"]
        assert len(rows) == 2 * 16
        assert all(row["holds"] and row["limit"] > 0 and row["precision"] == precision for row in rows)
        assert {row["what"] for row in rows} >= {"Adam", "loss mse", "gradient of a whole step, relu"}
    assert parts["parity in bf16"][0]["error"] > 100 * parts["parity in float32"][0]["error"]
    assert [row["steps"] for row in parts["seconds to PSNR"]] == [20]
    assert len(parts["PyTorch"]) == 3 * len(parts["JAX"]) == 9
    assert "skipped" in parts["tests"][0]
    assert "skipped" in parts["sanitizer"][0]
    text = (tmp_path / "gpu.md").read_text()
    assert all(f"## {part} (" in text for part in parts)


REPORT = {
    "quick": False,
    "holds": True,
    "parts": {
        "machine": [{"gpu": "H", "cuda_driver": "13.0", "library": "14.2.0", "commit": "0123456789"}],
        "timings of one network": [
            {"width": 64, "rows": 1024, "precision": "bf16", "rung": "graph", "milliseconds": 0.0254},
            {"width": 64, "rows": 1024, "precision": "bf16", "rung": "eager", "milliseconds": 0.5},
            {"width": 64, "rows": 1024, "precision": "tf32", "rung": "graph", "fault": "left out"},
        ],
        "PyTorch": [
            {"peer": "torch graph", "width": 64, "rows": 1024, "precision": "bf16", "milliseconds": 0.05},
            {"peer": "torch graph", "width": 64, "rows": 1024, "precision": "tf32", "milliseconds": 0.07},
        ],
    },
}


def test_the_table_of_figures_is_that_of_the_report():
    text = figures.table(REPORT)
    assert "on one H (driver for CUDA 13.0, CuPy 14.2.0, commit 01234567)" in text
    assert text.splitlines()[-2:] == [
        "| 64 | 1024 | bf16 | 25 | 50 |  |  |",
        "| 64 | 1024 | tf32 |  | 70 |  |  |",
    ]
    with pytest.raises(ValueError, match="no figures"):
        figures.table(REPORT | {"quick": True})


def test_the_readme_has_the_figures_that_there_are_or_says_that_there_are_none(tmp_path):
    readme, report = (ROOT / "README.md").read_text(encoding="utf-8"), ROOT / "bench" / "results" / "gpu.json"
    if report.exists():
        found = figures.table(json.loads(report.read_text(encoding="utf-8")))
        assert readme == figures.with_table(readme, found)
    else:
        assert "**None of it has run on a GPU yet.**" in readme
        assert figures.main([str(report)]) == 1
    copy, other = tmp_path / "README.md", tmp_path / "gpu.json"
    copy.write_text(readme, encoding="utf-8")
    other.write_text(json.dumps(REPORT))
    assert figures.main([str(other), "--readme", str(copy)]) == 0
    text = copy.read_text(encoding="utf-8")
    assert "None of it has run" not in text
    assert f"\n{figures.table(REPORT)}\n" in text


def ten_rows_and_a_fault(make, quick, seconds):
    for row in range(10):
        yield {"row": row}
    raise ZeroDivisionError("division by zero\nand more")


def a_row_that_does_not_hold(make, quick, seconds):
    yield {"what": "a product", "holds": False, "error": 0.5}


def parts_of(monkeypatch, **parts):
    replaced = {name: bench.Part(*part) for name, part in parts.items()}
    monkeypatch.setattr(bench, "PARTS", replaced)
    monkeypatch.setattr("bench.gpu.parts.PARTS", replaced)


def test_a_part_that_fails_stops_nothing_and_is_told(tmp_path, monkeypatch, capsys):
    parts_of(
        monkeypatch,
        broken=(ten_rows_and_a_fault, 10),
        wrong=(a_row_that_does_not_hold, 10),
        fine=(lambda *_: [{"n": 1}], 10),
    )
    assert bench.main(["--quick", "--out", str(tmp_path)], make=object) == 1
    parts = report_in(tmp_path)["parts"]
    assert parts["broken"] == [
        *({"row": row} for row in range(10)),
        {"holds": False, "fault": "ZeroDivisionError: division by zero"},
    ]
    assert parts["fine"] == [{"n": 1}]
    text = capsys.readouterr().out
    assert "All checks hold: False" in text
    assert "- wrong: {'what': 'a product'" in text


CHILDREN = {
    "killed by the device": ("os._exit(139)", "the process ended with 139"),
    "too slow": ("time.sleep(60)", "not done after 3 s"),
    "that says why": ("sys.exit('one\\ntwo\\nthree')", "the process ended with 1: two / three"),
}


@pytest.mark.parametrize("case", CHILDREN)
def test_a_child_that_dies_leaves_what_it_had(tmp_path, monkeypatch, case):
    code, said = CHILDREN[case]
    child = f"import os, sys, time, pathlib; pathlib.Path(sys.argv[4]).write_text('[{{\"n\": 1}}]'); {code}"
    monkeypatch.setattr(bench, "child_command", lambda: [sys.executable, "-c", child])
    parts_of(monkeypatch, first=(a_row_that_does_not_hold, 3), last=(a_row_that_does_not_hold, 0.1))
    monkeypatch.setattr(bench, "FEWEST_SECONDS", 0.5)
    start = time.monotonic()
    report = bench.measure(tmp_path, True, bench.in_a_child(True))
    assert time.monotonic() - start < 20
    first, fault = report["parts"]["first"]
    assert first == {"n": 1}
    assert fault["holds"] is False
    assert fault["fault"].startswith(said)
    assert report["parts"]["last"] == [{"fault": "left out: the 570 s of the whole command are spent"}]
    assert report_in(tmp_path) == report


def test_rows_are_written_as_they_come(tmp_path, monkeypatch):
    parts_of(monkeypatch, broken=(ten_rows_and_a_fault, 10))
    seen = []

    def spy(name, part, seconds, keep):
        for row in range(3):
            keep([{"row": row}])
            seen.append(report_in(tmp_path)["parts"][name])

    bench.measure(tmp_path, True, spy)
    assert seen == [[{"row": row}] for row in range(3)]


def test_a_child_writes_its_rows_to_a_file(tmp_path, monkeypatch):
    parts_of(monkeypatch, broken=(ten_rows_and_a_fault, 10))
    file = tmp_path / "rows.json"
    bench.run_part("broken", file, True, 10, object)
    assert len(json.loads(file.read_text())) == 11
