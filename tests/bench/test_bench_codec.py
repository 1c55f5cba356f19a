"""The scoreboard of the codec: rows that are kept, means at equal PSNR, and the settings of the training."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from bench import codec, codec_settings
from bench.codec_scores import bits_at, tables
from bench.records import made
from coordfit.codec import Target, compress, decode


def test_bits_between_two_points_are_interpolated_as_logarithms_and_not_far_beyond_them():
    points = [(34.0, 4.0), (30.0, 1.0)]
    assert bits_at(points, 32.0) == pytest.approx(2.0)
    assert bits_at(points, 34.1) == pytest.approx(4 * 2**0.05)
    assert bits_at(points, 34.2) is None
    assert bits_at(points[:1], 34.0) is None


def row(picture, psnr, bits, jpeg, webp):
    figures = ("encode_processor", "encode_wall", "decode_processor", "decode_wall")
    others = {"JPEG 4:2:0": {"bits": jpeg}, "JPEG 4:4:4": {"bits": jpeg + 1}, "WebP": {"bits": webp}}
    return {
        "picture": picture,
        "budget": {"steps": 7},
        "psnr": psnr,
        "bits": bits,
        "others": others,
        "steps": 7,
        "macs_per_pixel": 9.0,
        "encode_peak_mib": 1.0,
        "decode_peak_mib": 2.0,
        **dict.fromkeys(figures, 3.0),
    }


def test_a_mean_is_over_pictures_at_equal_psnr_with_the_better_jpeg():
    rows = [row("a", 33.0, 1.0, 2.0, 1.1), row("a", 37.0, 4.0, 8.0, 4.4)]
    rows += [row("b", 33.9, 3.0, 4.0, 2.5), row("b", 36.1, 3.0, 4.0, 2.5)]
    lines = tables(rows)
    assert lines[0].startswith("7 steps a picture; medians: 7 steps, encoding 3.0 s of the processor")
    # At 34 dB picture a has 4^(1/4) = 1.414 and twice that; b has 3 and 4.
    assert "| 34 | 2 | 2.207 | 3.414 (-35 %, 2 of 2) |  | 2.028 (+9 %, 1 of 2) |  |" in lines
    assert not [line for line in lines if line.startswith(("| 38", "| 40"))]


@pytest.fixture
def ramp(tmp_path):
    y, x = np.mgrid[:48, :64]
    Image.fromarray(np.stack([x * 3, y * 4, (x + y) * 2], 2).astype(np.uint8)).save(tmp_path / "ramp.png")
    return tmp_path / "ramp.png"


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["bench.codec", *map(str, words)])
    made.cache_clear()  # as in a process of its own
    codec.main()


def test_a_run_goes_on_from_its_record_and_draws_it(ramp, monkeypatch, capsys):
    record, drawing = ramp.with_name("codec.json"), ramp.with_name("codec.svg")
    monkeypatch.setenv("COORDFIT_COMMIT", "abc")
    run(monkeypatch, ramp, "--lambdas", 1e-3, "--steps", 3, "--json", record)
    (first,) = json.loads(record.read_text())["rows"]
    of = ("picture", "digest", "point", "budget", "commit", "run")
    figures = {name: value for name, value in first.items() if name not in of}
    asked = []
    monkeypatch.setattr(
        codec, "measure", lambda *key: asked.append(key) or figures | {"psnr": first["psnr"] + 4}
    )
    run(monkeypatch, ramp, "--lambdas", 1e-3, 1e-4, "--steps", 3, "--json", record)
    assert [point for _, point, *_ in asked] == [{"lambda": 1e-4}]
    document = json.loads(record.read_text())
    assert [run["commit"] for run in document["runs"]] == ["abc", "abc"]
    assert document["rows"][0] == first
    monkeypatch.setenv("COORDFIT_COMMIT", "def")
    run(monkeypatch, ramp, "--lambdas", 1e-3, "--steps", 3, "--json", record)
    assert len(asked) == 2  # another commit's row is measured again, and replaced
    assert len(json.loads(record.read_text())["rows"]) == 2
    run(monkeypatch, "--show", "--with", record, "--plot", drawing)
    assert "3 steps a picture" in capsys.readouterr().out
    assert drawing.read_text().count("<svg") == 1


def test_a_row_has_what_the_bytes_come_to(ramp):
    found = codec.measure(str(ramp), {"lambda": 1e-4}, {"steps": 3}, 1)
    data, report = compress(codec.pixels_of(str(ramp)), Target(lmbda=1e-4), steps=3)
    assert found["bits"] == 8 * len(data) / (48 * 64)
    assert found["psnr"] == pytest.approx(report.psnr, abs=1e-4)
    assert found["steps"] == 3
    assert set(found["others"]) <= {"JPEG 4:2:0", "JPEG 4:4:4", "JPEG 2000", "WebP", "AVIF 4:4:4"}
    assert 20 < found["encode_peak_mib"] < 400
    networks = decode(data)
    weights = sum(layer.weights.size for layer in networks.network.layers)
    assert found["macs_per_pixel"] > weights * sum(y.size for y in networks.latents) / (48 * 64)


def test_a_record_without_rows_is_named(tmp_path, monkeypatch):
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(codec.BadInputError, match=r"other\.json holds no rows"):
        run(monkeypatch, "--show", "--with", tmp_path / "other.json")


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
