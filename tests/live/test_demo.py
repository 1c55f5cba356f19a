"""The demo fits what is dropped on its page as `coordfit.fit` does, for this machine alone."""

import html
import http.client
import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from PIL import Image
from support.browser import CHROMIUM, Browser

import coordfit
from coordfit.cli import main
from coordfit.live.demo import Demo, runs, server

SMALL = {"hidden_size": 16, "depth": 2, "num_frequencies": 16, "device": "numpy", "threads": 1}
ENDLESS = SMALL | {"steps": 10**6}
GAUSSIAN = {"encoding": "gaussian", "sigma": "3", "size": "64"}
PATIENCE = 60.0


def png(height=20, width=30):
    content = io.BytesIO()
    levels = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(levels).save(content, "PNG")
    return content.getvalue()


def get(demo, name=""):
    with urllib.request.urlopen(demo.url + name, timeout=30) as answer:
        return answer.status, answer.read(), answer.headers


def post(demo, path="fit", body=b"", **query):
    request = urllib.request.Request(f"{demo.url}{path}?{urlencode(query)}", body, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def drop(demo, body, name="photo.png", **choices):
    return post(demo, body=body, picture="file", name=name, **GAUSSIAN | choices)


def state(demo):
    return json.loads(get(demo, "state")[1])


def until(demo, condition):
    end = time.monotonic() + PATIENCE
    while not condition(found := state(demo)):
        assert time.monotonic() < end, found
        time.sleep(0.02)
    return found


def is_over(found):
    return not found["is_training"]


def is_training(found):
    return found["status"] == "training"


@pytest.fixture
def demo():
    with Demo(**SMALL, steps=20) as made:
        yield made


@pytest.fixture
def endless():
    with Demo(**ENDLESS) as made:
        yield made


# -- the server ------------------------------------------------------------------------------------------


def test_only_this_machine_can_ask_and_only_with_the_secret(demo):
    assert demo._server.host == "127.0.0.1"
    assert len(demo.url.split("/")[3]) >= 16
    for path in ("/", "/fit", "/wrong/fit", f"/{demo.url.split('/')[3]}x/fit"):
        for body in (None, b""):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"http://127.0.0.1:{demo.port}{path}", body, timeout=30)
    assert demo._runs.latest is None


FIT = "fit?" + urlencode({"picture": "bundled", **GAUSSIAN})


def sent(demo, headers, name=FIT):
    """The status of a POST of which the headers alone are sent."""
    connection = http.client.HTTPConnection("127.0.0.1", demo.port, timeout=30)
    connection.putrequest("POST", f"/{demo.url.split('/')[3]}/{name}", skip_host="Host" in headers)
    for header, value in headers.items():
        connection.putheader(header, value)
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


def test_a_page_elsewhere_can_begin_nothing(demo):
    empty = {"Content-Length": "0"}
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        assert sent(demo, headers | empty)[0] == 404
        assert sent(demo, headers | empty, "stop")[0] == 404
    assert demo._runs.latest is None
    assert sent(demo, {"Origin": f"http://127.0.0.1:{demo.port}"} | empty)[0] == 200
    assert sent(demo, {"Host": f"localhost:{demo.port}"} | empty)[0] == 200


def test_a_body_that_is_too_large_is_refused_and_not_read(demo):
    """The answer comes before a byte of the body is sent."""
    status, text = sent(demo, {"Content-Length": str(server.MOST_BYTES + 1)})
    assert (status, text) == (413, "the file has more than 64 MiB: make the picture smaller first")
    assert sent(demo, {"Content-Length": "9" * 5000})[0] == 413
    for length in ("-1", "x", "²"):
        assert sent(demo, {"Content-Length": length.encode()})[0] == 411
    assert sent(demo, {})[0] == 411
    assert drop(demo, png())[0] == 200


def test_the_page_asks_for_nothing_elsewhere(demo):
    _, page, headers = get(demo)
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    for name in ("", "live.js", "demo.js", "style.css", "demo.css"):
        assert not re.search(rb"https?://|@import|url\(", get(demo, name)[1])
    assert re.findall(r'name="encoding" value="(\w+)"', page.decode()) == [*runs.ENCODINGS]
    sizes = page.decode().partition('id="size"')[2]
    assert tuple(map(int, re.findall(r"<option[^>]*>(\d+)", sizes))) == runs.SIZES


