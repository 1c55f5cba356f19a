"""The comparison picture and the curves: what they show, for any picture and any history."""

import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2lab
from support.sheets import error_picture, find

from coordfit.errors import OutputError
from coordfit.report.comparison import comparison_picture
from coordfit.report.curves import save_curves
from coordfit.report.line_plot import lines_svg
from coordfit.report.panels import absolute_error, error_scale
from coordfit.report.streamed_comparison import RunningComparison

FIGURES = [("PSNR full", "38.42 dB"), ("SSIM", "0.981"), ("encoding", "Gaussian, σ = 10, 256")]


def pair(height, width, channels=3, amount=0.02):
    rng = np.random.default_rng(height * width + channels)
    truth = rng.random((height, width, channels))
    return truth, truth + rng.normal(0, amount, truth.shape)


def sheet_of(truth, prediction, title="a title", figures=FIGURES):
    return np.asarray(comparison_picture(truth, prediction, title, figures))


def as_levels(pixels):
    return np.rint(255 * np.clip(pixels, 0, 1).astype(np.float32)).astype(np.uint8)


# The error


def test_absolute_error_is_the_mean_over_channels_of_the_clipped_prediction():
    truth = np.array([[[0.5, 0.5, 1.0]]])
    prediction = np.array([[[0.25, 0.75, 7.0]]])
    np.testing.assert_allclose(absolute_error(truth, prediction), [[0.5 / 3]], rtol=1e-6)


def test_absolute_error_counts_what_is_not_a_number_as_largest():
    truth, prediction = np.zeros((1, 3, 1)), np.array([math.nan, math.inf, -math.inf]).reshape(1, 3, 1)
    np.testing.assert_array_equal(absolute_error(truth, prediction), [[1, 1, 0]])


@pytest.mark.parametrize(
    ("levels", "scale"),
    [(0, 1), (0.99, 1), (1.01, 2), (5, 5), (5.1, 10), (49, 50), (101, 200), (201, 255), (255, 255)],
)
def test_error_scale_is_rounded_up_to_one_two_five(levels, scale):
    assert error_scale(np.full((9, 9), levels / 255, np.float32)) == scale


def test_error_scale_is_not_stretched_by_stray_pixels():
    error = np.full((100, 100), 3 / 255)
    error.flat[:40] = 1.0
    assert error_scale(error) == 5
    error.flat[:80] = 1.0
    assert error_scale(error) == 255


def test_errors_are_coloured_up_to_the_scale():
    truth = np.zeros((1, 4, 1))
    prediction = np.array([0, 10, 20, 200]).reshape(1, 4, 1) / 255
    colours = error_picture(truth, prediction, scale=20)[0]
    light = (250, 248, 210)
    np.testing.assert_allclose(colours, [(10, 13, 32), (208, 73, 93), light, light], atol=1)


def test_colour_map_is_perceptual():
    error = np.linspace(0, 1, 256).reshape(1, 256, 1)
    picture = error_picture(np.zeros_like(error), error, scale=255)
    lightness = rgb2lab(picture)[0, :, 0]
    steps = np.diff(lightness)
    assert lightness[0] < 6
    assert lightness[-1] > 95
    assert steps.min() > -0.4  # but for rounding to 8 bits it rises everywhere
    np.testing.assert_allclose(lightness, np.linspace(lightness[0], lightness[-1], 256), atol=1.5)


# The comparison


def test_small_pictures_are_enlarged_by_whole_pixels():
    truth, prediction = pair(32, 32)
    sheet = sheet_of(truth, prediction)
    large = [as_levels(pixels).repeat(12, 0).repeat(12, 1) for pixels in (truth, prediction)]
    error = error_picture(truth, prediction).repeat(12, 0).repeat(12, 1)
    (left,), (middle,), (right,) = find(sheet, large[0]), find(sheet, large[1]), find(sheet, error)
    assert left[0] == middle[0] == right[0]
    assert middle[1] - left[1] == right[1] - middle[1] > 384
    assert sheet.shape[1] - (right[1] + 384) == left[1]  # equal margins


