"""Pixels to bytes and back: what the report says, targets, and what cannot be compressed."""

import itertools
import os
import random
import struct
import time
import zlib
from importlib import resources

import numpy as np
import pytest
from PIL import Image
from support.cases import very_slow
from threadpoolctl import threadpool_info, threadpool_limits

from coordfit.codec import Compressor, PyramidSettings, Target, compress, decode, decompress
from coordfit.codec.pyramid.training import PyramidTrainer
from coordfit.errors import CompressedFileError
from coordfit.images import bundled_picture

CASES = int(os.environ.get("COORDFIT_FUZZ_CASES", 300))
SMALL = PyramidSettings(channels=(1, 3, 3, 3), hidden=6, context_units=6)


def picture(height=45, width=62, colours=3):
    """Some waves and an edge, with a little noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width] / 20
    waves = np.stack([np.sin((c + 1) * x + y**2) + (x + c > 2 * y) for c in range(colours)], 2)
    return (100 + 50 * waves + rng.normal(0, 2, waves.shape)).clip(0, 255).astype(np.uint8)


def psnr(found, pixels):
    return 10 * np.log10(np.iinfo(pixels.dtype).max ** 2 / np.square(found.astype(float) - pixels).mean())


@pytest.mark.parametrize("shape", [(45, 62, 3), (45, 62, 1), (1, 9, 3), (20, 30, 4), (20, 30, 2)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_report_tells_what_the_bytes_are(shape, dtype):
    pixels = (picture(*shape) * 256.99).astype(dtype) if dtype == np.uint16 else picture(*shape)
    data, report = compress(pixels, Target(lmbda=1e-3), steps=20, settings=SMALL)
    found = decompress(data)
    assert found.shape == shape
    assert found.dtype == dtype
    assert report.psnr == pytest.approx(psnr(found, pixels))
    assert report.bits_per_pixel == 8 * len(data) / pixels[..., 0].size
    assert 0 < report.network_bits < 8 * len(data)
    assert report.steps == 20


def test_training_makes_a_picture_better_and_smaller():
    pixels = picture()
    reports = [compress(pixels, Target(lmbda=3e-4), steps=n, settings=SMALL)[1] for n in (1, 60)]
    assert reports[1].psnr > reports[0].psnr + 2
    assert reports[1].bits_per_pixel < 0.9 * reports[0].bits_per_pixel


@pytest.mark.parametrize("shape", [(45, 62, 3), (17, 5, 1)])
def test_the_first_latents_are_the_picture(shape):
    target = np.ascontiguousarray(picture(*shape).transpose(2, 0, 1), np.float32) / 255
    settings = PyramidSettings(channels=(3, 1, 3, 3) if shape[2] == 3 else (1, 0, 1))
    trainer = PyramidTrainer(target, 1e-3, settings)
    colours = trainer.decoder.forward(trainer.latents) * trainer.step_size + trainer.mean[:, None, None]
    np.testing.assert_allclose(colours, target, atol=1e-5)


def test_a_first_context_network_of_other_pictures_takes_fewer_bits_at_once():
    target = np.ascontiguousarray(picture(128, 128).transpose(2, 0, 1), np.float32) / 255
    bits = [
        PyramidTrainer(target, 3e-4, PyramidSettings(trained_start=start)).loss_parts()[1]
        for start in (True, False)
    ]
    assert bits[0] < 0.9 * bits[1]


@pytest.mark.parametrize(
    ("name", "value", "tolerance"),
    [
        ("psnr", 38.0, 0.1),
        *very_slow(("bits_per_pixel", 1.5, 0.03), ("bits_per_pixel", 4.0, 0.08)),
    ],
)
def test_a_target_is_reached(name, value, tolerance):
    with Image.open(resources.files("coordfit.data") / "chelsea-128.png") as photograph:
        pixels = np.asarray(photograph.convert("RGB"))
    _, report = compress(pixels, Target(**{name: value}), steps=200)
    assert getattr(report, name) == pytest.approx(value, abs=tolerance)


def test_a_seed_gives_the_same_bytes():
    first, again, other = (
        compress(picture(), Target(lmbda=1e-3), steps=5, settings=SMALL, seed=seed)[0] for seed in (0, 0, 1)
    )
    assert first == again != other


def test_the_bytes_do_not_depend_on_threads(monkeypatch):
    monkeypatch.setattr("coordfit.codec.pyramid.decoder_network._PIXELS", 1500)
    monkeypatch.setattr("coordfit.codec.pyramid.rate_model._BATCH", 2000)
    found = []
    for blas, threads in ((1, 1), (2, 1), (1, 2), (2, 3)):
        with threadpool_limits(blas):
            found.append(compress(picture(128, 150), Target(lmbda=1e-3), steps=60, threads=threads)[0])
            assert {library["num_threads"] for library in threadpool_info()} == {blas}  # as it was before
    assert set(found) == {found[0]}


def test_numba_reads_the_same_pixels():
    pytest.importorskip("numba")
    data, _ = compress(picture(), Target(lmbda=1e-3), steps=3, settings=SMALL)
    assert np.array_equal(decompress(data, compiled=True), decompress(data))


@pytest.mark.very_slow
def test_a_mutated_file_gives_pixels_or_one_kind_of_error():
    data, _ = compress(picture(20, 23), Target(lmbda=1e-3), steps=2, settings=SMALL)
    rng = random.Random(0)
    ended = {True: 0, False: 0}
    for _ in range(CASES):
        mutated = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            mutated[rng.randrange(10, len(data) if rng.random() < 0.3 else 110)] = rng.randrange(256)
        mutated[-4:] = struct.pack("<I", zlib.crc32(mutated[:-4]))
        try:
            pixels = decompress(bytes(mutated), most_latents=1 << 16)
        except CompressedFileError:
            ended[False] += 1
        else:
            ended[True] += 1
            assert pixels.dtype == np.uint8
    assert min(ended.values()) > 0


def test_grey_may_have_two_axes():
    data, _ = compress(picture(colours=1)[..., 0], Target(lmbda=1e-3), steps=2)
    assert decompress(data).shape == (45, 62, 1)
    assert [level.shape[0] for level in decode(data).latents] == [1] * 5


def test_seconds_leave_time_to_write_the_file(monkeypatch):
    """What comes after the steps takes 35 of them; a callback of twenty seconds is none of them."""
    now, step = [0.0], PyramidTrainer.step
    monkeypatch.setattr("coordfit.codec.compression.time.monotonic", lambda: now[0])

    def stepping(self, done):
        now[0] += 1
        return step(self, done)

    def callback(progress):
        now[0] += 20 * (progress.step == 0)

    monkeypatch.setattr(PyramidTrainer, "step", stepping)
    _, report = compress(picture(20, 20), Target(lmbda=1e-3), seconds=100, settings=SMALL, callback=callback)
    assert report.steps == pytest.approx(100 - 35 - 20, abs=1)


@pytest.mark.parametrize("target", [Target(psnr=38), Target(bits_per_pixel=3)], ids=["psnr", "bits"])
def test_windows_of_a_large_picture_lead_to_the_price_that_all_of_it_does(monkeypatch, target):
    levels = bundled_picture().levels
    whole = Compressor(levels, target, steps=1).first_lmbda
    monkeypatch.setattr("coordfit.codec.compression._WINDOW", 28)
    windows = Compressor(levels, target, steps=1).first_lmbda
    assert windows != whole
    assert windows == pytest.approx(whole, rel=0.3)


def test_with_seconds_the_share_that_is_done_rises_from_0(monkeypatch):
    """However long it takes until the first step: here a fifth of the seconds."""
    compressor = Compressor(picture(20, 20), Target(lmbda=1e-3), seconds=500, settings=SMALL)
    clock = itertools.count(time.monotonic() + 100).__next__
    monkeypatch.setattr("coordfit.codec.compression.time.monotonic", clock)
    heard = []
    compressor.train(heard.append)
    done = [progress.done for progress in heard]
    assert done[0] == 0
    assert done == sorted(done)
    assert sum(progress.evaluated for progress in heard) == 20


def test_progress_is_told():
    heard = []
    compress(picture(), Target(lmbda=1e-3), steps=30, settings=SMALL, callback=heard.append)
    assert [progress.step for progress in heard] == sorted({progress.step for progress in heard})
    assert len(heard) == 30
    assert sum(progress.evaluated for progress in heard) == 20
    assert heard[-1].bits_per_pixel < heard[0].bits_per_pixel
    assert all(0 <= progress.done < 1 for progress in heard)


@pytest.mark.parametrize(
    "wrong", [{}, {"lmbda": 1.0, "psnr": 30.0}, {"psnr": -1.0}, {"bits_per_pixel": np.nan}]
)
def test_a_target_is_one_number_above_0(wrong):
    with pytest.raises(ValueError, match="exactly one of lmbda, bits_per_pixel and psnr"):
        Target(**wrong)


@pytest.mark.parametrize("pixels", [np.zeros((4, 4, 3)), np.zeros((4, 4, 5), np.uint8), np.zeros(4, np.uint8)])
def test_what_is_no_picture_is_refused(pixels):
    with pytest.raises(ValueError, match="uint8 or uint16 of the shape"):
        compress(pixels, Target(lmbda=1e-3), steps=1)


def test_a_budget_is_steps_or_seconds():
    with pytest.raises(ValueError, match="either steps or seconds"):
        compress(picture(), Target(lmbda=1e-3))
