"""Inpainting: the network learns known pixels alone, fills hidden ones, and is scored on these."""

import csv
import dataclasses
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

import coordfit.tasks.filling.figures
import coordfit.training.result
from coordfit.backends import get_backend
from coordfit.cli import main
from coordfit.errors import ConfigError
from coordfit.images import bundled_picture
from coordfit.images.drawn_masks import block_mask, missing_mask
from coordfit.images.interpolation import biharmonic_fill, mean_spacing, nearest_fill
from coordfit.images.masks import hide
from coordfit.images.metrics import psnr, ssim
from coordfit.report.inpainting import inpainting_picture, paint_hidden
from coordfit.report.panels import absolute_error
from coordfit.tasks.filling.network import DEFAULTS, Inpainter, inpainting_config, plan_inpainting
from coordfit.tasks.inpaint import inpaint
from coordfit.tasks.jobs.settings import Settings
from coordfit.tiles.plan import TileOptions

SMALL = {"hidden_size": 16, "depth": 2, "num_frequencies": 16, "batch_size": 128, "steps": 30, "seed": 4}
MACHINE = {"device": "cpu", "threads": 1}
WORDS = [
    "--hidden-size",
    8,
    "--depth",
    2,
    "--num-frequencies",
    4,
    "--steps",
    4,
    "--threads",
    1,
    "--device",
    "cpu",
]
AS_IN_WORDS = {"hidden_size": 8, "depth": 2, "num_frequencies": 4, "steps": 4}
FILES = {
    "comparison.png",
    "config.json",
    "curves.svg",
    "filled.png",
    "history.csv",
    "mask.png",
    "masked.png",
    "metrics.json",
    "model.safetensors",
    "reconstruction.png",
}


@pytest.fixture(scope="module")
def picture():
    return bundled_picture(32)


@pytest.fixture(scope="module")
def known():
    return missing_mask(32, 32, 0.5, seed=1)


@pytest.fixture(scope="module")
def result(picture, known):
    return inpaint(picture, known, truth=picture, **SMALL, **MACHINE)


@pytest.fixture
def transparent(picture, known):
    """The picture, with hidden pixels transparent."""
    return np.concatenate([picture.pixels, known[:, :, None].astype(np.float32)], axis=2)


# -- learning --------------------------------------------------------------------------------------------


def spoiled(picture, known):
    noise = np.random.default_rng(0).random(picture.pixels.shape, np.float32)
    return np.where(known[:, :, None], picture.pixels, noise)


@pytest.mark.parametrize(
    "options",
    [{}, {"sigma": "auto"}, {"batch_size": None}, {"average": 2}],
    ids=["", "auto", "full batch", "average"],
)
def test_the_network_never_sees_a_hidden_pixel(picture, known, options):
    """Whatever stands there and whatever the truth is, each parameter is bit for bit the same; sigma too."""
    truths = None, picture, spoiled(picture, known)
    runs = [
        inpaint(spoiled(picture, known), known, truth=truth, **{**SMALL, **options}, **MACHINE)
        for truth in truths
    ]
    runs.append(inpaint(picture, known, **{**SMALL, **options}, **MACHINE))
    for run in runs[1:]:
        assert run.config == runs[0].config
        np.testing.assert_array_equal(run.state.parameters, runs[0].state.parameters)
    assert runs[1].metrics["psnr_hidden"] > runs[2].metrics["psnr_hidden"] + 5


def test_a_known_pixel_does_matter(picture, known, result):
    changed = inpaint(spoiled(picture, ~known), known, **SMALL, **MACHINE)
    assert not np.array_equal(changed.state.parameters, result.state.parameters)


def test_known_pixels_are_kept_and_hidden_ones_filled_by_the_network(picture, known, result):
    assert result.filled.shape == picture.pixels.shape
    np.testing.assert_array_equal(result.filled[known], picture.pixels[known])
    np.testing.assert_array_equal(result.filled[~known], result.reconstruction[~known])
    np.testing.assert_array_equal(result.mask, known)


def test_filled_pixels_are_colours_though_the_network_leaves_them(picture, known):
    made = inpaint(picture, known, **SMALL | {"output_activation": "identity"}, **MACHINE)
    made.model.mlp.parameters *= 4.0
    values = np.concatenate([*made.model.predict_rows(made.model.grid())])[~known]
    assert values.min() < 0.0
    assert values.max() > 1.0
    np.testing.assert_array_equal(dataclasses.replace(made).filled[~known], values.clip(0.0, 1.0))


