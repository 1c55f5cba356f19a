"""Zooms: what is in the frames, how the window moves, and what is refused."""

import itertools
import json
import sys

import numpy as np
import pytest
from PIL import Image

import coordfit
from coordfit.cli import main
from coordfit.errors import ConfigError, NotEnoughMemoryError
from coordfit.models.rendering import Drawable
from coordfit.signals.facts import SignalFacts
from coordfit.tasks.compress import open_compressed
from coordfit.tasks.zoom import Motion, plan_zoom

SMALL = {"steps": 3, "hidden_size": 8, "num_frequencies": 8, "device": "numpy", "threads": 1}


def picture_of(channels=3, height=20, width=24):
    return np.random.default_rng(channels).random((height, width, channels)).astype(np.float32)


def network(**more):
    return coordfit.fit(picture_of(), **SMALL, **more).model


def tiled():
    return coordfit.fit(picture_of(), tiles=8, **SMALL).model


def compressed():
    return open_compressed(coordfit.compress(picture_of(), steps=2).data)


MODELS = {"network": network, "tiles": tiled, "compressed": compressed}
ALL = pytest.mark.parametrize("model", MODELS, indirect=True)


@pytest.fixture(scope="module")
def models():
    return {name: make() for name, make in MODELS.items()}


@pytest.fixture
def model(request, models):
    return models[getattr(request, "param", "network")]


@pytest.fixture
def file(model, models, tmp_path):
    path = tmp_path / ("m.cfc" if model is models["compressed"] else "m.safetensors")
    model.save(path)
    return path


def levels(colours):
    return np.rint(255 * np.clip(colours, 0, 1))


def frame(zoom, number):
    return np.asarray(zoom.frame(number)).astype(float)


# -- frames ----------------------------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize("shape", [(20, 24), (80, 96), (60, 90)])
def test_the_first_frame_is_the_rendering_of_the_whole_picture(model, shape):
    zoom = plan_zoom(model, (3, 4, 6, 5), "a.png", shape=shape)
    np.testing.assert_array_equal(frame(zoom, 0), levels(model.render(*shape)))


@ALL
def test_the_last_frame_is_that_window_of_a_larger_rendering(model):
    zoom = plan_zoom(model, (6, 10, 6, 5), "a.png", shape=(40, 48))
    wanted = model.render(160, 192, crop=(48, 80, 48, 40))
    assert np.abs(frame(zoom, zoom.count - 1) - levels(wanted)).max() <= 1


@pytest.mark.parametrize("model", ["network", "tiles"], indirect=True)
@pytest.mark.parametrize("window", [(7.3, 4.1, 6, 5), (11.9, 9.7, 0.6, 0.5), (23.9, 19.9, 0.0012, 0.001)])
def test_the_last_frame_is_the_function_at_the_points_of_the_window(model, window):
    """Parts of pixels too: the function is evaluated there, and no large picture is cut."""
    left, top, width, height = window
    zoom = plan_zoom(model, window, "a.png", shape=(40, 48))
    x = (left + (np.arange(48) + 0.5) * width / 48) / 24
    y = (top + (np.arange(40) + 0.5) * height / 40) / 24
    wanted = model(np.stack(np.meshgrid(x, y), axis=-1))
    assert np.abs(frame(zoom, zoom.count - 1) - levels(wanted)).max() <= 1


@ALL
def test_a_coarser_frame_has_means_over_the_pixels(model):
    zoom = plan_zoom(model, (6, 10, 6, 5), "a.png", shape=(10, 12))
    means = model.render().reshape(10, 2, 12, 2, 3).mean((1, 3))
    assert np.abs(frame(zoom, 0) - levels(means)).max() <= 1


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_any_picture_can_be_shown(channels, tmp_path):
    model = coordfit.fit(picture_of(channels), **SMALL).model
    plan_zoom(model, (3, 4, 6, 5), "a.png", shape=(20, 24), seconds=0.1).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (24, 20)
        assert image.n_frames == 3


def test_an_array_of_two_axes_is_shown_in_its_range(tmp_path):
    model = coordfit.fit_array(1000 * picture_of(1)[..., 0], axes="yx", **SMALL).model
    zoom = plan_zoom(model, (3, 4, 6, 5), "a.png", shape=(20, 24))
    assert 10 < frame(zoom, 0).mean() < 245


# -- motion ----------------------------------------------------------------------------------------------

