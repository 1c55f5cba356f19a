"""`python -m bench.held_out`, `inpainting` and `seed_setting`: what they conclude, and that they run.

And of every benchmark's command line, that bad input is one line.
"""

import json
import sys
from pathlib import Path

import pytest
from support.as_main import run_as_main

sys.path.insert(0, str(Path(__file__).parents[2]))
held_out = pytest.importorskip("bench.held_out")
inpainting = pytest.importorskip("bench.inpainting")
kriging = pytest.importorskip("bench.kriging")
seed_setting = pytest.importorskip("bench.seed_setting")
commands = pytest.importorskip("bench.commands")
recipes = pytest.importorskip("bench.recipes")


def case(gaussian, none=20.0, basic=22.0):
    """A case with a Gaussian network for each pair of training and held-out PSNR, at sigma 1, 2, ..."""
    rows = [{"encoding": "none", "psnr_held_out": none}, {"encoding": "basic", "psnr_held_out": basic}]
    for number, (train, held) in enumerate(gaussian, start=1):
        row = {"encoding": "gaussian", "sigma": float(number), "psnr_train": train, "psnr_held_out": held}
        rows.append(row | {"psnr": held})
    return {"picture": "p", "size": 8, "auto": 2.0, "rows": rows}


RIGHT = [(21.0, 20.5), (30.0, 24.0), (50.0, 15.0)]


def test_the_order_and_both_failures_are_judged():
    assert held_out.best(case(RIGHT))["sigma"] == 2.0
    assert held_out.verdicts(case(RIGHT)) == [True] * 3
    assert held_out.verdicts(case(RIGHT[1:])) == [True]
    assert not held_out.has_order(case(RIGHT, none=22.5))
    assert not held_out.has_order(case(RIGHT, basic=24.5))
    for small in [(31.0, 20.5), (21.0, 23.9)]:
        assert not held_out.blurs(case([small, *RIGHT[1:]]))
    for large in [(29.0, 15.0), (50.0, 23.9)]:
        assert not held_out.is_noise(case([*RIGHT[:2], large]))
    assert not held_out.blurs(case([(30.0, 24.0), (50.0, 15.0)]))  # the best is the smallest


@pytest.mark.parametrize("bench", [held_out, inpainting, kriging, seed_setting])
def test_cases_are_measured_written_and_shown_again(bench, monkeypatch, tmp_path, capsys):
    pytest.importorskip("skimage")
    file = tmp_path / "cases.json"
    words = ["bench", "--pictures", "camera", "--sizes", "16", "--steps", "2", "--json", str(file)]
    shown = []
    for more in ([], ["--keep"], ["--show"]):
        monkeypatch.setattr(sys, "argv", [*words, *more])
        assert bench.main() in (0, 1)
        shown.append(capsys.readouterr().out)
        monkeypatch.setattr(bench, "measure", None)  # nothing is measured again
    assert shown[0] == shown[1] == shown[2]
    assert "camera" in shown[0]
    cases = json.loads(file.read_text())["cases"]
    assert [case.get("mode") for case in cases] == (
        ["all", "every-second"] if bench is seed_setting else [None]
    )
    for case in cases:
        assert (case["picture"], case["size"]) == ("camera", 16)
        assert bench is kriging or case["settings"] == {"steps": 2}


def test_the_gain_of_a_sigma_is_that_of_all_pixels_where_all_are_trained(capsys):
    figures = dict.fromkeys(seed_setting.FIGURES, 20.0) | {"psnr_held_out": None}
    better = figures | {"psnr_train": 23.0, "psnr": 23.0}
    made = {"picture": "p", "mode": "all", "chosen": 9.0, "one": figures, "auto": better}
    seed_setting.show([made])
    assert seed_setting.gain(made, "psnr") == 3.0
    assert "all: +3.00 dB on all pixels in the mean, +3.00 dB at least" in capsys.readouterr().out


def test_a_table_of_recipes_is_measured_kept_and_shown(monkeypatch, tmp_path, capsys):
    pytest.importorskip("skimage")
    rows = {"as it is": {}, "five": {"iterations": 5}, "smaller": {"size": 12}}
    small = recipes.Table(
        "`fast`", "fast", {"steps": 3, "hidden_size": 8}, rows, ("camera",), size=16, has_mean=True
    )
    monkeypatch.setattr(recipes, "TABLES", {"small": small})
    shown = []
    for more in ([], ["--keep"], ["--show"]):
        monkeypatch.setattr(sys, "argv", ["bench", "--json", str(tmp_path / "r.json"), *more])
        recipes.main()
        shown.append(capsys.readouterr().out)
        monkeypatch.setattr(recipes, "measure", None)  # nothing is measured again
    assert shown[0] == shown[1] == shown[2]
    assert shown[0].startswith("| `fast` | camera | mean |\n|---|---|---|\n| as it is | ")
    figures = [row["psnr"] for row in json.loads((tmp_path / "r.json").read_text())["rows"]]
    assert len(set(figures)) == 3
    assert recipes.Muon.__init__.__kwdefaults__["iterations"] == 3


