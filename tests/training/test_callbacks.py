"""What a callback is told while it trains: one kind of progress, with the model as it is now."""

import itertools

import numpy as np
import pytest

import coordfit
from coordfit.tasks.jobs.average import AverageTrainer
from coordfit.tiles.fit import TiledFit
from coordfit.tiles.plan import plan_tiles
from coordfit.training import state
from coordfit.training.job import Job
from coordfit.training.trainer import Trainer, fit_together

SMALL = {"steps": 12, "evaluate_every": 4, "hidden_size": 16, "num_frequencies": 8, "batch_size": 64}
TILES = {"steps": 8, "hidden_size": 8, "num_frequencies": 4}


@pytest.fixture(scope="module")
def picture():
    return coordfit.load_picture(coordfit.bundled_picture().pixels[30:62, 40:80])


def cpu(threads=1):
    return coordfit.get_backend("numpy", threads=threads)


def test_a_callback_draws_one_network_while_it_trains(picture):
    drawn, told = [], []

    def callback(progress):
        told.append(progress)
        if progress.evaluated:
            drawn.append(progress.render())
            assert coordfit.psnr(drawn[-1], picture.pixels) == pytest.approx(progress.psnr, abs=1e-3)
            assert progress.render(8, 10).shape == (8, 10, 3)

    result = coordfit.fit(picture, device="numpy", callback=callback, **SMALL)
    assert len(drawn) == 4
    np.testing.assert_array_equal(drawn[-1], result.reconstruction)
    assert not np.array_equal(drawn[0], drawn[1])
    assert told[-1].model is result.model is told[-1].members[0].model
    assert (told[-1].step, told[-1].tiles, told[-1].done) == (12, 0, 0)


def test_a_callback_draws_each_of_several_networks_as_it_is_now(picture, monkeypatch):
    monkeypatch.setattr("coordfit.training.loop.CALLBACK_SECONDS", 0.0)
    jobs = [Job(picture, coordfit.make_config(SMALL, {"seed": seed})) for seed in range(3)]
    pictures, between = [], []

    def callback(progress):
        models = progress.models
        assert [member.model for member in progress.members] == list(models)
        (pictures if progress.evaluated else between).append([model.render() for model in models])

    results = fit_together(jobs, cpu(), callback)
    assert len(pictures) == 4
    for last, result in zip(pictures[-1], results, strict=True):
        np.testing.assert_array_equal(last, result.reconstruction)
    firsts = [seen[0] for seen in between]
    assert all(not np.array_equal(a, b) for a, b in itertools.pairwise(firsts)), "each step is seen"


def test_a_callback_draws_the_mean_of_networks(picture):
    drawn = []
    job = Job(picture, coordfit.make_config(SMALL))
    [result] = AverageTrainer(job, cpu(), 2).run(lambda progress: drawn.append(progress.render()))
    np.testing.assert_array_equal(drawn[-1], result.reconstruction)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_callback_draws_tiles_as_far_as_they_are_known(picture, monkeypatch, threads):
    monkeypatch.setattr("coordfit.tiles.fit.CHUNK_TILES", 8)
    monkeypatch.setattr("coordfit.tiles.trainer.CALLBACK_SECONDS", 0.0)
    shares, last = [], []

    def callback(progress):
        drawn = progress.render()
        unknown = np.isnan(drawn).any(axis=2)
        shares.append(unknown.mean())
        last[:] = [drawn]
        learned = coordfit.psnr(drawn, picture.pixels, where=~unknown)
        assert learned > 10.0, "what is known is of the picture's own colours"

    fit = TiledFit(picture, plan_tiles(picture, 8, TILES), cpu(threads), stored="float32")
    result = fit.run(callback)
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.5 > shares[-1] == 0.0
    np.testing.assert_array_equal(last[0], result.reconstruction)


def test_a_large_picture_of_tiles_is_drawn_small(picture, monkeypatch):
    monkeypatch.setattr(state, "MOST_RENDERED", 20)
    sizes = set()
    coordfit.fit(
        picture, device="numpy", tiles=8, callback=lambda told: sizes.add(told.render().shape), **TILES
    )
    assert sizes == {(16, 20, 3)}


@pytest.mark.parametrize("options", [SMALL, TILES | {"tiles": 8}], ids=["one network", "tiles"])
def test_true_ends_the_run(picture, options):
    told = []
    result = coordfit.fit(picture, device="numpy", callback=lambda p: told.append(p) or True, **options)
    assert result.stopped == "interrupted"
    assert len(told) == 1


def test_a_batch_tells_a_row_of_a_network_that_goes_on(picture, monkeypatch):
    monkeypatch.setattr("coordfit.training.loop.CALLBACK_SECONDS", 1e9)  # evaluations alone
    configs = [coordfit.make_config(SMALL, {"seed": k}) for k in range(2)]
    trainer, rows = Trainer([Job(picture, config) for config in configs], cpu()), []

    def spoil(progress):
        rows.append(progress.row["step"])
        if progress.step == 4:
            trainer.mlp.parameters[0, ...] = np.nan

    results = trainer.run(spoil)
    assert rows == [0, 4, 8, 12]
    assert [result.stopped for result in results] == ["diverged", "steps"]
    assert [len(result.history) for result in results] == [2, 4]
