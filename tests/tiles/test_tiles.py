"""Pictures as batches of small networks: where tiles lie, how they are trained, blended, stored and chosen."""

import errno
import json
import os
import random
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cases import slow

import coordfit
from coordfit.backends import get_backend
from coordfit.cli import main
from coordfit.config import make_config
from coordfit.errors import ConfigError, ModelFileError, OutputError, PictureError
from coordfit.images import bundled_picture, load_picture
from coordfit.images.metrics import psnr
from coordfit.tiles.fit import CHUNK_BYTES, TiledFit
from coordfit.tiles.group import TileGroup
from coordfit.tiles.layout import TileLayout
from coordfit.tiles.model import _Band
from coordfit.tiles.network import TileNetwork
from coordfit.tiles.plan import SHAPES, TilePlan, plan_tiles
from coordfit.tiles.store import TileStore
from coordfit.tiles.trainer import TileRules, TileTrainer
from coordfit.tiles.unfinished import Round, UnfinishedTiles

SMALL = {"num_frequencies": 8, "hidden_size": 16, "sigma": 1.0}


def cpu():
    return get_backend("numpy", threads=2)


def crop(height=45, width=61):
    return load_picture(bundled_picture().pixels[40 : 40 + height, 30 : 30 + width])


def fitted(picture=None, tile=8, folder=None, **options):
    picture = picture or crop()
    plan = plan_tiles(picture, tile, SMALL | options)
    return TiledFit(picture, plan, cpu(), folder=folder).run()


@pytest.fixture(scope="module")
def result():
    return fitted(steps=20)


# -- where tiles lie ---------------------------------------------------------------------------------------

sizes = st.integers(1, 70)


