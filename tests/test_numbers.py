"""NaN and infinity, pictures of a few pixels, runs that diverge, options beyond reason."""

import contextlib
import io
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import coordfit
import coordfit.report.curves
import coordfit.report.line_plot
from coordfit import ConfigError, PictureError
from coordfit.cli import main
from coordfit.experiments import run_experiment
from coordfit.experiments.common import Study

SMALL = {"steps": 3, "num_frequencies": 4, "hidden_size": 8, "depth": 2}
ON_CPU = {"device": "numpy", "threads": 1}
WORDS = [f"--{name.replace('_', '-')}={value}" for name, value in (SMALL | ON_CPU).items()]

PICTURES = {
    "black": np.zeros((9, 7, 3), np.uint8),
    "white": np.full((5, 6), 255, np.uint8),
    "constant": np.full((16, 16, 3), 77, np.uint8),
    "one pixel": np.full((1, 1, 3), 100, np.uint8),
    "one row": np.arange(20, dtype=np.uint8).reshape(1, 20),
    "one column": np.arange(20, dtype=np.uint8).reshape(20, 1),
    "black and white": (np.indices((12, 12)).sum(axis=0) % 2 * 255).astype(np.uint8),
    "two pixels": np.array([[0, 255]], np.uint8),
    "transparent": np.zeros((8, 8, 4), np.uint8),
}


@pytest.fixture(autouse=True)
def a_place_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for module, name in ((coordfit.report.curves, "save_curves"), (coordfit.report.line_plot, "save_lines")):
        monkeypatch.setattr(module, name, lambda path, *args, **kwargs: Path(path).write_text("<svg/>"))


