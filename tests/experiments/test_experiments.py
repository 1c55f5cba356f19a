"""The experiments: that each runs and says what its numbers say, and the command around them."""

import csv
import json
import os
import signal

import numpy as np
import pytest
from PIL import Image

from coordfit.backends import get_backend
from coordfit.cli import main
from coordfit.cli.commands import experiments as experiments_command
from coordfit.config import USUAL_RATES
from coordfit.errors import ConfigError
from coordfit.experiments import (
    NAMES,
    check_names,
    depth_width,
    encodings,
    fourier_features,
    inpainting,
    losses,
    optimizers,
    resolution,
    run_experiment,
)
from coordfit.experiments.common import Drawing, Outcome, Study
from coordfit.images import bundled_picture
from coordfit.report.table import Table
from coordfit.training.job import Job

STEPS = 3


@pytest.fixture
def few_steps(monkeypatch):
    """Quick studies, and a few steps for each network."""
    monkeypatch.setattr(Study, "steps", lambda study, steps: STEPS)


def quick_study(**options):
    return Study(get_backend("numpy", threads=1), quick=True, **options)


# Every experiment


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_gives_a_table_pictures_and_a_sentence(few_steps, name):
    outcome = run_experiment(name, quick_study())
    assert outcome.name == name
    assert outcome.question.count("?") or outcome.question.endswith(".")
    assert len(outcome.table) >= 4
    assert set(outcome.best) <= set(outcome.table.columns)
    for column in outcome.best:
        assert all(value is None or 3 < value < 100 or column == "ssim" for value in outcome.table[column])
    assert outcome.settings["steps"] == STEPS
    assert outcome.finding.endswith(".")
    assert "None" not in outcome.finding
    assert outcome.pictures
    for drawing in outcome.pictures:
        assert isinstance(drawing.picture, Image.Image) or "<svg" in drawing.picture


def test_the_same_seed_gives_the_same_numbers_and_another_one_others(few_steps):
    def psnr_of(seed):
        study = quick_study(seed=seed)
        job = Job(study.picture(32), study.config(steps=STEPS, train_on="every-second"))
        return study.train([job])[0].metrics["psnr_train"]

    assert psnr_of(1) == psnr_of(1) != psnr_of(2)
    masks = [run_experiment("inpainting", quick_study(seed=seed)).table["psnr_hidden"][0] for seed in (1, 2)]
    assert masks[0] != masks[1]


def test_a_picture_of_ones_own_is_used_and_never_enlarged(few_steps):
    pixels = np.random.default_rng(0).random((20, 12, 1)).astype(np.float32)
    study = quick_study(image=pixels)
    assert study.picture(32).pixels.shape == (20, 12, 1)
    assert study.picture(10).pixels.shape == (10, 6, 1)
    for name in ("encodings", "inpainting"):
        assert "array" in run_experiment(name, study).settings["picture"]


def test_a_small_picture_of_ones_own_goes_by_its_own_size(few_steps):
    pixels = np.random.default_rng(0).random((20, 12, 3)).astype(np.float32)
    study = Study(get_backend("numpy", threads=1), image=pixels)
    outcome = run_experiment("encodings", study)
    assert {*outcome.table["size"]} == {"12 x 20"}
    assert outcome.finding.count("On held-out pixels at 12 x 20, ") == 1
    assert outcome.settings["picture"] == "array, at 12 x 20"
    assert all("12 x 20" in drawing.caption for drawing in outcome.pictures)
    outcome = run_experiment("resolution", study)
    assert {*outcome.table["pixels"]} == {"20 to 80"}
    assert "no 80 pixels" in outcome.settings["20 to 80"]
    larger = Study(study.backend, image=np.resize(pixels, (50, 40, 3)))
    assert [*dict.fromkeys(run_experiment("encodings", larger).table["size"])] == ["26 x 32", "40 x 50"]


def test_figures_are_those_of_the_pixels_that_are_named(few_steps):
    study = quick_study()
    outcome = run_experiment("losses", study)
    truth = bundled_picture(32).pixels
    held_out = np.ones(truth.shape[:2], bool)
    held_out[::2, ::2] = False
    config = study.config(train_on="every-second", steps=STEPS, seed=0, loss="mae")
    jobs = [Job(bundled_picture(32), config.replace(seed=seed)) for seed in range(3)]
    seeds = [study.train([job])[0] for job in jobs]
    errors = [np.abs(r.reconstruction - truth)[held_out].mean() for r in seeds]
    row = next(row for row in outcome.table if row["loss"] == "MAE")
    assert row["mae_held_out"] == pytest.approx(np.mean(errors), rel=1e-4)
    assert row["psnr_held_out"] == pytest.approx(np.mean([r.metrics["psnr_held_out"] for r in seeds]), rel=1e-4)
    assert row["psnr_train"] == pytest.approx(np.mean([r.metrics["psnr_train"] for r in seeds]), rel=1e-4)


