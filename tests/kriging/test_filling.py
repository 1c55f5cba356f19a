"""Kriging gives the mean of the Gaussian process, and hidden pixels better than smooth surfaces do."""

import numpy as np
import pytest

from coordfit.images import bundled_picture
from coordfit.images.interpolation import biharmonic_fill
from coordfit.images.masks import hide
from coordfit.kriging import fill_hidden
from coordfit.kriging.filling import Filling, _fill_from_half_the_size, _Process
from coordfit.kriging.neighbours import Neighbourhood
from coordfit.kriging.steering import factors, smoothed, structure


def mse(a, b):
    return float(np.mean((np.asarray(a, np.float64) - b) ** 2))


@pytest.fixture(scope="module")
def half_hidden():
    masked = hide(bundled_picture(), missing=0.5, seed=0)
    return masked.picture.colours[16:112, 16:112], masked.known[16:112, 16:112]


def patch_distances(colours, points):
    """Mean squares over 5 x 5 pixels of how patches around points differ, a little smoothed."""
    padded = np.pad(smoothed(colours, 0.45, 2), ((2, 2), (2, 2), (0, 0)), mode="edge")
    patches = np.stack([padded[y : y + 5, x : x + 5].ravel() for y, x in points.astype(int)])
    return np.square(patches[:, None] - patches[None]).sum(axis=-1) / 25


@pytest.mark.parametrize("patched", [False, True], ids=["distances", "patches too"])
@pytest.mark.parametrize("spacing", [1, 3])
def test_a_pixel_is_the_mean_of_the_process_given_its_neighbours(spacing, patched):
    """The system of ordinary kriging with its multiplier, in float64 and in pixels."""
    rng = np.random.default_rng(0)
    known = np.zeros((5 * spacing, 6 * spacing), np.bool_)
    known[::spacing, ::spacing] = True
    y, x = 2 * spacing, 3 * spacing
    known[y, x] = False
    colours = rng.random((*known.shape, 3)).astype(np.float32)
    process = _Process(colours, Neighbourhood(known, 29, 8 * spacing), 29, steered=False, patched=patched)
    pixels, found, deviation = process(np.array([y * known.shape[1] + x]))
    points = np.argwhere(known).astype(float)
    everywhere = np.concatenate([points, [[y, x]]])
    distance = np.linalg.norm(everywhere[:, None] - everywhere[None], axis=-1)
    density = 29 / (2 * np.pi * np.mean(distance[-1, :-1] ** 2))
    assert (density > 0.5) == (spacing == 1)
    covariance = np.exp(-((distance / 30.0) ** (0.5 + 0.7 * min(2 * density, 1) ** 1.5)))
    if patched:
        covariance *= np.exp(-patch_distances(colours, everywhere) / (2 * 0.35**2))
    system = np.ones((30, 30))
    system[:29, :29] = covariance[:29, :29] + 1e-4 * np.eye(29)
    system[29, 29] = 0.0
    weights = np.linalg.solve(system, np.append(covariance[:29, 29], 1.0))[:29]
    assert pixels.tolist() == [y * known.shape[1] + x]
    np.testing.assert_allclose(found[0], np.clip(weights @ colours[known], 0, 1), atol=2e-4)
    # The sill is the mean square of whitened residuals, the error what the weights leave of it.
    inverse = np.linalg.inv(system[:29, :29])
    mean = inverse.sum(axis=0) @ colours[known] / inverse.sum()
    rest = colours[known] - mean
    sill = np.einsum("ic,ij,jc->", rest, inverse, rest) / (28 * 3)
    left = 1.0001 - 2 * weights @ covariance[:29, 29] + weights @ system[:29, :29] @ weights
    assert deviation[0] == pytest.approx(np.sqrt(sill * left), rel=1e-3)


