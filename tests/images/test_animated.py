"""Videos of frames: what an MP4 holds when it is decoded, and what is refused."""

import io
import itertools
import sys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

import coordfit
from coordfit.cli import main
from coordfit.cli.animation import AnimationCallback
from coordfit.errors import ConfigError, OutputError
from coordfit.images.animated import FrameTiming, check_suffix, save_frames
from coordfit.report.animation import Animation

RATE = Fraction(25, 3)
PACE = FrameTiming(RATE, 2.5)


@pytest.fixture
def av():
    return pytest.importorskip("av", reason="PyAV, the optional extra `video`, is not installed")


def pictures(*levels, size=(48, 32)):
    return [Image.new("RGB", size, (level, level, 255 - level)) for level in levels]


def colours_of(frame):
    """The colours (H, W, 3) of a decoded frame, by the matrix of BT.709, from its own planes."""
    planes = [
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width].astype(float)
        for plane in frame.planes
    ]
    y = (planes[0] - 16) / 219
    u, v = ((plane.repeat(2, 0).repeat(2, 1) - 128) / 224 for plane in planes[1:])
    red, blue = y + 1.5748 * v, y + 1.8556 * u
    green = (y - 0.2126 * red - 0.0722 * blue) / 0.7152
    return 255 * np.stack([red, green, blue], axis=-1).clip(0, 1)


def decoded(av, path):
    with av.open(str(path)) as file:
        return list(file.decode(video=0))


@pytest.mark.parametrize("levels", [[10, 90, 170, 250], [90]], ids=["some frames", "one frame"])
def test_a_video_holds_the_frames_at_one_rate_and_the_last_one_longer(av, tmp_path, levels):
    path = tmp_path / "a.mp4"
    save_frames(path, iter(pictures(*levels)), len(levels), PACE)
    frames = decoded(av, path)
    held = 21  # 2.5 s at 25/3 frames per second
    assert len(frames) == len(levels) - 1 + held
    assert {b.pts - a.pts for a, b in itertools.pairwise(frames)} == {frames[1].pts - frames[0].pts}
    for frame, level in zip(frames, [*levels, *levels[-1:] * (held - 1)], strict=True):
        np.testing.assert_allclose(colours_of(frame)[16, 24], (level, level, 255 - level), atol=2.5)
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        assert stream.average_rate == RATE
        assert abs(stream.duration * stream.time_base - len(frames) / RATE) < 0.001


def test_browsers_play_it_at_once_and_in_its_own_colours(av, tmp_path):
    path = tmp_path / "a.mp4"
    save_frames(path, pictures(0, 255), 2, PACE)
    content = path.read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")
    with av.open(str(path)) as file:
        codec = file.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt, codec.profile) == ("h264", "yuv420p", "High")
        assert (codec.colorspace, codec.color_primaries, codec.color_trc, codec.color_range) == (1, 1, 1, 1)


def test_the_colours_of_a_photograph_are_right_on_average(av, tmp_path):
    pixels = coordfit.bundled_picture().pixels
    picture = Image.fromarray(np.uint8(np.rint(255 * pixels))).resize((256, 256), Image.Resampling.LANCZOS)
    save_frames(tmp_path / "a.mp4", [picture] * 3, 3, PACE)
    error = colours_of(decoded(av, tmp_path / "a.mp4")[1]) - np.asarray(picture)
    assert np.abs(error).mean() < 2.0
    assert np.abs(error.mean((0, 1))).max() < 0.5


def test_odd_sides_get_their_last_pixels_twice(av, tmp_path):
    picture = Image.new("RGB", (33, 17), (20, 40, 60))
    picture.putpixel((32, 16), (250, 250, 250))
    save_frames(tmp_path / "a.mp4", [picture], 1, PACE)
    shown = colours_of(decoded(av, tmp_path / "a.mp4")[0])
    assert shown.shape == (18, 34, 3)
    assert shown[16:, 32:].min() > 200
    assert shown[:16, :32].max() < 80


def test_a_training_can_be_a_video(av, tmp_path, capsys):
    path = tmp_path / "focus.mp4"
    words = [
        "--size",
        "16",
        "--steps",
        "3",
        "--evaluate-every",
        "1",
        "--device",
        "numpy",
        "--animate",
        str(path),
    ]
    assert main(["fit", *words, "--out", str(tmp_path / "run")]) == 0, capsys.readouterr()
    frames = decoded(av, path)
    assert frames[0].width % 2 == frames[0].height % 2 == 0
    changes = [np.abs(colours_of(a) - colours_of(b)).mean() for a, b in itertools.pairwise(frames)]
    assert sum(change > 0.2 for change in changes) >= 2
    assert sum(change < 0.2 for change in changes) >= 18  # the last one is held


def test_frames_are_taken_one_at_a_time(av, tmp_path):
    class Counted:
        alive = most = 0

        def __init__(self, picture):
            self.__array_interface__ = picture.__array_interface__
            Counted.alive += 1
            Counted.most = max(Counted.most, Counted.alive)

        def __del__(self):
            Counted.alive -= 1

    save_frames(tmp_path / "a.mp4", (Counted(picture) for picture in pictures(*range(40))), 40, PACE)
    assert Counted.most <= 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_error_while_a_frame_is_drawn_comes_through_and_leaves_no_file(av, tmp_path, error):
    def frames():
        yield from pictures(0, 1)
        raise error("drawing")

    with pytest.raises(error, match="drawing"):
        save_frames(tmp_path / "a.mp4", frames(), 3, PACE)
    assert not list(tmp_path.iterdir())


def test_what_the_encoder_refuses_is_an_error_in_one_line(av, tmp_path):
    with pytest.raises(OutputError, match=r"encoder of H\.264"):
        save_frames(tmp_path / "a.mp4", [Image.new("RGB", (2, 17000))], 1, PACE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [["fit"], ["compare"], ["inpaint", "--missing", "0.5"]], ids=lambda c: c[0])
def test_without_the_extra_one_line_names_the_cure_before_training(tmp_path, capsys, monkeypatch, command):
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr("coordfit.tasks.jobs.network.Trainer", None)
    monkeypatch.setattr("coordfit.tasks.jobs.plan.choose_sigma", None)
    words = [*command, "--size", "16", "--sigma", "auto", "--animate", "focus.mp4"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert "pip install 'coordfit[video]'" in told
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="video"):
        AnimationCallback(tmp_path / "focus.mp4", ["a"])


def test_a_library_without_the_encoder_is_refused(av, monkeypatch):
    check_suffix("a.mp4")
    monkeypatch.setattr(av, "codecs_available", {"h264"})
    with pytest.raises(ConfigError, match="libx264"):
        check_suffix("a.mp4")


@pytest.mark.parametrize("suffix", [".webp", ".png", ".gif"])
def test_other_formats_round_their_times(tmp_path, suffix):
    save_frames(tmp_path / f"a{suffix}", pictures(0, 100, 200), 3, FrameTiming(Fraction(30), 1.5))
    with Image.open(io.BytesIO((tmp_path / f"a{suffix}").read_bytes())) as image:
        times = []
        for number in range(image.n_frames):
            image.seek(number)
            image.load()
            times.append(round(image.info["duration"]))
    assert times == [30, 30, 1500] if suffix == ".gif" else [33, 33, 1500]


def test_an_animation_without_frames_is_refused(av, tmp_path):
    with pytest.raises(ConfigError, match="no frame"):
        Animation(["a"]).save(tmp_path / "a.mp4")