def test_a_wrong_name_is_corrected():
    assert check_names([]) == NAMES
    assert check_names(["losses", "encodings", "losses"]) == ("encodings", "losses")
    with pytest.raises(ConfigError, match="did you mean 'depth-width'"):
        check_names(["depth-witdh"])
    with pytest.raises(ConfigError, match="known: encodings"):
        check_names(["zzz"])


# The sentences: they must be able to say that the expected did not come out


def encoding_rows(none=18.0, basic=22.0, gaussian=((20.0, 19.0), (30.0, 24.0), (50.0, 12.0))):
    rows = [{"encoding": "none", "sigma": None, "psnr_train": 18.5, "psnr_held_out": none}]
    rows += [{"encoding": "basic", "sigma": None, "psnr_train": 23.0, "psnr_held_out": basic}]
    for sigma, (train, held_out) in zip((1.0, 3.0, 9.0), gaussian, strict=True):
        rows.append({"encoding": "gaussian", "sigma": sigma, "psnr_train": train, "psnr_held_out": held_out})
    return [row | {"size": "32 x 32"} for row in rows]


def test_the_order_of_encodings_is_judged():
    text = encodings.finding(encoding_rows())
    assert "the expected order came out: none 18.00 dB, basic 22.00 dB, Gaussian 24.00 dB at sigma 3" in text
    assert "sigma 1 blurs (training 20.00 dB, held out 19.00 dB), and sigma 9 turns to noise" in text
    for rows in (encoding_rows(none=22.5), encoding_rows(basic=24.5)):
        assert "the expected order did not come out" in encodings.finding(rows)
    edge = encoding_rows(gaussian=((20.0, 25.0), (30.0, 24.0), (50.0, 12.0)))
    assert "at the edge" in encodings.finding(edge)
    assert text.startswith("On held-out pixels at 32 x 32, ")
    calm = encoding_rows(gaussian=((20.0, 23.9), (30.0, 24.0), (50.0, 23.9)))
    assert "sigma 1 does not blur" in encodings.finding(calm)
    assert "sigma 9 does not turn to noise" in encodings.finding(calm)


def test_the_study_tries_the_rate_that_the_default_has():
    # Rates that another optimizer wanted would lie at the edge for every network.
    config = quick_study().config(steps=1)
    assert config.learning_rate == USUAL_RATES[config.optimizer] == max(depth_width._RATES)
    for optimizer, rates in optimizers._RATES.items():
        assert optimizer == "sgd" or min(rates) < USUAL_RATES[optimizer] < max(rates)


def test_a_lead_within_the_spread_of_seeds_decides_nothing():
    def rows(lead):
        figures = {"psnr_held_out_spread": 0.2, "mae_held_out": 0.1}
        return [
            {"loss": "MSE", "psnr_held_out": 20.0} | figures,
            {"loss": "MAE", "psnr_held_out": 20.0 + lead} | figures | {"mae_held_out": 0.05},
        ]

    assert "does not decide" in losses.finding(rows(0.1))
    assert losses.finding(rows(1.0)).startswith(
        "MAE is best on held-out pixels with 21.00 dB, 1.00 dB before MSE"
    )
    assert losses.finding(rows(-1.0)).startswith("MSE is best")
    assert "the least mean absolute error there has MAE" in losses.finding(rows(-1.0))


def test_the_better_optimizer_is_named_and_edges_and_divergence_are_told():
    def rows(adam, trouble=""):
        figures = [("sgd", 0.1, 20.0), ("sgd", 1.0, 22.0), ("sgd", 3.0, 21.0)]
        figures += [("adam", 1e-3, adam), ("adam", 1e-2, adam + 1), ("adam", 1e-1, adam - 1)]
        table = [{"optimizer": o, "learning_rate": r, "psnr": p, "trouble": ""} for o, r, p in figures]
        table[-1]["trouble"] = table[-2]["trouble"] = trouble
        return table

    assert optimizers.finding(rows(30.0)) == (
        "Adam reaches 31.00 dB at learning rate 0.01, 9.00 dB more than SGD with momentum with 22.00 dB at 1."
    )
    assert optimizers.finding(rows(10.0)).startswith("SGD with momentum reaches 22.00 dB")
    muon = {"optimizer": "muon", "learning_rate": 0.016, "psnr": 35.0, "trouble": ""}
    others = [muon | {"learning_rate": rate, "psnr": 33.0} for rate in (1e-3, 1e-1)]
    assert optimizers.finding([*rows(30.0), muon, *others]) == (
        "Muon reaches 35.00 dB at learning rate 0.016, 4.00 dB more than Adam with 31.00 dB at 0.01 and "
        "13.00 dB more than SGD with momentum with 22.00 dB at 1."
    )
    failed = optimizers.finding(rows(30.0, "diverged"))
    assert failed.startswith("Adam reaches 30.00 dB at learning rate 0.001")
    assert "the best rate of Adam lies at the edge" in failed
    assert "2 of 6 runs diverged or came out worse" in failed