def test_a_command_is_kept_with_medians_of_its_seconds_or_without_them(monkeypatch, tmp_path):
    seconds = iter([3.0, 1.0, 2.0, 5.0])

    def run(command):
        return {"metrics": {"psnr": 40.0, "ssim": None, "notes": "x", "seconds": next(seconds)}}, 9.0

    monkeypatch.setattr(commands, "run", run)
    for more, told in ([], {"seconds": 2.0, "seconds_in_all": 9.0}), (["--without-times"], {}):
        words = ["--only", "coordfit", "--json", str(tmp_path / "c.json"), *more]
        monkeypatch.setattr(sys, "argv", ["bench", *words])
        commands.main()
        (row,) = json.loads((tmp_path / "c.json").read_text())["rows"]
        assert row == {"command": "coordfit", "psnr": 40.0, "run": 0, **told}


def ended(monkeypatch, module, words):
    """The exit code of `python -m bench.MODULE WORDS`."""
    with pytest.raises(SystemExit) as end:
        run_as_main(monkeypatch, ["-m", f"bench.{module}", *words])
    return end.value.code


@pytest.mark.parametrize(
    ("module", "words", "told"),
    [
        (
            "tiles",
            ["astronaut.png"],
            "there is no file astronaut.png: name one, or a photograph of scikit-image",
        ),
        ("tiles", ["--only", "8,8"], "invalid choice: '8,8'"),
        ("tiles_held_out", ["PICTURE"], "there is no file PICTURE"),
        ("tiles_held_out", ["--missing", "2"], "'2' is not between 0 and 1"),
        ("whole_pictures", ["coffee.png", "--megapixels", "12"], "there is no file coffee.png"),
        ("whole_pictures", ["broken.json"], "broken.json is not a picture in a format that is read here"),
        ("whole_pictures", ["--device", "gpu7"], "unknown device 'gpu7'"),
        ("least_squares", ["polish", "--pictures", "no.png"], "there is no file no.png"),
        ("least_squares", ["polish", "--repeats", "0"], "'0' is not a whole number of 1 or more"),
        ("steadiness", ["--pictures", "x.png"], "there is no file x.png"),
        ("steadiness", ["--recipe", "slow"], "invalid choice: 'slow'"),
        ("time_to_psnr", ["--pictures", "x.png"], "there is no file x.png"),
        ("inpainting", ["--show"], "--show prints the table of a file"),
        ("inpainting", ["--show", "--json", "broken.json"], "broken.json holds no cases of this benchmark"),
        ("held_out", ["--sizes", "0"], "'0' is not a whole number"),
        ("sigma_auto", ["--json", "no/x.json"], "no/x.json cannot be written: name a file in a folder that is"),
        ("sigma_auto", ["--show"], "--show prints the table of a file"),
        ("seed_setting", ["--keep", "--json", "broken.json"], "broken.json holds no cases"),
        ("paper", ["--batch-size", "few"], "'few' is not a whole number"),
        ("paper", ["--json", "broken.json"], "broken.json holds no rows"),
        ("scaling", ["--plot", "no/x.svg"], "no/x.svg cannot be written"),
        ("soak", ["--hours", "3"], "unrecognized arguments: --hours 3"),
        ("sweep", ["--rounds", "-1"], "--rounds"),
        ("peers", ["--cases", "none"], "invalid choice: 'none'"),
        ("peers.plot", ["no.json", "x.svg"], "no.json holds no results"),
        ("commands", ["--only", "coordfit --all"], "invalid choice: 'coordfit --all'"),
        ("recipes", ["--show"], "--show prints the tables of a file"),
        ("batches", ["--repeats", "0"], "'0' is not a whole number of 1 or more"),
        ("figures", ["--bogus"], "unrecognized arguments: --bogus"),
        ("gpu", ["--bogus"], "unrecognized arguments: --bogus"),
        ("gpu.figures", ["--bogus"], "unrecognized arguments: --bogus"),
    ],
)
def test_bad_input_of_a_benchmark_is_one_line(monkeypatch, tmp_path, capsys, module, words, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.json").write_text("{}")
    assert ended(monkeypatch, module, words) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"python -m bench.{module}: ")
    assert told in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(("module", "words"), [("inpainting", []), ("tiles", ["coffee"]), ("steadiness", [])])
def test_without_scikit_image_its_photographs_are_refused_with_the_cure(monkeypatch, capsys, module, words):
    monkeypatch.setitem(sys.modules, "skimage", None)
    assert ended(monkeypatch, module, words) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"python -m bench.{module}: this needs skimage, which is not installed: pip install")
    assert len(said.splitlines()) == 1