def test_the_defaults_beat_the_nearest_fill():
    """With the real defaults but for the steps, which are fewer."""
    metrics = inpaint(bundled_picture(), missing=0.5, steps=100, **MACHINE).metrics
    assert metrics["psnr_hidden"] > metrics["psnr_hidden_nearest"] + 0.3


# -- settings --------------------------------------------------------------------------------------------


def test_defaults_lie_below_options_and_give_way_to_a_recipe():
    assert inpainting_config().depth == DEFAULTS["depth"]
    assert inpainting_config({"depth": 3}).depth == 3
    assert inpainting_config(recipe="paper").as_dict() == coordfit.make_config(recipe="paper").as_dict()


def test_sigma_follows_the_density_of_the_known_pixels(picture):
    def sigma(**options):
        return inpaint(
            **{"image": bundled_picture(), "missing": 0.5, **SMALL, "steps": 0, **MACHINE, **options}
        ).config.sigma

    assert sigma() == pytest.approx(128 / np.sqrt(2) / 30, abs=0.01)
    assert sigma(missing=0.875) == pytest.approx(sigma() / 2, abs=0.01)
    assert sigma(image=picture, sigma=7.0) == 7.0
    assert sigma(image=picture, encoding="none") is None
    assert sigma(image=picture, encoding="positional") > 1


def test_few_known_pixels_take_fewer_steps_unless_a_budget_is_given(picture):
    def steps(image, missing, **options):
        masked = hide(image, missing=missing, seed=0)
        settings = Settings([{"hidden_size": 8, "num_frequencies": 4}, options], defaults=DEFAULTS)
        job = plan_inpainting(masked, settings, TileOptions())
        return Inpainter(masked, job, get_backend("numpy", threads=1)).fit.trainer.steps

    assert steps(bundled_picture(), 0.5) == steps(bundled_picture(), 0.25) == 600
    assert steps(bundled_picture(), 0.875) == 300
    assert steps(picture, 0.5) == 150
    assert steps(picture, 0.5, steps=400) == 400
    assert steps(picture, 0.5, epochs=2) == 2


def test_spacing_is_the_mean_distance_between_known_pixels():
    grid = np.zeros((12, 12), bool)
    grid[::3, ::3] = True
    assert mean_spacing(grid) == 3.0
    assert mean_spacing(np.ones((4, 4), bool)) == 1.0


def test_every_second_pixel_and_a_mask_exclude_each_other(picture):
    with pytest.raises(ConfigError, match="train_on has no meaning"):
        inpaint(picture, missing=0.5, train_on="every-second")


# -- figures ---------------------------------------------------------------------------------------------


def test_hidden_pixels_alone_are_scored(picture, known, result):
    m, hidden = result.metrics, ~known
    assert m["psnr_hidden"] == psnr(result.filled, picture.pixels, where=hidden)
    assert m["psnr_hidden"] == pytest.approx(m["psnr_held_out"], abs=1e-4)
    assert m["psnr_hidden_nearest"] == psnr(nearest_fill(picture.pixels, known), picture.pixels, where=hidden)
    assert m["ssim_filled"] == ssim(result.filled, picture.pixels)
    assert (m["known_pixels"], m["hidden_pixels"], m["hidden_share"]) == (512, 512, 0.5)


def test_no_file_of_another_codec_is_comparable_where_pixels_are_hidden(result):
    assert result.other_bits_per_pixel == {"plain": 24, "JPEG": None, "WebP": None, "AVIF": None}