# -- fits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choices", "settings"),
    [
        ({"encoding": "none"}, {"encoding": "none"}),
        ({"encoding": "basic", "sigma": "x"}, {"encoding": "basic"}),
        ({}, {"encoding": "gaussian", "sigma": 3.0}),
    ],
    ids=["none", "basic", "gaussian"],
)
def test_a_dropped_picture_is_fitted_as_by_fit(demo, tmp_path, choices, settings):
    path = tmp_path / "photo.png"
    path.write_bytes(png(100, 60))
    assert drop(demo, path.read_bytes(), **choices) == (200, "")
    found = until(demo, is_over)
    expected = coordfit.fit(path, size=64, steps=20, **settings, **SMALL)
    assert found["status"] == f"finished, {expected.metrics['psnr']:.2f} dB"
    assert found["name"] == expected.model.title
    assert f"<strong>{expected.metrics['psnr']:.2f} dB</strong>" in found["results"]
    (tmp_path / "model.safetensors").write_bytes(get(demo, "results/0.safetensors")[1])
    model = coordfit.load(tmp_path / "model.safetensors", device="numpy", threads=1)
    np.testing.assert_array_equal(model.render(), expected.reconstruction)
    drawn = np.asarray(Image.open(io.BytesIO(get(demo, "results/0.png")[1])))
    np.testing.assert_array_equal(drawn, np.rint(255 * np.clip(expected.reconstruction, 0, 1)))
    original = np.asarray(Image.open(io.BytesIO(get(demo, "pictures/0.png")[1])))
    assert original.shape == drawn.shape == (64, 38, 3)


def test_the_zoom_page_is_that_of_an_export_and_may_ask_for_nothing(demo, tmp_path):
    drop(demo, png())
    until(demo, is_over)
    _, page, headers = get(demo, "results/0.html")
    coordfit.export(demo._runs.finished[0][1].model, tmp_path / "page.html")
    assert page == (tmp_path / "page.html").read_bytes()
    assert headers["Content-Security-Policy"].startswith("sandbox allow-scripts; default-src 'none'")


def test_the_latest_results_stand_beside_each_other(demo):
    assert post(demo, picture="same", **GAUSSIAN) == (400, "there is no picture yet: drop one first")
    assert post(demo, picture="bundled", **GAUSSIAN)[0] == 200
    until(demo, is_over)
    for _ in range(runs._MOST_KEPT):
        assert post(demo, picture="same", **GAUSSIAN | {"encoding": "basic"})[0] == 200
        until(demo, is_over)
    shown = re.findall(r'src="(\w+/\d+)\.png"', state(demo)["results"])
    assert shown == ["pictures/6", *(f"results/{number}" for number in range(6, 0, -1))]
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(demo, "results/0.png")


def test_what_cannot_be_chosen_is_one_line(demo):
    for name, value in (("encoding", "grid"), ("size", "100000"), ("sigma", "many"), ("sigma", "-1")):
        status, text = post(demo, picture="bundled", **GAUSSIAN | {name: value})
        assert status == 400
        assert name in text
        assert "\n" not in text


def test_stop_ends_a_run_with_what_it_has_learned(endless):
    drop(endless, png())
    until(endless, is_training)
    assert post(endless, "stop") == (200, "")
    assert until(endless, is_over)["status"].startswith("stopped, ")
    assert get(endless, "results/0.png")[0] == 200


def test_another_picture_stops_the_one_in_training(endless, monkeypatch):
    together, most, fit = [], [], runs.fit

    def counted(*args, **options):
        together.append(1)
        most.append(len(together))
        try:
            return fit(*args, **options)
        finally:
            together.pop()

    monkeypatch.setattr(runs, "fit", counted)
    drop(endless, png(), name="first.png")
    until(endless, is_training)
    drop(endless, png(), name="second.png")
    drop(endless, png(), name="third.png")
    found = until(endless, is_training)
    assert found["name"].startswith("third.png")
    assert "first.png" in found["results"]
    assert set(most) == {1}


# -- what can go wrong -----------------------------------------------------------------------------------


