"""The measuring code of `python -m bench.gpu`, on the pretended CuPy: it runs, and it tells what fails."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from coordfit.backends.cupy_backend import why_unavailable
from support import needs

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
bench = pytest.importorskip("bench.gpu.__main__")
figures = pytest.importorskip("bench.gpu.figures")
kernels = pytest.importorskip("bench.gpu.kernels")
part = pytest.importorskip("bench.gpu.part")
parts = pytest.importorskip("bench.gpu.parts")
reports = pytest.importorskip("bench.gpu.report")
steps = pytest.importorskip("bench.gpu.steps")
suite = pytest.importorskip("bench.gpu.suite")
summary = pytest.importorskip("bench.gpu.summary")
fake_cupy = pytest.importorskip("support.fake_cupy")
on_host = pytest.mark.skipif(bool(fake_cupy.why_unavailable()), reason=fake_cupy.why_unavailable() or "-")
COMMAND = [sys.executable, "-m", "bench.gpu"]


def test_without_a_gpu_it_ends_with_3_and_the_reason(tmp_path):
    if not why_unavailable():
        pytest.skip("there is a GPU here")
    command = [*COMMAND, "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith("no GPU to measure: ")
    assert done.stdout == ""
    assert [file.name for file in tmp_path.iterdir()] == ["gpu.log"]


# -- a whole run, which is killed and gone on with -------------------------------------------------------


@pytest.mark.slow
@on_host
@pytest.mark.skipif(os.name == "nt", reason="a kill leaves no process behind where there are sessions")
def test_a_run_that_is_killed_leaves_its_rows_and_a_second_one_measures_the_rest(tmp_path):
    fake_cupy.shim()  # which both runs then find compiled
    first, second = tmp_path / "first", tmp_path / "second"
    command = [*COMMAND, "--dry-run", "--out"]
    process = subprocess.Popen([*command, str(first)], cwd=ROOT, stderr=subprocess.DEVNULL)
    record = first / "gpu-host-memory.json"
    for _ in range(600):  # the first row of all comes within a minute, or never
        time.sleep(0.1)
        if record.exists():
            break
    time.sleep(random.uniform(0.0, 6.0))
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = json.loads(record.read_text())
    kept = {name for name, p in before["parts"].items() if p["done"]}
    assert all(p["rows"] for p in before["parts"].values())
    done = subprocess.run(
        [*command, str(second), "--merge", str(record)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((second / record.name).read_text())
    assert len(report["runs"]) == 2
    assert set(report["parts"]) == set(bench.PARTS)
    for name in kept - {"machine"}:
        assert report["parts"][name] == before["parts"][name], "what was measured is not measured again"
    check_rows({name: p["rows"] for name, p in report["parts"].items()})
    text = (second / "gpu-host-memory.md").read_text()
    assert all(f"## {name} (" in text for name in bench.PARTS)
    assert len(done.stdout.splitlines()) <= 80
    assert "== graphs" in (second / "gpu.log").read_text() or "graphs" in kept
    left = {"gpu.log", "gpu-host-memory.json", "gpu-host-memory.md"}
    assert {file.name for file in second.iterdir()} == left


def check_rows(rows):
    assert all(rows.values()), "a part without a row"
    assert not [row for part in rows.values() for row in part if reports.is_bad(row)]
    assert rows["machine"][0]["gpu"] == "host memory"
    timed = rows["timings"] + rows["other tiers"]
    assert {row["tier"] for row in timed} == set(steps.TIERS)
    assert {(row["members"], row["precision"]) for row in timed} == {(1, "float32"), (4, "bf16")}
    assert all(row["milliseconds"] > 0 for row in timed)
    assert all(row["plans"] for row in rows["timings"]), "what was taken is told"
    assert {row["tier"] for row in rows["graphs"]} == {"graph", "two streams"}
    for precision in ("float64", "float32", "tf32", "bf16", "fp16"):
        found = rows[f"parity in {precision}"]
        assert len(found) == 2 * 26
        assert all(row["limit"] > 0 and row["precision"] == precision for row in found)
        assert {row["what"] for row in found} >= {"Adam", "loss mse", "gradient of a whole step, relu"}
        assert {row["tier"] for row in found if row["what"].startswith("layer")} == {"epilogues", "plain"}
    assert rows["parity in bf16"][0]["error"] > 100 * rows["parity in float32"][0]["error"]
    taken = [row for row in rows["products"] if row.get("taken")]
    assert {row["product"] for row in taken} == {"forward", "backward input", "backward weights"}
    assert all(row["fastest us"] <= row["first us"] and row["splits"] for row in taken)
    assert any(row.get("product") == "dW in slices" for row in rows["products"])
    assert [row["steps"] for row in rows["seconds to PSNR"]] == [20] * 6
    assert {row["recipe"] for row in rows["recipes"]} == {"fast", "sharp"}
    for name in ("PyTorch", "JAX", "kernels", "smoke tests", "memcheck"):
        assert "skipped" in rows[name][0]


def test_the_limits_of_the_parts_fit_a_command_of_ten_minutes():
    assert sum(p.seconds for p in parts.MAIN.values()) <= bench.SECONDS <= 560
    assert next(iter(bench.PARTS)) == "machine"


COLLECT = """
import sys, pytest
class Marks:
    def pytest_collection_finish(self, session):
        for item in session.items:
            print(item.nodeid, *(mark.name for mark in item.iter_markers("gpu_smoke")), sep=chr(9))