def call(*words):
    """A command's exit code, its one document, and the last line of what it said."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([*map(str, words), "--json"])
    document = json.loads(out.getvalue(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    return code, document, (err.getvalue().splitlines() or [""])[-1].removeprefix("coordfit: ")


# -- pictures with next to nothing in them ---------------------------------------------------------------


@pytest.mark.parametrize("train_on", ["all", "every-second"])
@pytest.mark.parametrize("name", PICTURES)
def test_degenerate_pictures_are_fitted(name, train_on):
    pixels = PICTURES[name]
    result = coordfit.fit(pixels, train_on=train_on, **SMALL, **ON_CPU)
    assert result.stopped == "steps"
    assert result.reconstruction.shape[:2] == pixels.shape[:2]
    assert np.isfinite(result.reconstruction).all()
    assert np.isfinite(result.metrics["loss"])


@pytest.mark.parametrize("name", PICTURES)
def test_degenerate_pictures_are_compared_and_swept(name):
    comparison = coordfit.compare(PICTURES[name], **SMALL, **ON_CPU)
    assert comparison.picture_of_all().width > 0
    assert np.isfinite(comparison.table["psnr"]).all()
    assert len(coordfit.sweep(PICTURES[name], sigma=[1.0, 2.0], **SMALL, **ON_CPU)) == 2


@pytest.mark.parametrize(
    "way", [{"missing": 0.4}, {"block": (0, 0, 1, 1)}, {"scribble": True}, {"text": "a"}, {}]
)
@pytest.mark.parametrize("name", PICTURES)
def test_degenerate_pictures_are_inpainted_or_it_is_said_why_not(name, way):
    told = ""
    try:
        result = coordfit.inpaint(PICTURES[name], **way, **SMALL, **ON_CPU)
    except ConfigError as error:
        told = str(error)
    if told:
        assert any(word in told for word in ("hides all", "nothing is hidden", "does not fit"))
        return
    assert np.isfinite(result.filled).all()
    assert result.comparison().width > 0


@pytest.mark.parametrize("command", ["fit", "compare", "sweep"])
@pytest.mark.parametrize("name", ["black", "one pixel", "two pixels"])
def test_the_command_line_takes_degenerate_pictures(command, name):
    Image.fromarray(PICTURES[name]).save("p.png")
    code, _, said = call(command, "p.png", *WORDS, "--out", "out")
    assert code == 0, said


def test_a_study_says_why_one_pixel_is_too_few(monkeypatch):
    monkeypatch.setattr(Study, "steps", lambda study, steps: 2)
    backend = coordfit.get_backend("numpy", threads=1)
    for name in ("one row", "two pixels"):
        assert run_experiment("encodings", Study(backend, PICTURES[name], quick=True)).finding
    Image.fromarray(PICTURES["one pixel"]).save("p.png")
    code, document, said = call("experiments", "encodings", "--image", "p.png", "--quick", "--device", "numpy")
    assert (code, document["error"]) == (1, said)
    assert said == "p.png has one pixel, and none to hold out: take a larger picture"


# -- numbers that are none -------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("use", [coordfit.fit, coordfit.compare, coordfit.sweep, coordfit.inpaint])
def test_pictures_with_numbers_that_are_none_are_refused(use, value):
    pixels = np.full((4, 4, 3), 0.5)
    pixels[1, 2, 0] = value
    with pytest.raises(PictureError, match="NaN or infinite"):
        use(pixels, **ON_CPU)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_options_that_are_no_numbers_are_refused(value):
    for name in ("sigma", "learning_rate", "delta", "epochs", "seconds", "target_psnr", "omega", "momentum"):
        with pytest.raises(ConfigError, match=f"^{name} must be"):
            coordfit.fit(PICTURES["black"], **{name: value})


# -- runs that diverge -----------------------------------------------------------------------------------

# The first steps are good and are evaluated; then the rate leaves all bounds.
BLOWS_UP = {"learning_rate": 1e30, "optimizer": "sgd", "output_activation": "identity", "evaluate_every": 1}


def blow_up_words():
    return [f"--{name.replace('_', '-')}={value}" for name, value in BLOWS_UP.items()]


def test_a_diverged_fit_keeps_its_last_good_state():
    rising = {"schedule": "constant", "warmup_steps": 0}
    result = coordfit.fit(PICTURES["black and white"], **(SMALL | {"steps": 50} | BLOWS_UP | rising), **ON_CPU)
    assert result.stopped == "diverged"
    last = result.history[-1]
    assert result.metrics["steps"] == last["step"] < 50
    assert np.isfinite(result.state.parameters).all()
    assert np.isfinite(result.reconstruction).all()
    assert result.metrics["psnr_train"] == pytest.approx(last["psnr_train"])
    result.save("m.safetensors")
    np.testing.assert_array_equal(coordfit.load("m.safetensors", **ON_CPU).render(), result.reconstruction)


@pytest.mark.parametrize("command", ["fit", "compare", "inpaint", "sweep"])
def test_divergence_is_told_with_what_to_lower(command):
    Image.fromarray(PICTURES["black and white"]).save("p.png")
    more = ["--missing=0.5"] if command == "inpaint" else []
    words = [*WORDS, "--steps=50", *blow_up_words(), *more]
    found, document, said = call(command, "p.png", *words, "--out", "out")
    assert found == 4, said
    assert "diverged" in json.dumps(document)
    assert said.startswith("diverged: ")
    assert said.endswith("lower --learning-rate")


def test_a_sweep_in_which_some_diverge_has_found_out_which():
    Image.fromarray(PICTURES["black and white"]).save("p.png")
    words = [*WORDS, "--steps=20", *blow_up_words(), "--sigma=1,2", "--learning-rate=1e30,1e-3"]
    found, document, said = call("sweep", "p.png", *words, "--out", "out")
    assert found == 0
    assert said == "2 of 4 networks diverged, the last in the table: see the column stopped"
    told = [(row["learning_rate"], row["stopped"]) for row in document["rows"]]
    assert told == [(1e-3, "steps")] * 2 + [(1e30, "diverged")] * 2
    assert Path("out/heat_map.svg").read_text().count("<!-- - -->") == 2


def test_one_that_diverges_does_not_stop_its_neighbours():
    rates = [1e30, 1e-3]
    options = SMALL | {"steps": 20} | BLOWS_UP | {"learning_rate": rates}
    rows = {row["learning_rate"]: row for row in coordfit.sweep(PICTURES["constant"], **options, **ON_CPU)}
    assert (rows[1e30]["stopped"], rows[1e-3]["stopped"]) == ("diverged", "steps")
    assert rows[1e-3]["steps_taken"] == 20
    assert all(np.isfinite(row["psnr"]) for row in rows.values())


# -- options beyond reason -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--hidden-size 0", "hidden_size must be between"),
        ("--sigma -1", "sigma must be between"),
        ("--sigma nan", "sigma must be between"),
        ("--num-frequencies 1000000000", "num_frequencies must be between"),
        ("--depth 100000000", "depth must be between"),
        ("--learning-rate inf", "learning_rate must be"),
        ("--steps 99999999999999999999", "steps must be between"),
        ("--batch-size 0", "batch_size must be between"),
        ("--size 1000000x1000000", "12000.0 GB for its colours alone"),
        ("--size 99999999999999999999", "is no size"),
        ("--threads 1000000", "threads must be a whole number from 1 to 1024"),
        ("--seed -1", "seed must be between"),
    ],
)
@pytest.mark.parametrize("command", ["fit", "compare"])
def test_options_beyond_reason_are_refused_before_memory_is_asked_for(command, words, said):
    tracemalloc.start()
    try:
        code, document, line = call(command, "--device", "numpy", *words.split(), "--out", "out")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (code, document["error"]) == (2, line)
    assert said in line
    assert peak < 20e6
    assert not Path("out").exists()


def test_a_network_beyond_the_machine_is_refused_with_the_estimate():
    """Each of these is within its limits; together they ask for a terabyte."""
    words = ["--num-frequencies=65536", "--hidden-size=16384", "--depth=64", "--device=numpy"]
    tracemalloc.start()
    try:
        code, document, line = call("fit", *words, "--out=out")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (code, document["error"]) == (1, line)
    assert "GB of memory" in line
    assert "lower --hidden-size" in line
    assert peak < 20e6
    assert not Path("out").exists()


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    coordfit.fit(PICTURES["constant"], **SMALL, **ON_CPU).save(path)
    return path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--size=1000000x1000000"], "3000 GB"),
        (["--size=1x3000000000"], "sides of 2147483647"),
        (["--size=9000", "--out=x.jpg"], "name a .png"),
        (["--size=" + "9" * 5000], "is no size"),
        (["--crop=0,0,1," + "9" * 5000], "is no crop"),
        (["--scale=1e300"], "scale must be"),
        (["--scale=999999"], "GB before they are packed"),
    ],
)
def test_renderings_beyond_reason_are_refused_with_the_estimate(model_file, words, said):
    code, document, line = call("render", model_file, "--device=numpy", "--out=x.png", *words)
    assert (code, document["error"]) == (2, line)
    assert said in line
    assert not list(Path().iterdir())


def test_a_window_of_a_rendering_beyond_reason_is_drawn(model_file):
    code, document, said = call(
        "render", model_file, "--device=numpy", "--size=1000000000", "--crop=999999990,0,10,4", "--out=x.png"
    )
    assert code == 0, said
    assert (document["width"], document["height"]) == (10, 4)


@pytest.mark.parametrize("shape", [(1, 12_295), (12_295, 1)], ids=["wide", "tall"])
def test_long_thin_renderings_need_little_memory(monkeypatch, shape):
    """The tables of features of one such row, or column, take 6 MB, and its features as much again."""
    monkeypatch.setattr("coordfit.models.model.CHUNK_PIXELS", 1024)
    options = SMALL | {"num_frequencies": 64, "steps": 0}
    model = coordfit.fit(PICTURES["constant"], **options, **ON_CPU).model
    tracemalloc.start()
    try:
        long = model.render(*shape)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4e6
    for start in (0, 1019, 12_285):
        window = (start, 0, 10, 1) if shape[0] == 1 else (0, start, 1, 10)
        part = model.render(*shape, crop=window)
        np.testing.assert_allclose(part.reshape(-1, 3), long.reshape(-1, 3)[start : start + 10], atol=1e-6)


# -- who is named ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SIGMA", "fish"),
        ("LOSS", "fish"),
        ("NESTEROV", "fish"),
        ("HIDDEN_SIZE", "-3"),
        ("SIZE", "x"),
        ("THREADS", "0"),
        ("FUSED", "fish"),
        ("DEVICE", "fish"),
    ],
)
@pytest.mark.parametrize("command", ["fit", "sweep"])
def test_a_senseless_variable_is_named(monkeypatch, command, name, value):
    monkeypatch.setenv(f"COORDFIT_{name}", value)
    code, _, said = call(command, "--out", "out")
    assert code == 2
    assert said.startswith(f"the environment variable COORDFIT_{name}")
    assert value in said


def test_an_option_hides_a_senseless_variable(monkeypatch):
    monkeypatch.setenv("COORDFIT_SIGMA", "fish")
    monkeypatch.setenv("COORDFIT_THREADS", "fish")
    Image.fromarray(PICTURES["constant"]).save("p.png")
    assert call("fit", "p.png", *WORDS, "--sigma=3", "--out=out")[0] == 0


def test_a_variable_may_hold_several_values_for_a_sweep(monkeypatch):
    monkeypatch.setenv("COORDFIT_SIGMA", "1, 2")
    Image.fromarray(PICTURES["constant"]).save("p.png")
    code, document, said = call("sweep", "p.png", *WORDS, "--out=out")
    assert code == 0, said
    assert json.dumps(document).count('"sigma": ') >= 2


def test_an_unknown_setting_is_named_with_the_nearest_one():
    with pytest.raises(ConfigError, match="unknown option 'sigmaa'; did you mean 'sigma'"):
        coordfit.FitConfig(sigmaa=1)