WINDOWS = [(30, 20, 16, 12), (0, 0, 1, 1), (63.5, 47.5, 0.5, 0.5), (10, 20, 50, 3), (24, 18, 16, 12)]
TIMES = np.linspace(0, 1, 101)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_a_zoom_goes_from_the_whole_picture_to_the_window_with_a_fixed_point(window):
    motion = Motion.into(window, (48, 64))
    corners, sides = (np.array(each) for each in zip(*map(motion.window, TIMES), strict=True))
    np.testing.assert_array_equal([corners[0], sides[0]], [(0, 0), (48, 64)])
    point = corners[-1] / (1 - motion.scale)  # which is at the same place of the first and of the last frame
    np.testing.assert_allclose((point - corners) / sides, np.broadcast_to(point / (48, 64), sides.shape))
    (x, y, width, height), (top, left) = window, corners[-1]
    assert left <= x + 1e-9
    assert top <= y + 1e-9
    assert x + width <= left + sides[-1][1] + 1e-9
    assert y + height <= top + sides[-1][0] + 1e-9
    assert max(width / sides[-1][1], height / sides[-1][0]) == pytest.approx(1)  # no wider than it must be
    np.testing.assert_allclose(sides[:, 1] / sides[:, 0], 64 / 48)
    assert corners.min() >= 0
    assert ((corners + sides) <= (48 + 1e-9, 64 + 1e-9)).all()


def test_it_shrinks_by_equal_ratios_but_for_soft_ends():
    motion = Motion.into((30, 20, 4, 3), (48, 64))
    widths = np.array([motion.window(time)[1][1] for time in TIMES])
    speed = -np.diff(np.log(widths))
    np.testing.assert_allclose(speed[20:80], speed[50])
    assert (np.diff(speed[:20]) > 0).all()
    assert (np.diff(speed[80:]) < 0).all()
    assert max(speed[0], speed[-1]) < 0.05 * speed[50]
    np.testing.assert_allclose(speed, speed[::-1])


# -- files -----------------------------------------------------------------------------------------------


def words_of(file, *more):
    return ["render", str(file), "--zoom-to", "6,10,6,5", "--size", "24x20", "--seconds", "0.2", *more]


@pytest.mark.parametrize("suffix", [".webp", ".png", ".gif"])
@ALL
def test_the_command_writes_what_is_asked_for(model, file, tmp_path, capsys, suffix):
    out = tmp_path / f"z{suffix}"
    assert main(words_of(file, "--out", str(out), "--json")) == 0, capsys.readouterr()
    facts = json.loads(capsys.readouterr().out)
    assert (facts["width"], facts["height"], facts["frames"], facts["seconds"]) == (24, 20, 6, 1.7)
    with Image.open(out) as image:
        assert (image.size, image.n_frames) == ((24, 20), 6)
        times = []
        for number in range(6):
            image.seek(number)
            image.load()
            times.append(image.info["duration"])
    assert times == [40] * 5 + [1500]


def test_a_video_has_even_sides_and_the_colours_of_the_function(model, file, tmp_path, capsys):
    av = pytest.importorskip("av", reason="PyAV, the optional extra `video`, is not installed")
    out = tmp_path / "z.mp4"
    size = ["--size", "61x49", "--out", str(out), "--json"]
    assert main([*words_of(file), *size]) == 0, capsys.readouterr()
    facts = json.loads(capsys.readouterr().out)
    assert (facts["width"], facts["height"]) == (62, 50)
    with av.open(str(out)) as video:
        stream = video.streams.video[0]
        assert stream.average_rate == 25
        assert abs(stream.duration * stream.time_base - 1.7) < 0.05  # the last frame stays 37.5 of 1/25 s
        shown = [each.reformat(format="rgb24", src_colorspace="ITU709") for each in video.decode(video=0)]
        frames = [each.to_ndarray().astype(float) for each in shown]
    zoom = plan_zoom(model, (6, 10, 6, 5), out, shape=(49, 61), seconds=0.2)
    assert len(frames) == 5 + 38
    assert np.abs(frames[0].mean((0, 1)) - frame(zoom, 0).mean((0, 1))).max() < 2
    assert np.abs(frames[-1].mean((0, 1)) - frame(zoom, 5).mean((0, 1))).max() < 2


