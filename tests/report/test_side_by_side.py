"""Several fits in one picture: sheets of reconstructions, lines, and heat maps."""

import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from support.sheets import error_picture, find

from coordfit.errors import OutputError
from coordfit.report.heatmap import heat_map_svg
from coordfit.report.line_plot import SERIES_COLOURS, save_lines
from coordfit.report.panels import colour_error
from coordfit.report.side_by_side import picture_strip, side_by_side
from coordfit.report.svg import save_svg
from coordfit.report.table import Table

FIGURES = [("train", "30.12 dB"), ("held out", "28.77 dB")]


def truth_and(amounts, shape=(32, 32, 3)):
    """A picture, and one reconstruction for each amount of noise."""
    rng = np.random.default_rng(shape[0] * shape[1] + len(amounts))
    truth = rng.random(shape)
    return truth, [np.clip(truth + rng.normal(0, amount, shape), 0, 1) for amount in amounts]


def sheet_of(truth, predictions, title="a title", figures=FIGURES):
    panels = [(f"network {i}", prediction, figures) for i, prediction in enumerate(predictions)]
    return np.asarray(side_by_side(truth, panels, title=title))


def enlarged(pixels, times):
    levels = pixels if pixels.dtype == np.uint8 else np.rint(255 * pixels.astype(np.float32)).astype(np.uint8)
    return levels.repeat(times, 0).repeat(times, 1)


# Sheets


def test_truth_and_reconstructions_stand_in_a_row_over_their_errors():
    truth, predictions = truth_and((0.05, 0.1))
    sheet = sheet_of(truth, predictions)
    corners = [find(sheet, enlarged(pixels, 12)) for pixels in (truth, *predictions)]
    assert [len(found) for found in corners] == [1, 1, 1]
    tops, lefts = zip(*(found[0] for found in corners), strict=True)
    assert len(set(tops)) == 1
    assert lefts[2] - lefts[1] == lefts[1] - lefts[0] > 384
    errors = [enlarged(error_picture(truth, p, scale=50), 12) for p in predictions]
    for left, error in zip(lefts[1:], errors, strict=True):
        ((y, x),) = find(sheet, error)
        assert x == left
        assert y > tops[0] + 384


def test_errors_share_one_scale():
    truth = np.full((8, 8, 1), 0.5)
    near, far = truth + 10 / 255, truth + 19 / 255
    sheet = sheet_of(truth, [near, far])
    for prediction in (near, far):  # each alone would have a scale of its own: 10 and 20
        assert len(find(sheet, enlarged(error_picture(truth, prediction, scale=20), 48))) == 1
    assert not find(sheet, enlarged(error_picture(truth, near, scale=10), 48))


def test_one_that_failed_does_not_darken_the_others():
    truth, predictions = truth_and((0.01, 0.01, 0.01))
    sheet = sheet_of(truth, [*predictions, np.full_like(truth, math.nan)])
    errors = {scale: error_picture(truth, predictions[0], scale=scale) for scale in (5, 255)}
    found = {scale: len(find(sheet, enlarged(error, 8))) for scale, error in errors.items()}
    assert found == {5: 1, 255: 0}


@pytest.mark.parametrize("number", [0, 1, 4, 5, 17])
def test_any_number_of_panels_stays_on_a_readable_sheet(number):
    truth, predictions = truth_and((0.05,) * number, (128, 128, 3))
    sheet = sheet_of(truth, predictions, title="a long title " * 30)
    assert sheet.shape[1] <= 1600
    times = 3 if number < 3 else 2
    for pixels in (truth, *predictions[:1], *predictions[-1:]):
        assert len(find(sheet, enlarged(pixels, times))) == 1
    for edge in (sheet[:20], sheet[-20:], sheet[:, :20], sheet[:, -20:]):
        assert (edge == 255).all()


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 300, 1), (300, 1, 4), (40, 2000, 3), (900, 700, 2)])
def test_any_shape_is_drawn_within_the_margins(shape):
    truth, predictions = truth_and((0.1, 0.2), shape)
    sheet = sheet_of(truth.astype(np.float32), [p.astype(np.float32) for p in predictions])
    assert sheet.shape[1] <= 1600
    for edge in (sheet[:20], sheet[-20:], sheet[:, :20], sheet[:, -20:]):
        assert (edge == 255).all()


