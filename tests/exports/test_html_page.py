"""The page of a model draws the function, in a browser without a screen, if there is one."""

import base64
import re
import shutil
import subprocess

import numpy as np
import pytest
from support.exported import PICTURE, model

import coordfit
from coordfit.images import load_picture

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--dump-dom"]
WEBGL = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


def dom(page, profile, *flags, query=""):
    """The page as the browser has it when it has loaded."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    command = [CHROMIUM, *FLAGS, *flags, f"--user-data-dir={profile}", f"{page.as_uri()}?{query}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def drawn(page, profile, *windows):
    """The levels (rows, columns, 4) of windows x, y, step, columns, rows that the page draws."""
    query = "&".join("test=" + ",".join(map(str, window)) for window in windows)
    found = re.findall(r'<pre class="test"[^>]*>([^<]*)</pre>', text := dom(page, profile, *WEBGL, query=query))
    if not found and "no WebGL 2" in text:
        pytest.skip("this Chromium has no WebGL 2")
    levels = [np.frombuffer(base64.b64decode(part), np.uint8) for part in found]
    return [
        part.reshape(rows, columns, 4).astype(float)
        for part, (*_, columns, rows) in zip(levels, windows, strict=True)
    ]


def of_channels(levels, channels):
    """Levels as the model has them: grey once, and alpha if it has one."""
    return levels[..., {1: [0], 2: [0, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[channels]]


@pytest.mark.parametrize(
    "name",
    [
        "none, sine",
        "basic, tanh",
        "positional, sigmoid",
        "grid, identity",
        "pyramid",
        "grey",
        "grey and alpha",
        "tiles",
        "tiles of 32 bits",
        "tiles without encoding",
        "one tile",
    ],
)
def test_the_page_draws_what_the_model_renders(tmp_path, name):
    of = model(name)
    (height, width), channels = of.picture.size, of.picture.channels
    page = coordfit.export(of, tmp_path / "picture.html")
    window = (7.3, 4.9, 0.21, 40, 30)  # between the pixels, over borders of tiles
    own, inside = drawn(page, tmp_path / "profile", (0, 0, 1, width, height), window)
    near = np.abs(of_channels(own, channels) - 255 * of.render()) <= 1
    assert near.mean() >= 0.99
    x, y, step, columns, rows = window
    at = np.meshgrid(x + (np.arange(columns) + 0.5) * step, y + (np.arange(rows) + 0.5) * step)
    expected = 255 * np.clip(of(np.stack(at, axis=-1) / max(of.picture.size)), 0, 1)
    assert (np.abs(of_channels(inside, channels) - expected) <= 1).mean() >= 0.99


def test_the_page_asks_for_nothing_and_holds_the_pixels(tmp_path):
    text = coordfit.export(model("alpha"), tmp_path / "picture.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|<link|@import|url\(", text)
    assert "default-src 'none'" in text
    png = re.search(r'"data:image/png;base64,([^"]+)"', text)[1]
    (tmp_path / "own.png").write_bytes(base64.b64decode(png))
    embedded = load_picture(tmp_path / "own.png").pixels
    np.testing.assert_allclose(embedded, model("alpha").render(), atol=0.5001 / 255)


def test_a_browser_without_webgl_is_told_so(tmp_path):
    page = coordfit.export(model("grey"), tmp_path / "picture.html")
    text = dom(page, tmp_path / "profile", "--disable-3d-apis")
    assert "This browser has no WebGL 2, so the function cannot be drawn; these are its pixels." in text
    assert not re.search(r'<p id="message"[^>]*hidden', text)


def test_an_address_names_a_place_and_a_comparison(tmp_path):
    page = coordfit.export(model("grey"), tmp_path / "picture.html")
    text = dom(page, tmp_path / "profile", "--disable-3d-apis", query="#10.5,5.25,40,compare")
    shown = {name: re.search(rf'<(\w+) id="{name}"[^>]*>(.*?)</\1>', text)[2] for name in ("zoom", "place")}
    assert shown == {"zoom": "40.0×", "place": "pixel 10, 5 · 0.3281, 0.1641"}
    assert 'aria-pressed="true"' in text
    assert not re.search(r"<figure[^>]* hidden", text)


def test_a_name_from_a_stranger_stays_text(tmp_path):
    name = "</script><script>alert(1)</script>"
    picture = coordfit.load_picture(PICTURE)
    of = coordfit.fit(picture, steps=1, hidden_size=4, device="numpy").model
    object.__setattr__(of.picture, "name", name)
    text = coordfit.export(of, tmp_path / "picture.html").read_text(encoding="utf-8")
    assert "alert(1)" in text
    assert "<script>alert" not in text


def test_a_compressed_picture_has_a_page_of_its_pixels(tmp_path):
    packed = coordfit.compress(PICTURE, steps=1)
    packed.save(tmp_path / "photo.cfc")
    page = coordfit.export(tmp_path / "photo.cfc", tmp_path / "picture.html")
    text = page.read_text(encoding="utf-8")
    pictures = re.findall(r"data:image/png;base64,([^\"]+)", text)
    sizes = []
    for part in pictures:
        (tmp_path / "own.png").write_bytes(base64.b64decode(part))
        sizes.append(load_picture(tmp_path / "own.png").pixels.shape)
    assert sizes == [(24, 32, 3), (96, 128, 3)]
    assert "no WebGL" not in dom(page, tmp_path / "profile", "--disable-3d-apis").split("<script")[0]