def test_depth_and_width_are_weighed_from_the_smallest_network():
    def rows(wide, deep):
        figures = [(2, 16, 100, 20.0), (2, 64, 400, wide), (4, 16, 200, deep), (4, 64, 900, 30.0)]
        return [{"depth": d, "hidden_size": w, "parameters": n, "psnr": p} for d, w, n, p in figures]

    text = depth_width.finding(rows(25.0, 22.0))
    assert "width alone brings +5.00 dB at best and depth alone +2.00 dB" in text
    assert "the best of all is depth 4 with 64 units, 30.00 dB" in text
    assert "depth alone brings +3.00 dB at best and width alone +0.00 dB" in depth_width.finding(
        rows(18.0, 23.0)
    )


def test_m_and_sigma_are_weighed_around_the_best():
    def rows(**held_out):
        pairs = {"a": (8, 1.0), "b": (8, 4.0), "c": (32, 1.0), "d": (32, 4.0)}
        return [
            {"num_frequencies": m, "sigma": s, "psnr_train": 10.0 + m + s, "psnr_held_out": held_out[name]}
            for name, (m, s) in pairs.items()
        ]

    text = fourier_features.finding(rows(a=20.0, b=15.0, c=21.0, d=16.0))
    assert "best at m 32 and sigma 1 (21.00 dB), another pair than training pixels (m 32, sigma 4" in text
    assert "sigma matters more than m (5.00 dB over the sigmas tried, 1.00 dB over the numbers)" in text
    other = fourier_features.finding(rows(a=15.0, b=15.0, c=20.0, d=20.5))
    assert "the same pair as training pixels" in other
    assert "sigma matters no more than m" in other


def test_a_network_may_lose_to_the_nearest_pixel():
    def rows(nearest, none):
        names = {"nearest known pixel": nearest, "network, none": none, "network, gaussian, sigma 3": 25.0}
        return [{"fill": name, "psnr_hidden": value} for name, value in names.items()]

    assert "better than the nearest known pixel with 22.00 dB (+3.00 dB)" in inpainting.finding(
        rows(22.0, 20.0)
    )
    assert "does not even beat the nearest pixel (20.00 dB)" in inpainting.finding(rows(22.0, 20.0))
    assert "no better than the nearest known pixel" in inpainting.finding(rows(26.0, 20.0))
    assert "beats the nearest pixel too (23.00 dB)" in inpainting.finding(rows(22.0, 23.0))
    biharmonic = {"fill": "biharmonic equations", "psnr_hidden": 25.5}
    told = inpainting.finding([rows(22.0, 20.0)[0], biharmonic, *rows(22.0, 20.0)[1:]])
    assert "(+3.00 dB) and no better than biharmonic equations with 25.50 dB (-0.50 dB); without" in told


def test_without_a_truth_nothing_is_claimed():
    def rows(plain, network):
        common = {"pixels": "32 to 128", "psnr_small": 40.0}
        return [
            common | {"method": "bicubic", "psnr_large": plain},
            common | {"method": "network, sigma 2", "psnr_large": network},
        ]

    assert "does not say which is better" in resolution.finding(rows(None, None))
    assert " is ahead of bicubic interpolation (25.00 dB, +1.00 dB)" in resolution.finding(rows(25.0, 26.0))
    assert " is not ahead of bicubic interpolation" in resolution.finding(rows(25.0, 24.0))
    assert " is level with bicubic interpolation (25.00 dB, +0.05 dB)" in resolution.finding(rows(25.0, 25.05))


# The parts that are theirs alone


def test_bicubic_keeps_flat_pictures_and_its_size():
    np.testing.assert_allclose(resolution.bicubic(np.full((3, 5, 2), 0.25), 12, 20), 0.25, atol=1e-6)
    ramp = np.linspace(0, 1, 32)[None, :, None].repeat(4, 0)
    large = resolution.bicubic(ramp, 16, 128)
    assert large.shape == (16, 128, 1)
    inner = large[8, 16:-16, 0]
    expected = (((np.arange(128) + 0.5) / 4 - 0.5) / 31)[16:-16]
    np.testing.assert_allclose(inner, expected, atol=1e-5)


