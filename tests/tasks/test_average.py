"""The mean of K networks is one network, is trained as one batch, and errs less than each of them."""

import dataclasses
import json
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from support.backend_matrix import on

import coordfit
from coordfit.backends import get_backend
from coordfit.cli import main
from coordfit.config import make_config
from coordfit.errors import ConfigError
from coordfit.images import bundled_picture
from coordfit.images.drawn_masks import missing_mask
from coordfit.models.model import Model
from coordfit.tasks.jobs.average import MOST_NETWORKS, AverageTrainer, mean_config, mean_network
from coordfit.training.job import Job
from coordfit.training.trainer import fit_alone, fit_together

SMALL = {
    "steps": 12,
    "evaluate_every": 6,
    "num_frequencies": 6,
    "hidden_size": 10,
    "depth": 3,
    "batch_size": 100,
    "dtype": "float64",
    "output_activation": "identity",
}


@pytest.fixture(scope="module")
def cat():
    return bundled_picture(32)


@pytest.fixture(scope="module")
def known():
    return missing_mask(32, 32, 0.5, seed=1)


@pytest.fixture
def numpy_backend():
    return get_backend("numpy", threads=1)


@pytest.mark.parametrize(("depth", "count"), [(1, 3), (2, 1), (4, 3)])
@pytest.mark.parametrize("encoding", ["none", "gaussian"])
def test_the_mean_of_networks_is_a_network(numpy_backend, cat, encoding, depth, count):
    base = make_config(SMALL, {"encoding": encoding, "depth": depth, "activation": "sine", "steps": 2})
    models = [fit_alone(Job(cat, base.replace(seed=seed)), numpy_backend).model for seed in range(count)]
    B, parameters = mean_network(models)
    mean = Model(numpy_backend, mean_config(base, count), models[0].picture, B, parameters)
    places = np.random.default_rng(0).random((40, 2))
    np.testing.assert_allclose(mean(places), np.mean([model(places) for model in models], axis=0), atol=1e-12)


@on("numba", "cupy-on-host")
@pytest.mark.gpu_smoke
def test_it_is_trained_as_each_of_its_networks_alone(backend, cat, known):
    config = make_config(SMALL, {"seed": 5})
    [result] = AverageTrainer(Job(cat, config, known), backend, 3).run()
    jobs = [Job(cat, config.replace(seed=seed), known) for seed in (5, 6, 7)]
    alone = [fit_alone(Job(job.signal, job.config, known), backend) for job in jobs]
    places = np.random.default_rng(0).random((40, 2))
    expected = np.mean([one.model(places) for one in alone], axis=0)
    np.testing.assert_allclose(result.model(places), expected, atol=1e-6)
    np.testing.assert_allclose(result.step_losses, np.mean([one.step_losses for one in alone], axis=0))
    assert [row["step"] for row in result.history] == [0, 6, 12]
    for row, *rows in zip(result.history, *(one.history for one in alone), strict=True):
        assert row["psnr_held_out"] == pytest.approx(np.mean([own["psnr_held_out"] for own in rows]))
    assert (result.metrics["averaged"], result.metrics["networks"], result.stopped) == (3, 3, "steps")


def test_the_mean_errs_less_than_its_networks_do(numpy_backend, cat, known):
    config = make_config(SMALL, {"steps": 60, "dtype": "float32"})
    [mean] = AverageTrainer(Job(cat, config, known), numpy_backend, 4).run()
    each = fit_together([Job(cat, config.replace(seed=k), known) for k in range(4)], numpy_backend)
    assert mean.metrics["psnr_held_out"] > max(one.metrics["psnr_held_out"] for one in each)


def test_a_saved_mean_is_loaded_again(numpy_backend, cat, tmp_path):
    [result] = AverageTrainer(Job(cat, make_config(SMALL)), numpy_backend, 2).run()
    result.save(tmp_path / "mean.safetensors")
    again = coordfit.load(tmp_path / "mean.safetensors", device="numpy", threads=1)
    np.testing.assert_array_equal(again.render(20, 30), result.render(20, 30))


def test_a_network_that_diverged_does_not_count(numpy_backend, cat):
    trainer = AverageTrainer(Job(cat, make_config(SMALL)), numpy_backend, 3)

    def spoil(progress):
        if progress.step == 6:
            trainer.trainer.mlp.parameters[1, ...] = np.nan

    [result] = trainer.run(callback=spoil)
    two = [fit_alone(Job(cat, make_config(SMALL, {"seed": seed})), numpy_backend) for seed in (0, 2)]
    places = np.random.default_rng(0).random((40, 2))
    assert (result.stopped, result.metrics["averaged"]) == ("steps", 2)
    np.testing.assert_allclose(result.model(places), np.mean([one.model(places) for one in two], axis=0))
    ends = [one.history[-1]["loss"] for one in two]
    assert result.history[-1]["loss"] == pytest.approx(np.mean(ends))