def test_large_pictures_are_reduced():
    truth, prediction = pair(900, 1800)
    sheet = sheet_of(truth, prediction)
    assert 3 * 768 < sheet.shape[1] < 3 * 768 + 300
    assert 384 < sheet.shape[0] < 1000


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("rows", [1, 7, 40])
def test_rows_one_after_the_other_make_the_same_sheet(channels, rows):
    truth, prediction = pair(40, 50, channels)
    running = RunningComparison(truth)
    for top in range(0, 40, rows):
        running.add(prediction[top : top + rows])
    np.testing.assert_array_equal(np.asarray(running.draw("a title", FIGURES)), sheet_of(truth, prediction))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_rows_of_a_large_picture_are_seen_as_means(channels, monkeypatch):
    """No pixel of 1601x501 is lost: its figures are those of the whole, and its panels look like them."""
    calm = np.linspace(0.2, 0.8, 1601 * 501 * channels, dtype=np.float32).reshape(501, 1601, channels)
    wrong = 0.1 * np.add.outer(np.sin(np.arange(501) / 50) ** 2, np.linspace(0, 1, 1601))[:, :, None]
    truth, prediction = calm, calm + wrong.astype(np.float32)
    prediction[500, 1600] = 0.0  # the largest error, in a square that is not whole
    running = RunningComparison(truth)
    for top in range(0, 501, 33):
        running.add(prediction[top : top + 33])
    seen, wanted = np.asarray(running.draw("a title", FIGURES)), sheet_of(truth, prediction)
    assert seen.shape == wanted.shape
    assert np.abs(seen.astype(float) - wanted).mean() < 0.5
    monkeypatch.setattr("coordfit.report.streamed_comparison.draw_compared", lambda compared, *_: compared)
    compared, error = running.draw("a title", FIGURES), absolute_error(truth, prediction)
    assert compared.error.shape == (251, 801)
    np.testing.assert_allclose(compared.truth[-1, -1], truth[500, 1600], rtol=1e-5)
    assert compared.largest == error.max()
    assert compared.mean == pytest.approx(error.mean(), rel=1e-5)
    assert compared.scale == error_scale(error) == 50


def test_wide_pictures_stand_below_each_other():
    truth, prediction = pair(40, 600)
    sheet = sheet_of(truth, prediction)
    (top,), (middle,) = find(sheet, as_levels(truth)), find(sheet, as_levels(prediction))
    (bottom,) = find(sheet, error_picture(truth, prediction))
    assert top[1] == middle[1] == bottom[1]
    assert bottom[0] - middle[0] == middle[0] - top[0] > 40


@pytest.mark.parametrize(
    "shape",
    [(1, 1, 3), (1, 300, 1), (300, 1, 4), (1, 3000, 3), (3000, 1, 2), (2, 5, 4), (13, 1000, 1), (500, 17, 2)],
)
def test_any_shape_is_drawn(shape):
    truth, prediction = pair(*shape)
    sheet = sheet_of(truth.astype(np.float32), prediction.astype(np.float16))
    assert sheet.shape[0] < 1500
    assert sheet.shape[1] < 3000
    assert (sheet[:20] == 255).all()  # nothing runs over the margins
    assert (sheet[-20:] == 255).all()
    assert (sheet[:, :20] == 255).all()
    assert (sheet[:, -20:] == 255).all()


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_shown_over_a_checkerboard(channels):
    truth, _ = pair(32, 32, channels)
    truth[:16, :, -1] = 1.0
    truth[16:, :, -1] = 0.0
    sheet = sheet_of(truth, truth)
    opaque = as_levels(truth[:16, :, :-1]).repeat(12, 0).repeat(12, 1)
    corners = find(sheet, np.broadcast_to(opaque, (192, 384, 3)))
    assert len(corners) == 2
    for y, x in corners:
        below = sheet[y + 192 : y + 384, x : x + 384]
        assert set(np.unique(below)) == {236, 255}
        assert 0.4 < (below == 236).mean() < 0.6