def test_distances_are_long_across_an_edge_and_short_along_it():
    for axes in (1, 2, 3):
        edge = np.zeros((24,) * axes + (1,), np.float32)
        edge[..., 12:, :] = 1.0

        def metric(values, axes=axes):
            [L] = factors(structure(values)[(12,) * axes][None], axes)
            return L @ L.T

        found = metric(edge)
        along = np.diag(found)[:-1]
        assert np.linalg.det(found) == pytest.approx(1.0, rel=1e-4)
        assert axes == 1 or found[-1, -1] > 30 * along.max()
        np.testing.assert_allclose(found, np.diag(np.diag(found)), atol=1e-4)
        np.testing.assert_allclose(metric(np.full_like(edge, 0.5)), np.eye(axes), atol=1e-3)


def test_hidden_pixels_are_nearer_than_by_biharmonic_equations(half_hidden):
    pytest.importorskip("skimage")
    colours, known = half_hidden
    hidden = ~known
    found = fill_hidden(colours, known).colours
    smooth = biharmonic_fill(np.where(known[..., None], colours, 0), known)
    assert mse(found[hidden], colours[hidden]) < 0.8 * mse(np.clip(smooth, 0, 1)[hidden], colours[hidden])


def test_the_deviation_tells_how_far_pixels_are_off(half_hidden):
    colours, known = half_hidden
    found, deviation = fill_hidden(colours, known)
    error = np.sqrt(np.mean((found - colours) ** 2, axis=-1))[~known]
    off = error / deviation[~known]
    assert 0.5 < np.mean(off < 1) < 0.85
    assert np.mean(off < 2) > 0.85
    assert (deviation[known] == 0).all()


def test_known_pixels_stay_and_hidden_ones_are_not_read(half_hidden):
    colours, known = half_hidden
    unreadable = np.where(known[..., None], colours, np.nan)
    one, two = fill_hidden(unreadable, known), fill_hidden(unreadable, known, threads=2)
    np.testing.assert_array_equal(one.colours[known], colours[known])
    np.testing.assert_array_equal(one.colours, fill_hidden(colours, known).colours)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def test_filled_pixels_are_colours_beside_an_edge():
    y, x = np.mgrid[:48, :48]
    steps = np.repeat(((y // 6 + x // 6) % 2)[..., None], 3, axis=-1).astype(np.float32)
    known = np.random.default_rng(0).random((48, 48)) < 0.5
    found = fill_hidden(steps, known).colours
    assert found.min() == 0.0
    assert found.max() == 1.0


def test_a_slope_at_half_the_size_lies_where_it_was():
    """The middles of cells of two samples lie between these."""
    y, x = np.mgrid[:24, :30].astype(np.float32)
    slope = np.stack([y, x, y + x], axis=-1) / 64
    everywhere, filling = np.ones((24, 30), bool), Filling(slope.copy(), np.zeros((24, 30), np.float32))
    _fill_from_half_the_size(filling, everywhere, everywhere, 1, lambda done: None)
    np.testing.assert_allclose(filling.colours[1:-1, 1:-1], slope[1:-1, 1:-1], atol=1e-6)


@pytest.mark.parametrize("shape", [(64, 64), (33, 57)])
@pytest.mark.parametrize("shown", ["all but a block", "few pixels", "one pixel"])
def test_holes_of_any_size_are_filled(shape, shown):
    known = np.zeros(shape, np.bool_)
    if shown == "all but a block":
        known[:] = True
        known[3:30, 5:31] = False
    else:
        known.reshape(-1)[:: 97 if shown == "few pixels" else 10**6] = True
    y, x = np.mgrid[: shape[0], : shape[1]]
    colours = np.stack([y / 64, x / 64, np.full(shape, 0.25)], axis=-1)
    found, deviation = fill_hidden(colours, known)
    assert np.isfinite(deviation).all()
    np.testing.assert_allclose(found[..., 2], 0.25, atol=2e-3)
    if shown == "all but a block":  # a slope goes on
        np.testing.assert_allclose(found, colours, atol=0.1)
