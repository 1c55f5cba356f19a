"""Grids of samples: windows that begin and end between them."""

import numpy as np
import pytest

from coordfit.signals.grid import SampleGrid

OWN = SampleGrid.of(12, 20)


def test_a_window_of_whole_samples_is_a_crop():
    crop = OWN.cropped(5, 3, 8, 6)  # left, top, width, height
    window = OWN.windowed((3, 5), (6, 8), (6, 8))
    np.testing.assert_array_equal(np.concatenate(window.positions()), np.concatenate(crop.positions()))
    assert window.window == crop.window


def test_a_window_at_another_size_is_a_crop_of_the_larger_rendering():
    crop = OWN.resized(48, 80).cropped(20, 12, 32, 24)
    window = OWN.windowed((3, 5), (6, 8), (24, 32))
    np.testing.assert_allclose(np.concatenate(window.positions()), np.concatenate(crop.positions()), rtol=1e-15)


@pytest.mark.parametrize("sides", [(6.5, 8.25), (0.5, 0.25), (1e-6, 1e-7)])
def test_a_window_between_samples_is_divided_evenly(sides):
    window = OWN.windowed((3.3, 5.1), sides, (4, 5))
    for along, corner, side, count in zip(window.positions(), (3.3, 5.1), sides, (4, 5), strict=True):
        wanted = (corner + (np.arange(count) + 0.5) * side / count) / 20
        np.testing.assert_allclose(along, wanted, rtol=1e-12)


def test_windows_and_crops_can_follow_each_other():
    window = OWN.windowed((2.0, 4.0), (6.0, 8.0), (12, 16)).cropped(4, 2, 8, 6)
    wanted = OWN.windowed((3.0, 6.0), (3.0, 4.0), (6, 8))
    for along, other in zip(window.positions(), wanted.positions(), strict=True):
        np.testing.assert_allclose(along, other, rtol=1e-12)


def test_the_means_of_a_finer_grid_are_the_grid():
    grid = OWN.windowed((3.3, 5.1), (4.7, 9.9), (6, 8))
    for fine, own, factor in zip(grid.refined(3, 2).positions(), grid.positions(), (3, 2), strict=True):
        np.testing.assert_allclose(fine.reshape(-1, factor).mean(1), own, rtol=1e-12)
