"""Enlarging a level: the weights, and products in blocks against whole matrices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import whole_matrix
from PIL import Image

from coordfit.codec.upsampling import WEIGHT_BITS, Upsampling, strips_of

lengths, levels = st.integers(1, 70), st.integers(0, 6)


@given(lengths, levels)
def test_rows_have_four_weights_in_fixed_point_that_sum_to_one(length, level):
    matrix = whole_matrix(length, 1 << level)
    assert (matrix.sum(1) == 1).all()
    assert ((matrix != 0).sum(1) <= 4).all()
    assert (matrix * 2**WEIGHT_BITS % 1 == 0).all()


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_inside_a_picture_it_is_pillows_bicubic(scale):
    cells = np.random.default_rng(0).random((12, 12), np.float32)
    expected = np.asarray(Image.fromarray(cells).resize((12 * scale, 12 * scale), Image.Resampling.BICUBIC))
    matrix = whole_matrix(12 * scale, scale)
    inside = slice(2 * scale, -2 * scale)
    found = (matrix @ cells @ matrix.T)[inside, inside]
    assert abs(found - expected[inside, inside]).max() < 1e-3


@given(lengths, lengths, levels, st.integers(1, 9))
def test_strips_are_the_whole_product_and_gradients_its_transpose(height, width, level, rows):
    rng = np.random.default_rng(0)
    a_y, a_x = whole_matrix(height, 1 << level), whole_matrix(width, 1 << level)
    latents, d_out = rng.normal(size=(2, a_y.shape[1], a_x.shape[1])), rng.normal(size=(2, height, width))
    strips = strips_of(height, rows)
    up = Upsampling((height, width), level, strips, "float64")
    wide, found = up.widen(latents), np.empty((2, height, width))
    d_wide, d_latents = np.zeros_like(wide), np.ones_like(latents)
    for i, strip in enumerate(strips):
        up.strip(wide, i, found[:, strip])
        up.add_strip_gradient(d_out[:, strip], i, d_wide)
    up.add_gradient(d_wide, d_latents)
    np.testing.assert_allclose(found, a_y @ latents @ a_x.T, atol=1e-12)
    np.testing.assert_allclose(d_latents, 1 + a_y.T @ d_out @ a_x, atol=1e-12)