def test_it_has_a_name_a_size_and_a_time_by_itself(file, model, capsys, monkeypatch):
    blank = Image.new("RGB", (480, 400))
    monkeypatch.setattr("coordfit.tasks.zoom.Zoom.frame", lambda zoom, number: blank)
    assert main(["render", str(file), "--zoom-to", "6,10,6,5", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["file"] == str(file.with_name("m-zoom.webp"))
    assert (facts["width"], facts["height"], facts["frames"]) == (480, 400, 151)


SIZES = {(20, 24): (400, 480), (600, 700): (600, 700), (3000, 4000): (960, 1280), (1, 999): (1, 999)}


@pytest.mark.parametrize(("own", "shown"), SIZES.items())
def test_the_size_is_the_pictures_own_within_bounds(own, shown):
    drawable = Drawable()
    drawable.signal, drawable.backend = SignalFacts(own, 3), coordfit.get_backend("numpy")
    assert plan_zoom(drawable, (0, 0, 1, 0.5), "a.webp").shape == shown


def test_a_run_folder_will_do_and_the_callback_counts(tmp_path, capsys):
    coordfit.fit(picture_of(), **SMALL, out=tmp_path / "run")
    out = tmp_path / "z.gif"
    assert main([*words_of(tmp_path / "run"), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    counts = []
    zoom = plan_zoom(coordfit.load(tmp_path / "run"), (6, 10, 6, 5), out, shape=(20, 24), seconds=0.2)
    zoom.save(out, lambda *count: counts.append(count))
    assert counts == list(itertools.product(range(1, 7), [6]))


# -- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "said"),
    [
        ((20, 0, 5, 5), "does not lie inside the picture, 24x20"),
        ((0, 19.9, 1, 0.2), "does not lie inside"),
        ((-1, 0, 5, 5), "does not lie inside"),
        ((0, 0, float("nan"), 5), "does not lie inside"),
        ((0, 0, 24, 20), "as wide or as high as the picture"),
        ((0, 5, 24, 1), "as wide or as high as the picture"),
        ((0, 0, 1e-4, 5), "smaller than 0.001 pixels"),
    ],
    ids=str,
)
def test_windows_that_are_no_part_of_the_picture_are_refused(model, window, said):
    with pytest.raises(ConfigError, match=said):
        plan_zoom(model, window, "a.png")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--zoom-to", "1,2,3"], "is no window; use X,Y,W,H"),
        (["--zoom-to", "1,2,x,3"], "is no window"),
        (["--zoom-to", "1,2,0,3"], "is no window"),
        (["--zoom-to", "1,2,nan,3"], "is no window"),
        (["--zoom-to", "1,2,inf,3"], "is no window"),
        (["--zoom-to", "20,0,9,9"], "does not lie inside the picture, 24x20"),
        (["--zoom-to", "0,0,9,9", "--seconds", "0"], "above 0 and at most 600"),
        (["--zoom-to", "0,0,9,9", "--seconds", "nan"], "above 0 and at most 600"),
        (["--seconds", "3"], "add --zoom-to"),
        (["--zoom-to", "0,0,9,9", "--crop", "0,0,4,4"], "leave --crop out"),
        (["--zoom-to", "0,0,9,9", "--derivative", "x"], "leave --derivative out"),
        (["--zoom-to", "0,0,9,9", "--deviation"], "leave --deviation out"),
        (["--zoom-to", "0,0,9,9", "--method", "enlarge"], "leave --method enlarge out"),
        (["--zoom-to", "0,0,9,9", "--size", "9000"], "two sides of 1 to 4096 pixels, not 9000x7500"),
        (["--zoom-to", "0,0,9,9", "--size", "9x9x9"], "two sides of 1 to 4096 pixels, not 9x9x9"),
        (["--zoom-to", "0,0,9,9", "--out", "z.mov"], "its suffix is none of"),
        (["--zoom-to", "0,0,9,9", "--out", "z.npy"], "its suffix is none of"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_wrong_usage_is_2_with_one_line_and_no_file(model, file, tmp_path, capsys, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert main(["render", str(file), "--device", "numpy", *words]) == 2
    told = capsys.readouterr()
    assert (told.out, len(told.err.splitlines())) == ("", 1)
    assert said in told.err
    assert sorted(tmp_path.iterdir()) == before


def test_a_volume_is_refused(tmp_path):
    volume = coordfit.fit_array(np.random.default_rng(0).random((4, 5, 6)), axes="zyx", **SMALL)
    with pytest.raises(ConfigError, match="needs a picture, not 3 axes"):
        plan_zoom(volume.model, (0, 0, 1, 1), "a.png")


def test_frames_that_do_not_fit_into_memory_are_refused_unless_it_is_a_video(model, monkeypatch):
    monkeypatch.setattr(type(model.backend), "free_memory", lambda backend: 2**20)
    with pytest.raises(NotEnoughMemoryError, match="this zoom needs about"):
        plan_zoom(model, (6, 10, 6, 5), "a.webp")
    pytest.importorskip("av", reason="PyAV, the optional extra `video`, is not installed")
    assert plan_zoom(model, (6, 10, 6, 5), "a.mp4").count == 151


def test_a_file_is_replaced_only_when_asked(file, model, tmp_path, capsys):
    out = tmp_path / "z.gif"
    out.write_text("mine")
    assert main([*words_of(file), "--out", str(out)]) == 1
    assert "z.gif is there already" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert main([*words_of(file), "--out", str(out), "--overwrite"]) == 0
    assert out.read_bytes()[:3] == b"GIF"


def test_without_the_extra_one_line_names_the_cure_before_the_model_is_read(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    assert main(words_of(tmp_path / "missing.safetensors", "--out", str(tmp_path / "z.mp4"))) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert "pip install 'coordfit[video]'" in told
