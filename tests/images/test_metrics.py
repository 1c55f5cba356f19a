"""PSNR, SSIM and baselines against their definitions and against scikit-image."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from coordfit.images.metrics import bits_per_pixel, interpolate_every_second, psnr, psnr_from_mse, ssim

SIZES = st.integers(1, 40)


def random_picture(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).random((height, width, channels))


def noisy(picture, amount, seed=1):
    noise = np.random.default_rng(seed).normal(0, amount, picture.shape)
    return np.clip(picture + noise, 0, 1)


def as_float(pixels):
    return np.atleast_3d(pixels) / 255.0


# PSNR


def test_psnr_from_mse_of_known_values():
    assert psnr_from_mse(1.0) == 0.0
    assert psnr_from_mse(1e-4) == pytest.approx(40.0)
    assert psnr_from_mse(0.0) == math.inf
    assert math.isnan(psnr_from_mse(math.nan))
    with pytest.raises(ValueError, match="negative"):
        psnr_from_mse(-1e-9)


def test_psnr_has_no_factor_two():
    target = np.full((4, 5, 3), 0.5)
    assert psnr(target + 0.1, target) == pytest.approx(20.0)


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 300, 3), (400, 61, 4)])
def test_psnr_equals_scikit_image(shape):
    target = random_picture(*shape)
    prediction = noisy(target, 0.1)
    expected = peak_signal_noise_ratio(target, prediction, data_range=1.0)
    assert psnr(prediction, target) == pytest.approx(expected, abs=1e-9)


def test_psnr_clips_the_prediction():
    target = np.array([0.0, 1.0, 0.5]).reshape(1, 3, 1)
    assert psnr(np.array([-3.0, math.inf, 0.5]).reshape(1, 3, 1), target) == math.inf


def test_psnr_of_equal_pictures_is_infinite_also_across_widths():
    target = np.linspace(0, 1, 2 * 3 * 4).round(1).reshape(2, 3, 4)
    assert psnr(target, target) == math.inf
    half = target.astype(np.float16)
    assert psnr(half, half.astype(np.float32)) == math.inf


def test_psnr_of_single_precision_sums_in_double():
    target = np.zeros((2000, 1000, 1), np.float32)
    assert psnr(target + np.float32(1e-3), target) == pytest.approx(60.0, abs=1e-6)


def test_psnr_counts_only_the_mask():
    target = random_picture(90, 1000, 2)
    prediction = noisy(target, 0.2)
    where = np.random.default_rng(2).random((90, 1000)) < 0.3
    expected = -10 * math.log10(np.mean((prediction[where] - target[where]) ** 2))
    assert psnr(prediction, target, where=where) == pytest.approx(expected, abs=1e-9)
    prediction[where] = target[where]
    prediction[~where] = math.nan
    assert psnr(prediction, target, where=where) == math.inf
    assert math.isnan(psnr(prediction, target))


def test_psnr_without_a_counted_pixel_is_none():
    target = random_picture(3, 4)
    assert psnr(target, target, where=np.zeros((3, 4), bool)) is None
    assert psnr(target[:0], target[:0]) is None
    assert psnr(target[:, :0], target[:, :0]) is None


@pytest.mark.parametrize(
    ("prediction", "target", "where"),
    [
        (np.zeros((4, 4, 1)), np.zeros((4, 4, 3)), None),
        (np.zeros((1, 4, 3)), np.zeros((4, 4, 3)), None),
        (np.zeros((3, 4, 3)), np.zeros((4, 3, 3)), None),
        (np.zeros(4), np.zeros(4), None),
        (np.zeros((4, 3)), np.zeros((4, 4, 3)), None),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3)), None),
        (np.zeros((4, 4, 3)), np.zeros((4, 4, 3), np.uint8), None),
        (np.zeros((4, 4, 3)), np.zeros((4, 4, 3)), np.ones((4, 1), bool)),
        (np.zeros((4, 4, 3)), np.zeros((4, 4, 3)), np.ones((4, 4, 3), bool)),
        (np.zeros((4, 4, 3)), np.zeros((4, 4, 3)), np.ones((4, 4), int)),
    ],
)
def test_psnr_refuses_what_it_would_have_to_guess(prediction, target, where):
    with pytest.raises(ValueError, match=r"expected|has shape"):
        psnr(prediction, target, where=where)


def test_a_grey_picture_may_have_no_axis_of_channels():
    prediction, target = np.random.default_rng(2).random((2, 20, 16))
    assert psnr(prediction, target) == psnr(prediction[..., None], target[..., None])
    assert ssim(prediction, target[..., None]) == ssim(prediction[..., None], target[..., None])


def test_scores_need_little_memory_and_change_no_argument():
    target = random_picture(1500, 1000, 3)
    prediction = target + 0.7
    kept = prediction.copy()
    tracemalloc.start()
    psnr(prediction, target)
    psnr_peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    ssim(prediction[:300], target[:300])
    ssim_peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert psnr_peak < 3e6 < target.nbytes / 10
    assert ssim_peak < 8e6
    np.testing.assert_array_equal(prediction, kept)


# SSIM


def oracle_ssim(prediction, target):
    return structural_similarity(
        prediction,
        target,
        gaussian_weights=True,
        use_sample_covariance=False,
        data_range=1.0,
        channel_axis=-1,
    )


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "camera", "coffee"])
def test_ssim_equals_scikit_image_on_real_pictures(name):
    target = as_float(getattr(data, name)())[:, :260]
    prediction = noisy(target, 0.08)
    assert ssim(prediction, target) == pytest.approx(oracle_ssim(prediction, target), abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(11, 90), st.integers(11, 90), st.integers(1, 4), st.floats(0, 1), st.integers(0, 99))
def test_ssim_equals_scikit_image_on_random_pictures(height, width, channels, amount, seed):
    target = random_picture(height, width, channels, seed)
    prediction = noisy(target, amount, seed + 1)
    assert ssim(prediction, target) == pytest.approx(oracle_ssim(prediction, target), abs=1e-6)


@pytest.mark.parametrize("shape", [(11, 4000, 1), (4000, 11, 1), (1200, 60, 2)])
def test_ssim_is_the_same_over_several_blocks(shape):
    target = random_picture(*shape)
    prediction = noisy(target, 0.1)
    assert ssim(prediction, target) == pytest.approx(oracle_ssim(prediction, target), abs=1e-9)


def test_ssim_of_equal_pictures_is_one_and_clips():
    target = as_float(data.camera())[:64, :64].round()
    assert ssim(target, target) == pytest.approx(1.0, abs=1e-12)
    assert ssim(3 * target - 1, target) == pytest.approx(1.0, abs=1e-12)
    assert ssim(1 - target, target) < 0.5


def test_ssim_needs_the_whole_window():
    assert ssim(random_picture(11, 11), random_picture(11, 11)) == pytest.approx(1.0)
    for shape in [(10, 50, 3), (50, 10, 3), (0, 50, 3), (50, 50, 0)]:
        assert ssim(np.zeros(shape), np.zeros(shape)) is None
    with pytest.raises(ValueError, match="has shape"):
        ssim(np.zeros((20, 20, 1)), np.zeros((20, 20, 3)))


def test_ssim_of_single_precision_is_computed_in_double():
    target = np.full((20, 20, 1), 0.9, np.float32)
    assert ssim(target, target) == pytest.approx(1.0, abs=1e-12)


# The baselines


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@settings(max_examples=40, deadline=None)
@given(height=SIZES, width=SIZES, channels=st.integers(1, 4))
def test_interpolation_returns_the_training_pixels(method, height, width, channels):
    pixels = random_picture(height, width, channels).astype(np.float32)
    result = interpolate_every_second(pixels, method)
    assert result.shape == pixels.shape
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result[::2, ::2], pixels[::2, ::2])


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_interpolation_sees_the_training_pixels_only(method):
    pixels = random_picture(9, 12).astype(np.float32)
    blind = np.full_like(pixels, math.nan)
    blind[::2, ::2] = pixels[::2, ::2]
    np.testing.assert_array_equal(
        interpolate_every_second(blind, method), interpolate_every_second(pixels, method)
    )


@pytest.mark.parametrize(("method", "margin"), [("bilinear", 0), ("bicubic", 3)])
@pytest.mark.parametrize("size", [(20, 31), (21, 30)])
def test_linear_ramps_are_reproduced(method, margin, size):
    y, x = np.mgrid[: size[0], : size[1]]
    pixels = (0.1 + 0.02 * x + 0.01 * y)[..., None]
    inside = np.s_[margin : (size[0] - 1) // 2 * 2 + 1 - margin, margin : (size[1] - 1) // 2 * 2 + 1 - margin]
    result = interpolate_every_second(pixels, method)
    np.testing.assert_allclose(result[inside], pixels[inside], atol=1e-6)


def test_quadratics_are_reproduced_by_bicubic_alone():
    y, x = np.mgrid[:24, :26] / 26.0
    pixels = (0.5 * x * x - 0.7 * x * y + 0.3 * y * y)[..., None]
    inside = np.s_[3:-4, 3:-4]
    bicubic = interpolate_every_second(pixels, "bicubic")
    bilinear = interpolate_every_second(pixels, "bilinear")
    np.testing.assert_allclose(bicubic[inside], pixels[inside], atol=1e-6)
    assert np.abs(bilinear[inside] - pixels[inside]).max() > 1e-4


def test_the_midpoint_weights_are_those_of_keys():
    pixels = np.zeros((1, 13, 1))
    pixels[0, 6] = 1.0
    bicubic = interpolate_every_second(pixels, "bicubic")[0, :, 0]
    expected = np.array([0, 0, 0, -1, 0, 9, 16, 9, 0, -1, 0, 0, 0]) / 16  # a = -1/2
    np.testing.assert_allclose(bicubic, expected, atol=1e-7)


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_edges_replicate(method):
    column = np.array([0.2, 9.0, 0.8, 9.0]).reshape(4, 1, 1)  # row 3 lies past the last training row
    for pixels in (column, column.transpose(1, 0, 2)):
        result = interpolate_every_second(pixels, method).ravel()
        np.testing.assert_allclose(result[[0, 2]], [0.2, 0.8], atol=1e-7)
        past_edge = 0.8 if method == "bilinear" else 0.8 + (0.8 - 0.2) / 16
        assert result[3] == pytest.approx(past_edge, abs=1e-6)
    constant = interpolate_every_second(np.full((5, 6, 2), 0.3), method)
    np.testing.assert_allclose(constant, 0.3, atol=1e-6)


def test_the_baseline_is_a_sensible_one():
    picture = as_float(data.astronaut())
    bilinear = psnr(interpolate_every_second(picture, "bilinear").astype(float), picture)
    bicubic = psnr(interpolate_every_second(picture, "bicubic").astype(float), picture)
    nearest = psnr(picture[::2, ::2].repeat(2, 0).repeat(2, 1), picture)
    assert nearest + 3 < bilinear < bicubic


def test_interpolation_refuses_nonsense():
    with pytest.raises(ValueError, match="bilinear, bicubic"):
        interpolate_every_second(np.zeros((4, 4, 3)), "nearest")
    for shape in [(4, 4), (0, 4, 3)]:
        with pytest.raises(ValueError, match="non-empty"):
            interpolate_every_second(np.zeros(shape), "bilinear")


def test_bits_per_pixel():
    assert bits_per_pixel(32, 128) == 2.0
    assert bits_per_pixel(0, 1) == 0.0
    for arguments in [(-1, 4), (10, 0)]:
        with pytest.raises(ValueError, match=r"pixels|negative"):
            bits_per_pixel(*arguments)
