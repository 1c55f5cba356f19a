"""A live view shows a run to this machine alone, and costs next to nothing."""

import base64
import http.client
import io
import json
import re
import shutil
import subprocess
import sys
import threading
import time
import types
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import coordfit
from coordfit.errors import ConfigError
from coordfit.live import notebook, snapshot
from coordfit.live.curve import Axis, curve_svg
from coordfit.live.snapshot import LiveSnapshot

SMALL = {"hidden_size": 16, "depth": 2, "num_frequencies": 16, "device": "numpy"}
PICTURE = coordfit.load_picture(np.random.default_rng(1).random((20, 30, 3)))


def get(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.status, answer.read(), answer.headers


def state(view, after=-1):
    status, content, _ = get(f"{view.url}state?after={after}")
    return json.loads(content) if status == 200 else None


def shown(html):
    """The levels of the picture in a fragment."""
    data = re.search(r'src="data:image/png;base64,([^"]*)"', html)[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


@pytest.fixture
def view():
    with coordfit.LiveView() as made:
        yield made


# -- the server ------------------------------------------------------------------------------------------


def test_only_this_machine_can_ask_and_only_with_the_secret(view):
    assert view._server.host == "127.0.0.1"
    assert len(view.url.split("/")[3]) >= 16
    for path in ("/", "/state", "/wrong/state", f"/{view.url.split('/')[3]}x/"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(f"http://127.0.0.1:{view.port}{path}")
    assert not view.is_watched


def test_another_name_of_this_machine_is_not_answered(view):
    """A page elsewhere may have a name that leads here."""
    for host, status in (("evil.example", 404), (f"localhost:{view.port}", 200)):
        connection = http.client.HTTPConnection("127.0.0.1", view.port, timeout=30)
        connection.request("GET", f"/{view.url.split('/')[3]}/", headers={"Host": host})
        assert connection.getresponse().status == status
        connection.close()


def test_nothing_but_get_is_answered(view):
    with pytest.raises(urllib.error.HTTPError, match="501"):
        urllib.request.urlopen(urllib.request.Request(view.url, b"x", method="POST"), timeout=30)


def test_the_page_asks_for_nothing_elsewhere(view):
    status, page, headers = get(view.url)
    assert status == 200
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    for name in ("", "live.js", "style.css"):
        assert not re.search(rb"https?://|@import|url\(", get(view.url + name)[1])
    assert b"<h1" in page


def test_a_state_that_is_known_is_not_sent_again(view):
    version = state(view)["version"]
    assert state(view, version) is None


# -- what is shown ---------------------------------------------------------------------------------------


def test_a_watched_run_shows_its_picture_and_figures(view):
    seen = []

    def look(progress):
        view(progress)
        seen.append(state(view))

    get(view.url)
    result = coordfit.fit(PICTURE, callback=look, steps=6, evaluate_every=2, **SMALL)
    first = next(found for found in seen if "<img" in found["html"])
    assert shown(first["html"]).shape == (20, 30, 3)
    assert "steps</dt>" in first["html"]
    view.end(result)
    last = state(view)
    assert last["ended"] == "finished"
    assert last["name"] == "array"
    assert f"{result.metrics['psnr']:.2f} dB" in last["html"]
    expected = np.rint(255 * np.clip(result.reconstruction, 0, 1))
    np.testing.assert_array_equal(shown(last["html"]), expected)
    assert last["html"].count("<svg") == 1
    assert f"training pixels {result.history[-1]['psnr_train']:.2f} dB" in last["html"]


def test_a_run_that_nobody_watches_draws_nothing(view, monkeypatch):
    monkeypatch.setattr("coordfit.training.state.Progress.render", lambda *_: pytest.fail("drawn"))
    coordfit.fit(PICTURE, callback=view, steps=6, **SMALL)


def progress_of(model, step=1):
    return types.SimpleNamespace(
        step=step,
        steps=10,
        seconds=1.0,
        psnr=None,
        tiles=0,
        evaluated=False,
        row=None,
        model=model,
        render=model.render,
    )


class SlowModel:
    """A model whose picture takes a second by a clock that only it moves."""

    signal = types.SimpleNamespace(height=4, width=4, name="<b>slow</b>", frame=None)

    def __init__(self, clock):
        self.clock, self.drawn = clock, 0

    def render(self, *_):
        self.clock.now += 1.0
        self.drawn += 1
        return np.full((4, 4, 3), np.nan)


def test_pictures_take_no_more_than_their_share(monkeypatch):
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(snapshot.time, "perf_counter", lambda: clock.now)
    model, followed = SlowModel(clock), LiveSnapshot()
    for step in range(1000):
        clock.now += 1.0
        followed.follow(progress_of(model, step), is_watched=True)
    assert 10 < model.drawn <= 1 + snapshot.MOST_SHARE * clock.now
    fragment = followed.fragment()
    assert "&lt;b&gt;slow" in fragment
    assert "<b>" not in fragment
    assert set(shown(fragment).reshape(-1)) == {128}  # what is not learned yet is grey


def test_a_large_picture_is_drawn_small():
    asked = []
    model = types.SimpleNamespace(
        signal=types.SimpleNamespace(height=3000, width=1500, name="large", frame=None)
    )
    model.render = lambda height, width: asked.append((height, width)) or np.zeros((height, width, 1))
    LiveSnapshot().follow(progress_of(model), is_watched=True)
    assert asked == [(snapshot.MOST_SHOWN, snapshot.MOST_SHOWN // 2)]


def test_tiles_and_held_out_pixels_are_shown(view):
    get(view.url)
    view.end(coordfit.fit(PICTURE, tiles=8, steps=4, callback=view, device="numpy"))
    assert re.search(r"tiles</dt><dd[^>]*>\d+ of \d+", state(view)["html"])
    with coordfit.LiveView() as other:
        get(other.url)
        other.end(coordfit.fit(PICTURE, train_on="every-second", steps=4, callback=other, **SMALL))
        assert "held-out pixels, dB" in state(other)["html"]


def test_a_signal_that_is_no_picture_has_figures_and_a_curve(view):
    get(view.url)
    values = np.random.default_rng(3).normal(size=(6, 5, 4))
    view.end(coordfit.fit_array(values, "zyx", callback=view, steps=6, evaluate_every=2, **SMALL))
    html = state(view)["html"]
    assert "<img" not in html
    assert "<svg" in html
    assert "6 of 6" in html


def test_the_end_of_a_large_picture_is_shown_small(view):
    large = np.random.default_rng(5).random((snapshot.MOST_SHOWN + 88, 60, 3))
    view.end(coordfit.fit(large, tiles=20, steps=1, device="numpy"))
    assert shown(state(view)["html"]).shape == (snapshot.MOST_SHOWN, 51, 3)


def test_an_axis_has_round_ticks():
    assert list(Axis.over([0.0, 600.0]).ticks) == [0, 200, 400, 600]
    assert list(Axis.over([7.7, 63.5]).ticks) == [0, 20, 40, 60, 80]
    assert Axis.over([3.0, 3.0]).low < 3.0 < Axis.over([3.0, 3.0]).high


def test_the_curve_is_drawn_where_its_axes_say():
    svg = curve_svg({"a & b": [(0, 10.0), (50, 20.0), (100, 40.0)], "none": []}, "step")
    points = re.search(r'd="M([^"]*)" fill="none"', svg)[1]
    x, y = np.array([point.split() for point in points.split("L")], float).T
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.11)
    assert (y[0] - y[2]) == pytest.approx(3 * (y[0] - y[1]), abs=0.3)
    assert "a &amp; b" in svg
    assert curve_svg({"a": [(0, 1.0)]}, "step") == ""


# -- the command, a browser, a notebook ------------------------------------------------------------------


def test_the_command_serves_its_page_until_the_end(tmp_path):
    words = ["--live", "--no-browser", "--hidden-size", "16", "--depth", "2", "--steps", "400"]
    command = [sys.executable, "-m", "coordfit", *words, "--device", "numpy", "--out", tmp_path / "run"]
    environment = {"PYTHONPATH": str(Path(coordfit.__file__).parents[1]), "PATH": ""}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        url = next(found[1] for line in process.stderr if (found := re.search(r"live view: (\S+)", line)))
        found, version = {}, -1
        while not found.get("ended"):
            status, content, _ = get(f"{url}state?after={version}")
            found = json.loads(content) if status == 200 else found
            version = found["version"]
            time.sleep(0.02)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert re.search(r"PSNR +([\d.]+ dB)", out)[1] in found["html"]
    assert "<img" in found["html"]


def test_several_pictures_have_no_view(tmp_path, capsys):
    from coordfit.cli import main

    for name in ("a.png", "b.png"):
        coordfit.save_picture(tmp_path / name, PICTURE.pixels)
    assert main(["fit", str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--live"]) == 2
    assert "--live shows one picture" in capsys.readouterr().err


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom"]


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_a_browser_shows_the_run(tmp_path, view):
    ended = threading.Event()

    def follow(progress):
        view(progress)
        return ended.is_set()

    def train():
        view.end(coordfit.fit(PICTURE, callback=follow, steps=10**6, evaluate_every=50, **SMALL))

    thread = threading.Thread(target=train)
    thread.start()
    try:
        flags = [*FLAGS, f"--user-data-dir={tmp_path}", "--virtual-time-budget=4000"]
        done = subprocess.run([CHROMIUM, *flags, view.url], capture_output=True, text=True, timeout=120)
    finally:
        ended.set()
        thread.join()
    assert re.search(r'<p id="status" role="status">training</p>', done.stdout), done.stderr
    assert '<h1 id="name">array</h1>' in done.stdout
    assert "<img" in done.stdout
    assert "<svg" in done.stdout


class FakeDisplay(types.ModuleType):
    """IPython's, as far as it is used."""

    def __init__(self):
        super().__init__("IPython.display")
        self.shown = []

    def HTML(self, text):
        return text

    def display(self, text, display_id):
        assert display_id
        self.shown.append(text)
        return types.SimpleNamespace(update=self.shown.append)


def test_a_notebook_shows_the_run(monkeypatch):
    display = FakeDisplay()
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr(notebook, "_SECONDS_BETWEEN", 0.0)
    steps = []
    result = coordfit.fit(
        PICTURE, live=True, callback=lambda progress: steps.append(progress.step), steps=40, **SMALL
    )
    assert len(display.shown) >= 2
    assert steps
    assert f"{result.metrics['psnr']:.2f} dB" in display.shown[-1]
    np.testing.assert_array_equal(shown(display.shown[-1]), np.rint(255 * np.clip(result.reconstruction, 0, 1)))


def test_elsewhere_live_says_what_to_take():
    with pytest.raises(ConfigError, match=r"callback=coordfit\.LiveView\(\)"):
        coordfit.fit(PICTURE, live=True, steps=1)