@settings(max_examples=60, deadline=None)
@given(height=sizes, width=sizes, tile=st.integers(4, 20), overlap=st.integers(1, 10))
def test_tiles_cover_the_picture_and_none_sticks_out(height, width, tile, overlap):
    layout = TileLayout((height, width), tile, min(overlap, tile // 2))
    for axis, length in zip(layout.axes, (height, width), strict=True):
        covered = np.zeros(length, int)
        for start in axis.starts:
            assert 0 <= start <= length - axis.side
            covered[start : start + axis.side] += 1
        assert covered.min() >= 1
        assert all(np.diff(axis.starts) <= layout.tile)


@settings(max_examples=60, deadline=None)
@given(length=sizes, tile=st.integers(4, 20), overlap=st.integers(1, 10), seed=st.integers(0, 99))
def test_weights_sum_to_one_at_every_point_and_a_tile_speaks_of_what_it_has_learned(
    length, tile, overlap, seed
):
    axis = TileLayout((length,), tile, min(overlap, tile // 2)).axes[0]
    points = np.sort(np.random.default_rng(seed).uniform(0, length, 40))
    weights = np.array([axis.weights(k, points) for k in range(len(axis))])
    np.testing.assert_allclose(weights.sum(axis=0), 1.0, atol=1e-12)
    assert weights.min() >= 0
    for k, start in enumerate(axis.starts):
        heard = points[weights[k] > 0]
        assert len(heard) == 0 or (heard.min() >= start and heard.max() <= start + axis.side)
        span = axis.span(k, points)
        assert not weights[k, : span.start].any()
        assert not weights[k, span.stop :].any()
        assert k in axis.range(points[0], points[-1]) or not weights[k].any()
    both = np.zeros_like(weights)
    for tiles, said in axis.covering(points):
        both[tiles, np.arange(len(points))] += said
    np.testing.assert_allclose(both, weights, atol=1e-12)


@given(length=st.integers(20, 70), tile=st.integers(4, 20), overlap=st.integers(1, 10))
def test_the_blend_is_as_smooth_as_a_raised_cosine_and_centred_in_what_is_shared(length, tile, overlap):
    """Its slope has no jump, which would show as a line in an enlarged picture."""
    axis = TileLayout((length,), tile, min(overlap, tile // 2)).axes[0]
    step = 1 / 64
    points = np.arange(0.0, length, step)
    for k in range(len(axis)):
        curvature = np.diff(axis.weights(k, points), 2) / step**2
        assert np.abs(curvature).max() <= 0.5 * (np.pi / axis.overlap) ** 2 + 1e-6
    middles = (axis.starts[1:] + axis.starts[:-1] + axis.side) / 2
    halves = [axis.weights(k, middles[k : k + 1])[0] for k in range(len(middles))]
    np.testing.assert_allclose(halves, 0.5, atol=1e-12)


def test_the_pixels_of_a_tile_are_those_of_the_picture():
    layout = TileLayout((20, 31), 8, 2)
    picture = np.random.default_rng(0).random((20, 31, 3))
    tile = len(layout) - 2
    y, x = layout.starts(tile)
    expected = picture[y : y + 10, x : x + 10].reshape(-1, 3)
    np.testing.assert_array_equal(layout.pixels(picture, np.array([0, tile]))[1], expected)


def test_an_overlap_that_would_blend_three_tiles_is_refused():
    with pytest.raises(ValueError, match="half of a tile"):
        TileLayout((40, 40), 8, 5)


# -- training ----------------------------------------------------------------------------------------------


def trainer_of(layout, backend=None, **options):
    base = {"depth": 2, "batch_size": None, "output_activation": "identity", "learning_rate": 1e-2}
    network = TileNetwork.drawn(make_config(SMALL | base | options), 3)
    return TileTrainer(backend or cpu(), network, layout)


def test_a_tile_does_not_care_who_is_trained_with_it():
    layout, picture = TileLayout((45, 61), 8, 2), crop()
    pixels = layout.pixels(picture.pixels, np.arange(7))
    together, errors = trainer_of(layout).fit(pixels, 6)
    alone, error = trainer_of(layout, get_backend("numpy", threads=1)).fit(pixels[3:4], 6)
    np.testing.assert_allclose(alone[0], together[3], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(error[0], errors[3], rtol=1e-3)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_errors_are_those_of_the_colours(weighted):
    layout, picture = TileLayout((45, 61), 8, 2), crop()
    trainer = trainer_of(layout)
    pixels = layout.pixels(picture.pixels, np.arange(5))
    weights = np.random.default_rng(0).uniform(0.1, 2.0, pixels.shape[:2]) if weighted else None
    parameters, errors = trainer.fit(pixels, 6, None, weights)
    group = TileGroup(cpu(), trainer.network, layout, 5)
    group.parameters[...] = parameters
    squares = np.square(group.mlp.forward(group.features) - pixels).mean(axis=2)
    expected = (
        [np.average(e, weights=w) for e, w in zip(squares, weights, strict=True)]
        if weighted
        else squares.mean(1)
    )
    np.testing.assert_allclose(expected, errors, rtol=1e-3)


def test_steps_help_beyond_the_closed_form():
    layout, picture = TileLayout((45, 61), 8, 2), crop()
    pixels = layout.pixels(picture.pixels, np.arange(8))
    _, start = trainer_of(layout).fit(pixels, 0)
    _, end = trainer_of(layout).fit(pixels, 20)
    assert 10 * np.log10(start.mean() / end.mean()) > 3


@pytest.mark.parametrize("target", [None, 60.0])
def test_no_steps_make_a_tile_worse(target):
    layout, picture = TileLayout((45, 61), 8, 2), crop()
    pixels = layout.pixels(picture.pixels, np.arange(8))
    _, start = trainer_of(layout).fit(pixels, 0)
    _, end = trainer_of(layout, learning_rate=1.0, target_psnr=target).fit(pixels, 8)
    assert (end <= start * (1 + 1e-6)).all()
    assert np.isclose(end, start, rtol=1e-6).any(), "or else this would say nothing"


def test_tiles_that_are_good_enough_leave():
    layout, picture = TileLayout((45, 61), 8, 2), crop()
    pixels = layout.pixels(picture.pixels, np.arange(len(layout)))
    pixels[::2] = 0.5  # flat: the closed form has them
    trainer = trainer_of(layout, target_psnr=30.0)
    _, errors = trainer.fit(pixels, 4)
    assert errors.mean() <= 10**-3.0
    assert trainer.steps_taken < 4 * len(pixels)
    trainer = trainer_of(layout, target_psnr=30.0)
    trainer.rules = TileRules(every_tile=True)
    _, errors = trainer.fit(pixels, 16)
    assert errors.max() <= 10**-3.0
    trainer = trainer_of(layout, target_psnr=10.0)  # the closed form is better
    trainer.fit(pixels, 4)
    assert trainer.steps_taken == 0


def test_a_batch_of_other_losses_and_layers_is_trained_too():
    layout, picture = TileLayout((45, 61), 8, 2), crop()
    pixels = layout.pixels(picture.pixels, np.arange(4))
    for options in ({"loss": "mae"}, {"output_activation": "sigmoid"}, {"depth": 3}):
        _, errors = trainer_of(layout, **options).fit(pixels, 30)
        assert errors.mean() < pixels.var(axis=1).mean(), options


def test_pixels_that_are_held_out_have_no_say():
    picture = crop(40, 40)
    spoiled = picture.pixels.copy()
    hidden = np.ones((40, 40), bool)
    hidden[::2, ::2] = False
    spoiled[hidden] = 1.0 - spoiled[hidden]
    options = {"train_on": "every-second", "steps": 20, "tile": 16}
    one, other = fitted(picture, **options), fitted(load_picture(spoiled), **options)
    np.testing.assert_array_equal(one.model.parameters, other.model.parameters)
    m = one.metrics
    assert m["psnr_train"] > m["psnr_held_out"] > other.metrics["psnr_held_out"] + 3
    assert m["psnr_held_out"] == pytest.approx(psnr(one.reconstruction, picture.pixels, where=hidden), abs=1e-4)
    assert m["psnr_held_out_bicubic"] is not None


def test_weights_of_pixels_are_heard_in_steps_and_closed_forms():
    layout, picture = TileLayout((45, 61), 8, 2), crop()
    pixels = layout.pixels(picture.pixels, np.arange(4))
    weights = np.where(np.arange(pixels.shape[1]) % 3, 1.0, 1e-6)[None].repeat(4, 0)
    other = pixels.copy()
    other[:, ::3] = 0.5
    for steps in (0, 12):
        weighed, plain = (
            np.subtract(*(trainer_of(layout).fit(p, steps, None, w)[0] for p in (pixels, other)))
            for w in (weights, None)
        )
        assert np.abs(weighed).max() < 0.1 * np.abs(plain).max()


# -- the model ---------------------------------------------------------------------------------------------


def test_the_rendering_of_tiles_is_the_picture(result):
    assert psnr(result.reconstruction, result.picture.pixels) == pytest.approx(result.metrics["psnr"], abs=1e-4)
    assert result.metrics["psnr"] > 30


def test_colours_at_coordinates_are_those_of_the_rendering(result):
    model = result.model
    for grid in (model.grid(), model.grid(height=101), model.grid(90, 122, crop=(31, 7, 40, 50))):
        rendering = np.concatenate(list(model.predict_rows(grid)))
        colours = model(grid.coordinates(np.arange(len(grid)))).reshape(rendering.shape)
        np.testing.assert_allclose(colours, rendering, atol=2e-5)


def test_a_crop_is_a_part_of_the_whole(result):
    whole = result.render(135, 183)
    part = result.render(135, 183, crop=(50, 20, 70, 60))
    np.testing.assert_allclose(part, whole[20:80, 50:120], atol=2e-5)


def test_a_rendering_has_the_same_bits_whichever_worker_is_quicker(monkeypatch, result):
    """Four tiles meet at the corners, and a sum of four numbers depends on their order."""
    in_order, batches, draw = result.render(90, 122), _Band._batches, random.Random(0)
    monkeypatch.setattr(_Band, "_batches", lambda band: draw.sample(found := [*batches(band)], len(found)))
    for _ in range(3):
        np.testing.assert_array_equal(result.render(90, 122), in_order)


@pytest.mark.parametrize("size", [(1, 40), (40, 1), (3, 5), (9, 33), (17, 17)])
def test_thin_and_odd_pictures(size):
    picture = load_picture(np.random.default_rng(0).random((*size, 3)).astype(np.float32) * 0.1 + 0.4)
    made = fitted(picture, steps=10)
    assert made.reconstruction.shape == (*size, 3)
    assert made.metrics["psnr"] > 30
    assert made.render(size[0] * 3, size[1] * 3).shape == (size[0] * 3, size[1] * 3, 3)


def test_no_seam_shows_at_four_times_the_size():
    """Second differences across the borders of tiles have the size of those elsewhere."""
    made = fitted(crop(80, 80), steps=16)
    big = made.render(320, 320)
    curvature = np.abs(np.diff(big, n=2, axis=1)).mean(axis=(0, 2))  # of each column
    borders = np.rint(made.model.layout.axes[1].borders * 4).astype(int) - 1
    near = np.unique(np.concatenate([borders + k for k in range(-4, 5)]))
    ratio = curvature[near].mean() / np.delete(curvature, near).mean()
    assert 0.6 < ratio < 1.4


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_saved_model_renders_the_same_and_reads_what_it_needs(tmp_path, result, dtype):
    path = tmp_path / "model.safetensors"
    result.model.save(path, dtype=dtype)
    model = coordfit.load(path, device="numpy")
    assert isinstance(model.parameters, np.memmap)
    assert model.parameters.dtype == dtype
    np.testing.assert_allclose(model.render(), result.model.render(), atol=2e-3)
    assert model.metrics["tiles"] == len(model.layout)


def test_a_damaged_file_is_refused(tmp_path, result):
    path = tmp_path / "model.safetensors"
    result.save(path)
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match="checksum"):
        coordfit.load(path, device="numpy")
    path.write_bytes(data[:-8])
    with pytest.raises(ModelFileError, match="cut short"):
        coordfit.load(path, device="numpy")


# -- runs --------------------------------------------------------------------------------------------------


def test_finished_tiles_are_not_trained_again(tmp_path, monkeypatch):
    monkeypatch.setattr("coordfit.tiles.fit.CHUNK_TILES", 20)
    picture = crop()
    plan = plan_tiles(picture, 8, SMALL | {"steps": 5})
    whole = TiledFit(picture, plan, cpu()).run()

    stopped = TiledFit(picture, plan, cpu(), folder=tmp_path)
    first = stopped.run(lambda progress: progress.done >= 20)
    assert first.stopped == "interrupted"
    assert stopped.store.done == 20
    again = TiledFit(picture, plan, cpu(), folder=tmp_path, resume=True)
    assert again.store.done == 20
    tiles = []
    fit = TileTrainer.fit
    monkeypatch.setattr(
        TileTrainer,
        "fit",
        lambda self, px, *rest, **more: tiles.append(len(px)) or fit(self, px, *rest, **more),
    )
    rest = again.run()
    assert sum(tiles) == len(plan.layout) - 20
    assert rest.metrics["epochs"] == whole.metrics["epochs"] == 5
    np.testing.assert_allclose(rest.model.render(), whole.model.render(), atol=1e-3)
    other = plan_tiles(picture, 8, SMALL | {"steps": 6})
    with pytest.raises(ConfigError, match="another"):
        TiledFit(picture, other, cpu(), folder=tmp_path, resume=True)


@pytest.mark.skipif(not hasattr(os, "link"), reason="needs hard links")
@pytest.mark.parametrize("resume", [False, True])
def test_another_name_of_tiles_bin_keeps_what_it_has(tmp_path, resume):
    shape, facts, own = (3, 5), {"of": 1}, tmp_path / "tiles.bin"
    first = TileStore(shape, "float32", tmp_path, facts)
    first.add(np.full((1, 5), 7.0), np.ones(1), 1.0, 1)
    (tmp_path / "x").hardlink_to(own)
    before = (tmp_path / "x").read_bytes()
    again = TileStore(shape, "float32", tmp_path, facts, resume=resume)
    assert again.done == resume
    again.add(np.full((1, 5), 8.0), np.ones(1), 1.0, 1)
    assert (tmp_path / "x").read_bytes() == before
    assert again.parameters[0, 0] == (7.0 if resume else 8.0)


def test_tiles_under_way_are_those_after_the_finished_ones(tmp_path):
    """A run may be killed when these are finished and the file of their training is still there."""
    store, file = TileStore((3, 5), "float32", tmp_path, {"of": 1}), tmp_path / "tiles.safetensors"
    round_ = Round(0, 1.0, 0, np.zeros(1, np.int32), np.ones(1, bool))
    store.save_unfinished(UnfinishedTiles(np.zeros((1, 5)), np.ones(1), round_, 0), 1.0)
    again = TileStore((3, 5), "float32", tmp_path, {"of": 1}, resume=True)
    assert (again.done, again.trained) == (0, 1)
    before = file.read_bytes()
    again.add(np.zeros((1, 5)), np.ones(1), 1.0, 1)
    file.write_bytes(before)
    last = TileStore((3, 5), "float32", tmp_path, {"of": 1}, resume=True)
    assert (last.done, last.trained, last.unfinished) == (1, 1, None)


def test_tiles_that_no_model_file_could_hold_are_refused_before_training(tmp_path):
    with pytest.raises(ConfigError, match=r"68\.\d GB, and model files end at 68\.7 GB: take larger tiles"):
        TileStore((2**20, 2**14 + 1), "float32", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("target", "stop_after", "threads"),
    [(None, 5, 2), (60, 50, 1), *slow((None, 1, 1), (None, 12, 2), (60, 9, 2), (60, 50, 2))],
)
def test_tiles_under_way_go_on_where_they_were_broken_off(tmp_path, monkeypatch, target, threads, stop_after):
    """Groups of four tiles, broken off in the middle of one: as an unbroken run, bit for bit."""
    options = {"steps": 6, "target_psnr": target}
    monkeypatch.setattr("coordfit.tiles.trainer.CALLBACK_SECONDS", 0.0)
    monkeypatch.setattr("coordfit.backends.numpy_backend.backend.NumpyBackend.group_bytes", 1)
    picture, plan, told = crop(), plan_tiles(crop(), 8, SMALL | options), []

    def fit(**more):
        return TiledFit(picture, plan, get_backend("numpy", threads=threads), stored="float32", **more)

    whole, stopped = fit().run(), fit(folder=tmp_path)
    assert (
        stopped.run(lambda progress: told.append(progress) or len(told) == stop_after).stopped == "interrupted"
    )
    assert stopped.store.done == 0
    again = fit(folder=tmp_path, resume=True)
    assert again.store.unfinished is not None
    pixels = []
    rest = again.run(lambda progress: pixels.append(progress.pixels) and None)
    np.testing.assert_array_equal(rest.model.parameters, whole.model.parameters)
    assert rest.metrics["epochs"] == whole.metrics["epochs"]
    assert told[-1].pixels <= pixels[0] + 64 * 4 * threads  # what the broken groups had taken


@pytest.mark.parametrize("target", [None, 50])
def test_progress_moves_with_every_step_and_ends_with_all_pixels(monkeypatch, target):
    monkeypatch.setattr("coordfit.tiles.trainer.CALLBACK_SECONDS", 0.0)
    picture, told = crop(), []
    plan = plan_tiles(picture, 8, SMALL | {"steps": 6, "target_psnr": target})
    TiledFit(picture, plan, cpu()).run(told.append)
    pixels = [progress.pixels for progress in told]
    assert pixels == sorted(pixels)
    assert len(set(pixels)) >= 6
    assert 0 < pixels[0] < pixels[-1] == told[-1].total_pixels == picture.height * picture.width
    assert told[-1].psnr > told[0].psnr


@pytest.mark.parametrize("tile", [16, 32, 64])
def test_large_tiles_are_fewer_at_a_time(tile):
    picture = load_picture(np.zeros((70, 70, 3), np.uint8))
    fit = TiledFit(picture, plan_tiles(picture, tile, {}), cpu())
    pixels, parameters = (min(70, tile + 2)) ** 2, fit.network.layout.num_parameters
    taken = fit._tiles_at_a_time() * 4 * (20 * pixels + 4 * parameters)
    assert 0.9 * CHUNK_BYTES < taken <= 1.01 * CHUNK_BYTES


def test_a_fit_makes_no_floats_of_the_whole_picture(tmp_path):
    picture = load_picture((255 * crop().pixels).astype(np.uint8))
    made = fitted(picture, steps=2, folder=tmp_path)
    made.comparison()
    assert "pixels" not in vars(picture)
    assert "reconstruction" not in vars(made)


def resident(path):
    """Bytes of a mapped file that this process holds in memory."""
    maps = Path("/proc/self/smaps").read_text().split("\n")
    begins = [k for k, line in enumerate(maps) if line.endswith(str(path))]
    return 1024 * sum(
        int(line.split()[1]) for k in begins for line in maps[k : k + 8] if line.startswith("Rss")
    )


needs_smaps = pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs what Linux tells of maps")


@needs_smaps
def test_finished_tiles_do_not_stay_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("coordfit.tiles.fit.CHUNK_TILES", 30)
    held, add = [], TileStore.add

    def add_and_look(self, *arguments):
        add(self, *arguments)
        held.append(resident(tmp_path / "tiles.bin"))

    monkeypatch.setattr(TileStore, "add", add_and_look)
    whole = fitted(crop(80, 90), folder=tmp_path, steps=1, hidden_size=64)
    assert (tmp_path / "tiles.bin").stat().st_size > 200_000
    assert len(held) > 2
    assert max(held) == 0
    whole.save(tmp_path / "model.safetensors")
    assert resident(tmp_path / "tiles.bin") == 0  # it was digested and written piece by piece
    assert float(whole.model.parameters.max()) > 0.0
    assert resident(tmp_path / "tiles.bin") > 0  # or else this would say nothing


@needs_smaps
def test_a_model_gives_back_what_a_rendering_read(tmp_path, result):
    path = tmp_path / "model.safetensors"
    result.save(path)
    model = coordfit.load(path, device="numpy")
    assert float(model.parameters.max()) > 0.0
    assert resident(path) > 0
    model.render()
    assert resident(path) == 0


def test_a_disk_without_room_for_all_tiles_is_told_before_the_first(tmp_path, monkeypatch):
    def refuse(number):
        def fallocate(*_):
            raise OSError(number, errno.errorcode[number])

        monkeypatch.setattr("os.posix_fallocate", fallocate, raising=False)

    refuse(errno.ENOSPC)
    with pytest.raises(OutputError, match=r"cannot keep .* kB of tiles in .*tiles.bin: ENOSPC"):
        fitted(steps=1, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
    refuse(errno.EOPNOTSUPP)  # a file system that cannot promise it
    assert fitted(steps=1, folder=tmp_path).stopped == "steps"


@pytest.mark.parametrize("target", [30.0, 36.0])
def test_the_blended_picture_keeps_the_target(target):
    made = fitted(crop(60, 60), target_psnr=target, hidden_size=32, steps=64)
    assert made.stopped == "target_psnr"
    assert target <= psnr(made.reconstruction, made.picture.pixels) < target + 4


def test_the_scoreboard_counts_what_is_stored(tmp_path, result):
    m, path = result.metrics, tmp_path / "model.safetensors"
    assert m["parameters"] == len(result.model.layout) * (16 * 16 + 16 + 16 * 3 + 3)
    assert m["parameters_per_value"] == m["parameters"] / (45 * 61 * 3)
    result.save(path)
    assert m["bytes_float16"] <= path.stat().st_size <= m["bytes_float16"] + 8192
    assert m["bits_per_pixel_float32"] == pytest.approx(2 * m["bits_per_pixel_float16"], rel=1e-6)


# -- the choice --------------------------------------------------------------------------------------------


def flat(height, width):
    return load_picture(np.zeros((height, width, 3), np.uint8))


def test_auto_cuts_large_pictures_and_says_why_not_the_others():
    assert isinstance(plan_tiles(flat(300, 400), "auto", {"target_psnr": 40.0}), TilePlan)
    assert "fewer" in plan_tiles(flat(128, 128), "auto", {})
    assert "not seen" in plan_tiles(flat(300, 400), "auto", {"train_on": "every-second"})
    assert "depth was given" in plan_tiles(flat(300, 400), "auto", {"depth": 4})
    assert "recipe" in plan_tiles(flat(300, 400), "auto", {}, recipe="paper")


@pytest.mark.parametrize("options", [{"batch_size": 64}, {"epochs": 2.0}, {"sigma": "auto"}])
def test_what_tiles_cannot_is_refused(options):
    with pytest.raises(ConfigError, match="tiles"):
        plan_tiles(flat(64, 64), 8, options)


def test_a_budget_of_parameters_is_kept():
    picture = flat(300, 400)
    before = 10**12
    for budget in (3_000_000, 1_000_000, 400_000):
        plan = plan_tiles(picture, "auto", {}, budget=budget)
        count = len(plan.layout) * TileNetwork.drawn(plan.config, 3).layout.num_parameters
        assert count <= budget < 4 * count
        assert count < before
        before = count
    with pytest.raises(ConfigError, match="too small"):
        plan_tiles(picture, "auto", {}, budget=1000)


def test_the_table_goes_from_many_parameters_to_few():
    counts = []
    for shape in SHAPES:
        plan = plan_tiles(flat(500, 700), shape.tile, {"hidden_size": shape.hidden_size})
        counts.append(len(plan.layout) * TileNetwork.drawn(plan.config, 3).layout.num_parameters)
    assert counts == sorted(counts, reverse=True)


STEEP = {
    "not finite": {"learning_rate": 1e30},
    "too large for float16": {"learning_rate": 1e5, "activation": "relu"},
    "without a closed form": {"learning_rate": 1e30, "output_activation": "sigmoid"},
    "with a target": {"learning_rate": 1e30, "target_psnr": 60.0},
}


@pytest.mark.parametrize("options", STEEP.values(), ids=STEEP)
def test_tiles_that_diverge_keep_what_they_had(options):
    with np.errstate(all="raise", under="ignore"):
        made = coordfit.fit(crop(20, 20).pixels, tiles=8, device="numpy", **{"steps": 4} | options)
    assert made.stopped == made.metrics["stopped"] == "diverged"
    assert np.isfinite(np.asarray(made.model.parameters)).all()
    start = coordfit.fit(crop(20, 20).pixels, tiles=8, device="numpy", **{"steps": 0} | options)
    assert made.metrics["psnr"] >= start.metrics["psnr"] - 0.1


@pytest.mark.parametrize("target", [None, 40.0])
@pytest.mark.parametrize("colour", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("side", [1, 20])
def test_a_picture_of_one_colour_is_cut_into_tiles(side, colour, target):
    picture = np.full((side, side, 3), colour, np.float32)
    with np.errstate(all="raise", under="ignore"):
        made = coordfit.fit(picture, tiles=8, steps=2, device="numpy", target_psnr=target)
    assert made.stopped == ("steps" if target is None else "target_psnr")
    np.testing.assert_allclose(made.render(9, 9), colour, atol=1e-3)


def test_fit_takes_tiles():
    made = coordfit.fit(crop().pixels, tiles=16, hidden_size=16, num_frequencies=8, steps=5, device="numpy")
    assert made.metrics["tile"] == 16
    assert made.config.hidden_size == 16
    with pytest.raises(ConfigError, match="every_tile"):
        coordfit.fit(crop().pixels, every_tile=True, steps=1, device="numpy")


# -- the command line --------------------------------------------------------------------------------------


@pytest.fixture
def photo(tmp_path):
    coordfit.save_picture(tmp_path / "photo.png", crop().pixels)
    return str(tmp_path / "photo.png")


FIT = ["--device", "numpy", "--tiles", "16", "--hidden-size", "16", "--num-frequencies", "8"]


def test_a_tiled_fit_from_the_command_line(tmp_path, photo, capsys):
    out = tmp_path / "run"
    assert main([photo, *FIT, "--steps", "5", "--out", str(out), "--json"]) == 0
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert document["metrics"]["tiles"] == 12
    assert "12 tiles of 16x16" in said.err
    assert {p.name for p in out.iterdir()} == {
        "comparison.png",
        "config.json",
        "metrics.json",
        "model.safetensors",
        "reconstruction.png",
    }
    model = str(out / "model.safetensors")
    assert main(["render", model, "--scale", "2", "--device", "numpy", "--out", str(tmp_path / "two.png")]) == 0
    assert load_picture(tmp_path / "two.png").pixels.shape == (90, 122, 3)
    capsys.readouterr()
    assert main(["info", model, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["tiles"], facts["tile"], facts["layers"]) == (12, 16, [16, 16, 3])
    assert facts["stored"] == "float16"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--tiles", "x"], "neither auto"),
        (["--tiles", "1000"], "side of 4 to 256"),
        (["--tiles", "8", "--every-tile"], "--every-tile needs --target-psnr"),
        (["--tiles", "none", "--every-tile"], "there are none"),
        (["--tiles", "none", "--budget-parameters", "10"], "chooses among tiles"),
        (["--budget-parameters", "10"], "too small"),
        (["--tiles", "8", "--animate", "x.gif"], "--animate"),
    ],
)
def test_what_does_not_fit_together_is_said_in_one_line(photo, words, told, capsys):
    assert main([photo, "--device", "numpy", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_held_out_pixels_of_tiles_are_told(tmp_path, photo, capsys):
    words = [photo, *FIT, "--steps", "5", "--train-on", "every-second", "--out", str(tmp_path / "run")]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "dB, held-out pixels" in said
    assert "by bicubic interpolation" in said


def test_the_comparison_says_that_it_is_of_tiles(result):
    assert "tiles of 8x8" in result._title()


def interrupted(monkeypatch, *words):
    """Run a command that is interrupted after its first five tiles, however long the rest takes."""
    add = TileStore.add

    def add_and_stop(self, *arguments):
        add(self, *arguments)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("coordfit.tiles.fit.CHUNK_TILES", 5)
    with monkeypatch.context() as patch:
        patch.setattr(TileStore, "add", add_and_stop)
        assert main([*map(str, words)]) == 130


def test_larger_pictures_are_decoded_where_they_are_asked_for(tmp_path, photo, monkeypatch, capsys):
    out, count = ["--out", str(tmp_path / "run")], 45 * 61
    monkeypatch.setattr("coordfit.tasks.folders.resume.MAX_PIXELS", count - 1)
    assert main([photo, *FIT, "--steps", "2", *out]) == 1
    assert "raise max_pixels (`coordfit fit --max-pixels`)" in capsys.readouterr().err
    interrupted(monkeypatch, photo, *FIT, "--steps", "2", *out, "--max-pixels", count)
    assert main(["--resume", *out, "--device", "numpy"]) == 0  # the run remembers
    assert main([photo, *FIT, "--max-pixels", "x"]) == 2
    with pytest.raises(PictureError, match="more than 5"):
        coordfit.fit(photo, max_pixels=5)


@pytest.mark.parametrize("repeated", [False, True], ids=["as it says", "with all words"])
def test_an_interrupted_run_goes_on(tmp_path, photo, monkeypatch, capsys, repeated):
    words = [photo, *FIT, "--steps", "5", "--stored", "float32"]
    interrupted(monkeypatch, *words, "--out", tmp_path / "run")
    told = re.search(r"interrupted; (\d+) of 12 tiles are saved, go on with (.*)", capsys.readouterr().err)
    assert int(told[1]) >= 5
    assert told[2] == f"--resume --out {tmp_path / 'run'}"
    more = words if repeated else ["--device", "numpy"]
    assert main([*more, "--resume", "--out", str(tmp_path / "run")]) == 0
    assert f"going on after {told[1]} of 12 tiles" in capsys.readouterr().err
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    found, wanted = (
        coordfit.load(tmp_path / name / "model.safetensors", device="numpy") for name in ("run", "whole")
    )
    np.testing.assert_array_equal(found.parameters, wanted.parameters)


def test_a_finished_run_is_not_trained_again(tmp_path, photo, monkeypatch, capsys):
    words, out = [photo, *FIT, "--steps", "2"], ["--out", str(tmp_path / "run"), "--json"]
    assert main([*words, *out, "--resume"]) == 0  # nothing is there: a new run of tiles
    printed = capsys.readouterr()
    assert f"no tiles to resume in {tmp_path / 'run'}: a new run begins there" in printed.err
    psnr_before = json.loads(printed.out)["metrics"]["psnr"]
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    monkeypatch.setattr(TileTrainer, "fit", None)
    for more in ([], words):
        assert main([*more, "--device", "numpy", *out, "--resume"]) == 0
        assert json.loads(capsys.readouterr().out)["metrics"]["psnr"] == psnr_before
    other = tmp_path / "other.png"
    coordfit.save_picture(other, 1.0 - crop().pixels)
    for change, told in (
        (["--steps", "3"], "another steps"),
        (["--tiles", "8"], "another tile"),
        (["--tiles", "none"], "the run has them"),
        ([str(other)], "another picture"),
    ):
        assert main([*change, "--device", "numpy", *out, "--resume"]) == 2
        assert told in capsys.readouterr().err
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


def test_divergence_is_told_with_what_to_lower(tmp_path, photo, capsys):
    assert main([photo, *FIT, "--steps", "3", "--learning-rate", "1e30", "--out", str(tmp_path / "run")]) == 4
    assert capsys.readouterr().err.endswith("lower --learning-rate\n")
    assert np.isfinite(coordfit.load(tmp_path / "run" / "model.safetensors").render()).all()


def test_tiles_do_not_go_on_from_one_network_nor_the_other_way_round(tmp_path, photo, monkeypatch, capsys):
    out, one = ["--out", str(tmp_path / "run")], [photo, *FIT[:2], *FIT[4:], "--steps", "2", "--tiles", "none"]
    assert main([*one, *out]) == 0
    assert main([photo, *FIT, *out, "--resume"]) == 2
    assert "the run has one network" in capsys.readouterr().err
    interrupted(monkeypatch, photo, *FIT, "--steps", "2", *out, "--overwrite")
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()
    assert main([*one, *out, "--overwrite"]) == 0
    assert not list((tmp_path / "run").glob("tiles.*"))
