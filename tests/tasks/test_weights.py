"""`weights=` and `known=`: which pixels training sees, and how much each of them counts."""

import numpy as np
import pytest

import coordfit
from coordfit.errors import ConfigError
from coordfit.optimizers.make import make_optimizer
from coordfit.pixels.training_pixels import TrainingPixels
from coordfit.tiles.fit import TiledFit
from coordfit.tiles.plan import plan_tiles
from coordfit.training.job import Job
from coordfit.training.step import TrainingStep
from coordfit.training.trainer import Trainer, fit_alone, fit_together

SMALL = {"steps": 12, "evaluate_every": 6, "hidden_size": 16, "num_frequencies": 8, "batch_size": None}
EXACT = SMALL | {"dtype": "float64"}
MACHINES = ["numpy", "numba"]


@pytest.fixture(scope="module")
def picture():
    return coordfit.load_picture(coordfit.bundled_picture().pixels[30:54, 40:70])


@pytest.fixture(scope="module")
def known(picture):
    return np.random.default_rng(0).random(picture.pixels.shape[:2]) < 0.6


def backend_of(name, fused="auto"):
    if name == "numba":
        pytest.importorskip("numba")
    return coordfit.get_backend(name, threads=2, fused=fused)


def close(one, other):
    """Whether two fits learned the same, to the rounding of sums in another order."""
    return np.allclose(one.reconstruction, other.reconstruction, rtol=0, atol=1e-6)


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
@pytest.mark.parametrize("device", MACHINES)
def test_a_weight_of_0_hides_a_pixel(picture, known, device, loss):
    options = EXACT | {"device": device, "loss": loss, "optimizer": "sgd"}
    backend_of(device)
    hidden = coordfit.fit(picture, known=known, **options)
    weighted = coordfit.fit(picture, weights=7.0 * known, **options)
    assert close(weighted, hidden)
    assert not close(coordfit.fit(picture, **options), hidden)
    assert hidden.metrics["psnr_held_out"] == pytest.approx(
        coordfit.psnr(hidden.reconstruction, picture.pixels, where=~known), abs=1e-4
    )


@pytest.mark.parametrize("fused", ["auto", "never"])
@pytest.mark.parametrize("device", MACHINES)
def test_a_pixel_of_weight_2_is_one_that_is_seen_twice(picture, device, fused):
    config = coordfit.make_config(EXACT, {"optimizer": "sgd"})
    backend, twice = backend_of(device, fused), np.arange(0, 720, 3)
    weights = np.ones((24, 30))
    weights.reshape(-1)[twice] = 2.0
    weighted = Trainer([Job(picture, config, weights=weights)], backend)
    other = Trainer([Job(picture, config)], backend)
    rows = np.concatenate([np.arange(720), twice])
    coordinates = other.model.picture.grid.coordinates(rows)
    target = picture.pixels.reshape(-1, 3)[rows].astype(np.float64)
    step = TrainingStep(
        backend,
        other.encoder,
        other.mlp,
        other.member.loss,
        make_optimizer(backend, config, other.mlp.parameters, other.mlp.layout),
        TrainingPixels(backend, coordinates, target),
        len(rows),
    )
    with backend.activate():
        weighted.take_steps(1)
        step(None, config.learning_rate)
    np.testing.assert_allclose(weighted.mlp.parameters, other.mlp.parameters, rtol=1e-9, atol=1e-12)


def test_a_mask_is_that_of_an_inpainting(picture, known):
    options = SMALL | {"depth": 6, "sigma": 4.0, "device": "numpy"}
    filled = coordfit.inpaint(picture, known, **options)
    fitted = coordfit.fit(picture, known=known, **options)
    np.testing.assert_array_equal(fitted.state.parameters, filled.state.parameters)
    np.testing.assert_array_equal(fitted.known, known)


@pytest.mark.parametrize("batch_size", [None, 100])
def test_networks_together_have_weights_of_their_own(picture, known, batch_size):
    rng, backend = np.random.default_rng(1), backend_of("numpy")
    config = coordfit.make_config(EXACT, {"batch_size": batch_size})
    jobs = [Job(picture, config.replace(seed=k), known, rng.random(known.shape)) for k in range(2)]
    for job, result in zip(jobs, fit_together(jobs, backend), strict=True):
        assert close(fit_alone(job, backend), result)


