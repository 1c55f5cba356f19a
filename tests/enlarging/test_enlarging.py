"""Enlarging: means stay, smooth things stay smooth, edges are sharper than Lanczos leaves them."""

import numpy as np
import pytest
from PIL import Image
from support.cases import slow

import coordfit
from coordfit.enlarging import enlarged, enlarged_twice
from coordfit.enlarging.network import EnlargingNetwork, inputs, symmetries
from coordfit.errors import ConfigError
from coordfit.images import bundled_picture
from coordfit.images.resizing import resize_channels


def halved(colours):
    height, width, channels = colours.shape
    return colours.reshape(height // 2, 2, width // 2, 2, channels).mean((1, 3))


def edge(size, degrees, blur=1.0):
    """A blurred edge through the middle, sampled finely and reduced, so that pixels are means."""
    y, x = (np.mgrid[: 8 * size, : 8 * size] + 0.5) / 8 - size / 2
    distance = np.cos(np.radians(degrees)) * x + np.sin(np.radians(degrees)) * y
    fine = 1 / (1 + np.exp(-4 * distance / blur))
    return fine.reshape(size, 8, size, 8).mean((1, 3)).astype(np.float32)[..., None]


def test_the_mean_of_four_quarters_is_the_pixel():
    colours = bundled_picture(32).pixels
    np.testing.assert_allclose(halved(enlarged_twice(colours)), colours, atol=1e-6)


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_a_constant_stays_one(level):
    found = enlarged(np.full((5, 7, 3), level, np.float32), 10, 14)
    np.testing.assert_allclose(found, level, atol=1e-6)


def test_a_ramp_goes_on_inside():
    y, x = np.mgrid[:40, :40].astype(np.float32) + 0.5
    ramp = ((2 * x + y) / 130)[..., None]
    found = enlarged_twice(halved(ramp))
    assert abs(found - ramp)[8:-8, 8:-8].max() < 0.5 / 255


@pytest.mark.parametrize("degrees", [0, 12, 30, 45, 77, 120])
@pytest.mark.parametrize("contrast", [0.1, 0.9])
def test_an_edge_is_nearer_to_the_truth_than_by_lanczos(degrees, contrast):
    truth = 0.05 + contrast * edge(64, degrees)
    lanczos = resize_channels(halved(truth), (64, 64), Image.Resampling.LANCZOS)
    errors = [
        np.square(found - truth)[8:-8, 8:-8].mean() for found in (enlarged(halved(truth), 64, 64), lanczos)
    ]
    assert errors[0] < 0.6 * errors[1]


def test_a_photograph_is_nearer_to_the_truth_than_by_lanczos_with_back_projection():
    """Of another crop and size than those that the weights were trained on."""
    truth = coordfit.load_picture(bundled_picture(), size=100).pixels
    small = halved(truth)
    zero_line = resize_channels(small, (100, 100), Image.Resampling.LANCZOS)
    for _ in range(2):
        zero_line += resize_channels(small - halved(zero_line), (100, 100), Image.Resampling.BICUBIC)
    assert coordfit.psnr(enlarged(small, 100, 100), truth) > coordfit.psnr(zero_line, truth) + 0.2


@pytest.mark.parametrize("scale", [2.5, *slow(1.5, 3)])
def test_between_doublings_it_is_ahead_of_lanczos_with_back_projection_too(scale):
    side = 120
    truth = coordfit.load_picture(bundled_picture(), size=side).pixels
    small = resize_channels(truth, (round(side / scale),) * 2, Image.Resampling.BOX)
    zero_line = resize_channels(small, (side, side), Image.Resampling.LANCZOS)
    for _ in range(2):
        means = resize_channels(zero_line, small.shape[:2], Image.Resampling.BOX)
        zero_line += resize_channels(small - means, (side, side), Image.Resampling.BICUBIC)
    assert coordfit.psnr(enlarged(small, side, side), truth) > coordfit.psnr(zero_line, truth) + 0.2


def test_a_side_that_hardly_grows_bounds_the_work_on_the_other():
    assert coordfit.enlarge(np.zeros((2, 1000), np.uint8), size=(1000, 6000)).levels.shape == (6000, 1000, 1)


@pytest.mark.parametrize("turn", range(8))
def test_a_turned_picture_gives_the_turned_result(turn):
    def turned(colours):
        return np.rot90(colours, turn % 4)[:: 1 if turn < 4 else -1]

    colours = bundled_picture(32).pixels[:20, :28]
    expected = turned(enlarged_twice(colours))
    np.testing.assert_allclose(enlarged_twice(np.ascontiguousarray(turned(colours))), expected, atol=1e-5)


def test_each_symmetry_turns_a_window_and_its_quarters_alike():
    network = EnlargingNetwork.shipped()
    window = np.random.default_rng(0).random((7, 7), np.float32)
    x, *_ = inputs(window, 1)
    found = []
    for pixels, quarters in symmetries():
        back = np.empty((4, 1), np.float32)
        back[quarters] = network.forward(x[pixels])[0]
        found.append(back.ravel())
    assert len({tuple(pixels) for pixels, _ in symmetries()}) == 8
    assert np.ptp(found, axis=0).max() < 1.0  # one thing, seen in eight ways


def test_the_result_does_not_depend_on_threads_and_blocks(monkeypatch):
    colours = bundled_picture(32).pixels
    whole = enlarged(colours, 70, 90)
    monkeypatch.setattr("coordfit.enlarging.enlarging._AT_ONCE", 100)
    np.testing.assert_allclose(enlarged(colours, 70, 90, threads=3), whole, atol=1e-6)


def test_a_callback_ends_the_work():
    seen = []
    assert enlarged(bundled_picture(32).pixels, 128, 128, callback=seen.append) is not None
    assert seen == sorted(seen)
    assert seen[-1] == 1
    assert enlarged(bundled_picture(32).pixels, 128, 128, callback=lambda _: True) is None


# -- coordfit.enlarge ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "size"),
    [({}, (64, 64)), ({"scale": 3}, (96, 96)), ({"size": 40}, (40, 40)), ({"size": (50, 33)}, (50, 33))],
)
def test_any_larger_size_may_be_asked_for(options, size):
    found = coordfit.enlarge(bundled_picture(32), **options)
    assert (found.width, found.height) == size
    reduced = coordfit.load_picture(found, size=(32, 32)).pixels
    assert coordfit.psnr(reduced, bundled_picture(32).pixels) > 28


