"""What other codecs take at a PSNR: the search, its bounds, and pictures of every kind."""

import io

import numpy as np
import pytest
from PIL import Image

from coordfit.images import bundled_picture
from coordfit.images.metrics import psnr
from coordfit.images.other_codecs import BEST_EFFORT, JPEG, JPEG_444, WEBP, Curve, OtherCodecs, spread_squares

RNG = np.random.default_rng(0)
CAT = bundled_picture(128).levels
NOISE = RNG.integers(0, 256, (48, 40, 3), np.uint8)
PRESENT = [codec for codec in BEST_EFFORT if codec.is_there]


def pillows(image, kind, **options):
    """PSNR and bits per pixel of a file that Pillow makes, by arithmetic of its own."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    with Image.open(file) as decoded:
        error = np.asarray(decoded.convert(image.mode), float) - np.asarray(image, float)
    return 20 * np.log10(255 / np.sqrt(np.mean(error**2))), 8 * file.tell() / (image.width * image.height)


@pytest.mark.parametrize("target", [28.0, 36.0, 40.0])
def test_the_lowest_quality_that_reaches_a_psnr_is_found(target):
    options = {"optimize": True, "progressive": True, "subsampling": 0}
    every = [pillows(Image.fromarray(CAT), "JPEG", quality=q, **options) for q in range(1, 101)]
    first = next(index for index, (decibels, _) in enumerate(every) if decibels >= target)
    curve = Curve(JPEG_444, CAT)
    found = curve.reaching(target)
    assert (found.index, found.bits) == (first, every[first][1])
    assert found.psnr == pytest.approx(every[first][0], abs=1e-3)
    assert every[first - 1][1] < curve.bits_at(target) <= every[first][1]


def test_bits_between_two_qualities_are_interpolated_as_logarithms():
    curve = Curve(JPEG, CAT)
    above = curve.reaching(35.0)
    below = curve.at(above.index - 1)
    middle = (above.psnr + below.psnr) / 2
    assert curve.bits_at(middle) == pytest.approx((above.bits * below.bits) ** 0.5)


@pytest.mark.parametrize("codec", PRESENT, ids=lambda codec: codec.name)
def test_every_codec_meets_a_psnr_from_above(codec):
    curve = Curve(codec, CAT)
    found = curve.reaching(34.0)
    assert curve.at(found.index - 1).psnr < 34.0 <= found.psnr


def test_a_psnr_that_no_quality_reaches_has_no_bits():
    assert Curve(JPEG, NOISE).reaching(60.0) is None
    assert Curve(WEBP, NOISE).bits_at(50.0) is None
    assert OtherCodecs(NOISE).bits_at(70.0)["JPEG"] is None
    assert set(OtherCodecs(NOISE).bits_at(None).values()) == {None}
    assert set(OtherCodecs(NOISE).bits_at(np.inf).values()) == {None}


KINDS = {
    "grey": CAT[..., :1],
    "grey and alpha": CAT[..., :2],
    "RGBA": np.concatenate([CAT, CAT[..., :1]], 2),
    "16 bits": CAT.astype(np.uint16) * 257,
    "floats": CAT.astype(np.float32) / 255,
    "one pixel": CAT[:1, :1],
    "one row": CAT[:1],
    "one colour": np.full((30, 20, 3), 200, np.uint8),
    "noise": NOISE,
}


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_every_kind_have_bits_but_jpeg_has_no_alpha(kind):
    found = OtherCodecs(KINDS[kind]).bits_at(25.0)
    assert list(found) == ["JPEG", "WebP", "AVIF"]
    assert (found["JPEG"] is None) == (kind in ("grey and alpha", "RGBA"))
    assert all(bits > 0 for bits in found.values() if bits is not None)


def test_grey_is_a_grey_file_and_16_bits_are_those_of_the_eight():
    assert OtherCodecs(KINDS["grey"]).bits_at(35.0)["JPEG"] < OtherCodecs(CAT).bits_at(35.0)["JPEG"]
    assert OtherCodecs(KINDS["16 bits"]).bits_at(35.0) == pytest.approx(OtherCodecs(CAT).bits_at(35.0))


def test_colours_under_full_transparency_count_as_they_do_in_a_fit():
    levels = np.concatenate([CAT, np.zeros_like(CAT[..., :1])], 2)
    curve = Curve(WEBP, levels)
    assert curve.reaching(38.0).psnr == pytest.approx(psnr_of(curve, levels), abs=1e-3)


def psnr_of(curve, levels):
    data = curve.codec.encode(Image.fromarray(levels), curve.reaching(38.0).index)
    with Image.open(io.BytesIO(data)) as image:
        return psnr(np.asarray(image.convert("RGBA")) / 255, levels / 255)


def test_a_large_picture_is_estimated_by_few_files_of_the_whole():
    large = np.asarray(Image.fromarray(CAT).resize((512, 320), Image.Resampling.BICUBIC))
    large = np.clip(large + RNG.normal(0, 6, large.shape) * (np.arange(512) > 200)[:, None], 0, 255).astype(
        np.uint8
    )
    assert spread_squares(large).shape[:2] == (128, 256)
    others = OtherCodecs(large)
    assert others.bits_at(34.0)["JPEG"] == pytest.approx(
        min(Curve(codec, large).bits_at(34.0) for codec in (JPEG, JPEG_444)), rel=0.05
    )


@pytest.mark.parametrize("height", [320, 328])
def test_strips_are_the_whole_picture_but_for_their_heads(height):
    large = np.asarray(Image.fromarray(CAT).resize((512, height), Image.Resampling.BICUBIC))
    whole, strips, one = (Curve(JPEG_444, large, pixels) for pixels in (None, 512 * 100, large.size))
    heads = 4 * 700 * 8 / (512 * height)  # of 96 rows each, with tables of their own
    assert [len(strip) for strip in strips._strips()] == [96, 96, 96, height - 288]
    assert strips.at(70).psnr == pytest.approx(whole.at(70).psnr, abs=1e-9)
    assert whole.at(70).bits < strips.at(70).bits < whole.at(70).bits + heads
    assert one.at(70) == whole.at(70)


def test_squares_are_parts_of_the_picture_and_narrow_ones_are_whole():
    rows, columns = np.mgrid[:640, :384]
    sample = spread_squares(np.stack([rows, columns], 2).astype(np.uint16))
    assert sample.shape[0] * sample.shape[1] <= 1 << 15
    for y in range(0, sample.shape[0], 64):
        for x in range(0, sample.shape[1], 64):
            square = sample[y : y + 64, x : x + 64].astype(int)
            assert (square - square[:1, :1] == np.stack(np.mgrid[:64, :64], 2)).all()
    assert {0, 640 - 64} <= set(sample[::64, 0, 0].tolist())
    narrow = np.zeros((9000, 10, 3), np.uint8)
    assert spread_squares(narrow) is narrow


def test_slow_codecs_are_left_out_of_a_picture_of_many_pixels():
    levels = np.broadcast_to(np.uint8(90), (800, 800, 3))
    found = OtherCodecs(np.ascontiguousarray(levels)).bits_at(30.0)
    assert found["JPEG"] > 0
    assert found["WebP"] is found["AVIF"] is None