def test_title_and_figures_are_written_in():
    truth, prediction = pair(64, 64)
    bare = sheet_of(truth, prediction, title="", figures=[])
    titled = sheet_of(truth, prediction, figures=[])
    full = sheet_of(truth, prediction)
    other = sheet_of(truth, prediction, figures=[*FIGURES[:-1], ("encoding", "none")])
    assert bare.shape[0] < titled.shape[0] < full.shape[0]
    assert full.shape == other.shape
    changed = np.argwhere((full != other).any(-1))
    assert len(changed) > 100
    assert changed[:, 0].max() < full.shape[0] - bare.shape[0] + 36


def test_long_and_foreign_texts_stay_on_the_sheet():
    truth, prediction = pair(16, 16)
    title = "Ünïcödé 图片 \n\t\x00 🙂 " + "very_long_file_name" * 30
    figures = [("label " * 60, "value " * 60), ("", ""), *(("a", "b") for _ in range(60))]
    sheet = sheet_of(truth, prediction, title, figures)
    assert (sheet[:, -20:] == 255).all()
    assert (sheet[:, :20] == 255).all()


def titled(title):
    truth, prediction = pair(16, 16)
    return sheet_of(truth, prediction, title, [])


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("Ferienfoto Österreich.png", "Ferienfoto Osterreich.png"),
        ("Москва × σ.png", "?????? x sigma.png"),
        ("写真.jpg", "??.jpg"),
        ("写真.jpg", ".jpg"),  # a box for each letter that the font lacks
    ],
)
def test_names_keep_their_letters(name, other):
    assert (titled(name) != titled(other)).any()


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("O\u0308sterreich.png", "Österreich.png"),  # as macOS writes it
        ("a\n \t b", "a b"),
        ("gpj.\u202etah", "gpj.tah"),  # what turns the direction of writing would show another name
        ("\udcff\x00", "\N{REPLACEMENT CHARACTER}" * 2),  # bytes that are no Unicode
    ],
)
def test_names_with_odd_letters_are_drawn_as_others(name, same):
    np.testing.assert_array_equal(titled(name), titled(same))


def test_equal_and_diverged_predictions_are_drawn():
    truth, _ = pair(16, 16)
    sheet_of(truth, truth)
    sheet_of(truth, np.full_like(truth, math.nan))


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 5), (4, 4, 0), (0, 4, 3)])
def test_what_is_no_picture_is_refused(shape):
    with pytest.raises(ValueError, match="shape"):
        comparison_picture(np.zeros(shape), np.zeros(shape), "", [])


def test_pictures_of_different_shapes_are_refused():
    for draw in (error_picture, lambda a, b: comparison_picture(a, b, "", [])):
        with pytest.raises(ValueError, match="has shape"):
            draw(np.zeros((4, 4, 3)), np.zeros((4, 4, 1)))


def test_large_sheets_have_larger_type_and_arguments_are_kept():
    truth, prediction = pair(768, 768)
    kept = prediction.copy()
    picture = comparison_picture(truth, prediction, "t", FIGURES)
    np.testing.assert_array_equal(prediction, kept)
    assert isinstance(picture, Image.Image)
    small = sheet_of(*pair(128, 128), title="t")
    assert picture.height - 768 > 1.5 * (small.shape[0] - 384)


# The curves


def history_of(length, held_out=True):
    rows = []
    for step in range(0, 10 * length, 10):
        quality = 10 + math.log1p(step)
        row = {"step": step, "seconds": 0.1 * step, "loss": 10 ** (-quality / 10), "learning_rate": 1e-3}
        row |= {
            "psnr": quality,
            "psnr_train": quality + 1,
            "psnr_held_out": quality - 1 if held_out else None,
        }
        rows.append(row if held_out else row | {"psnr_train": quality})
    return rows


def draw(tmp_path, history, name="curves.svg"):
    save_curves(tmp_path / name, history)
    return (tmp_path / name).read_text()


def texts(svg):
    """Return the texts of a figure; Matplotlib writes each into a comment before its glyphs."""
    return [line.strip()[5:-4] for line in svg.splitlines() if line.strip().startswith("<!-- ")]


