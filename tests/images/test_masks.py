"""Masks of known pixels: True, and white in a file, is known."""

import numpy as np
import pytest
from PIL import Image

from coordfit.errors import ConfigError, PictureError
from coordfit.images import bundled_picture, load_picture
from coordfit.images.drawn_masks import block_mask, missing_mask, scribble_mask, text_mask
from coordfit.images.masks import alpha_mask, hide, read_mask

HEIGHT, WIDTH = 24, 40


def levels_with_a_black_square(dtype=np.uint8):
    """White but for a black square of 6x5 pixels."""
    levels = np.full((HEIGHT, WIDTH), 255, dtype)
    levels[3:9, 10:15] = 0
    return levels


KNOWN = levels_with_a_black_square() == 255


def saved(path, levels, mode=None, **options):
    image = Image.fromarray(levels)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def known_in(source, height, width, **options):
    """The mask of `read_mask`, which has nothing to note."""
    known, notes = read_mask(source, height, width, **options)
    assert notes == ()
    return known


# -- mask files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "P"])
def test_white_in_a_mask_file_is_known(tmp_path, mode):
    file = saved(tmp_path / "mask.png", levels_with_a_black_square(), mode)
    np.testing.assert_array_equal(known_in(file, HEIGHT, WIDTH), KNOWN)


def test_an_inverted_mask_file_turns_known_and_hidden(tmp_path):
    file = saved(tmp_path / "mask.png", levels_with_a_black_square())
    np.testing.assert_array_equal(known_in(file, HEIGHT, WIDTH, invert=True), ~KNOWN)


@pytest.mark.parametrize("quality", [75, 95])
def test_a_mask_saved_as_jpeg_is_read_exactly(tmp_path, quality):
    known = text_mask(96, 128, "words with sharp edges")
    file = saved(tmp_path / "mask.jpg", np.uint8(255) * known, quality=quality)
    assert len(np.unique(np.asarray(Image.open(file)))) > 2  # JPEG has moved levels
    np.testing.assert_array_equal(read_mask(file, 96, 128)[0], known)


@pytest.mark.parametrize("mask", [KNOWN, Image.fromarray(levels_with_a_black_square())], ids=["array", "PIL"])
def test_a_mask_may_be_an_array_or_an_image(mask):
    np.testing.assert_array_equal(known_in(mask, HEIGHT, WIDTH), KNOWN)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("threshold", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("invert", [False, True])
def test_a_soft_mask_is_white_from_its_threshold_on_and_says_so(channels, threshold, invert):
    """Of a ramp from black to white, each level is on the side where its share of white is."""
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (4, 256, channels))
    known, notes = read_mask(ramp, 4, 256, threshold=threshold, invert=invert)
    white = np.broadcast_to(np.arange(256) / 255 >= threshold, known.shape)
    np.testing.assert_array_equal(known, white != invert)
    side = "hidden" if invert else "known"
    assert notes == (
        f"1016 pixels of the mask are neither black nor white: {side} from the threshold of "
        f"{100 * threshold:g} % on",
    )


def test_half_is_the_threshold_unless_another_is_given():
    ramp = np.broadcast_to(np.linspace(0, 1, 64), (4, 64))
    np.testing.assert_array_equal(read_mask(ramp, 4, 64)[0], read_mask(ramp, 4, 64, threshold=0.5)[0])


@pytest.mark.parametrize("threshold", [0.0, 1.01, -1.0, float("nan")])
def test_a_threshold_that_tells_nothing_apart_is_refused(threshold):
    with pytest.raises(ConfigError, match="the mask threshold must be above 0 and at most 1"):
        read_mask(KNOWN, HEIGHT, WIDTH, threshold=threshold)


def test_colours_are_refused():
    red = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    red[:, :20, 0] = 255
    with pytest.raises(ConfigError, match=r"480 coloured pixels; .*save it in greys alone"):
        known_in(red, HEIGHT, WIDTH)


def test_another_size_is_refused_with_both_sizes(tmp_path):
    file = saved(tmp_path / "mask.png", levels_with_a_black_square())
    with pytest.raises(ConfigError, match=r"mask\.png is 40x24 pixels and the picture 32x16; they must agree"):
        known_in(file, 16, 32)


@pytest.mark.parametrize(
    ("level", "said"), [(255, "nothing is hidden: the mask mask.png"), (0, "mask.png hides all 40x24 pixels")]
)
def test_a_mask_of_one_colour_is_refused_with_the_polarity(tmp_path, level, said):
    file = saved(tmp_path / "mask.png", np.full((HEIGHT, WIDTH), level, np.uint8))
    with pytest.raises(ConfigError, match=f"{said}.*white is known and black is hidden"):
        known_in(file, HEIGHT, WIDTH)