def test_where_all_diverge_the_mean_has(numpy_backend, cat):
    trainer = AverageTrainer(Job(cat, make_config(SMALL, {"learning_rate": 1e300})), numpy_backend, 2)
    [result] = trainer.run()
    assert result.stopped == "diverged"
    assert np.isfinite(result.state.parameters).all()


def test_a_callback_is_told_and_ends_the_run(numpy_backend, cat):
    told = []

    def callback(progress):
        told.append(dataclasses.replace(progress, row=dict(progress.row)))
        return progress.step >= 6

    [result] = AverageTrainer(Job(cat, make_config(SMALL)), numpy_backend, 2).run(callback=callback)
    assert (result.stopped, result.metrics["steps"]) == ("interrupted", 6)
    assert [p.row for p in told if p.evaluated] == result.history


@pytest.mark.parametrize(
    ("count", "options", "said"),
    [
        (0, {}, "from 1 to"),
        (MOST_NETWORKS + 1, {}, "from 1 to"),
        (2, {"optimizer": "gauss-newton", "steps": 1}, "one network at a time"),
        (2, {"hidden_size": 10_000}, "hidden_size"),
    ],
)
def test_what_cannot_be_averaged_is_refused(numpy_backend, cat, count, options, said):
    with pytest.raises(ConfigError, match=said):
        AverageTrainer(Job(cat, make_config(SMALL, options)), numpy_backend, count)


# -- how much the networks differ ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mean_of_three(cat, known):
    config = make_config(SMALL, {"seed": 5})
    backend = get_backend("numpy", threads=1)
    options = {name: getattr(config, name) for name in SMALL}
    result = coordfit.fit(cat, known=known, average=3, seed=5, device="numpy", threads=1, **options)
    jobs = [Job(cat, config.replace(seed=seed), known) for seed in (5, 6, 7)]
    return result, [fit_alone(job, backend) for job in jobs]


def test_the_deviation_is_that_of_the_networks_alone(mean_of_three, cat, known):
    result, alone = mean_of_three
    np.testing.assert_allclose(result.deviation, np.std([one.render() for one in alone], axis=0), atol=1e-9)
    larger = np.std([one.render(50, 40) for one in alone], axis=0)
    np.testing.assert_allclose(result.render_deviation(50, 40), larger, atol=1e-9)
    window = result.render_deviation(50, 40, crop=(3, 20, 11, 9))
    np.testing.assert_allclose(window, larger[20:29, 3:14], atol=1e-9)
    error = np.sqrt(np.mean((result.reconstruction - cat.pixels) ** 2, axis=-1))[~known]
    expected = np.sqrt(np.mean(result.deviation**2, axis=-1))[~known]
    for n in (1, 2):
        assert result.metrics[f"within_{n}"] == np.mean(error <= n * expected)
    assert result.metrics["deviation_mean"] == pytest.approx(result.deviation[~known].mean())


