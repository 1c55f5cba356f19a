"""Arrays are filled by kriging in any number of axes, in their own units."""

import numpy as np
import pytest

import coordfit
import coordfit.kriging.filling as filling
from coordfit.errors import SignalError
from coordfit.images.interpolation import nearest_fill

SHAPES = {1: (300,), 2: (40, 44), 3: (22, 24, 20), 4: (9, 10, 9, 11)}


def wave(dimensions):
    """A smooth function with detail, between 300 and 700."""
    places = np.indices(SHAPES[dimensions])
    slopes = np.array([0.35, 0.5, 0.41, 0.29])[:dimensions]
    return 500.0 + 200.0 * np.sin(np.tensordot(slopes, places, 1)) * np.cos(0.2 * places[-1])


@pytest.mark.parametrize("dimensions", SHAPES)
def test_half_of_an_array_is_filled_and_the_other_half_stays(dimensions):
    values = wave(dimensions)
    known = np.random.default_rng(0).random(values.shape) < 0.5
    found = coordfit.fill_array(np.where(known, values, np.nan), "tzyx"[-dimensions:])
    np.testing.assert_array_equal(found.values[known], values[known])
    assert (found.deviation[known] == 0).all()
    assert (found.deviation[~known] > 0).all()
    error = np.sqrt(np.mean(np.square(found.values - values)[~known]))
    nearest = nearest_fill(values[..., None], known)[..., 0]
    share = 0.6 if dimensions == 1 else 0.3
    assert error < share * np.sqrt(np.mean(np.square(nearest - values)[~known]))
    by_mask = coordfit.fill_array(values, "tzyx"[-dimensions:], known=known)
    np.testing.assert_allclose(by_mask.values, found.values, rtol=0, atol=1e-9)


def test_a_volume_is_filled_better_than_by_biharmonic_equations():
    inpaint = pytest.importorskip("skimage.restoration").inpaint_biharmonic
    values = wave(3)
    known = np.random.default_rng(1).random(values.shape) < 0.5
    found = coordfit.fill_array(values, known=known).values
    smooth = inpaint(np.where(known, values, 0.0), ~known)
    ours, theirs = (np.mean(np.square(filled - values)[~known]) for filled in (found, smooth))
    assert ours < 0.8 * theirs


def test_slabs_are_the_whole(monkeypatch):
    values = wave(3)
    known = np.random.default_rng(2).random(values.shape) < 0.5
    whole = coordfit.fill_array(values, known=known)
    monkeypatch.setattr(filling, "_MOST_AT_ONCE", values.size // 2)
    shares = []
    slabs = coordfit.fill_array(values, known=known, callback=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    error, differs = (
        np.abs(a - b)[~known].mean() for a, b in ((whole.values, values), (slabs.values, whole.values))
    )
    assert differs < 0.3 * error
    assert coordfit.fill_array(values, known=known, callback=lambda share: share > 0.6) is None


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.float32])
def test_types_and_channels_stay_as_they_were(kind):
    values = np.stack([wave(2) / 4, 180 - wave(2) / 5]).astype(kind)
    known = np.random.default_rng(3).random(SHAPES[2]) < 0.5
    found = coordfit.fill_array(values, "cyx", known=known)
    assert found.values.dtype == kind
    assert found.values.shape == values.shape
    assert found.deviation.shape == SHAPES[2]
    np.testing.assert_array_equal(found.values[:, known], values[:, known])
    again = coordfit.fill_array(np.moveaxis(values, 0, -1), "yx", known=known)
    np.testing.assert_array_equal(np.moveaxis(again.values, -1, 0), found.values)


def test_an_array_without_unknown_values_is_itself():
    np.testing.assert_array_equal(coordfit.fill_array(wave(2)).values, wave(2))
    with pytest.raises(SignalError, match="no value is known"):
        coordfit.fill_array(np.full(4, np.nan))