def test_a_transparent_mask_is_refused():
    levels = np.stack([levels_with_a_black_square()] * 2, axis=2)
    with pytest.raises(ConfigError, match="transparent in part"):
        known_in(levels, HEIGHT, WIDTH)


def test_a_file_that_is_no_picture_is_a_picture_error(tmp_path):
    (tmp_path / "mask.png").write_text("no mask")
    with pytest.raises(PictureError, match=r"mask\.png"):
        known_in(tmp_path / "mask.png", HEIGHT, WIDTH)


# -- drawn masks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0.001, 0.25, 0.5, 0.9, 0.999])
def test_exactly_the_missing_share_is_hidden(fraction):
    known = missing_mask(31, 33, fraction, seed=7)
    assert known.shape == (31, 33)
    assert np.count_nonzero(~known) == round(fraction * 31 * 33)


def test_missing_pixels_are_spread_over_the_picture():
    known = missing_mask(64, 64, 0.5, seed=0)
    quarters = known.reshape(2, 32, 2, 32).mean(axis=(1, 3))
    assert np.abs(quarters - 0.5).max() < 0.06  # 3.8 standard deviations
    assert 0.4 < (known[:, 1:] == known[:, :-1]).mean() < 0.6


@pytest.mark.parametrize(
    "draw",
    [lambda seed: missing_mask(32, 48, 0.5, seed), lambda seed: scribble_mask(32, 48, seed)],
    ids=["missing", "scribble"],
)
def test_equal_seeds_hide_equal_pixels_and_others_do_not(draw):
    np.testing.assert_array_equal(draw(3), draw(3))
    assert not np.array_equal(draw(3), draw(4))


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, float("nan")])
def test_a_share_that_is_none_is_refused(fraction):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        missing_mask(8, 8, fraction, seed=0)


def test_a_share_that_rounds_to_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"nothing is hidden: a missing share of 0\.001"):
        missing_mask(8, 8, 0.001, seed=0)


@pytest.mark.parametrize("size", [(128, 128), (60, 200), (400, 100)])
@pytest.mark.parametrize(
    "words", ["Hello", "incomprehensibilities", "The quick brown fox jumps over the lazy dog"]
)
def test_words_are_written_across_the_picture_and_not_cut_off(size, words):
    hidden = ~text_mask(*size, words)
    assert 0.002 < hidden.mean() < 0.5
    assert not hidden[[0, -1]].any()
    assert not hidden[:, [0, -1]].any()
    columns, rows = np.flatnonzero(hidden.any(axis=0)), np.flatnonzero(hidden.any(axis=1))
    # As large as fits: the words reach far in one direction at least, unless a third of the height is reached.
    letters_are_largest = np.ptp(rows) > 0.2 * min(size)
    assert np.ptp(columns) > 0.6 * size[1] or np.ptp(rows) > 0.6 * size[0] or letters_are_largest


def test_a_long_text_is_wrapped():
    rows = ~text_mask(128, 128, "one two three four five six seven eight nine ten").all(axis=1)
    lines = np.count_nonzero(np.diff(rows.astype(int)) == 1)
    assert lines >= 3


def test_letters_keep_their_accents():
    assert (text_mask(64, 128, "Öl") != text_mask(64, 128, "Ol")).any()


def test_text_that_does_not_fit_is_refused_with_the_cure():
    with pytest.raises(ConfigError, match="does not fit on 24x16 pixels; give fewer words or a larger picture"):
        text_mask(16, 24, "far too many words for a stamp " * 3)


def test_text_without_letters_is_refused():
    with pytest.raises(ConfigError, match="no letters"):
        text_mask(64, 64, " \n ")


@pytest.mark.parametrize("seed", range(12))
def test_scribbled_lines_hide_some_and_leave_most(seed):
    hidden = ~scribble_mask(96, 128, seed)
    assert 0.03 < hidden.mean() < 0.4


def test_a_block_hides_its_rectangle_alone():
    known = block_mask(HEIGHT, WIDTH, (10, 3, 5, 6))
    np.testing.assert_array_equal(known, KNOWN)


@pytest.mark.parametrize("block", [(38, 0, 3, 1), (0, 20, 1, 5), (-1, 0, 2, 2)])
def test_a_block_outside_is_refused_with_both_sizes(block):
    with pytest.raises(ConfigError, match=f"block {block[0]},.* inside the picture of 40x24 pixels"):
        block_mask(HEIGHT, WIDTH, block)


@pytest.mark.parametrize(("block", "said"), [((0, 0, 0, 4), "no pixels"), ((0, 0, WIDTH, HEIGHT), "hides all")])
def test_a_block_of_nothing_or_everything_is_refused(block, said):
    with pytest.raises(ConfigError, match=said):
        block_mask(HEIGHT, WIDTH, block)


# -- alpha -----------------------------------------------------------------------------------------------