words = ["--collect-only", "-qq", "-p", "no:cacheprovider", "-m", "gpu or gpu_smoke", "tests"]
sys.exit(pytest.main(words, [Marks()]))
"""


@pytest.mark.very_slow
def test_what_is_marked_for_a_gpu_runs_on_it_and_pretends_none():
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    own["COORDFIT_REQUIRE_BACKENDS"] = "cupy"  # as bench.gpu does: else they are left out without a GPU
    command = [sys.executable, "-c", COLLECT]
    done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, timeout=240, check=True)
    every = [line for line in done.stdout.splitlines() if "::" in line]
    few = [line for line in every if line.endswith("\tgpu_smoke")]
    assert len(every) > 200
    assert all(re.search(r"[\[-]cupy[\]-](?!on-host)", test) for test in every)
    assert 15 <= len(few) <= 40


# -- parts that go wrong ---------------------------------------------------------------------------------


def ten_rows_and_a_fault(make, quick, seconds):
    for row in range(10):
        yield {"row": row}
    raise ZeroDivisionError("division by zero\nand more")


def with_parts(monkeypatch, **replaced):
    replaced = {name: parts.Part(*words) for name, words in replaced.items()}
    monkeypatch.setattr(bench, "PARTS", replaced)
    monkeypatch.setattr(part, "PARTS", replaced)


def test_a_part_that_fails_tells_where(monkeypatch, capsys):
    with_parts(monkeypatch, broken=(ten_rows_and_a_fault, 10))
    seen = []
    rows = part.measured("broken", object, True, 10.0, lambda rows: seen.append(len(rows)))
    assert seen == list(range(1, 11)), "rows are told as they come"
    assert rows[:10] == [{"row": row} for row in range(10)]
    assert rows[10]["fault"] == "ZeroDivisionError: division by zero"
    assert rows[10]["holds"] is False
    assert "in ten_rows_and_a_fault" in rows[10]["traceback"]
    assert "in ten_rows_and_a_fault" in capsys.readouterr().err, "and all of it is in the log"


CHILDREN = {
    "killed by the device": ("os._exit(139)", "the process ended with 139"),
    "too slow": ("time.sleep(60)", "not done after 2 s"),
    "that says why": ("sys.exit('one\\ntwo\\nthree')", "the process ended with 1: two / three"),
    "that leaves others behind": (
        "import subprocess as s; s.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); os._exit(4)",
        "the process ended with 4",
    ),
}


@pytest.mark.parametrize("case", CHILDREN)
def test_a_child_that_dies_leaves_what_it_had(tmp_path, monkeypatch, case):
    code, said = CHILDREN[case]
    program = f"import os, sys, time, pathlib; pathlib.Path(sys.argv[2]).write_text('[{{\"n\": 1}}]'); {code}"
    monkeypatch.setattr(bench, "child_command", lambda: [sys.executable, "-c", program])
    with_parts(monkeypatch, first=(None, 2), last=(None, 0.1))
    monkeypatch.setattr(bench, "FEWEST_SECONDS", 0.5)
    monkeypatch.setattr(bench, "_BEGAN", time.monotonic())
    report = reports.Report(True)
    report.begin("a test")
    start = time.monotonic()
    bench.measure(report, ["first", "last"], tmp_path, 100.0, [])
    assert time.monotonic() - start < 20
    one, fault = report.rows("first")
    assert one == {"n": 1}
    assert fault["holds"] is False
    assert fault["fault"].startswith(said)
    assert report.rows("last") == [{"fault": "left out: the 100 s of the whole command are spent"}]
    assert json.loads((tmp_path / "gpu.json").read_text()) == report.as_dict()


def test_what_an_earlier_run_has_is_kept_where_there_is_no_time_for_more(tmp_path, monkeypatch):
    with_parts(monkeypatch, first=(None, 10))
    report = reports.Report(True, {"quick": True, "runs": [{}], "parts": {"first": rows_of(1, {"fault": "x"})}})
    report.begin("a test")
    bench.measure(report, ["first"], tmp_path, 0.0, [])
    assert report.rows("first") == [{"fault": "x"}]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--parts", "machine,nothing"], "there is no part 'nothing'; known: machine, "),
        (["--merge", "missing.json"], "FileNotFoundError"),
        (["--merge", "full.json"], "a report of tiny sizes and one of full sizes cannot be merged"),
        (["--merge", "broken.json"], "JSONDecodeError"),
    ],
)
def test_wrong_usage_is_told_in_a_line(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    Path("full.json").write_text(json.dumps(REPORT))
    Path("broken.json").write_text("{")
    assert bench.main(["--quick", "--out", str(tmp_path / "out"), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "out").exists()


# -- reports ---------------------------------------------------------------------------------------------


def rows_of(run, *rows):
    return {"run": run, "seconds": 1.0, "done": True, "rows": list(rows)}


STEP = {"width": 256, "rows": 16384, "members": 1, "tier": "graph", "tflops": 100.0}
REPORT = {
    "quick": False,
    "holds": True,
    "runs": [{"command": "c", "date": "2026-11-26 10:00 UTC", "commit": "0123456789", "dirty": False}],
    "parts": {
        "machine": rows_of(
            0, {"gpu": "NVIDIA H100 80GB HBM3", "cuda_driver": "13.0", "library": "14.2.0", "cublaslt": "13.1"}
        ),
        "timings": rows_of(
            0,
            STEP | {"precision": "bf16", "milliseconds": 0.1},
            STEP | {"precision": "bf16", "milliseconds": 0.2, "members": 16},
            STEP | {"precision": "tf32", "fault": "left out"},
        ),
        "PyTorch": rows_of(
            0,
            {"peer": "torch graph", "milliseconds": 0.15, "width": 256, "rows": 16384, "precision": "bf16"},
        ),
        "seconds to PSNR": rows_of(
            0,
            {"recipe": "fast", "precision": "bf16", "until": 40.0, "psnr": 41.0, "steps": 90, "40 dB": 0.25}
            | {"training seconds": 0.25, "seconds of the call": 0.5, "holds": True},
        ),
    },
}


def test_the_table_of_figures_is_that_of_the_report():
    text = figures.table(REPORT)
    assert (
        "on one NVIDIA H100 80GB HBM3 (driver for CUDA 13.0, CuPy 14.2.0, commit 01234567, 2026-11-26)" in text
    )
    assert text.splitlines()[-2:] == [
        "| 256 | 16384 | 1 | bf16 | 100 | 150 |  |  |  |",
        "| 256 | 16384 | 16 | bf16 | 200 |  |  |  |  |",
    ]
    for broken in (REPORT | {"quick": True}, REPORT | {"parts": {"timings": REPORT["parts"]["timings"]}}):
        with pytest.raises(ValueError, match="no figures"):
            figures.table(broken)


def test_the_page_has_the_figures_that_there_are_or_says_that_there_are_none(tmp_path):
    page, record = (ROOT / "docs" / "how_to" / "gpu.md").read_text(encoding="utf-8"), figures.record()
    if record:
        found = figures.table(json.loads(record.read_text(encoding="utf-8")))
        assert page == figures.with_table(page, found)
    else:
        assert "**None of it has run on a GPU yet.**" in page
        assert "No GPU has run it yet" in (ROOT / "README.md").read_text(encoding="utf-8")
        assert figures.main([]) == 1
    copy, other = tmp_path / "gpu.md", tmp_path / "gpu.json"
    copy.write_text(page, encoding="utf-8")
    other.write_text(json.dumps(REPORT))
    assert figures.main([str(other), "--page", str(copy)]) == 0
    text = copy.read_text(encoding="utf-8")
    assert "None of it has run" not in text
    assert f"\n{figures.table(REPORT)}\n" in text


def test_a_report_is_named_after_its_gpu_and_says_of_which_commit_it_is(monkeypatch):
    report = reports.Report(False, REPORT)
    assert report.name == "gpu-h100-80gb-hbm3"
    monkeypatch.setenv("COORDFIT_COMMIT", "abc-dirty")
    report.begin("c")
    assert (report.runs[-1]["commit"], report.runs[-1]["dirty"]) == ("abc", True)


def test_a_second_run_measures_what_the_first_one_lacks():
    report = reports.Report(False, REPORT)
    assert report.lacks(["machine", "timings", "PyTorch", "JAX"]) == ["timings", "JAX"]
    assert bench.chosen_parts(None, report, merging=True)[:3] == ["machine", "smoke", "ceilings"]
    assert "PyTorch" not in bench.chosen_parts(None, report, merging=True)
    assert bench.chosen_parts("JAX, smoke", report, merging=True) == ["machine", "smoke", "JAX"]
    assert bench.chosen_parts(None, report, merging=False) == list(bench.PARTS)


def test_the_summary_has_the_figures_the_faults_and_the_aims():
    text = "\n".join(summary.summary(reports.Report(False, REPORT)))
    assert "timings: 1 of 3 rows are no results" in text
    assert re.search(r"256 +16384 bf16 +1 \| +100\.0, +100\.0 \| 150\.0 torch graph, 1\.50", text)
    assert "aim: us of a step, width 256, full batch, bf16, at most 110: 100, met" in text
    assert "full batch, tf32, at most 200: not measured" in text
    assert "aim: PyTorch's graph over it, bf16, at least 1.3: 1.5, met" in text
    assert "aim: s of training to 40 dB, at most 0.2: 0.25, MISSED" in text


def test_the_summary_of_a_run_in_which_everything_failed_is_short():
    long = {"what": "w" * 300, "holds": False, "fault": "f" * 3000, "peer": "p"}
    many = {name: rows_of(0, *[long] * 50) for name in bench.PARTS if name != "machine"}
    worst = REPORT | {
        "parts": REPORT["parts"] | many | {"timings": rows_of(0, *REPORT["parts"]["timings"]["rows"] * 60)}
    }
    lines = summary.summary(reports.Report(False, worst))  # fmt: skip
    assert len(lines) <= 80
    assert sum(map(len, lines)) < 10_000
    assert lines[-1].startswith("aim: ")


# -- what other programs say -----------------------------------------------------------------------------

IN_ONE = """
tests/test_a.py::test_one[a b] PASSED                                    [ 25%]
tests/test_a.py::test_two FAILED                                         [ 50%]
tests/test_a.py::test_three SKIPPED (no reason)                          [ 75%]
=========================== short test summary info ============================
FAILED tests/test_a.py::test_two - assert False
"""
IN_SEVERAL = """
tests/test_a.py::test_one[a b]
[gw0] [ 25%] PASSED tests/test_a.py::test_one[a b]
[gw1] [ 50%] FAILED tests/test_a.py::test_two
[gw1] [ 75%] SKIPPED tests/test_a.py::test_three
tests/test_a.py::test_four
"""


@pytest.mark.parametrize("text", [IN_ONE, IN_SEVERAL], ids=["one process", "several"])
def test_pytests_output_is_counted_even_where_it_was_cut_off(text):
    row = suite.outcome(1, text)
    assert [row[word] for word in ("passed", "failed", "error", "skipped")] == [1, 1, 0, 1]
    assert row["failures"] == ["tests/test_a.py::test_two"]
    assert not row["holds"]
    assert suite.outcome(None, text)["fault"] == "not done in its time"
    assert not suite.outcome(0, "no tests ran")["holds"], "no test is no success"
    assert suite.outcome(0, text.replace("FAILED", "PASSED"))["holds"]


def test_a_process_that_takes_too_long_ends_with_all_that_it_started(tmp_path):
    program = "import subprocess, sys; print('begun', flush=True); subprocess.run([sys.executable, '-c', {!r}])"
    command = [sys.executable, "-c", program.format("import time; time.sleep(60)")]
    start = time.monotonic()
    assert suite.run_within(command, 2.0, {}) == (None, "begun\n")
    assert suite.run_within([sys.executable, "-c", "import sys; sys.exit(9)"], 60.0, {}) == (9, "")
    assert time.monotonic() - start < 30


def test_the_table_of_kernels_is_that_of_the_trace():
    trace = [
        {"ph": "X", "cat": "kernel", "name": "void adam_step<float>(float*, int)", "ts": 0.0, "dur": 4.0},
        {"ph": "X", "cat": "kernel", "name": "nvjet_hsh_64x8", "ts": 5.0, "dur": 10.0},
        {"ph": "X", "cat": "kernel", "name": "void adam_step<float>(float*, int)", "ts": 16.0, "dur": 4.0},
        {"ph": "X", "cat": "cpu_op", "name": "aten::add", "ts": 0.0, "dur": 100.0},
        {"ph": "M", "cat": "kernel", "name": "not an event"},
    ]
    rows = list(kernels.by_name(trace, steps=2))
    assert [(row["kernel"], row["launches"], row["microseconds"]) for row in rows] == [
        ("nvjet_hsh_64x8", 0.5, 5.0),
        ("adam_step<float>", 1.0, 4.0),
        ("all kernels", 1.5, 9.0),
        ("between kernels", 1.5, 1.0),
    ]
    assert [row["share"] for row in rows] == [0.5, 0.4, 0.9, 0.1]
    with pytest.raises(RuntimeError, match="saw no kernel"):
        list(kernels.by_name(trace[3:], 2))


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_step_of_pytorch_learns_and_has_our_sizes(precision):
    torch = needs.library("torch")
    peers = pytest.importorskip("bench.gpu.peers")
    case = steps.Case(side=8, width=16, frequencies=8, depth=3)
    step = peers.torch_step(case, precision, compiled=False, device="cpu")
    losses = [float(step().detach()) for _ in range(20)]
    assert losses[-1] < losses[0]
    assert torch.is_grad_enabled()
