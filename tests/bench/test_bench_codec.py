"""The scoreboard of the codec: interpolated bits, and a row for a picture."""

import math
import sys

import numpy as np
import pytest
from PIL import Image

from bench import codec_settings
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


def test_each_setting_is_a_line_beside_the_defaults(tmp_path, monkeypatch, capsys):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 36, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    words = [
        str(tmp_path / "noise.png"),
        "--side",
        "32",
        "--steps",
        "3",
        "--set",
        "hidden=2",
        "--set",
        "latent_rate=0.0",
    ]
    monkeypatch.setattr(sys, "argv", ["bench", *words])
    codec_settings.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["defaults", "hidden=2", "latent_rate=0.0"]
    assert len({line.split()[1] for line in lines}) == 3
    monkeypatch.setattr(sys, "argv", ["bench", *words[:2], "64"])
    with pytest.raises(codec_settings.BadInputError, match="smaller than 64x64; take --side"):
        codec_settings.main()


def test_an_unknown_setting_is_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench", "x.png", "--set", "depth=3"])
    with pytest.raises(SystemExit, match="2"):
        codec_settings.main()
    assert "there is no setting 'depth'; known: channels," in capsys.readouterr().err
