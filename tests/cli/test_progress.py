"""What bars and lines show: new steps alone, from the first on, and nothing if nothing is done."""

import io
import re
import sys
import time
import types

import pytest

from coordfit.backends import get_backend
from coordfit.cli import main
from coordfit.config import make_config
from coordfit.images import bundled_picture
from coordfit.report.progress import Bar, ProgressReport, SigmaReport, _tqdm
from coordfit.training.job import Job
from coordfit.training.state import Progress
from coordfit.training.trainer import Trainer, fit_alone

SMALL = ["--size", "32", "--hidden-size", "8", "--num-frequencies", "4", "--device", "numpy", "--threads", "1"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def on_a_terminal(monkeypatch):
    """Stderr from here on; a fixture would be too early, before pytest's own."""
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    return screen


def bars(text):
    """The last state of each bar, as (label, done, total)."""
    lines = [line.split("\r")[-1] for line in text.split("\n")]
    found = [re.search(r"(?:(.*): )? *\d+%\|.*\| ([\d.]+k?)/([\d.]+k?) \[", line) for line in lines]
    return [match.groups() for match in found if match]


def test_rate_and_time_left_count_new_steps_from_the_first_one_on(monkeypatch):
    terminal = on_a_terminal(monkeypatch)
    with ProgressReport(shown=True) as report:
        report(Progress(600, 1000, 9.0, 0.0, None, False))
        time.sleep(0.3)  # as a compilation before the first step
        begin = time.time()
        report(Progress(610, 1000, 9.1, 100.0, None, False))
        report(Progress(650, 1000, 9.5, 100.0, None, False))
        facts = report._bar.format_dict
        assert (facts["initial"], facts["n"], facts["total"]) == (610, 650, 1000)
        assert report._bar.start_t >= begin
    assert bars(terminal.getvalue()) == [(None, "650", "1000")]


def test_a_line_counts_new_steps_too(capsys):
    with Bar("step", shown=True) as bar:
        for done in (600, 700, 800):
            bar.show(done, 1000, "fine")
            time.sleep(0.01)
    first, second, third = capsys.readouterr().err.splitlines()
    assert (first, second) == ("step 600/1000: fine", "step 700/1000: fine")
    rate, left = re.fullmatch(r"step 800/1000: fine, ([\d,]+) steps/s, (\d+) s left", third).groups()
    assert int(rate.replace(",", "")) < 100 / 0.01
    assert int(left) < 60


def test_steps_that_are_estimated_are_told_so(capsys, monkeypatch):
    """As of a budget of seconds: no total before the first step, and no exact one that moves."""
    steps = {0: 1, 40: 683, 120: 681, 202: 672}
    seen = [Progress(step, end, step / 40, evaluated=True, is_estimate=True) for step, end in steps.items()]
    with ProgressReport(shown=True) as report:
        for progress in seen:
            report(progress)
    told = [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()]
    assert told == ["step 0", "step 40 of about 683", "step 120 of about 681", "step 202 of about 672"]
    terminal = on_a_terminal(monkeypatch)
    with ProgressReport(shown=True) as report:
        report(seen[0])
        assert report._bar.total is None
        report(seen[1])
        assert report._bar.total == 683
    assert "0/1 " not in terminal.getvalue()


def test_there_is_no_bar_without_figures_and_one_for_each_piece_of_work(monkeypatch):
    terminal = on_a_terminal(monkeypatch)
    with ProgressReport(shown=True), SigmaReport(shown=True) as trials:
        trials.show(0, 50)
        trials.show(50, 50)
        trials.show(0, 70)
        trials.show(70, 70)
    assert bars(terminal.getvalue()) == [("sigma auto", "50", "50"), ("sigma auto", "70", "70")]


def test_tiles_count_pixels(monkeypatch):
    terminal = on_a_terminal(monkeypatch)
    with ProgressReport(shown=True) as report:
        report(Progress(0, 100, 0.0, tiles=100, pixels=10, total_pixels=6400))
        report(Progress(0, 100, 1.0, psnr=30.0, tiles=100, pixels=3200, total_pixels=6400))
    assert bars(terminal.getvalue()) == [(None, "3.20k", "6.40k")]
    assert "pixel/s, 30.00 dB" in terminal.getvalue()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["fit", "--sigma", "auto"], ["sigma auto", None]),
        (["compare", "--encoding", "basic,gaussian", "--sigma", "auto"], ["sigma auto", None]),
        (["sweep", "--depth", "2,3"], [None, "batch 2"]),
        (["sweep", "--depth", "2,3", "--jobs", "2"], [None]),
        (["inpaint", "--missing", "0.5"], [None]),
        (["inpaint", "--missing", "0.5", "--average", "2"], [None]),
        (["fit", "--tiles", "8"], [None]),
        (["sweep", "--tiles", "8,16"], [None, None]),
    ],
    ids=str,
)
def test_every_command_that_trains_has_a_bar_for_each_piece_of_work(monkeypatch, tmp_path, words, expected):
    terminal = on_a_terminal(monkeypatch)
    assert main([words[0], *SMALL, "--steps", "60", *words[1:], "--out", str(tmp_path / "run")]) == 0
    shown = [
        bar for bar in bars(terminal.getvalue()) if not bar[2].startswith("32")
    ]  # of rows that are written
    assert [label for label, _, _ in shown] == expected
    assert all(done == total for _, done, total in shown)


def test_a_notebook_has_a_bar_of_its_own_kind_and_nothing_else_pays_for_it(monkeypatch):
    import tqdm

    assert _tqdm() is tqdm.tqdm
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    assert Bar("step", shown=True).on_terminal
    import tqdm.auto

    assert _tqdm() is tqdm.auto.tqdm


def test_the_first_steps_which_may_compile_are_not_in_the_rate(monkeypatch):
    monkeypatch.setattr("coordfit.training.loop.CALLBACK_SECONDS", 0.0)
    take_steps, told = Trainer.take_steps, []

    def slow_at_first(self, limit):
        time.sleep(0.5 if self.step == 0 else 0.0)
        take_steps(self, limit)

    monkeypatch.setattr(Trainer, "take_steps", slow_at_first)
    config = make_config({"steps": 20, "hidden_size": 8, "num_frequencies": 4, "batch_size": 16})
    fit_alone(Job(bundled_picture(32), config), get_backend("numpy", threads=1), callback=told.append)
    assert told[-1].seconds > 0.5
    assert told[-1].steps_per_second > 2 * 20 / told[-1].seconds
