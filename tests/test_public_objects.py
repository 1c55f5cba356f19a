"""Every public result and model: pickled, copied, said in one line, shown in notebooks, used by threads."""

import base64
import concurrent.futures
import copy
import functools
import io
import pickle
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import structural_similarity

import coordfit
from coordfit.images import Picture
from coordfit.training.state import Progress

PIXELS = np.random.default_rng(0).random((24, 32, 3))
MACHINE = {"device": "numpy", "threads": 1}
SMALL = {"steps": 2, "hidden_size": 8, "depth": 2, "num_frequencies": 4, "batch_size": 64} | MACHINE
EVIL = "<script>alert(1)<b>\n\x1b.png"


def picture():
    levels = np.rint(255 * PIXELS).astype(np.uint8)
    return Picture(levels, 8, EVIL)


def told(**options):
    """The last progress that a callback got."""
    seen = []
    coordfit.fit(PIXELS, callback=lambda progress: seen.append(progress), **SMALL | options)
    return seen[-1]


@functools.cache
def made(kind):
    own = picture()
    return {
        "fit": lambda: coordfit.fit(own, **SMALL),
        "mean": lambda: coordfit.fit(own, average=2, **SMALL),
        "tiles": lambda: coordfit.fit(own, tiles=8, steps=2, hidden_size=8, num_frequencies=4, **MACHINE),
        "compact": lambda: coordfit.fit(own, recipe="compact", steps=2),
        "inpaint": lambda: coordfit.inpaint(own, missing=0.5, **SMALL),
        "kriging": lambda: coordfit.inpaint(own, missing=0.5),
        "compare": lambda: coordfit.compare(own, encodings=("none", "gaussian"), sigmas=(1, 3), **SMALL),
        "sweep": lambda: coordfit.sweep(own, sigma=(1, 3), **SMALL),
        "compress": lambda: coordfit.compress(own, steps=2),
        "many": lambda: coordfit.fit_many([own, PIXELS], **SMALL),
        "picture": picture,
        "config": lambda: coordfit.FitConfig(sigma=3.0),
        "progress": told,
        "progress of tiles": lambda: told(tiles=8, batch_size=None),
        **{f"model of {name}": lambda name=name: made(name).model for name in FITS},
    }[kind]()


FITS = ("fit", "mean", "tiles", "compact", "inpaint")
MODELS = tuple(f"model of {name}" for name in FITS)
RESULTS = (*FITS, "kriging", "compare", "sweep", "compress", "many")
KINDS = (*RESULTS, *MODELS, "picture", "config", "progress", "progress of tiles")


def drawn(thing):
    """What a thing draws, or says if it draws nothing."""
    if isinstance(thing, coordfit.Comparison):
        return np.stack([one.render() for one in thing.results.values()])
    if isinstance(thing, coordfit.FittedPictures):
        return np.concatenate([one.render() for one in thing])
    if isinstance(thing, coordfit.CompressionResult):
        return thing.decompressed().levels
    if isinstance(thing, coordfit.Table):
        return np.array(thing["psnr"])
    if isinstance(thing, coordfit.KrigingResult):
        return np.concatenate([thing.filled, thing.deviation_picture], axis=2)
    return thing.render() if hasattr(thing, "render") else getattr(thing, "pixels", np.zeros(1))


WAYS = {"pickle": lambda thing: pickle.loads(pickle.dumps(thing)), "deepcopy": copy.deepcopy, "copy": copy.copy}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_says_and_draws_the_same(kind, way):
    thing = made(kind)
    again = WAYS[way](thing)
    assert type(again) is type(thing)
    assert repr(again) == repr(thing)
    np.testing.assert_array_equal(drawn(again), drawn(thing))
    if kind == "mean":
        np.testing.assert_array_equal(again.deviation, thing.deviation)
    if isinstance(thing, coordfit.FitConfig):
        assert again == thing


@pytest.mark.parametrize("kind", KINDS)
def test_its_repr_is_one_short_line(kind):
    text = repr(made(kind))
    assert text.isprintable()
    assert len(text) < 250
    assert " at 0x" not in text


