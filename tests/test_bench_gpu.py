"""The measuring code of `python -m bench.gpu`, on the pretended CuPy: it runs, and it tells what fails."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from backends.cupy_backend import CupyBackend

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
main = pytest.importorskip("bench.gpu.__main__").main
fake_cupy = pytest.importorskip("fake_cupy")


def test_without_a_gpu_it_ends_with_3_and_the_reason():
    if not CupyBackend.why_unavailable():
        pytest.skip("there is a GPU here")
    command = [sys.executable, "-m", "bench.gpu", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith("no GPU to measure: ")
    assert done.stdout == ""


@pytest.mark.skipif(bool(fake_cupy.why_unavailable()), reason=fake_cupy.why_unavailable() or "-")
def test_quick_measures_every_part_on_the_pretended_cupy(tmp_path, capsys):
    assert main(["--quick", "--out", str(tmp_path)], make=fake_cupy.CupyOnHost) == 0, capsys.readouterr().out
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert report["machine"]["gpu"] == "host memory"
    assert {row["rung"] for row in report["timings"] if "milliseconds" in row} >= {"graph", "plain", "library"}
    assert not [row for row in report["timings"] if "fault" in row]
    assert all(row["equal"] and row["finite"] and not row["not_recorded"] for row in report["graphs"])
    assert all(row["holds"] for row in report["parity"])
    assert {row["precision"] for row in report["parity"]} == {"float32", "float64", "tf32"}
    assert [row["steps"] for row in report["seconds_to_psnr"]] == [40]
    text = (tmp_path / "gpu.md").read_text()
    assert all(f"## {part} (" in text for part in report if part not in ("holds", "seconds"))


@pytest.mark.skipif(bool(fake_cupy.why_unavailable()), reason=fake_cupy.why_unavailable() or "-")
def test_a_part_that_fails_stops_nothing_and_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("bench.gpu.__main__.graphs", lambda make, quick: 1 / 0)
    monkeypatch.setattr("bench.gpu.timing.cases", lambda quick: iter(()))
    monkeypatch.setattr("bench.gpu.__main__.all_parity", lambda make, quick: [])
    assert main(["--quick", "--out", str(tmp_path)], make=fake_cupy.CupyOnHost) == 1
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert report["graphs"] == {"holds": False, "fault": "ZeroDivisionError: division by zero"}
    assert "seconds_to_psnr" in report
    capsys.readouterr()