def with_alpha(colours, alpha):
    return load_picture(np.concatenate([colours, alpha[:, :, None]], axis=2))


@pytest.mark.parametrize("channels", [1, 3])
def test_transparent_pixels_are_hidden_and_alpha_is_not_learned(channels):
    colours = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, channels), dtype=np.uint8)
    picture, known = alpha_mask(with_alpha(colours, levels_with_a_black_square()))
    np.testing.assert_array_equal(known, KNOWN)
    assert picture.channels == channels
    np.testing.assert_array_equal(picture.pixels[known], colours[known] / np.float32(255))


def test_half_transparent_pixels_are_known_from_half_on_and_noted():
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[0, :3] = 0, 127, 128
    picture, known = alpha_mask(with_alpha(np.full((HEIGHT, WIDTH, 1), 9, np.uint8), alpha))
    assert known[0, :3].tolist() == [False, False, True]
    assert any("2 pixels are half transparent" in note for note in picture.notes)
    assert not picture.pixels[0, 1].any()  # what is hidden has no colour


def test_a_picture_without_transparency_has_nothing_hidden():
    with pytest.raises(
        ConfigError, match=r"nothing is hidden: chelsea-32\.png has no transparent pixels; name"
    ):
        alpha_mask(bundled_picture(32))


# -- one way at a time -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"mask": KNOWN}, KNOWN),
        ({"mask": KNOWN, "invert": True}, ~KNOWN),
        ({"missing": 0.5, "seed": 5}, missing_mask(HEIGHT, WIDTH, 0.5, 5)),
        ({"text": "word"}, text_mask(HEIGHT, WIDTH, "word")),
        ({"scribble": True, "seed": 5}, scribble_mask(HEIGHT, WIDTH, 5)),
        ({"block": (10, 3, 5, 6)}, KNOWN),
    ],
    ids=["mask", "inverted", "missing", "text", "scribble", "block"],
)
def test_each_way_to_hide_keeps_the_picture_and_only_a_mask_marks_what_is_not_known(options, expected):
    picture = load_picture(np.full((HEIGHT, WIDTH, 3), 7, np.uint8))
    masked = hide(picture, **options)
    np.testing.assert_array_equal(masked.known, expected)
    assert masked.picture is picture
    assert masked.has_truth == ("mask" not in options)


def test_alpha_is_the_mask_where_none_is_named_and_has_no_truth():
    picture = with_alpha(np.full((HEIGHT, WIDTH, 3), 9, np.uint8), levels_with_a_black_square())
    masked = hide(picture)
    assert (masked.picture.channels, masked.has_truth) == (3, False)
    np.testing.assert_array_equal(masked.known, KNOWN)


SCRATCHED = np.where(KNOWN[..., None], np.uint8(7), np.uint8(255)).repeat(3, 2)
TRUTH = load_picture(np.full((HEIGHT, WIDTH, 3), 9, np.uint8))


@pytest.mark.parametrize("way", ["mask", "transparency"])
def test_a_truth_stands_in_for_hidden_pixels_and_leaves_known_ones(way):
    if way == "mask":
        masked = hide(load_picture(SCRATCHED), mask=KNOWN, truth=TRUTH)
    else:
        masked = hide(with_alpha(SCRATCHED, levels_with_a_black_square()), truth=TRUTH)
    assert masked.has_truth
    assert masked.hiding == f"a {way}, scored against array".replace("a transparency", "transparency")
    np.testing.assert_array_equal(np.rint(255 * masked.picture.pixels[KNOWN]), 7)
    np.testing.assert_array_equal(np.rint(255 * masked.picture.pixels[~KNOWN]), 9)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"missing": 0.5, "truth": TRUTH}, "with missing the hidden pixels are known already"),
        ({"block": (0, 0, 2, 2), "truth": TRUTH}, "with block the hidden pixels are known already"),
        (
            {"mask": KNOWN, "truth": bundled_picture(32)},
            r"the truth chelsea-32\.png is 32x32 pixels with 3 channels and the picture array 40x24 pixels",
        ),
        ({"mask": KNOWN, "truth": load_picture(KNOWN)}, "with 1 channel and the picture"),
        ({"scribble": True, "threshold": 0.4}, "a mask threshold is of a mask file, and none was given"),
    ],
    ids=["missing", "block", "size", "channels", "threshold"],
)
def test_a_truth_or_a_threshold_that_does_not_fit_is_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        hide(load_picture(SCRATCHED), **options)


def test_two_ways_at_once_are_refused_by_name():
    with pytest.raises(ConfigError, match="by missing and text"):
        hide(bundled_picture(32), missing=0.5, text="word")


def test_inverting_needs_a_mask():
    with pytest.raises(ConfigError, match="none was given"):
        hide(bundled_picture(32), invert=True, missing=0.5)
