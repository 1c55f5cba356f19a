"""Animations: what is in the files, for each format, and what is refused."""

import numpy as np
import pytest
from PIL import Image, ImageSequence

from coordfit.cli.animation import AnimationCallback
from coordfit.errors import ConfigError, OutputError
from coordfit.images.animated import check_suffix
from coordfit.report.animation import MAX_FRAMES, Animation

SUFFIXES = [".webp", ".png", ".gif"]
LEVELS = [0.0, 0.25, 0.5, 0.75, 1.0]


def flat(level, shape=(16, 16, 3)):
    return np.full(shape, level, np.float32)


def animation_of(levels, **options):
    animation = Animation(["left", "right"], **options)
    for step, level in enumerate(levels):
        animation.add([flat(level), flat(1 - level)], [f"step {step}", f"{level:.2f} dB"])
    return animation


def frames_of(path):
    """The frames as arrays, and how long each is shown in milliseconds."""
    with Image.open(path) as image:
        frames = []
        for frame in ImageSequence.Iterator(image):
            frame.load()
            frames.append((np.asarray(frame.convert("RGB")), frame.info.get("duration")))
        return [pixels for pixels, _ in frames], [duration for _, duration in frames], image.info.get("loop")


def middle_levels(frames):
    """The level of the left picture in each frame: 256 pixels high below a line of text, 16 from the edge."""
    return [frame[168, 144].astype(int) for frame in frames]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_holds_the_frames_in_order_and_the_last_one_longer(tmp_path, suffix):
    path = tmp_path / f"film{suffix}"
    animation_of(LEVELS).save(path)
    frames, durations, loop = frames_of(path)
    assert len(frames) == len(LEVELS)
    assert loop == 0
    assert len(set(durations[:-1])) == 1
    assert durations[-1] > 10 * durations[0]
    for found, level in zip(middle_levels(frames), LEVELS, strict=True):
        np.testing.assert_allclose(found, 255 * level, atol=8)  # GIF has 255 colours, WebP is lossy


def test_pictures_stand_side_by_side_with_their_texts(tmp_path):
    animation = animation_of([0.25])
    animation.save(tmp_path / "film.png")
    ((frame,), _, _) = frames_of(tmp_path / "film.png")
    dark, light = (frame == 64).all(-1), (frame == 191).all(-1)
    for block, left in ((dark, 16), (light, 16 + 256 + 14)):
        rows, columns = np.nonzero(block)
        assert columns.min() == left
        assert columns.max() == left + 255
        assert rows.max() - rows.min() == 255
    below = frame[300:]
    assert (below < 200).any()


def test_a_caption_may_be_one_for_all(tmp_path):
    animation = Animation(["a", "b"])
    animation.add([flat(0), flat(0)], caption="step 1, 20 dB")
    animation.add([flat(0), flat(0)], caption="step 2, 20 dB")
    animation.save(tmp_path / "film.png")
    (one, other), _, _ = frames_of(tmp_path / "film.png")
    changed = np.argwhere((one != other).any(-1))
    assert changed[:, 0].min() > 16 + 24 + 256


def test_each_network_has_its_figure_below_its_own_picture(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(Animation, "add", lambda animation, pictures, captions: told.append(captions))
    AnimationCallback(tmp_path / "a.png", ["a", "b"]).add([flat(0), flat(0)], 1200, ["20.00 dB", "30.00 dB"])
    AnimationCallback(tmp_path / "a.png", ["a"]).add([flat(0)], 7, ["known 20.00 dB", "hidden 10.00 dB"])
    assert told == [
        ["step 1,200: 20.00 dB", "step 1,200: 30.00 dB"],
        ["step 7: known 20.00 dB, hidden 10.00 dB"],
    ]


def test_frames_are_thinned_evenly_and_the_last_one_stays(tmp_path):
    levels = np.linspace(0, 1, 100)
    animation = animation_of(levels, max_frames=8)
    assert 5 <= len(animation) <= 8
    animation.save(tmp_path / "film.png")
    shown = np.array([level[0] for level in middle_levels(frames_of(tmp_path / "film.png")[0])]) / 255
    assert shown[0] == 0
    assert shown[-1] == 1
    steps = np.diff(shown)[:-1]
    np.testing.assert_allclose(steps, steps[0], atol=0.01)


def test_no_more_frames_than_bounded_are_kept():
    animation = Animation(["a"])
    for step in range(MAX_FRAMES * 3):
        animation.add([flat(step / (MAX_FRAMES * 3), (2, 2, 1))])
        assert len(animation) <= min(step + 1, MAX_FRAMES)
    assert len(animation) > MAX_FRAMES // 2


@pytest.mark.parametrize("shape", [(1, 1, 1), (700, 1400, 3), (3, 900, 4), (900, 3, 2)])
def test_sizes_are_bounded(tmp_path, shape):
    animation = Animation(["a title that is longer than its picture"] * 3)
    animation.add([flat(0.5, shape)] * 3)
    animation.save(tmp_path / "film.png")
    ((frame,), _, _) = frames_of(tmp_path / "film.png")
    assert frame.shape[1] <= 1650
    assert frame.shape[0] <= 512 + 100
    small = Animation(["a"], 64)
    small.add([flat(0.5, shape)])
    small.save(tmp_path / "small.png")
    assert frames_of(tmp_path / "small.png")[0][0].shape[0] <= 64 + 100


@pytest.mark.parametrize("name", ["film.mov", "film", "film.jpg", "film.apng"])
def test_other_suffixes_are_refused_with_the_known_ones(name):
    with pytest.raises(ConfigError, match=r"\.webp, \.png, \.gif, \.mp4"):
        check_suffix(name)
    for suffix in (*SUFFIXES, ".GIF"):
        check_suffix(f"film{suffix}")


def test_what_does_not_fit_together_is_refused(tmp_path):
    animation = Animation(["a", "b"])
    with pytest.raises(ValueError, match="2 titles, but 1 pictures"):
        animation.add([flat(0)])
    with pytest.raises(ValueError, match="3 captions"):
        animation.add([flat(0)] * 2, ["a", "b", "c"])
    with pytest.raises(ConfigError, match="no frame"):
        animation.save(tmp_path / "film.gif")
    with pytest.raises(ConfigError):
        Animation([])
    animation.add([flat(0)] * 2)
    with pytest.raises(OutputError):
        animation.save(tmp_path / "missing" / "film.gif")