def claiming(side):
    """A PNG of some bytes whose header has a square of this side."""
    chunk = b"IHDR" + struct.pack(">2I5B", side, side, 8, 2, 0, 0, 0)
    end = b"\0\0\0\0IEND\xaeB`\x82"
    return b"\x89PNG\r\n\x1a\n\0\0\0\r" + chunk + struct.pack(">I", zlib.crc32(chunk)) + end


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "is empty"),
        (b"just words", "is not a picture"),
        (png()[:200], "cannot be decoded"),
        (claiming(10_000), "pixels"),
        (claiming(2**31 - 1), "pixels"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a picture"),
    ],
    ids=["empty", "text", "cut", "large", "huge", "program"],
)
def test_a_file_that_cannot_be_used_is_one_line_and_the_next_is_fitted(demo, body, reason):
    status, text = drop(demo, body, name="my photo.png")
    assert status == 400
    assert text.startswith("my photo.png ")
    assert reason in text
    assert ": " in text  # and a cure
    assert "\n" not in text
    assert demo._folder.name not in text
    assert drop(demo, png())[0] == 200
    assert until(demo, is_over)["status"].startswith("finished, ")


def test_a_name_is_text_and_no_path(demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = '../<b>"evil\n.png'
    drop(demo, png(), name=name)
    found = until(demo, is_over)
    shown = found["results"] + found["html"]
    assert "<b>" not in shown
    assert html.escape('../<b>"evil\\n.png') in shown
    assert b"<b>" not in get(demo, "results/0.html")[1]
    assert [*tmp_path.iterdir()] == []


def test_an_error_of_a_fit_is_told_and_the_next_is_fitted(demo, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("two\nlines")

    with monkeypatch.context() as patched:
        patched.setattr(runs, "fit", fail)
        drop(demo, png())
        found = until(demo, is_over)
    assert (found["status"], found["error"]) == ("no result", "RuntimeError: two lines")
    drop(demo, png())
    assert until(demo, is_over)["status"].startswith("finished, ")


def test_the_end_leaves_no_thread_and_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(threading.enumerate())
    with Demo(**ENDLESS) as demo:
        drop(demo, png())
        until(demo, is_training)
        assert [*tmp_path.iterdir()] != []
    assert [*tmp_path.iterdir()] == []
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)  # one that answered the last request
        assert not thread.is_alive()


# -- the command and a browser ---------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_the_command_serves_its_page_until_ctrl_c(tmp_path):
    command = [sys.executable, "-m", "coordfit", "demo", "--no-browser", "--device", "numpy"]
    environment = os.environ | {"PYTHONPATH": str(Path(coordfit.__file__).parents[1]), "TMPDIR": str(tmp_path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, cwd=tmp_path, **pipes) as process:
        url = process.stdout.readline().strip()
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert b"<h1>" in answer.read()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (out, err.splitlines()) == ("", ["coordfit: drop pictures on the page; Ctrl-C ends it"])
    assert [*tmp_path.iterdir()] == []


def test_a_port_that_is_taken_is_one_line(demo, capsys):
    assert main(["demo", "--no-browser", "--device", "numpy", "--port", str(demo.port)]) == 2
    assert f"--port {demo.port} cannot be used" in capsys.readouterr().err


@pytest.mark.skipif(CHROMIUM is None or sys.platform == "win32", reason="there is no Chromium")
def test_a_browser_sends_a_picture_and_shows_the_result(tmp_path, demo):
    photo, words = tmp_path / "photo.png", tmp_path / "words.txt"
    photo.write_bytes(png())
    words.write_text("no picture")
    with Browser(tmp_path / "profile") as browser:
        browser.call("Page.navigate", url=demo.url)
        browser.until("document.getElementById('status')?.textContent.startsWith('drop one')")
        browser.give_file("#file", words)
        browser.until("message.textContent")
        assert browser.evaluate("message.textContent").startswith("words.txt is not a picture")
        browser.give_file("#file", photo)
        browser.until("document.querySelectorAll('#results a').length === 3")
        psnr = coordfit.fit(photo, encoding="gaussian", sigma=10, steps=20, **SMALL).metrics["psnr"]
        assert browser.evaluate("document.querySelector('#results strong').textContent") == f"{psnr:.2f} dB"
        assert browser.evaluate("status_.textContent") == f"finished, {psnr:.2f} dB"
        assert browser.evaluate("message.textContent") == ""
        browser.until("[...results.querySelectorAll('img')].every(image => image.naturalWidth === 30)")
        browser.evaluate("document.querySelector('[value=none]').click()")
        browser.evaluate("document.querySelector('[type=submit]').click()")
        browser.until("document.querySelectorAll('#results a').length === 6")
        assert browser.evaluate("document.querySelectorAll('#results strong').length") == 2