def test_the_deviation_takes_little_memory_beside_its_picture(mean_of_three):
    result, _ = mean_of_three
    tracemalloc.start()
    deviation = result.render_deviation(1200, 1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert deviation.shape == (1200, 1000, 3)
    assert peak < deviation.nbytes + 50e6  # three pictures would be 86 MB


def test_one_network_has_no_deviation(numpy_backend, cat):
    result = fit_alone(Job(cat, make_config(SMALL)), numpy_backend)
    assert result.deviation is None
    with pytest.raises(ValueError, match="average=K"):
        result.render_deviation()


def test_an_inpainting_tells_the_deviation_of_hidden_pixels(cat, known):
    options = {"average": 2, "steps": 12, "hidden_size": 10, "device": "numpy", "threads": 1}
    scored = coordfit.inpaint(cat, known, truth=cat, **options)
    assert scored.deviation.shape == cat.pixels.shape
    assert scored.metrics["deviation_mean"] == pytest.approx(scored.deviation[~known].mean())
    assert 0 <= scored.metrics["within_1"] <= scored.metrics["within_2"] <= 1
    assert not {"within_1", "within_2"} & coordfit.inpaint(cat, known, **options).metrics.keys()


@pytest.mark.parametrize("command", ["fit", "inpaint"])
def test_a_command_draws_the_deviation_and_says_it(command, tmp_path, capsys):
    words = ["--average", 3, "--steps", 6, "--hidden-size", 8, "--size", 32, "--threads", 1, "--device", "cpu"]
    words += ["--missing", 0.5] if command == "inpaint" else ["--train-on", "every-second"]
    out = ["--out", tmp_path / "run"]
    assert main([command, *map(str, [*words, *out])]) == 0
    with Image.open(tmp_path / "run/deviation.png") as sheet:
        assert (np.asarray(sheet) == np.asarray(sheet)[..., :1]).mean() < 0.9  # a heat map, not grey
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    told = f"{255 * metrics['deviation_mean']:.1f} of 255 in the mean"
    assert told in capsys.readouterr().out
    assert {"within_1", "within_2"} <= metrics.keys()
    assert main([command, *map(str, words[2:]), "--overwrite", *map(str, out)]) == 0
    assert not (tmp_path / "run/deviation.png").exists()
    assert not list((tmp_path / "run/networks").glob("*"))


def test_a_finished_mean_is_not_trained_again_and_an_interrupted_one_begins_again(tmp_path, capsys):
    words = ["--steps", 6, "--hidden-size", 8, "--size", 32, "--threads", 1, "--out", tmp_path / "run"]
    assert main(["fit", *map(str, words), "--average", "2"]) == 0
    before = (tmp_path / "run/model.safetensors").read_bytes()
    assert main(["fit", *map(str, words), "--resume"]) == 0
    assert "finished already" in capsys.readouterr().err
    assert main(["fit", *map(str, words), "--resume", "--average", "3"]) == 2
    assert "the run has 2" in capsys.readouterr().err
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    (tmp_path / "run/metrics.json").write_text(json.dumps(metrics | {"stopped": "interrupted"}))
    assert main(["fit", *map(str, words), "--resume"]) == 0
    assert "begins again" in capsys.readouterr().err
    after = (tmp_path / "run/model.safetensors").read_bytes()
    np.testing.assert_array_equal(*(coordfit.load(_file(tmp_path, b)).render() for b in (before, after)))


def _file(folder, data):
    file = folder / "model.safetensors"
    file.write_bytes(data)
    return file


def test_the_networks_are_kept_for_drawings_of_any_size_and_for_a_run_that_goes_on(cat, tmp_path, capsys):
    out = {"out": tmp_path / "run", "device": "numpy", "threads": 1}
    result = coordfit.fit(cat, average=2, steps=6, hidden_size=8, **out)
    again = coordfit.fit(cat, average=2, steps=6, hidden_size=8, resume=True, **out)
    np.testing.assert_array_equal(again.deviation, result.deviation)
    words = [
        "render",
        str(tmp_path / "run"),
        "--deviation",
        "--scale",
        "2",
        "--device",
        "cpu",
        "--threads",
        "1",
    ]
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["deviation_mean"] == pytest.approx(result.render_deviation(64, 64).mean(), rel=1e-4)
    with Image.open(document["picture"]) as sheet:
        assert sheet.width > 2 * 64
    assert main(words) == 1  # it is there already
    assert main(["render", str(tmp_path / "run/model.safetensors"), "--deviation"]) == 2
    assert "--average K" in capsys.readouterr().err


def test_few_bits_are_no_mean(cat):
    with pytest.raises(ConfigError, match="leave average out"):
        coordfit.fit(cat, recipe="compact", average=2)


def test_a_mean_of_a_volume_has_a_deviation_in_its_units():
    values = np.random.default_rng(0).normal(500.0, 90.0, (6, 7, 8))
    values[2, 3, 4] = np.nan
    known = np.random.default_rng(1).random(values.shape) < 0.7
    options = {"hidden_size": 12, "depth": 3, "num_frequencies": 8, "steps": 30, "dtype": "float64"}
    mean = coordfit.fit_array(values, "zyx", known=known, average=3, sigma=1.0, **options)
    alone = [
        coordfit.fit_array(values, "zyx", known=known, sigma=1.0, seed=k, **options).reconstruction
        for k in range(3)
    ]
    np.testing.assert_allclose(mean.deviation, np.std(alone, axis=0), rtol=1e-6, atol=1e-6)
    hidden = ~known & np.isfinite(values)
    within = np.abs(mean.reconstruction - values) <= mean.deviation
    assert mean.metrics["within_1"] == pytest.approx(within[hidden].mean(), abs=1e-9)
    assert mean.metrics["deviation_mean"] == pytest.approx(mean.deviation[hidden].mean(), rel=1e-6)