def test_names_and_figures_are_written_below_their_picture():
    truth, predictions = truth_and((0.1, 0.1))
    one = sheet_of(truth, predictions)
    other = sheet_of(truth, predictions, figures=[FIGURES[0], ("held out", "28.78 dB")])
    changed = np.argwhere((one != other).any(-1))
    bottom = find(one, enlarged(truth, 12))[0][0] + 384
    assert len(changed) > 4
    assert changed[:, 0].min() > bottom
    assert changed[:, 0].max() < bottom + 60


def test_long_and_foreign_names_stay_in_their_cell():
    truth, predictions = truth_and((0.1, 0.1))
    panels = [("Ünïcödé σ 图片 " * 20, predictions[0], [("label " * 30, "value " * 30), ("", "")])]
    sheet = np.asarray(side_by_side(truth, [*panels, ("", predictions[1], [])], title=""))
    (y, x), *_ = find(sheet, enlarged(predictions[1], 12))
    assert (sheet[y - 26 : y + 384, x - 12 : x - 1] == 255).all()
    assert (sheet[y + 386 : y + 440, x:] == 255).all()


def test_a_panel_of_another_shape_is_refused():
    truth, _ = truth_and(())
    with pytest.raises(ValueError, match="has shape"):
        side_by_side(truth, [("n", truth[:8], [])], title="")


def test_a_strip_has_no_errors():
    _, pictures = truth_and((0.1, 0.2))
    strip = np.asarray(picture_strip([(str(i), p, []) for i, p in enumerate(pictures)], title="strip"))
    for pixels in pictures:
        assert len(find(strip, enlarged(pixels, 12))) == 1
    assert strip.shape[0] < 384 + 200
    with pytest.raises(ValueError, match="one shape"):
        picture_strip([("a", pictures[0], []), ("b", pictures[0][:8], [])], title="")
    with pytest.raises(ValueError, match="one shape"):
        picture_strip([], title="")


def test_the_bar_has_the_colours_of_the_map():
    truth, predictions = truth_and((0.05,))
    sheet = sheet_of(truth, predictions)
    from PIL import Image

    ramp = np.linspace(0, 50 / 255, 384 - 8, dtype=np.float32)[None]
    assert find(sheet, np.asarray(colour_error(Image.fromarray(ramp), 50)))


# Lines


def texts(svg):
    """Return the texts of a figure; Matplotlib writes each into a comment before its glyphs."""
    return [line.strip()[5:-4] for line in svg.splitlines() if line.strip().startswith("<!-- ")]


def draw_lines(tmp_path, series, name="lines.svg", **options):
    labels = {"title": "Quality", "x_label": "sigma", "y_label": "PSNR / dB"} | options
    save_lines(tmp_path / name, series, **labels)
    svg = (tmp_path / name).read_text()
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    return svg


SERIES = {"basic": [(1, 20.0), (2, 21.0)], "none": [(1, 18.0), (2, 18.5)]}


def test_lines_have_names_titles_and_colours(tmp_path):
    svg = draw_lines(tmp_path, SERIES)
    assert {"Quality", "sigma", "PSNR / dB", "basic", "none"} <= set(texts(svg))
    assert SERIES_COLOURS[0] in svg
    assert SERIES_COLOURS[1] in svg
    assert SERIES_COLOURS[2] not in svg
    assert "dashed: held out" not in texts(svg)


def test_companions_are_dashed_in_the_same_colour_and_named_once(tmp_path):
    plain = draw_lines(tmp_path, SERIES)
    svg = draw_lines(tmp_path, SERIES, dashed={"none": [(1, 17.0), (2, 17.1)]})
    assert "stroke-dasharray" in svg
    assert "stroke-dasharray" not in plain
    assert texts(svg).count("none") == 1
    assert "dashed: held out" in texts(svg)
    dashed = [line for line in svg.splitlines() if "stroke-dasharray" in line and "stroke: #" in line]
    assert any(SERIES_COLOURS[1] in line for line in dashed)
    assert not any(SERIES_COLOURS[0] in line for line in dashed)


def test_a_logarithmic_axis_shows_the_values_and_leaves_out_what_it_cannot(tmp_path):
    points = [(0.0, 1.0), (0.25, 20.0), (1, 22.0), (16, math.nan), (32, 23.0)]
    svg = draw_lines(tmp_path, {"a": points}, x_log=True)
    assert svg == draw_lines(tmp_path, {"a": [points[1], points[2], points[4]]}, x_log=True)
    found = texts(svg)
    assert {"0.25", "1", "32"} <= set(found)
    assert "16" not in found