@pytest.mark.parametrize("length", [0, 1, 100])
@pytest.mark.parametrize("held_out", [True, False])
def test_curves_are_valid_for_any_length(tmp_path, length, held_out):
    svg = draw(tmp_path, history_of(length, held_out))
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    found = texts(svg)
    assert {"step", "PSNR (dB)", "loss (log scale)"} <= set(found)
    assert ("no evaluation yet" in found) == (length == 0)
    assert "no value to draw" not in found
    assert ("held-out pixels" in found) == (held_out and length > 0)
    assert ("full picture = training pixels" in found) == (not held_out and length > 0)


def test_each_column_moves_its_curve(tmp_path):
    plain = draw(tmp_path, history_of(3))
    for key in ("psnr", "psnr_train", "psnr_held_out", "loss", "step"):
        changed = history_of(3)
        changed[1][key] *= 1.01
        assert draw(tmp_path, changed) != plain, key
    changed = history_of(3)
    changed[1] |= {"seconds": 99.0, "learning_rate": None, "another": 1}
    assert draw(tmp_path, changed) == plain


def test_equal_histories_give_equal_bytes(tmp_path):
    first = draw(tmp_path, history_of(20), "a.svg")
    assert draw(tmp_path, history_of(20), "b.svg") == first
    assert "<dc:date>" not in first


def test_gaps_and_unplottable_values(tmp_path):
    history = history_of(6, held_out=False)
    history[1] = {"step": 10}
    history[2] |= {"psnr": None, "loss": None, "psnr_train": math.nan}
    history[3] |= {"loss": 0.0, "psnr": -math.inf}
    history[5] |= {"psnr": math.inf, "psnr_train": math.inf, "loss": math.inf}
    assert "full picture: exact" in texts(draw(tmp_path, history))
    finite = draw(tmp_path, history_of(6, held_out=False))
    assert not any("exact" in text for text in texts(finite))
    only = draw(tmp_path, [{"step": 3, "psnr": math.inf, "loss": 0.0}])
    assert {"full picture: exact", "no value to draw"} <= set(texts(only))
    nothing = draw(tmp_path, [{"step": 3, "psnr": math.nan, "loss": math.nan}, {"step": 4, "psnr": -math.inf}])
    assert texts(nothing).count("no value to draw") == 2


def test_curves_leave_matplotlib_as_it_was(tmp_path):
    import matplotlib

    with matplotlib.rc_context({"axes.facecolor": "black", "xtick.labelsize": 20.0}):
        before = dict(matplotlib.rcParams)
        svg = draw(tmp_path, history_of(3))
        assert dict(matplotlib.rcParams) == before
    assert draw(tmp_path, history_of(3)) == svg  # a user's settings change nothing


def test_an_unwritable_place_is_an_output_error(tmp_path):
    with pytest.raises(OutputError):
        save_curves(tmp_path / "missing" / "curves.svg", history_of(2))


def test_reports_load_matplotlib_late_and_never_pyplot(tmp_path):
    code = f"""
import sys
import coordfit.images.metrics, coordfit.report.comparison
from coordfit.report.curves import save_curves
assert not {{"matplotlib", "skimage", "scipy"}} & sys.modules.keys()
save_curves({str(tmp_path / "c.svg")!r}, [])
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_labels_of_a_logarithmic_axis_keep_apart():
    rates = [0.0003, 0.001, 0.004, 0.01, 0.016, 0.03, 0.05, 0.1, 0.16, 0.3, 1, 3]
    svg = lines_svg({"adam": [(rate, 1.0) for rate in rates]}, title="", x_label="", y_label="", x_log=True)
    shown = re.findall(r"<!-- ([\d.]+) -->", svg)
    assert [label for label in shown if float(label) in rates][:4] == ["0.0003", "0.001", "0.004", "0.01"]
    assert not {"0.016", "0.16"} & set(shown)
    assert {"0.03", "0.1", "0.3", "1", "3"} <= set(shown)