@pytest.mark.parametrize("shape", [(17, 40), (40, 17), (1, 7), (7, 1), (1, 1)])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.97, 1.0])
def test_nearest_fill_takes_the_nearest_known_pixel(shape, share):
    ndimage = pytest.importorskip("scipy.ndimage")
    rng = np.random.default_rng(0)
    known = rng.random(shape) > share
    known[shape[0] // 3, shape[1] // 2] = True
    places = np.stack(np.indices(shape), axis=-1).astype(np.float64)  # each pixel says where it is
    filled = nearest_fill(places, known)
    distance = np.linalg.norm(filled - places, axis=-1)
    np.testing.assert_allclose(distance, ndimage.distance_transform_edt(~known), rtol=1e-12)
    assert known[tuple(filled.astype(int).reshape(-1, 2).T)].all()


def test_baselines_depend_on_known_pixels_alone(picture, known):
    other = spoiled(picture, known)
    for fill in (nearest_fill, biharmonic_fill):
        filled = fill(picture.pixels, known)
        np.testing.assert_array_equal(filled, fill(other, known))
        np.testing.assert_array_equal(filled[known], picture.pixels[known])


def test_biharmonic_fill_goes_on_with_a_slope():
    slope = np.broadcast_to(np.linspace(0.1, 0.9, 24, dtype=np.float32)[:, None], (24, 24))[:, :, None]
    known = block_mask(24, 24, (9, 9, 5, 5))
    assert np.abs(biharmonic_fill(slope, known) - slope).max() < 0.01
    assert np.abs(nearest_fill(slope, known) - slope).max() > 0.05


def test_a_missing_library_leaves_a_figure_out_and_says_so(monkeypatch, picture):
    for module in ("skimage.restoration", "scipy.ndimage"):
        monkeypatch.setitem(sys.modules, module, None)
    metrics = inpaint(picture, missing=0.5, **SMALL, **MACHINE).metrics
    assert metrics["psnr_hidden_biharmonic"] is None
    assert any("biharmonic" in note and "not installed" in note for note in metrics["inpainting_notes"])
    assert metrics["psnr_hidden_nearest"] is not None  # it needs NumPy alone


def test_biharmonic_is_left_out_where_it_would_take_long(monkeypatch, picture):
    monkeypatch.setattr(coordfit.tasks.filling.figures, "MOST_BIHARMONIC_PIXELS", 511)
    metrics = inpaint(picture, missing=0.5, **SMALL, **MACHINE).metrics
    assert metrics["psnr_hidden_biharmonic"] is None
    assert "512 hidden pixels would take long" in metrics["inpainting_notes"][0]


@pytest.mark.parametrize("way", ["mask", "alpha"])
@pytest.mark.parametrize("average", [1, 2])
def test_without_truth_nothing_is_scored_that_needs_it(picture, transparent, known, way, average):
    """Not in figures, history, state or what a callback hears; and what stands there changes none of these."""
    heard = []
    options = {**SMALL, **MACHINE, "average": average, "callback": lambda progress: heard.append(progress.row)}
    damaged = [transparent] if way == "alpha" else [(picture, known), (spoiled(picture, known), known)]
    runs = [inpaint(*(image if way == "mask" else (image,)), **options) for image in damaged]
    for run in runs:
        m = run.metrics
        figures = ["psnr", "psnr_held_out", "ssim", *(n for n in m if n.startswith(("psnr_h", "ssim")))]
        assert {m[name] for name in figures} == {None}
        rows = [*run.history, *run.state.history, *filter(None, heard)]
        assert {(row["psnr"], row["psnr_held_out"]) for row in rows} == {(None, None)}
        assert m["psnr_train"] > 10
        assert m["inpainting_notes"] == [
            "the true colours of hidden pixels are not known, so the filling has no score"
        ]
        assert run.model.metrics is m  # what the model file tells
    timeless = [{n: v for n, v in run.metrics.items() if n != "seconds"} for run in runs]
    assert timeless[0] == timeless[-1]


def test_the_same_pixels_hidden_by_alpha_give_the_same_network(transparent, result):
    by_alpha = inpaint(transparent, **SMALL, **MACHINE)
    np.testing.assert_array_equal(by_alpha.state.parameters, result.state.parameters)
    assert by_alpha.filled.shape[2] == 3


# -- the sheet -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(40, 40), (20, 300), (300, 20)])
def test_any_picture_has_a_sheet(channels, size):
    truth = np.random.default_rng(0).random((*size, channels), np.float32)
    known = missing_mask(*size, 0.3, seed=0)
    sheet = inpainting_picture(truth, known, np.full_like(truth, 0.5), title="a title")
    without = inpainting_picture(truth, known, truth, title="a title", has_truth=False)
    assert min(sheet.size) > 200
    assert min(without.size) > 200


@pytest.mark.parametrize("has_truth", [True, False])
def test_the_panels_are_called_what_they_show(monkeypatch, has_truth):
    seen = []
    strip = coordfit.report.inpainting.picture_strip
    monkeypatch.setattr(
        "coordfit.report.inpainting.picture_strip",
        lambda panels, title: seen.extend(panels) or strip(panels, title=title),
    )
    scratched, known = np.zeros((32, 32, 3), np.float32), block_mask(32, 32, (4, 5, 20, 6))
    scratched[~known] = 1.0
    filled = np.zeros_like(scratched)
    inpainting_picture(scratched, known, filled, title="", has_truth=has_truth)
    names = [name for name, _, _ in seen]
    assert names == (
        ["truth", "mask", "filled", "error of hidden pixels"] if has_truth else ["damaged", "mask", "filled"]
    )
    np.testing.assert_array_equal(seen[0][1], scratched)
    np.testing.assert_array_equal(seen[2][1], filled)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("colour", ["white", "black", "darker stripe", "lighter stripe"])
def test_a_mask_is_seen_on_a_picture_of_any_colour(channels, colour):
    dark, light = coordfit.report.inpainting._STRIPES
    rgb = {"white": (1, 1, 1), "black": (0, 0, 0), "darker stripe": dark, "lighter stripe": light}[colour]
    own = np.array(rgb if channels > 2 else [np.mean(rgb)], np.float32)
    pixels = np.broadcast_to(np.append(own, [1.0] * (channels % 2 == 0)), (64, 64, channels))
    known = block_mask(64, 64, (10, 20, 40, 8))
    painted = paint_hidden(pixels, known)
    assert painted.shape == (64, 64, 3 if channels % 2 else 4)
    np.testing.assert_array_equal(painted[known][:, :3], np.broadcast_to(own, (np.count_nonzero(known), 3)))
    apart = np.abs(painted[~known][:, :3] - own).max(axis=1)
    assert np.mean(apart > 0.25) > 0.4
    assert (painted[..., 3:] == 1).all()


def test_a_transparent_picture_is_shown_with_its_holes(monkeypatch, transparent):
    seen = []
    monkeypatch.setattr("coordfit.report.inpainting.picture_strip", lambda panels, title: seen.extend(panels))
    inpaint(transparent, **SMALL, **MACHINE).comparison()
    np.testing.assert_array_equal(seen[0][1][..., 3], transparent[..., 3])


def test_the_scale_of_the_error_is_that_of_hidden_pixels(monkeypatch):
    """A small hole with large errors must not be drawn on the scale of the many exact pixels around it."""
    seen = []
    monkeypatch.setattr(
        "coordfit.report.side_by_side.draw_error_bar", lambda sheet, place, width, bar, font: seen.append(bar)
    )
    truth = np.zeros((64, 64, 3), np.float32)
    known = block_mask(64, 64, (0, 0, 2, 2))
    filled = np.where(known[:, :, None], truth, np.float32(0.35))
    inpainting_picture(truth, known, filled, title="")
    assert absolute_error(truth, filled)[~known].min() > 0.3
    assert (seen[0].scale, seen[0].clipped) == (100, False)


def test_a_notebook_shows_the_sheet(result):
    assert result._repr_png_().startswith(b"\x89PNG")


# -- the command -----------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def a_place_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("COORDFIT_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def quick_curves(monkeypatch):
    """Drawing takes most of the time of a small run; one test draws for all."""
    monkeypatch.setattr("coordfit.training.result.save_curves", lambda path, history: path.write_text("<svg/>"))


def call(capsys, *words):
    code = main(["inpaint", *map(str, [*WORDS, *words])])
    said = capsys.readouterr()
    return code, said.out, said.err


def levels(path):
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture
def photo(tmp_path, picture):
    coordfit.save_picture(tmp_path / "photo.png", picture.pixels)
    return tmp_path / "photo.png"


@pytest.fixture
def mask_file(tmp_path, known):
    Image.fromarray(known).save(tmp_path / "known.png")
    return tmp_path / "known.png"


def test_a_run_leaves_its_folder_and_says_what_white_means(capsys, tmp_path, photo, mask_file, known):
    code, out, err = call(capsys, photo, "--mask", mask_file, "--animate", "focus.gif")
    folder = tmp_path / "runs" / "001"
    assert (code, out.splitlines()[-1]) == (0, str(Path("runs", "001")))
    assert {path.name for path in folder.iterdir()} == FILES
    assert f"coordfit: white is known in {mask_file}: 512 of 1024 pixels, 50.0 % hidden\n" in err
    np.testing.assert_array_equal(levels(folder / "mask.png") == 255, known)
    masked, filled = levels(folder / "masked.png"), levels(folder / "filled.png")
    np.testing.assert_array_equal(masked[:, :, 3] == 255, known)
    np.testing.assert_array_equal(masked[known][:, :3], levels(photo)[known])
    assert not masked[~known].any()
    np.testing.assert_array_equal(filled[known], levels(photo)[known])
    np.testing.assert_array_equal(filled[~known], levels(folder / "reconstruction.png")[~known])
    with Image.open("focus.gif") as animation:
        assert animation.n_frames > 1


def test_the_masked_picture_can_be_inpainted_again(capsys, quick_curves, photo, mask_file, known):
    """Its transparency is the mask: the same run."""
    call(capsys, photo, "--mask", mask_file, "--out", "first", "-q")
    code, out, _ = call(capsys, "first/masked.png", "--out", "second", "-q", "--json")
    metrics = json.loads(out)["metrics"]
    assert (code, metrics["psnr_hidden"], metrics["psnr"]) == (0, None, None)
    np.testing.assert_array_equal(levels("first/filled.png"), levels("second/filled.png"))
    with Path("second/history.csv").open(newline="") as file:
        assert {row["psnr"] + row["psnr_held_out"] for row in csv.DictReader(file)} == {""}


@pytest.mark.parametrize("tiles", [[], ["--tiles", "8"]], ids=["network", "tiles"])
def test_damage_under_a_soft_mask_is_no_truth_anywhere(capsys, quick_curves, tmp_path, picture, tiles):
    """No line and no file has a figure that needs the colours below a scratch, unless a truth is given."""
    known = block_mask(32, 32, (3, 4, 20, 7))
    Image.fromarray(np.uint8(255) * known).filter(ImageFilter.GaussianBlur(1)).save("brush.png")
    coordfit.save_picture(tmp_path / "photo.png", np.where(known[..., None], picture.pixels, 1.0))
    words = ["photo.png", "--mask", "brush.png", "--mask-threshold", 0.9, *tiles]
    code, out, err = call(capsys, *words, "--out", "run")
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert code == 0
    np.testing.assert_array_equal(levels("run/mask.png") == 0, levels("brush.png") < 0.9 * 255)
    assert "photo.png: 304 pixels of the mask brush.png are neither black nor white: known from" in err
    assert "coordfit: the true colours of hidden pixels are not known, so the filling has no score\n" in err
    assert [line for line in out.splitlines() if "dB" in line or "SSIM" in line] == [
        f"PSNR         {metrics['psnr_train']:.2f} dB, known pixels"
    ]
    assert "PSNR" not in err
    figures = {name for name in metrics if name.startswith(("psnr", "ssim"))}
    assert {name for name in figures if metrics[name] is not None} <= {"psnr_train", "psnr_worst_tile"}
    if not tiles:
        with Path("run/history.csv").open(newline="") as file:
            assert {row["psnr"] + row["psnr_held_out"] for row in csv.DictReader(file)} == {""}
        assert "known pixels" in next(line for line in err.splitlines() if line.startswith("step 0/"))
    scored = json.loads(call(capsys, *words, "--truth", "photo.png", "--out", "scored", "--json")[1])["metrics"]
    assert {"psnr", "psnr_hidden", "psnr_hidden_nearest", "ssim"} <= {
        n for n in figures if scored[n] is not None
    }
    np.testing.assert_array_equal(levels("scored/filled.png"), levels("run/filled.png"))


@pytest.mark.skipif(sys.platform == "win32", reason="such names are refused there")
def test_a_truth_of_any_name_is_told_in_one_line(capsys, quick_curves, photo, mask_file):
    name = photo.rename("{0}\x1b[31m\n.png")
    code, out, _ = call(capsys, name, "--mask", mask_file, "--truth", name, "--out", "run")
    assert code == 0
    assert "hidden       512 pixels, 50.0 %: a mask, scored against {0}\\x1b[31m\\n.png\n" in out


def test_json_is_one_document_with_the_figures(capsys, quick_curves, photo):
    code, out, _ = call(capsys, photo, "--missing", 0.25, "--json", "--out", "run")
    document = json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert (code, document["folder"]) == (0, "run")
    assert document["metrics"]["hidden_pixels"] == 256
    assert document["metrics"] == json.loads(Path("run/metrics.json").read_text())
    assert document["config"] == json.loads(Path("run/config.json").read_text())["config"]
    assert document["config"]["sigma"] == pytest.approx(32 * np.sqrt(0.75) / 30, abs=0.01)


def test_the_mean_of_networks_fills_and_is_saved(capsys, quick_curves, photo):
    words = [photo, "--missing", 0.5, "--seed", 3, "--animate", "focus.gif"]
    code, out, _ = call(capsys, *words, "--average", 3, "--out", "run")
    assert code == 0
    assert "average      of 3 networks\n" in out
    assert {path.name for path in Path("run").iterdir()} == FILES | {"deviation.png", "networks"}
    np.testing.assert_array_equal(
        coordfit.load("run/model.safetensors", **MACHINE).render(),
        inpaint(photo, missing=0.5, average=3, **AS_IN_WORDS, seed=3, **MACHINE).reconstruction,
    )


@pytest.mark.parametrize(
    "words",
    [["--text", "Hi"], ["--scribble"], ["--block", "2,3,4,5"], ["--missing", "0.5"]],
    ids=lambda w: w[0],
)
def test_the_bundled_picture_serves_where_none_is_named(capsys, quick_curves, words):
    code, _, _ = call(capsys, *words, "--steps", 1, "--size", 32, "--out", "run", "-q")
    hidden = levels("run/mask.png") == 0
    assert code == 0
    assert 0 < hidden.sum() < hidden.size


def test_an_inverted_mask_hides_what_is_white(capsys, quick_curves, photo, mask_file, known):
    assert call(capsys, photo, "--mask", mask_file, "--invert-mask", "--out", "run")[0] == 0
    np.testing.assert_array_equal(levels("run/mask.png") == 255, ~known)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name --mask, --missing, --text, --scribble or --block"),
        (["--mask", "known.png"], "name the picture that the mask belongs to"),
        (["photo.png"], "photo.png has no transparent pixels"),
        (
            ["photo.png", "--mask", "known.png", "--size", "16"],
            "known.png is 32x32 pixels and the picture 16x16",
        ),
        (["photo.png", "--missing", "0.5", "--scribble"], "not allowed with"),
        (["photo.png", "--missing", "0.5", "--invert-mask"], "none was given"),
        (["photo.png", "--missing", "0.5", "--mask-threshold", "0.4"], "none was given"),
        (["photo.png", "--mask", "known.png", "--mask-threshold", "0"], "above 0 and at most 1"),
        (["photo.png", "--missing", "0.5", "--truth", "photo.png"], "leave the truth out"),
        (["photo.png", "--missing", "0.5", "--animate", "focus.mov"], "focus.mov"),
        (["photo.png", "--missing", "0.5", "--train-on", "every-second"], "train_on has no meaning"),
        (["photo.png", "--text", ""], "no letters"),
        (["photo.png", "--missing", "0.5", "--average", "0"], "a whole number of 1 or more"),
        (["photo.png", "--missing", "0.5", "--average", "17"], "from 1 to 16"),
        (
            ["photo.png", "--missing", "0.5", "--average", "2", "--optimizer", "gauss-newton"],
            "one network at a time",
        ),
    ],
    ids=[
        "no picture",
        "mask alone",
        "opaque",
        "sizes",
        "two ways",
        "nothing to invert",
        "nothing to threshold",
        "threshold",
        "truth twice",
        "movie",
        "train",
        "empty",
        "no network",
        "many networks",
        "gauss-newton",
    ],
)
def test_wrong_usage_is_2_with_one_line_and_no_folder(capsys, tmp_path, photo, mask_file, words, said):
    code, out, err = call(capsys, *words)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert said in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX systems")
@pytest.mark.parametrize(
    ("number", "average", "expected"),
    [(signal.SIGINT, 1, 130), (signal.SIGTERM, 1, 143), (signal.SIGINT, 2, 130)],
)
def test_an_interrupted_run_saves_what_is_there(
    capsys, quick_curves, monkeypatch, photo, number, average, expected
):
    from coordfit.cli import session as command

    class Interrupting(command.ProgressReport):
        def __call__(self, progress):
            if progress.step >= 40:
                os.kill(os.getpid(), number)

    monkeypatch.setattr(command, "ProgressReport", Interrupting)
    monkeypatch.setattr("coordfit.cli.interrupts.PATIENCE", 600)  # for all figures and pictures
    words = [photo, "--missing", 0.5, "--average", average, "--steps", 100_000]
    code, _, err = call(capsys, *words, "--evaluate-every", 20, "--out", "run")
    assert code == expected
    assert "interrupted; the picture as filled so far is saved, begin again with" in err
    assert err.endswith("--overwrite --out run\n")
    assert {path.name for path in Path("run").iterdir()} == FILES | (
        {"deviation.png", "networks"} if average > 1 else set()
    )
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert 40 <= metrics["steps"] < 1000
    assert metrics["psnr_hidden"] is not None