class Tags(HTMLParser):
    """The tags, their attributes and the text of a page; every tag is closed that has to be."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.words, self.attributes, self.open = [], [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in ("img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.mark.parametrize("kind", [*RESULTS, *MODELS])
def test_a_notebook_shows_a_table_and_a_picture(kind):
    html = made(kind)._repr_html_()
    page = Tags(html)
    assert "script" not in page.tags
    assert "table" in page.tags
    assert kind in ("config", "many") or "<script>" in "".join(page.words)  # escaped, and read back as text
    assert not re.search(r"color|background", html)  # a dark page has its own
    pictures = [value for name, value in page.attributes if name == "src"]
    assert len(pictures) == (kind not in ("sweep", "many"))
    for source in pictures:
        data = base64.b64decode(source.removeprefix("data:image/png;base64,"), validate=True)
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            assert image.format == "PNG"


@pytest.mark.parametrize("kind", MODELS)
def test_a_large_model_is_shown_small(kind, monkeypatch):
    monkeypatch.setattr("coordfit.models.rendering._MOST_SHOWN", 16)
    html = made(kind)._repr_html_()
    data = re.search(r"base64,([^\"]*)", html)[1]
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (16, 12)


@pytest.mark.parametrize("kind", [*RESULTS, *MODELS])
def test_four_threads_draw_what_one_does(kind):
    thing, calls = copy.deepcopy(made(kind)), 4
    wanted = drawn(made(kind))
    with concurrent.futures.ThreadPoolExecutor(calls) as pool:
        found = [pool.submit(drawn, thing) for _ in range(2 * calls)]
        for future in found:
            np.testing.assert_array_equal(future.result(timeout=60), wanted)


# -- what is taken ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values", [[1, 3], (1, 3), range(1, 4, 2), np.array([1, 3]), np.array([1.0, 3.0], np.float32)], ids=repr
)
def test_several_values_come_as_anything_like_a_list(values):
    table = coordfit.sweep(PIXELS, sigma=values, **SMALL)
    assert sorted(table["sigma"]) == [1, 3]
    compared = coordfit.compare(PIXELS, encodings=np.array(["gaussian"]), sigmas=values, **SMALL)
    assert list(compared.results) == ["gaussian 1", "gaussian 3"]
    assert sorted(table["psnr"]) == sorted(compared.table["psnr"])


def test_a_tuple_is_one_size_and_several_pictures():
    assert len(coordfit.sweep(PIXELS, size=(16, 12), **SMALL)) == 1
    assert len(coordfit.sweep((PIXELS, PIXELS[:12]), size=((16, 12), (8, 6)), **SMALL)) == 4


def test_an_array_is_one_picture_or_several():
    assert len(coordfit.fit_many(PIXELS, **SMALL)) == 1
    assert len(coordfit.fit_many(np.stack([PIXELS, PIXELS]), **SMALL)) == 2


def test_coordinates_come_as_nested_lists():
    for kind in ("model of fit", "model of tiles"):
        model = made(kind)
        np.testing.assert_array_equal(model([[0, 0], [1, 0.5]]), model(np.array([[0, 0], [1, 0.5]])))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_psnr_and_ssim_of_levels_are_those_of_colours(dtype):
    peak = np.iinfo(dtype).max
    truth, guess = (np.rint(peak * part).astype(dtype) for part in (PIXELS, np.clip(PIXELS + 0.1, 0, 1)))
    expected = 10 * np.log10(peak**2 / np.mean((truth.astype(float) - guess) ** 2))
    assert coordfit.psnr(guess, truth) == pytest.approx(expected, rel=1e-12)
    assert coordfit.psnr(guess / peak, truth / peak) == pytest.approx(expected, rel=1e-12)
    oracle = structural_similarity(
        truth, guess, channel_axis=2, data_range=peak, gaussian_weights=True, use_sample_covariance=False
    )
    assert coordfit.ssim(guess, truth) == pytest.approx(oracle, abs=1e-6)
    where = np.arange(24 * 32).reshape(24, 32) % 3 == 0
    assert coordfit.psnr(guess, truth, where=where) != coordfit.psnr(guess, truth)
    assert coordfit.psnr(truth, truth) == np.inf


@pytest.mark.parametrize("kinds", [(np.uint8, np.uint16), (np.uint8, np.float32), (np.int16, np.int16)])
def test_levels_of_two_kinds_are_no_pair(kinds):
    pair = [np.zeros((12, 12, 3), kind) for kind in kinds]
    for measure in (coordfit.psnr, coordfit.ssim):
        with pytest.raises(ValueError, match="dtype"):
            measure(*pair)


# -- what is shown ---------------------------------------------------------------------------------------


def test_nothing_is_printed_unless_it_is_asked_for(capfd):
    coordfit.fit(PIXELS, **SMALL)
    coordfit.fit_many([PIXELS], **SMALL)
    assert capfd.readouterr() == ("", "")
    coordfit.fit(PIXELS, callback=coordfit.progress_bar(), **SMALL)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("step 2/2: ")


def test_one_bar_serves_many_runs_and_ends_with_each(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stderr", screen := Terminal())
    with coordfit.progress_bar() as bar:
        for _ in range(2):
            coordfit.fit(PIXELS, callback=bar, **SMALL)
            assert bar._bar is None
        coordfit.compare(PIXELS, callback=bar, **SMALL)
        coordfit.compress(PIXELS, steps=3, callback=bar)
    assert "bits per pixel" in screen.getvalue()
    assert len(re.findall(r"100%\|[^\r]*2/2 ", screen.getvalue())) >= 3
    assert bar(Progress(2, 2, 0.1, evaluated=True)) is None