def test_compare_and_sweep_take_both(picture, known):
    weights = np.random.default_rng(2).random(known.shape)
    pixels = {"known": known, "weights": weights, "device": "numpy"}
    alone = coordfit.fit(picture, encoding="basic", **pixels, **EXACT)
    compared = coordfit.compare(picture, encodings=["none", "basic"], **pixels, **EXACT)
    assert close(compared.results["basic"], alone)
    table = coordfit.sweep(picture, encoding=["none", "basic"], **pixels, **EXACT)
    assert max(table["psnr_held_out"]) == pytest.approx(
        max(result.metrics["psnr_held_out"] for result in compared.results.values()), abs=1e-3
    )


def test_tiles_take_a_mask(picture, known):
    result = coordfit.fit(picture, known=known, tiles=8, steps=4, device="numpy")
    assert result.metrics["psnr_train"] > result.metrics["psnr_held_out"]


def test_tiles_take_weights(picture, known):
    """0 hides a pixel, and what counts more is learned better, before steps and by steps."""
    tiles = {"tiles": 8, "device": "numpy", "dtype": "float64"}
    cut, backend = plan_tiles(picture, 8, {"steps": 4}), coordfit.get_backend("numpy")
    hidden = TiledFit(picture, cut, backend, known=known).run()
    for mask, weights in ((None, 3.0 * known), (known, np.full(known.shape, 2.0))):
        weighted = TiledFit(picture, cut, backend, known=mask, weights=weights).run()
        np.testing.assert_allclose(weighted.reconstruction, hidden.reconstruction, rtol=0, atol=1e-3)
        assert weighted.metrics["psnr"] == pytest.approx(hidden.metrics["psnr"], abs=1e-2)
    alike = coordfit.fit(picture, weights=np.full(known.shape, 5.0), steps=4, **tiles)
    plain = coordfit.fit(picture, steps=4, **tiles)
    np.testing.assert_allclose(alike.reconstruction, plain.reconstruction, rtol=0, atol=1e-6)
    for steps in (0, 8):
        few, many = (
            coordfit.fit(picture, weights=np.where(known, much, 1.0), steps=steps, **tiles)
            for much in (1.0, 50.0)
        )
        for where, better in ((known, 0.1), (~known, -0.1)):
            gain = [coordfit.psnr(fit.reconstruction, picture.pixels, where=where) for fit in (few, many)]
            assert (gain[1] - gain[0]) * np.sign(better) > abs(better)


NONE = np.zeros((24, 30))
WRONG = {
    "shape": ({"weights": np.ones((30, 24))}, "is 24x30 pixels and the picture 30x24"),
    "dimensions": ({"weights": np.ones((24, 30, 1))}, r"of shape \(24, 30, 1\)"),
    "NaN": ({"weights": np.full((24, 30), np.nan)}, "finite and not below 0"),
    "negative": ({"weights": NONE - 1}, "finite and not below 0"),
    "words": ({"weights": [["much"]]}, "array of numbers"),
    "all zero": ({"weights": NONE}, "0 on all pixels"),
    "zero where known": ({"weights": NONE + np.eye(24, 30), "known": ~np.eye(24, 30, dtype=bool)}, "0 on all"),
    "mask's shape": ({"known": np.ones((3, 4), bool)}, "is 4x3 pixels and the picture 30x24"),
    "mask of numbers": ({"known": np.ones((24, 30))}, "boolean"),
    "nothing known": ({"known": np.zeros((24, 30), bool)}, "hides all pixels"),
    "two masks": ({"known": np.ones((24, 30), bool), "train_on": "every-second"}, "train_on"),
    "tiles to a PSNR": ({"weights": NONE + 1, "tiles": 8, "target_psnr": 30}, "target_psnr counts all"),
    "tiles, all zero": ({"weights": NONE, "tiles": 8}, "0 on all pixels"),
}


@pytest.mark.parametrize(("options", "told"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("function", [coordfit.fit, coordfit.compare, coordfit.sweep])
def test_what_cannot_be_used_is_said_in_one_line(picture, function, options, told):
    with pytest.raises(ConfigError, match=told) as error:
        function(picture, device="numpy", steps=1, **options)
    assert "\n" not in str(error.value)
