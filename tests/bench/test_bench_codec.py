"""The scoreboard of the codec: interpolated bits, and a row for a picture."""

import math

import numpy as np
import pytest
from PIL import Image

from bench.codec import QUALITIES, bits_at, rows_of


def test_bits_between_two_qualities_are_interpolated_as_logarithms():
    points = [(30.0, 1.0), (34.0, 4.0)]
    assert bits_at(points, 32.0) == pytest.approx(2.0)
    assert math.isnan(bits_at(points, 34.1))


def test_a_row_has_the_bits_of_all_codecs(tmp_path):
    y, x = np.mgrid[:48, :64]
    pixels = np.stack([x * 3, y * 4, (x + y) * 2], 2).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "ramp.png")
    (row,) = rows_of(str(tmp_path / "ramp.png"), [1e-4], {"steps": 3})
    assert row["steps"] == 3
    assert row["psnr"] > 25
    assert row["bits"] > 0
    assert set(QUALITIES) >= set(row) - {"picture", "lambda", "psnr", "bits", "steps", "encode", "decode"}
