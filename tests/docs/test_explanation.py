"""The cells of docs/explanation run, and the formulas and numbers of its pages hold."""

import functools
import itertools
import math
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot

from coordfit.backends import get_backend
from coordfit.codec.compression import settings_for
from coordfit.network.cost import cost_of_a_row
from coordfit.tiles.layout import TileLayout
from coordfit.tiles.plan import OVERLAP, SHAPES

FOLDER = Path(__file__).parents[2] / "docs" / "explanation"
CELL = re.compile(r"^```\{code-cell\} ipython3\n(---\n.*?^---\n)?(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = sorted(page for page in FOLDER.glob("*.md") if CELL.search(page.read_text(encoding="utf-8")))
DEFAULT = (256, 128, 128, 128, 3)  # layers


def text_of(name):
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


@functools.cache
def run(page):
    """Run the cells of a page one after another and draw their figures, once; return their names."""
    names = {"__name__": "page"}
    with matplotlib.rc_context():
        for _, cell in CELL.findall(page.read_text(encoding="utf-8")):
            exec(compile(cell, page.name, "exec", dont_inherit=True), names)
            for number in pyplot.get_fignums():
                pyplot.figure(number).canvas.draw()
    return names


@pytest.fixture
def spectral_bias(few_steps, headless):
    return run(FOLDER / "spectral_bias.md")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_cells_of_a_page_run(page, few_steps, headless):
    run(page)


def test_the_pages_with_cells_are_known():
    assert [page.stem for page in PAGES] == ["one_formula", "spectral_bias"]
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert text.startswith("---\nfile_format: mystnb\n")
        assert len(CELL.findall(text)) == text.count("{code-cell}")
        for options, cell in CELL.findall(text):
            assert ("alt:" in options) == ("plt.show()" in cell)  # a figure has a text in its place


# -- spectral bias -----------------------------------------------------------------------------------------


def test_the_tangent_kernel_is_that_of_gradients(spectral_bias):
    features, layer, kernel = (spectral_bias[name] for name in ("features", "layer", "kernel"))
    phi = features(np.linspace(0.1, 0.9, 5), 3)[:, :6]
    W, v = spectral_bias["drawn"](6)
    assert abs(layer(phi, W, v)[0] @ v).max() < 1e-12  # the network begins at 0
    rng = np.random.default_rng(0)
    W = W + 0.1 * rng.normal(size=W.shape)
    v = v + 0.1 * rng.normal(size=v.shape)
    parameters = np.concatenate([W.ravel(), v])

    def network(flat):
        h, _ = layer(phi, flat[: W.size].reshape(W.shape), flat[W.size :])
        return h @ flat[W.size :]

    h, d = layer(phi, W, v)
    gradients = np.concatenate([(phi[:, :, None] * d[:, None, :]).reshape(5, -1), h], axis=1)
    for _ in range(3):
        direction = rng.normal(size=parameters.size)
        ends = (network(parameters + sign * 1e-6 * direction) for sign in (1, -1))
        np.testing.assert_allclose(gradients @ direction, np.subtract(*ends) / 2e-6, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(kernel(phi, phi, W, v), gradients @ gradients.T, rtol=1e-10)


def test_the_predicted_decay_is_the_measured_one(spectral_bias):
    for times, measured, predicted in spectral_bias["decays"].values():
        assert times[-1] == 300
        assert abs(measured - predicted).max() < 0.03
    eighth = {name: part[1][:, -8] for name, part in spectral_bias["decays"].items()}
    assert eighth["x alone"][-1] > 0.9
    assert eighth["sigma 3"][10] < 0.1  # after 100 steps


def test_a_larger_sigma_makes_the_spectrum_flatter(spectral_bias):
    spectra = {name: values[::-1] / values[-1] for name, (values, _) in spectral_bias["spectra"].items()}
    assert spectra["x alone"][7] < 1e-3
    middle = [spectra[name][31] for name in ("x alone", "sigma 1", "sigma 3", "sigma 10")]
    assert middle == sorted(middle)


def test_the_mean_product_of_gaussian_features_is_a_gaussian(spectral_bias):
    b = np.random.default_rng(0).normal(0.0, 3.0, 400_000)
    for distance in (0.0, 0.02, 0.05, 0.1):
        wanted = math.exp(-2 * math.pi**2 * 9 * distance**2)
        assert np.cos(2 * np.pi * b * distance).mean() == pytest.approx(wanted, abs=5e-3)


def test_between_trained_points_a_large_sigma_loses_the_signal(spectral_bias):
    wanted = spectral_bias["curve"](spectral_bias["dense"])
    errors = {
        name: np.sqrt(np.mean((values - wanted) ** 2)) for name, values in spectral_bias["between"].items()
    }
    assert max(errors["sigma 1"], errors["sigma 3"]) < 0.1 < errors["sigma 10"]


# -- fast steps, tiles and pyramids ------------------------------------------------------------------------


def test_the_costs_of_a_step_are_those_of_the_default_network():
    row_bytes, forward = cost_of_a_row(DEFAULT, "float32")
    weights = sum(a * b for a, b in itertools.pairwise(DEFAULT))
    parts = [1024 * forward, 1024 * forward, 1024 * (forward - 2 * 256 * 128)]
    text = text_of("fast_steps")
    assert f"{weights:,}".replace(",", " ") in text
    assert f"{weights + sum(DEFAULT[1:]):,}".replace(",", " ") in text
    for number in (*parts, sum(parts)):
        assert f"{number / 1e6:.0f} million" in text
    assert f"{1024 * row_bytes / 1e6:.1f} million bytes" in text
    assert f"{16384 * row_bytes / 1e6:.0f} million bytes" in text


@pytest.mark.parametrize(("name", "blocks", "millions"), [("numpy", 7, 3.5), ("numba", 16, 1.4)])
def test_blocks_of_rows_are_as_many_as_the_page_says(name, blocks, millions):
    if name == "numba":
        pytest.importorskip("numba")
    backend, (row_bytes, forward) = get_backend(name, threads=2), cost_of_a_row(DEFAULT, "float32")
    assert backend.block_bytes == millions * 1e6
    for rows, count in ((1024, 1), (16384, blocks)):
        partitions = backend.partition(rows, 1, row_bytes, 3 * forward)
        assert [len(part.blocks) for part in partitions] == [count, count]
    if name == "numba":
        assert backend.steps_at_once(3.0 * forward * 1024) == 4


def test_the_numbers_of_tiles_and_pyramids_are_those_of_the_defaults():
    text = text_of("tiles_and_pyramids")
    tile, m, units = SHAPES[0].tile, SHAPES[0].num_frequencies, SHAPES[0].hidden_size
    parameters = (2 * m + 1) * units + (units + 1) * 3
    assert f"{parameters}\nparameters" in text
    assert f"{3 * 16 * parameters / (3 * tile**2):.0f} bits" in text
    layout = TileLayout((64, 64), tile, OVERLAP)
    assert layout.side == 10
    axis = layout.axes[0]
    places = np.linspace(0, 64, 321)
    np.testing.assert_allclose(sum(axis.weights(k, places) for k in range(len(axis))), 1.0)
    pyramid = settings_for(3, 512, 768)
    assert (pyramid.channels, pyramid.hidden) == ((1, 2, 3, 3, 3), 24)
    latents = sum(count / 4**level for level, count in enumerate(pyramid.channels))
    assert latents == pytest.approx(1.75, abs=0.005)
