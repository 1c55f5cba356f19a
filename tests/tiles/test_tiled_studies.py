"""`inpaint`, `sweep` and `compare` of pictures that are cut into tiles."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import coordfit
from coordfit.backends import get_backend
from coordfit.cli import main
from coordfit.cli.session import exit_code_of_many
from coordfit.errors import ConfigError
from coordfit.images import bundled_picture, load_picture, save_picture
from coordfit.images.interpolation import nearest_fill
from coordfit.images.metrics import psnr, psnr_from_mse
from coordfit.tasks.compare import compare_jobs, jobs_for
from coordfit.tasks.jobs.network import NetworkJob
from coordfit.tasks.jobs.settings import Device, Settings
from coordfit.tasks.jobs.tiles import TiledJob
from coordfit.tasks.sweep import execute, model_of, plan_sweep
from coordfit.tiles.fit import TiledFit
from coordfit.tiles.plan import TileOptions, TilePlan, plan_tiles
from coordfit.tiles.trainer import TileTrainer

SMALL = {"num_frequencies": 8, "hidden_size": 12}
MACHINE = {"device": "numpy", "threads": 1}
WORDS = ["--device", "numpy", "--steps", "4", "--num-frequencies", "8", "--no-progress"]


@pytest.fixture(scope="module")
def picture():
    return load_picture(bundled_picture().pixels[40:72, 30:70])


@pytest.fixture
def photo(tmp_path, picture, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_picture(tmp_path / "photo.png", picture.pixels)
    return str(tmp_path / "photo.png")


def said(capsys, *words, code=0):
    """What a command prints: stdout and the lines of stderr."""
    assert main([*map(str, words)]) == code
    out, err = capsys.readouterr()
    return out, err.splitlines()


# -- hidden pixels -----------------------------------------------------------------------------------------


def inpainted(picture, mask, **options):
    return coordfit.inpaint(picture, mask, **MACHINE | SMALL | {"tiles": 8, "steps": 10} | options)


def test_no_tile_sees_a_hidden_pixel(picture):
    known = np.random.default_rng(3).random((32, 40)) < 0.6
    known[8:24, 10:30] = False  # whole tiles know nothing
    spoiled = load_picture(np.where(known[..., None], picture.pixels, 1.0 - picture.pixels))
    one, other = (inpainted(spoiled, known, truth=truth) for truth in (picture, spoiled))
    np.testing.assert_array_equal(one.model.parameters, other.model.parameters)
    m = one.metrics
    assert m["psnr_hidden"] == pytest.approx(psnr(one.filled, picture.pixels, where=~known), abs=1e-4)
    assert m["psnr_hidden"] > other.metrics["psnr_hidden"] + 3
    assert m["psnr_train"] == other.metrics["psnr_train"] > m["psnr_held_out"]
    np.testing.assert_array_equal(one.filled[known], picture.pixels[known])


def slope(height, width):
    """A picture whose colours change slowly: what is hidden can be told from what is around it."""
    y, x = np.mgrid[:height, :width] / width
    return load_picture(np.stack([0.3 + 0.4 * x, 0.3 + 0.4 * y, 0.7 - 0.3 * x], -1).astype(np.float32))


@pytest.mark.parametrize("corner", [(16, 20), (0, 0)], ids=["inside", "at a corner"])
def test_a_tile_that_knows_nothing_takes_its_colours_from_around_it(corner):
    picture, (top, left) = slope(56, 64), corner
    known = np.ones((56, 64), bool)
    known[top : top + 24, left : left + 26] = False
    made = inpainted(picture, known, truth=picture, steps=40)
    baseline = psnr(nearest_fill(picture.pixels, known), picture.pixels, where=~known)
    assert made.metrics["psnr_hidden"] > baseline - 1.0
    seen = picture.pixels[known]
    assert (made.filled >= seen.min(0) - 0.1).all()
    assert (made.filled <= seen.max(0) + 0.1).all()


@pytest.mark.parametrize("share", [0.02, 0.98])
def test_few_known_pixels_and_few_hidden_ones(share):
    picture = slope(40, 40)
    known = np.random.default_rng(1).random((40, 40)) < share
    made = inpainted(picture, known, truth=picture, steps=40)
    assert made.metrics["psnr_hidden"] > (24 if share < 0.5 else 40)


def test_the_worst_tile_is_one_that_sees_something():
    pixels, known = slope(24, 40).pixels.copy(), np.ones((24, 40), bool)
    known[:, 20:] = False
    pixels[:, 19] = np.random.default_rng(0).random((24, 3))  # the nearest known ones of all hidden pixels
    tiles = plan_tiles(load_picture(pixels), 8, SMALL | {"steps": 2}, spacing=1.4)
    fit = TiledFit(load_picture(pixels), tiles, get_backend("numpy", threads=1), known=known)
    metrics, layout = fit.run().metrics, tiles.layout
    seeing = layout.pixels(known[..., None], np.arange(len(layout))).any(axis=(1, 2))
    errors = np.array(fit.store.errors)
    assert errors[~seeing].max() > errors[seeing].max()
    assert metrics["psnr_worst_tile"] == psnr_from_mse(errors[seeing].max())


def test_a_target_is_that_of_known_pixels(picture):
    known = np.random.default_rng(3).random((32, 40)) < 0.6
    made = inpainted(picture, known, target_psnr=30.0, hidden_size=32, steps=40)
    assert made.stopped == "target_psnr"
    assert made.metrics["psnr_train"] >= 30.0


def test_auto_leaves_hidden_pixels_to_one_network_and_says_why(capsys, photo):
    large = load_picture(np.zeros((300, 400, 3), np.uint8))
    assert "not seen" in plan_tiles(large, "auto", {}, spacing=1.01)
    assert isinstance(plan_tiles(large, "auto", {}, spacing=1.0), TilePlan)
    words = [*WORDS, "--missing", "0.9", "--size", "300", "--steps", "0", "--out", "run"]
    _, lines = said(capsys, "inpaint", photo, *words)
    assert "coordfit: one network for the whole picture: " in "\n".join(lines)
    assert isinstance(coordfit.load("run/model.safetensors"), coordfit.Model)


def test_sigma_follows_the_density_of_the_known_pixels():
    sigmas = [plan_tiles(slope(64, 64), 16, {}, spacing=spacing).config.sigma for spacing in (1.4, 2.0, 4.0)]
    assert sigmas[0] > sigmas[1] > sigmas[2]
    every_second = plan_tiles(slope(64, 64), 16, {"train_on": "every-second"}).config.sigma
    assert sigmas[1] == every_second
    assert plan_tiles(slope(64, 64), 16, {"sigma": 3.0}, spacing=2.0).config.sigma == 3.0


WAYS = {
    "missing": ["--missing", "0.4"],
    "text": ["--text", "ab"],
    "scribble": ["--scribble"],
    "block": ["--block", "5,6,14,9"],
    "mask": ["--mask", "mask.png"],
    "alpha": [],
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_hide_pixels_takes_tiles(capsys, tmp_path, photo, picture, way):
    known = np.ones((32, 40, 1), np.float32)
    known[4:20, 8:15] = 0.0
    save_picture(tmp_path / "mask.png", known)
    if way == "alpha":
        save_picture(tmp_path / "photo.png", np.concatenate([picture.pixels, known], axis=2))
    out, lines = said(capsys, "inpaint", photo, *WORDS, *WAYS[way], "--tiles", "8", "--out", "run")
    assert "coordfit: tiles: 20 tiles of 8x8" in "\n".join(lines)
    assert "cycles per side of a tile" in out
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        *("comparison.png", "config.json", "filled.png", "mask.png", "masked.png", "metrics.json"),
        *("model.safetensors", "reconstruction.png"),
    }
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert (metrics["psnr_hidden"] is None) == (way in ("alpha", "mask"))
    assert metrics["psnr_train"] is not None
    filled, shown = load_picture("run/filled.png").pixels, load_picture("run/mask.png").pixels[..., 0] == 1.0
    np.testing.assert_allclose(filled[shown], picture.pixels[shown], atol=1 / 255)
    assert coordfit.load("run/model.safetensors").render().shape == picture.pixels.shape


def test_an_interrupted_inpainting_says_what_is_left(capsys, photo, monkeypatch):
    fit = TileTrainer.fit
    monkeypatch.setattr(TileTrainer, "fit", lambda *a, **k: signal.raise_signal(signal.SIGINT) or fit(*a, **k))
    words = [*WORDS, "--missing", "0.4", "--tiles", "8", "--out", "run"]
    _, lines = said(capsys, "inpaint", photo, *words, code=130)
    told = "interrupted before all tiles were finished; there is no filled picture, begin again"
    assert lines[-1] == f"coordfit: {told} with the same words and --overwrite --out run"


# -- sweeps ------------------------------------------------------------------------------------------------

VARIED = {"tiles": [8, 16, "none"], "hidden_size": [8, 12]}


@pytest.fixture(scope="module")
def swept(picture):
    runs = plan_sweep([picture], [{"steps": 4, "num_frequencies": 8}], VARIED)
    return list(execute(runs, Device("numpy", 1)))


def test_a_sweep_over_tiles_has_a_row_for_each_and_each_is_that_fit(picture, swept):
    assert {(run.values["tiles"], run.values["hidden_size"]) for run, _ in swept} == {
        (tiles, size) for tiles in VARIED["tiles"] for size in VARIED["hidden_size"]
    }
    for run, outcome in swept:
        own = {name: run.values[name] for name in VARIED}
        alone = coordfit.fit(picture, steps=4, num_frequencies=8, **own, **MACHINE)
        assert outcome.row["psnr"] == pytest.approx(alone.metrics["psnr"], abs=1e-3)
        assert outcome.row["parameters"] == alone.metrics["parameters"]
        np.testing.assert_allclose(model_of(run, outcome).render(), alone.reconstruction, atol=2e-3)


def test_the_python_sweep_and_an_executor_give_the_same(picture, swept):
    with ThreadPoolExecutor(2) as pool:
        table = coordfit.sweep(picture, steps=4, num_frequencies=8, executor=pool, **VARIED, **MACHINE)
    assert table.columns[:3] == ("picture", "tiles", "hidden_size")
    assert sorted(table["psnr"]) == pytest.approx(sorted(outcome.row["psnr"] for _, outcome in swept))


def test_keys_tell_tiles_apart_and_leave_those_of_networks_as_they_were(picture):
    def key(**options):
        (run,) = plan_sweep([picture], [SMALL | {"steps": 4}, options], {})
        return run.key

    ways = [{}, {"tiles": 8}, {"tiles": 16}, {"tiles": 8, "stored": "float32"}]
    ways += [{"tiles": 8, "target_psnr": 30.0}, {"tiles": 8, "target_psnr": 30.0, "every_tile": True}]
    assert len({key(**way) for way in ways}) == len(ways)
    assert key(tiles="none") == key()


def test_a_sweep_over_tiles_goes_on(capsys, tmp_path, photo, monkeypatch):
    words = [*WORDS, "--tiles", "8,none", "--hidden-size", "8,12", "--out", "s"]
    said(capsys, "sweep", photo, *words, "--models")
    heat_map = (tmp_path / "s/heat_map.svg").read_text()
    assert "tiles" in heat_map
    for file in (tmp_path / "s/models").iterdir():
        assert coordfit.load(file).render(9, 9).shape == (9, 9, 3)
    trained = []
    run = TiledFit.run
    monkeypatch.setattr(
        TiledFit, "run", lambda fit, *a, **k: trained.append(fit.plan.layout.tile) or run(fit, *a, **k)
    )
    more = [*WORDS, "--tiles", "16,8,none", "--hidden-size", "8,12", "--out", "s", "--resume", "--json"]
    out, lines = said(capsys, "sweep", photo, *more)
    assert len(json.loads(out)["rows"]) == 6
    assert trained == [16, 16]
    assert "6 networks, 4 of them done already" in lines[0]


def test_a_sweep_over_budgets_chooses_tiles(picture):
    table = coordfit.sweep(picture, budget_parameters=[9000, 30000], steps=2, **MACHINE)
    assert set(table.columns) >= {"budget_parameters", "parameters"}
    assert all(row["parameters"] <= row["budget_parameters"] for row in table)
    assert len(set(table["parameters"])) == 2


def test_an_interrupted_sweep_of_tiles_keeps_finished_rows(capsys, tmp_path, photo, monkeypatch):
    run = TiledFit.run

    def run_and_stop(fit, *arguments, **more):
        if fit.plan.layout.tile == 16:
            signal.raise_signal(signal.SIGINT)
        return run(fit, *arguments, **more)

    monkeypatch.setattr(TiledFit, "run", run_and_stop)
    said(capsys, "sweep", photo, *WORDS, "--tiles", "8,16", "--out", "s", code=130)
    (row,) = [json.loads(line)["row"] for line in (tmp_path / "s/rows.jsonl").read_text().splitlines()]
    assert (row["tiles"], row["stopped"]) == (8, "steps")


# -- encodings ---------------------------------------------------------------------------------------------


def test_a_comparison_of_tiles_is_that_of_its_fits(picture):
    made = coordfit.compare(picture, tiles=16, steps=4, sigmas=[0.5, 2.0], **SMALL, **MACHINE)
    assert made.table["encoding"] == ["none", "basic", "positional", "gaussian 0.5", "gaussian 2"]
    for name, result in made.results.items():
        encoding, _, sigma = name.partition(" ")
        own = {"sigma": float(sigma)} if sigma else {}
        alone = coordfit.fit(picture, tiles=16, steps=4, encoding=encoding, **own, **SMALL, **MACHINE)
        assert result.metrics["psnr"] == pytest.approx(alone.metrics["psnr"], abs=1e-3)
        assert result.metrics["tiles"] == len(alone.model.layout)
    assert made.picture_of_all().width > 200


def test_the_usual_sigmas_of_tiles_are_in_cycles_per_tile(picture):
    jobs = jobs_for(picture, Settings(), TileOptions(tiles=16), ["positional", "gaussian"], None)
    sigmas = {name: job.config.resolved_sigma for name, job in jobs.items()}
    right = plan_tiles(picture, 16, {}).config.sigma
    assert list(sigmas.values()) == pytest.approx([3 * right, right / 5, right, right * 5])
    assert {type(job) for job in jobs.values()} == {TiledJob}
    (whole,) = jobs_for(picture, Settings(), TileOptions(), ["none"], None).values()
    assert type(whole) is NetworkJob


def test_compare_writes_a_model_for_each(capsys, tmp_path, photo):
    words = [*WORDS, "--hidden-size", "8", "--encoding", "none,gaussian", "--sigma", "1,2", "--tiles", "16"]
    out, _ = said(capsys, "compare", photo, *words, "--out", "c")
    assert "gaussian 2" in out
    names = {path.name for path in (tmp_path / "c").iterdir()}
    assert names >= {"comparison.png", "model-none.safetensors", "reconstruction-gaussian-2.png"}
    assert not names & {"curves.svg", "history.json"}
    assert coordfit.load("c/model-gaussian-1.safetensors").render().shape == (32, 40, 3)


def test_an_interrupted_comparison_keeps_what_is_finished(picture):
    settings = Settings([SMALL | {"steps": 2}])
    jobs = jobs_for(picture, settings, TileOptions(tiles=16), ["none", "basic"], None)
    finished = []
    backend = get_backend("numpy", threads=1)
    made = compare_jobs(
        backend, picture, jobs, None, lambda: bool(finished), lambda name, _: finished.append(name)
    )
    assert list(made.results) == finished == ["none"]
    assert not compare_jobs(backend, picture, jobs, lambda _: True).results


# -- what does not fit together ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["compare", "--tiles", "8", "--animate", "x.gif"], "--animate shows one network; add --tiles none"),
        (["inpaint", "--missing", "0.5", "--tiles", "8", "--animate", "x.gif"], "add --tiles none"),
        (["inpaint", "--missing", "0.5", "--tiles", "8", "--average", "2"], "add --tiles none"),
        (["compare", "--tiles", "8", "--sigma", "auto"], "sigma=auto is for one network"),
        (["sweep", "--tiles", "none,8", "--sigma", "auto,1"], "sigma=auto is for one network"),
        (["inpaint", "--missing", "0.5", "--tiles", "8", "--sigma", "auto"], "sigma=auto is for one network"),
        (["sweep", "--tiles", "8", "--batch-size", "64,128"], "leave batch_size out, or take tiles=none"),
        (["sweep", "--tiles", "8", "--epochs", "2"], "give steps instead of epochs"),
        (["sweep", "--tiles", "8", "--recipe", "paper"], "'paper' is for one network"),
        (["sweep", "--tiles", "8,x"], "neither auto"),
        (["sweep", "--tiles", "8,1000"], "side of 4 to 256"),
        (["sweep", "--tiles", "8,8"], "tiles has a value twice"),
        (["sweep", "--tiles", "8", "--stored", "float16,float8"], "stored must be one of float16, float32"),
        (["sweep", "--tiles", "8", "--every-tile"], "every_tile needs target_psnr"),
        (["compare", "--every-tile"], "there are none"),
        (["sweep", "--tiles", "none", "--budget-parameters", "10"], "chooses among tiles"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_tiles_cannot_is_said_in_one_line_with_the_cure(capsys, tmp_path, photo, words, told):
    command, *rest = words
    out, lines = said(capsys, command, photo, "--device", "numpy", *rest, code=2)
    assert (out, len(lines)) == ("", 1)
    assert told in lines[0]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("tiles", ["x", 8.5, 3, 1000, True])
def test_tiles_that_make_no_sense_are_refused(picture, tiles):
    for call in (coordfit.fit, coordfit.sweep, coordfit.compare):
        with pytest.raises(ConfigError, match="side of 4 to 256"):
            call(picture, tiles=tiles, steps=1, **MACHINE)


def test_several_fits_have_failed_where_all_diverge(capsys):
    lines = []
    codes = [exit_code_of_many(diverged, 3, "see there", lines.append) for diverged in range(4)]
    assert codes == [0, 0, 0, 4]
    assert lines[:2] == ["1 of 3 networks diverged, see there", "2 of 3 networks diverged, see there"]


@pytest.mark.parametrize("command", ["sweep", "compare"])
@pytest.mark.parametrize("more", [[], ["--tiles", "16"]], ids=["networks", "tiles"])
def test_where_all_diverge_the_exit_code_is_4(capsys, photo, command, more):
    words = ["--hidden-size", "8", "--encoding", "none,gaussian", "--sigma", "1", "--output-activation"]
    words += ["identity", "--optimizer", "sgd", "--learning-rate", "1e38", "--size", "16", "--out", "run"]
    _, lines = said(capsys, command, photo, *WORDS, *words, *more, code=4)
    assert lines[-1].endswith("none of the networks is left; lower --learning-rate")