def test_a_callback_of_enlarge_is_only_told():
    assert coordfit.enlarge(bundled_picture(32), callback=lambda _: True).width == 64


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_kind_of_a_picture_is_kept(channels, dtype):
    levels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (9, 8, channels), dtype)
    found = coordfit.enlarge(levels)
    assert (found.levels.shape, found.levels.dtype) == ((18, 16, channels), dtype)


def test_transparent_pixels_lend_no_colour():
    levels = np.zeros((16, 16, 4), np.uint8)
    levels[:, 8:] = (200, 100, 50, 255)
    found = coordfit.enlarge(levels).levels
    shown = found[found[..., 3] > 100]
    assert abs(shown[:, :3].astype(int) - (200, 100, 50)).max() <= 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scale": 0.5}, "16x16 is smaller than the picture, 32x32"),
        ({"size": 31}, "is smaller than"),
        ({"scale": -1}, "scale must be a number above 0"),
        ({"scale": "2"}, "scale must be a number above 0, not '2'"),
        ({"scale": True}, "scale must be a number above 0"),
        ({"scale": 2, "size": 64}, "scale and size cannot both be given"),
        ({"scale": 100, "max_pixels": 10_000}, "10240000 pixels are more than 10000"),
    ],
)
def test_an_impossible_size_is_named(options, said):
    with pytest.raises(ConfigError, match=said):
        coordfit.enlarge(bundled_picture(32), **options)