def test_a_larger_picture_is_scored_at_its_own_pixels(few_steps, monkeypatch):
    monkeypatch.setattr("coordfit.experiments.common.LARGE", 64)
    monkeypatch.setattr(resolution, "_SIGMAS", {32: (2.0,), 64: (2.0,)})
    study = Study(get_backend("numpy", threads=1), image=bundled_picture(128))
    outcome = resolution.run(study)
    scored = {row["pixels"]: row["psnr_large"] for row in outcome.table}
    assert scored["32 to 128"] is not None
    assert scored["64 to 256"] is None
    assert "64 to 256" in outcome.settings
    assert "32 to 128" not in outcome.settings


# The command


@pytest.fixture
def instant(monkeypatch):
    """Experiments that are done at once; the names of those that were."""
    done = []

    def outcome_of(name, study):
        done.append(name)
        picture = Drawing("pictures", Image.new("RGB", (4, 4)), "")
        table = Table([{"psnr": 20.0 + study.seed}])
        return Outcome(name, name.title(), "What?", {"steps": 1}, table, [picture], f"Seed {study.seed}.")

    monkeypatch.setattr("coordfit.cli.commands.experiments.run_experiment", outcome_of)
    return done


def run(*words):
    return main(["experiments", *words, "--quick", "--device", "numpy", "--threads", "1"])


def test_the_command_writes_a_report_tables_and_pictures(few_steps, tmp_path, capsys):
    folder = tmp_path / "study"
    assert run("inpainting", "fourier-features", "--out", str(folder), "--seed", "3") == 0
    output = capsys.readouterr()
    lines = output.out.splitlines()
    assert [line.partition(":")[0] for line in lines[:-1]] == ["fourier-features", "inpainting"]
    assert lines[-1] == str(folder)
    assert [line.split(" ... ")[0] for line in output.err.splitlines()] == [
        "1/2 fourier-features",
        "2/2 inpainting",
    ]
    report = (folder / "report.html").read_text()
    assert report.count("<section") == 2
    assert "coordfit experiments inpainting --quick --seed 3" in report
    assert lines[1].partition(": ")[2] in report
    table = json.loads((folder / "inpainting.json").read_text())["table"]
    with (folder / "inpainting.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["psnr_hidden"]) for row in rows] == [row["psnr_hidden"] for row in table]
    with Image.open(folder / "inpainting-pictures.png") as image:
        assert image.width > 500
    assert (folder / "fourier-features-heat-map-held-out.svg").read_text().startswith("<?xml")


def test_json_is_one_document_and_nothing_else(instant, tmp_path, capsys):
    assert run("inpainting", "--out", str(tmp_path / "a"), "--json") == 0
    output = capsys.readouterr()
    document = json.loads(output.out)
    assert output.err == ""
    assert document["seed"] == 0
    assert document["experiments"][0]["name"] == "inpainting"
    assert document == json.loads((tmp_path / "a" / "experiments.json").read_text())


def test_an_unknown_name_is_refused_before_anything_is_made(tmp_path, capsys):
    assert run("inpanting", "--out", str(tmp_path / "a")) == 2
    assert "did you mean 'inpainting'?" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_a_picture_that_is_not_there_fails_before_anything_is_made(tmp_path, capsys):
    assert run("inpainting", "--out", str(tmp_path / "a"), "--image", str(tmp_path / "no.png")) == 1
    assert "no.png" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_a_report_is_not_replaced_unasked(instant, tmp_path, capsys):
    assert run("inpainting", "--out", str(tmp_path)) == 0
    before = (tmp_path / "report.html").read_bytes()
    assert run("inpainting", "--out", str(tmp_path), "--seed", "5") == 1
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "report.html").read_bytes() == before
    assert run("inpainting", "--out", str(tmp_path), "--seed", "5", "--overwrite") == 0
    assert (tmp_path / "report.html").read_bytes() != before


def test_without_a_folder_a_numbered_one_is_made(instant, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("inpainting") == 0
    assert capsys.readouterr().out.splitlines()[-1] == os.path.join("runs", "001")  # noqa: PTH118
    assert (tmp_path / "runs" / "001" / "report.html").exists()
    assert run("inpainting", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_keeps_what_is_done(few_steps, instant, tmp_path, capsys, monkeypatch, number, code):
    at_once = experiments_command.run_experiment

    def interrupted_the_second_time(name, study):
        if not instant:
            return at_once(name, study)
        signal.raise_signal(number)
        return run_experiment(name, study)

    monkeypatch.setattr(experiments_command, "run_experiment", interrupted_the_second_time)
    assert run("fourier-features", "inpainting", "resolution", "--out", str(tmp_path)) == code
    assert instant == ["fourier-features"]
    output = capsys.readouterr()
    assert "1 of 3 experiments are done and saved" in output.err
    assert output.out.splitlines()[-1] == str(tmp_path)
    assert (tmp_path / "report.html").read_text().count("<section") == 1
    assert not (tmp_path / "inpainting.json").exists()
