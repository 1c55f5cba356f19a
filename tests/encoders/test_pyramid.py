"""The pyramid: its cells, its first values, and what becomes of hidden pixels."""

import numpy as np
import pytest
from coordfit.backends.numpy_backend.backend import NumpyBackend

import coordfit
from coordfit.config import make_config
from coordfit.encoders.pyramid import Pyramid
from coordfit.training.job import Job
from coordfit.training.trainer import Trainer

SIZE = (7, 11)
SMALL = {"encoding": "pyramid", "steps": 6, "evaluate_every": 3, "hidden_size": 12, "batch_size": 50}


@pytest.fixture(scope="module")
def cat():
    return coordfit.load_picture(coordfit.bundled_picture(32), size=(13, 9))


def colours_of(first, encoding, channels):
    """The sum of the levels at the centres of all pixels, by an interpolation of their own coordinates."""
    encoder = encoding.encoder(NumpyBackend(threads=1), {}, "float64").with_parameters(first, {})
    height, width = encoding.size
    y, x = (np.arange(n) + 0.5 for n in (height, width))
    places = np.stack(np.broadcast_arrays(x, y[:, None]), axis=-1).reshape(-1, 2) / max(height, width)
    parts = np.split(np.asarray(encoder(places)), encoding.feature_groups, axis=-1)
    return sum(part[:, :channels] for part in parts).reshape(height, width, channels)


def test_cells_are_powers_of_two_with_one_two_and_three_features():
    nodes = Pyramid.of(make_config({"pyramid_levels": 4}), SIZE).nodes()
    assert [level.shape for level in nodes] == [(1, 2, 3), (2, 3, 3), (4, 6, 2), (7, 11, 1)]
    assert [level.start * 11 for level in nodes] == pytest.approx([4.0, 2.0, 1.0, 0.5])
    assert [level.features for level in Pyramid(SIZE, 3, 2, 1.0, 0.0).nodes()] == [6, 4, 2]


def test_a_grey_picture_is_the_sum_of_the_first_levels():
    """The finest level has what the others lack, in features that are 1 for a quarter of the range."""
    pixels, known = np.random.default_rng(0).uniform(size=(*SIZE, 1)), np.ones(SIZE, bool)
    encoding = Pyramid.of(make_config(), SIZE)
    first = encoding.first_parameters(np.random.default_rng(0), pixels, known)
    found = colours_of(first, encoding, 1) / 4.0 + pixels.mean()
    np.testing.assert_allclose(found, pixels, rtol=0, atol=1e-13)


def test_first_values_know_nothing_of_hidden_pixels(cat):
    """Not even a NaN among them; and they agree with the known ones if cells are no finer than these."""
    known = np.zeros(SIZE, bool)
    known[::2, ::2] = True
    pixels = np.random.default_rng(0).uniform(size=(*SIZE, 3))
    encoding = Pyramid.of(make_config({"train_on": "every-second"}), SIZE)
    assert encoding.spacing == 2.0
    firsts = []
    for hidden in (np.nan, 0.0):
        seen = np.where(known[..., None], pixels, hidden)
        firsts.append(encoding.first_parameters(np.random.default_rng(0), seen, known))
    for name, array in firsts[0].items():
        assert np.isfinite(array).all()
        np.testing.assert_array_equal(array, firsts[1][name])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_training_starts_from_the_picture_of_each_member(channels):
    rng = np.random.default_rng(channels)
    pictures = [coordfit.load_picture(rng.uniform(size=(9, 13, channels))) for _ in range(2)]
    jobs = [Job(picture, make_config(SMALL, {"dtype": "float64"})) for picture in pictures]
    trainer = Trainer(jobs, NumpyBackend(threads=1))
    encoding = Pyramid.of(jobs[0].config, (9, 13))
    for member, picture in zip(trainer.members, pictures, strict=True):
        flat = member.model.backend.to_numpy(member.model.mlp.parameters)
        found = member.model.mlp.layout.encoder_views(np, flat)
        known = np.ones((9, 13), bool)
        expected = encoding.first_parameters(np.random.default_rng(0), picture.pixels, known)
        for name, array in expected.items():
            np.testing.assert_allclose(found[name], array, rtol=0, atol=3e-4)  # drawn ones are that near to 0


def test_a_pyramid_follows_the_density_of_the_known_pixels(cat):
    result = coordfit.inpaint(cat, missing=0.75, config=make_config(SMALL), device="numpy")
    assert result.config.pyramid_spacing == result.metrics["spacing"] > 1.9


def test_a_network_starts_with_nothing_of_hidden_pixels(cat):
    known = np.random.default_rng(0).random((9, 13)) < 0.5
    config, starts = make_config(SMALL, {"output_start": "picture", "output_activation": "identity"}), []
    for hidden in (0.0, 1.0):
        pixels = np.where(known[..., None], cat.pixels, hidden).astype(np.float32)
        trainer = Trainer([Job(coordfit.load_picture(pixels), config, known)], NumpyBackend(threads=1))
        starts.append(trainer.model.mlp.parameters)
    np.testing.assert_array_equal(*starts)


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_network_starts_at_the_picture_that_its_pyramid_holds(channels, depth):
    """All of a smooth picture: its luminance at full size, its colours at half."""
    y, x = np.mgrid[:24, :32] / 32.0
    shifts = np.arange(channels) * 0.5
    pixels = 0.5 + 0.3 * np.sin(3.0 * x[..., None] + shifts) * np.cos(2.0 * y[..., None])
    options = {"output_start": "picture", "output_activation": "identity", "depth": depth, "steps": 0}
    result = coordfit.fit(pixels, make_config(SMALL, options), device="numpy")
    assert result.metrics["psnr"] > 40.0
    drawn = coordfit.fit(pixels, make_config(SMALL, options, {"output_start": "drawn"}), device="numpy")
    assert drawn.metrics["psnr"] < 25.0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"encoding": "grid"}, "output_start picture is for encoding pyramid, not grid"),
        ({"activation": "tanh"}, "needs activation relu and output_activation identity"),
        ({"output_activation": "sigmoid"}, "needs activation relu and output_activation identity"),
        ({"hidden_size": 5}, "needs hidden_size 6 or more"),
    ],
)
def test_what_cannot_start_at_the_picture_is_refused(cat, wrong, message):
    options = {"output_start": "picture", "output_activation": "identity"}
    with pytest.raises(coordfit.ConfigError, match=message):
        coordfit.fit(cat, make_config(SMALL, options, wrong), device="numpy")
