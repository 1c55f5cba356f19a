"""Records of benchmarks: what of the machine and the code stands in them, and how several runs share one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
records = pytest.importorskip("bench.records")


@pytest.fixture(autouse=True)
def _a_header_of_its_own():
    records.made.cache_clear()
    yield
    records.made.cache_clear()


def test_a_record_says_of_what_it_is_and_names_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/home/someone/bench/x.py", "--json", "/home/someone/x.json", "--size=3"])
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("LD_PRELOAD", "/home/someone/one.so:/home/someone/two.so")
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    file = tmp_path / "x.json"
    records.write_record(file, {"cases": [1.5]}, libraries=("pytest", "no-such-library"), threads=7)
    text = file.read_text()
    made = json.loads(text)["made"]
    assert json.loads(text)["cases"] == [1.5]
    assert set(made) >= {"commit", "dirty", "date", "cpu", "instructions", "cores", "system"}
    assert made["threads"] == 7
    assert made["command"].endswith("--json x.json --size=3")
    assert made["variables"].items() >= {"OPENBLAS_CORETYPE": "Haswell", "LD_PRELOAD": "one.so:two.so"}.items()
    assert "OMP_NUM_THREADS" not in made["variables"]
    assert made["versions"].items() >= {"pytest": pytest.__version__, "no-such-library": "missing"}.items()
    assert all(library["version"] for library in made["blas"])
    assert "someone" not in text


def test_the_commit_is_dirty_by_code_and_not_by_results(tmp_path, monkeypatch):
    monkeypatch.delenv("COORDFIT_COMMIT", raising=False)
    monkeypatch.setattr(records, "ROOT", tmp_path)
    assert records.commit() == {"commit": "unknown", "dirty": None}
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], [*who, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    (tmp_path / "bench" / "results").mkdir(parents=True)
    (tmp_path / "bench" / "results" / "x.json").touch()
    (tmp_path / "README.md").touch()
    found = records.commit()
    assert (len(found["commit"]), found["dirty"]) == (40, False)
    (tmp_path / "bench" / "peers").mkdir()
    (tmp_path / "bench" / "peers" / "new.py").touch()
    assert records.commit()["dirty"]
    monkeypatch.setenv("COORDFIT_COMMIT", "abc-dirty")
    assert records.commit() == {"commit": "abc", "dirty": True}


def test_each_row_of_several_runs_tells_its_run_and_a_run_without_rows_is_forgotten(tmp_path, monkeypatch):
    file = tmp_path / "x.json"

    def run(commit, *names):
        monkeypatch.setenv("COORDFIT_COMMIT", commit)
        records.made.cache_clear()
        runs = records.Runs(file, "rows", paper=3.0)
        for name in names:
            runs.keep({"name": name}, {"by": commit})
        document = json.loads(file.read_text())
        assert document["paper"] == 3.0
        return {row["name"]: document["runs"][row["run"]]["commit"] for row in document["rows"]}

    assert run("one", "a", "b") == {"a": "one", "b": "one"}
    assert run("two", "b", "c") == {"a": "one", "b": "two", "c": "two"}
    assert run("three", "a") == {"a": "three", "b": "two", "c": "two"}
    assert len(json.loads(file.read_text())["runs"]) == 2
    assert run("four") == {"a": "three", "b": "two", "c": "two"}  # what measures nothing writes nothing
    assert len(records.Runs(file, "rows").find({"by": "two"})) == 2


def test_a_record_that_cannot_be_json_leaves_the_old_one(tmp_path):
    records.write_record(tmp_path / "x.json", {"cases": []})
    before = (tmp_path / "x.json").read_bytes()
    with pytest.raises(TypeError):
        records.write_record(tmp_path / "x.json", {"cases": [object()]})
    assert (tmp_path / "x.json").read_bytes() == before