@pytest.mark.parametrize("series", [{}, {"a": []}, {"a": [(1, math.inf)]}])
def test_nothing_to_draw_is_said(tmp_path, series):
    assert "no value to draw" in texts(draw_lines(tmp_path, series))


def test_many_lines_and_odd_names_are_drawn(tmp_path):
    odd = r"$\frac & <b>$"  # as a formula, it would be an error
    series = {f"{odd} {i}": [(0, i), (1, i + 1)] for i in range(40)}
    svg = draw_lines(tmp_path, series, title=odd, x_label=odd, y_label=odd)
    assert svg.count("frac") >= 43


def test_equal_series_give_equal_bytes(tmp_path):
    first = draw_lines(tmp_path, SERIES, "a.svg")
    assert draw_lines(tmp_path, SERIES, "b.svg") == first
    assert "<dc:date>" not in first
    other = {"basic": [(1, 20.0), (2, 21.1)], "none": SERIES["none"]}
    assert draw_lines(tmp_path, other, "c.svg") != first


def test_an_unwritable_place_is_an_output_error(tmp_path):
    with pytest.raises(OutputError):
        draw_lines(tmp_path, SERIES, "missing/lines.svg")


# Heat maps


ROWS = [{"sigma": sigma, "m": m, "psnr": 20 + m / 10 + sigma} for sigma in (4.0, 0.5, 10.0) for m in (8, 64)]


def draw_map(tmp_path, rows, x="sigma", y="m"):
    save_svg(tmp_path / "map.svg", heat_map_svg(Table(rows), x, y, "psnr", title="held out"))
    svg = (tmp_path / "map.svg").read_text()
    ElementTree.fromstring(svg)
    return svg


def test_values_are_written_into_cells_in_the_order_of_the_settings(tmp_path):
    found = texts(draw_map(tmp_path, ROWS))
    assert found[:3] == ["0.5", "4", "10"]
    assert {"8", "64", "sigma", "m", "held out"} <= set(found)
    assert {"21.30", "26.90", "24.80", "30.40", "30.80", "36.40"} <= set(found)
    by_m = texts(draw_map(tmp_path, ROWS, "m", "sigma"))
    assert by_m[:2] == ["8", "64"]


def test_the_highest_value_is_the_lightest_cell(tmp_path):
    svg = draw_map(tmp_path, ROWS)
    assert "fill: #fde725" in svg  # the two ends of viridis
    assert "fill: #440154" in svg
    assert "fill: #dfe2e8" not in svg


def test_one_that_failed_does_not_take_all_the_colours(tmp_path):
    rows = [{"sigma": i, "m": 1, "psnr": 30.0 + i} for i in range(8)]
    svg = draw_map(tmp_path, [*rows, {"sigma": 8, "m": 1, "psnr": 5.0}])
    assert "5.00" in texts(svg)
    cells = re.findall("clip-path=[^>]*fill: #([0-9a-f]{6})", svg)
    assert len(cells) == 9
    greens = [int(cell[2:4], 16) for cell in cells]
    assert greens[:8] == sorted(set(greens[:8]))
    assert greens[7] - greens[0] > 80
    assert greens[8] < greens[0]


def test_missing_values_leave_their_cell_empty(tmp_path):
    rows = [row | ({"psnr": None} if row["sigma"] == 4.0 else {}) for row in ROWS]
    svg = draw_map(tmp_path, [*rows[:-1], rows[-1] | {"psnr": math.nan}])
    assert svg.count("fill: #dfe2e8") == 3
    assert texts(svg).count("-") == 3


def test_names_and_lists_are_settings_too_and_one_value_is_enough(tmp_path):
    rows = [{"sigma": name, "m": [32, 24], "psnr": 3.0} for name in ("none", None, "$\\frac$")]
    found = texts(draw_map(tmp_path, rows))
    assert found[:2] == ["none", "None"]
    assert "frac" in found[2]
    assert "no" not in texts(draw_map(tmp_path, [{"sigma": 1, "m": 1, "psnr": None}]))


def test_pictures_load_matplotlib_late_and_never_pyplot(tmp_path):
    code = f"""
import sys
import coordfit.report.side_by_side, coordfit.report.heatmap, coordfit.report.html, coordfit.report.animation
from coordfit.report.line_plot import save_lines
assert not {{"matplotlib", "skimage", "scipy"}} & sys.modules.keys()
save_lines({str(tmp_path / "c.svg")!r}, {{}}, title="", x_label="", y_label="")
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
