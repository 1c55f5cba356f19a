"""The HTML report: whole in itself, escaped, and readable in light and dark."""

import base64
import functools
import io
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from coordfit.errors import OutputError
from coordfit.report.heatmap import heat_map_svg
from coordfit.report.html import Section, report_html, save_report
from coordfit.report.line_plot import SERIES_COLOURS, lines_svg
from coordfit.report.table import Table

VOID = {"meta", "img", "link", "br", "hr"}
ODD = "<script>alert('x')</script> & \"quotes\" --> σ"


class Page(HTMLParser):
    """The elements of a page with their attributes and texts; fails where tags do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts = [], [], {}
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and data.strip():
            self.texts.setdefault(self.open[-1], []).append(data.strip())

    def attributes(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def picture(colour=(200, 30, 90)):
    return Image.fromarray(np.full((4, 6, 3), colour, np.uint8))


def drawing(title="t"):
    return lines_svg(
        {title: [(1, 2.0), (2, 3.0)]}, title=title, x_label="x", y_label="y", dashed={"d": [(1, 1)]}
    )


@functools.cache
def whole_report(text="plain"):
    table = Table([{"name": text, "psnr": 21.254, "n": 3}, {"name": "b", "psnr": 33.5, "n": None}])
    first = Section(text).add_text(text).add_finding(text).add_settings({text: [text, 1.5, None]})
    first.add_table(table, best=["psnr"]).add_picture(picture(), text).add_command(text)
    second = Section("drawings").add_picture(drawing(text), text).add_picture(drawing(text), "again")
    heat = heat_map_svg(Table([{"x": 1, "y": 2, "v": 3.0}]), "x", "y", "v", title=text)
    return report_html(text, [text], [first, second.add_picture(heat)])


def test_everything_that_was_added_is_there_in_its_order():
    page = Page(whole_report())
    assert page.texts["h1"] == ["plain"]
    assert page.texts["h2"] == ["plain", "drawings"]
    assert page.texts["a"] == ["plain", "drawings"]
    assert page.texts["td"] == ["plain", "21.25", "3", "b", "33.50"]
    assert page.texts["th"] == ["name", "PSNR / dB", "n"]
    assert page.texts["dd"] == ["plain, 1.5, none"]
    assert page.texts["code"] == ["plain"]
    assert page.texts["figcaption"] == ["plain", "plain", "again"]
    order = [tag for tag, _ in page.elements if tag in ("h2", "dl", "table", "img", "pre", "svg")]
    assert order == ["h2", "dl", "table", "img", "pre", "h2", "svg", "svg", "svg"]
    assert [link["href"] for link in page.attributes("a")] == ["#section-0", "#section-1"]
    assert {"id": "section-1"} in page.attributes("section")


def test_the_highest_number_of_a_column_stands_out():
    cells = Page(whole_report()).attributes("td")
    assert [cell.get("class") for cell in cells] == [None, "number", "number", None, "number best", "number"]


def test_the_highest_number_stands_out_within_each_group():
    rows = [("a", 1.0), ("a", 3.0), ("b", 2.0), ("b", None), ("c", None)]
    table = Table([{"group": group, "psnr": value} for group, value in rows])
    for within, bold in (
        ("group", [False, True, True, False, False]),
        ("", [False, True, False, False, False]),
    ):
        page = Page(report_html("t", [], [Section("s").add_table(table, best=["psnr"], within=within)]))
        cells = page.attributes("td")[1::2]
        assert ["best" in (cell.get("class") or "") for cell in cells] == bold


def test_every_text_is_escaped():
    text = whole_report(ODD)
    page = Page(text)
    assert not page.attributes("script")
    assert "<script" not in text
    assert page.texts["h1"] == [ODD]
    assert page.texts["td"][0] == ODD
    assert page.texts["code"] == [ODD]
    assert page.attributes("img")[0]["alt"] == ODD
    assert page.attributes("svg")[0]["aria-label"] == ODD


def test_nothing_is_fetched_from_anywhere():
    text = whole_report()
    assert "http" not in text
    assert "//" not in re.sub(r"base64,[^\"]*", "", text)
    assert "@import" not in text
    page = Page(text)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        address = attributes.get("src") or attributes.get("href") or attributes.get("xlink:href") or "#"
        assert address.startswith(("#", "data:image/png;base64,"))


def test_pictures_are_inside_bit_for_bit():
    (image,) = Page(whole_report()).attributes("img")
    content = base64.b64decode(image["src"].partition(",")[2])
    found = np.asarray(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(found, np.asarray(picture()))
    assert (image["width"], image["height"]) == ("6", "4")


def test_drawings_do_not_share_ids_and_find_their_own():
    text = whole_report()
    page = Page(text)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) > 20
    assert len(ids) == len(set(ids))
    used = re.findall(r"url\(#([^)]*)\)", text) + re.findall(r'href="#([^"]*)"', text)
    assert len(used) > 5
    assert set(used) <= set(ids)


def test_drawings_change_their_colours_with_the_page():
    text = whole_report()
    page = Page(text)
    (style,) = page.texts["style"]
    light, dark = style.split("prefers-color-scheme:dark", 1)
    used = set(re.findall(r"var\((--series-\d|--ink|--grey|--paper|--line)\)", text))
    assert {"--series-1", "--ink", "--grey", "--paper"} <= used
    for name in used:
        assert f"{name}:#" in light
        assert f"{name}:#" in dark
    body = text[text.index("<body>") :]
    assert SERIES_COLOURS[0] not in body
    assert "fill: #ffffff" not in body


def test_every_colour_of_a_line_has_a_dark_sister():
    many = {f"line {i}": [(0, i), (1, i)] for i in range(len(SERIES_COLOURS))}
    svg = lines_svg(many, title="", x_label="", y_label="")
    text = report_html("t", [], [Section("s").add_picture(svg)])
    body = text[text.index("<body>") :]
    assert not re.findall("#[0-9a-f]{6}", body)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.25, 1.0, 16.0], ["0.25", "1", "16"]),
        ([21.254, 5.0, None], ["21.25", "5.00", ""]),
        ([0.66512, 0.7], ["0.6651", "0.7000"]),
        ([math.nan, 1.23456], ["nan", "1.2346"]),
        ([math.inf, "a", 3], ["inf", "a", "3"]),
        ([], []),
    ],
)
def test_columns_are_told_as_settings_or_with_even_decimals(values, expected):
    section = Section("s").add_table(Table([{"x": value} for value in values], ["x"]))
    cells = re.findall("<td[^>]*>([^<]*)</td>", report_html("t", [], [section]))
    assert cells == expected


def test_the_same_report_gives_the_same_file(tmp_path):
    sections = [Section("s").add_picture(drawing())]
    save_report(tmp_path / "a.html", "t", ["i"], sections)
    save_report(tmp_path / "b.html", "t", ["i"], sections)
    first = (tmp_path / "a.html").read_bytes()
    assert first == (tmp_path / "b.html").read_bytes()
    assert first.startswith(b"<!DOCTYPE html>")
    with pytest.raises(OutputError):
        save_report(tmp_path / "missing" / "a.html", "t", [], [])
