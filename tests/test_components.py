"""Components from outside the library: fitted fast on every backend, checked, saved, loaded and named."""

import json
from dataclasses import dataclass
from importlib import metadata
from typing import get_args

import numpy as np
import pytest
from coordfit.backends.numpy_backend.backend import NumpyBackend
from support.components import (
    ACTIVATIONS,
    ENCODINGS,
    GELU,
    LOSSES,
    RULES,
    AdamW,
    Charbonnier,
    Finer,
    Gauss,
    Learned,
    LearnedEncoder,
    Lion,
    LogCosh,
    LogUniform,
    Powers,
)
from support.trainers import parameters_of, train

import coordfit
from coordfit.backends import get_backend
from coordfit.cli import main
from coordfit.components import known
from coordfit.config import make_config
from coordfit.fit_options import EncodingName
from coordfit.images import load_picture
from coordfit.training.checkpoint import load_checkpoint, save_checkpoint
from coordfit.training.job import Job
from coordfit.training.trainer import Trainer, fit_alone

PICTURE = np.random.default_rng(0).uniform(size=(12, 10, 3))
SMALL = {"hidden_size": 12, "num_frequencies": 6, "depth": 3, "steps": 6, "learning_rate": 1e-3}
OPTIONS = [
    *({"activation": f} for f in ACTIVATIONS),
    {"output_activation": Gauss(0.5), "batch_size": 64},
    *({"loss": loss} for loss in LOSSES),
    *({"optimizer": rule} for rule in RULES),
    *({"encoding": encoding} for encoding in ENCODINGS),
]


@dataclass(frozen=True)
class Steps:
    """A schedule: down by a factor at the middle."""

    by: float = 0.1

    def factor(self, progress):
        return 1.0 if progress < 0.5 else self.by


def numba(fused):
    pytest.importorskip("numba", reason="Numba is not installed")
    return get_backend("numba", threads=2, fused=fused)


def cupy_on_host(fused):
    from support import fake_cupy

    if reason := fake_cupy.why_unavailable():
        pytest.skip(reason)
    return fake_cupy.CupyOnHost(fused)


BACKENDS = {"numpy": lambda fused: NumpyBackend(fused, threads=1), "numba": numba, "cupy": cupy_on_host}


def trained(backend, options, dtype="float64"):
    config = make_config(SMALL, options, {"dtype": dtype})
    trainer = Trainer([Job(load_picture(PICTURE), config)], backend)
    train(trainer, SMALL["steps"])
    return trainer, parameters_of(trainer)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_component_trains_by_fused_bodies_as_by_its_formula(name, options):
    _, expected = trained(NumpyBackend("never", threads=1), options)
    trainer, found = trained(BACKENDS[name]("always"), options)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)
    assert trainer.training_step.is_recorded == (name != "numpy" and trainer.encoder.is_recordable)


@pytest.mark.parametrize("name", BACKENDS)
def test_networks_together_are_networks_alone(name):
    picture = load_picture(PICTURE)
    common = {"activation": Gauss(2.0), "optimizer": AdamW(), "dtype": "float64"}
    configs = [
        make_config(SMALL, common, {"seed": seed, "loss": loss, "learning_rate": rate})
        for seed, loss, rate in ((0, LogCosh(), 1e-3), (1, Charbonnier(0.1), 2e-3), (2, "mse", 3e-3))
    ]
    together = Trainer([Job(picture, config) for config in configs], BACKENDS[name]("always")).run()
    for result, config in zip(together, configs, strict=True):
        alone = fit_alone(Job(picture, config), BACKENDS[name]("always"))
        np.testing.assert_allclose(result.reconstruction, alone.reconstruction, rtol=0, atol=1e-9)


def test_gradients_of_components_are_checked():
    found = coordfit.check_gradients("numpy", activations=ACTIVATIONS[:2], losses=LOSSES, encodings=ENCODINGS)
    assert all(case.passed for case in found)
    assert {case.encoding for case in found} == {str(encoding) for encoding in ENCODINGS}
    assert {case.activation for case in found} == {"GELU()", "Gauss(a=2.0)"}
    assert {case.loss for case in found} == {"LogCosh()", "Charbonnier(epsilon=0.1)"}


@dataclass(frozen=True)
class WrongSlope(LogCosh):
    """A loss whose gradient was forgotten to be halved."""

    def gradient(self, xp, residual):
        return 2.0 * xp.tanh(residual)


@dataclass(frozen=True)
class Forgetful(Learned):
    """An encoding whose backward forgets the half of the features that are sines."""

    def encoder(self, backend, state, dtype):
        encoder = super().encoder(backend, state, dtype)
        return ForgetfulEncoder(backend, encoder.num_features)


class ForgetfulEncoder(LearnedEncoder):
    def backward(self, dx, *, accumulate=False):
        d = dx + 0.0
        d[..., self.num_features // 2 :] = 0.0
        super().backward(d, accumulate=accumulate)


@pytest.mark.parametrize("wrong", [{"losses": [WrongSlope()]}, {"encodings": [Forgetful(4)]}], ids=str)
def test_a_wrong_derivative_is_found(wrong):
    alone = {"activations": ["tanh"], "losses": ["mse"], "encodings": ["gaussian"]}
    found = coordfit.check_gradients("numpy", **alone | wrong)
    assert not any(case.passed for case in found)


# -- the start --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Narrow(Gauss):
    """An activation with initial weights of its own."""

    def initializer(self, rng, n_in, n_out, first):
        return rng.normal(0.0, 0.5 / n_in, (n_in, n_out)), 0.25 if first else 0.0


def drawn(activation, **options):
    config = make_config(SMALL, {"activation": activation, "hidden_size": 64, "encoding": "none"}, options)
    layers = Trainer([Job(load_picture(PICTURE), config)], NumpyBackend(threads=1)).model.mlp.layers
    return [(layer.W, layer.b) for layer in layers]


def test_an_activation_brings_its_own_initial_weights():
    """Sines of its own frequency, not of the option `omega`; or what its method draws."""
    for omega in (3.0, 8.0):
        W, _ = drawn(Finer(omega), omega=100.0)[1]
        assert 0.95 < np.abs(W).max() * omega / np.sqrt(6.0 / 64) <= 1.0
    (_, b_first), (W, b), _ = drawn(Narrow())
    assert W.std() == pytest.approx(0.5 / 64, rel=0.05)
    assert (b_first == 0.25).all()
    assert (b == 0.0).all()
    assert drawn(Narrow(), initializer="he")[1][0].std() == pytest.approx(np.sqrt(2 / 64), rel=0.05)


def test_an_output_starts_at_the_mean_colour_by_its_inverse():
    start = {**SMALL, "steps": 0, "output_start": "mean", "device": "numpy"}
    result = coordfit.fit(PICTURE, output_activation=Gauss(0.5), **start)
    expected = np.broadcast_to(PICTURE.mean(axis=(0, 1)), PICTURE.shape)
    np.testing.assert_allclose(result.reconstruction, expected, rtol=0, atol=1e-5)
    with pytest.raises(coordfit.ConfigError, match=r"output_start mean needs the inverse of GELU\(\)"):
        coordfit.fit(PICTURE, output_activation=GELU(), **start)
    with pytest.raises(coordfit.ConfigError, match=r"Low\(.* never is \[.*; leave output_start at drawn"):
        coordfit.fit(PICTURE, output_activation=Low(), **start)


@dataclass(frozen=True)
class Low(Gauss):
    """Half as high as its base, so that it does not reach a brighter mean."""

    def inverse(self, xp, y):
        with np.errstate(invalid="ignore"):
            return super().inverse(xp, 4.0 * y)


# -- files -----------------------------------------------------------------------------------------------

ALL = {"activation": Gauss(3.0), "loss": Charbonnier(0.1), "optimizer": Lion(), "schedule": Steps(0.5)}
ALL |= {"encoding": LogUniform(8, 4.0)}
CLASSES = [Gauss, Charbonnier, Lion, LogUniform, Steps]


@pytest.mark.parametrize("tiles", ["none", 6])
def test_a_model_file_names_its_components_and_holds_no_code(capsys, tmp_path, tiles):
    result = coordfit.fit(PICTURE, device="numpy", tiles=tiles, **SMALL, **ALL)
    path = tmp_path / "model.safetensors"
    result.save(path)
    with pytest.raises(coordfit.ModelFileError, match=r"its encoding is 'LogUniform', .*components=\[LogUni"):
        coordfit.load(path, device="numpy")
    assert main(["info", str(path)]) == 1
    assert "for the command line, install a package that registers it in coordfit." in capsys.readouterr().err
    model = coordfit.load(path, device="numpy", components=CLASSES)
    assert model.config.activation == Gauss(3.0)
    assert model.config.schedule == Steps(0.5)
    assert model.config.encoding == LogUniform(8, 4.0)
    assert "LogUniform(count=8, highest=4.0) encoding" in model.title
    np.testing.assert_array_equal(model.render(12, 10), result.model.render(12, 10))
    json.dumps(result.metrics)


def test_settings_with_components_survive_json_and_changes():
    config = make_config(SMALL, ALL)
    described = json.loads(json.dumps(config.as_dict()))
    assert described["activation"] == {"component": "Gauss", "a": 3.0}
    assert config.replace(seed=3).loss == Charbonnier(0.1)
    with pytest.raises(coordfit.ConfigError, match="its encoding is 'LogUniform', which coordfit does"):
        make_config(described)


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (Gauss, "activation must be a name or an object of a frozen dataclass, not <class"),
        (LogCosh(), r"activation LogCosh\(\) has no forward; it needs forward, backward, saves_input"),
        ("gelu", "activation must be one of relu, sine, tanh, sigmoid, .*, not 'gelu'"),
        ({"component": "Gelu"}, "its activation is 'Gelu', which coordfit does not have"),
    ],
)
def test_what_is_no_component_is_refused_in_one_line(value, line):
    with pytest.raises(coordfit.ConfigError, match=line):
        make_config({"activation": value})


@dataclass(frozen=True)
class NoBase:
    """An encoding that lacks what `FourierEncoding` has."""

    def frequencies(self, rng):
        return np.eye(2)


def test_an_encoding_without_its_base_class_is_told_what_to_do():
    with pytest.raises(coordfit.ConfigError, match=r"encoding NoBase\(\) has no of; .*FourierEncoding"):
        make_config({"encoding": NoBase()})
    with pytest.raises(coordfit.ConfigError, match=r"Learned\(.* is for one network; take tiles=none"):
        coordfit.fit(PICTURE, encoding=Learned(), tiles=6, device="numpy")


@dataclass(frozen=True)
class NoSaves:
    """An activation that does not say what its backward gets."""

    def forward(self, xp, z):
        return xp.tanh(z)

    def backward(self, xp, dy, saved):
        return dy * (1.0 - saved * saved)


@dataclass(frozen=True)
class NoState:
    """An optimizer that does not name its buffers."""

    def update(self, xp, parameter, gradient, state, step, learning_rate):
        return parameter - learning_rate * gradient, ()


NO_SAVES = r"activation NoSaves\(\) has no saves_input; it needs .* \(True if backward uses the input z"
NO_STATE = r"optimizer NoState\(\) has no state; it needs update, state \(the names of its buffers"


@pytest.mark.parametrize(
    ("option", "cls", "line"),
    [
        ("activation", NoSaves, NO_SAVES),
        ("optimizer", NoState, NO_STATE),
        ("loss", NoState, r"loss NoState\(\) has no value; it needs value, gradient$"),
        ("schedule", NoState, r"schedule NoState\(\) has no factor; it needs factor$"),
    ],
)
def test_a_component_that_lacks_something_is_told_by_its_class(monkeypatch, option, cls, line):
    """As an object, by an installed name, and of a file."""
    point = metadata.EntryPoint("own", f"test_components:{cls.__name__}", "")
    monkeypatch.setattr(metadata.EntryPoint, "load", lambda self: cls)
    monkeypatch.setattr(metadata, "entry_points", lambda group: [point])
    for value in (cls(), "own", {"component": cls.__name__}):
        with pytest.raises(coordfit.ConfigError, match=line):
            make_config({option: value})


def test_a_gradient_check_refuses_what_a_fit_refuses():
    with pytest.raises(coordfit.ConfigError, match=NO_SAVES):
        coordfit.check_gradients("numpy", activations=[NoSaves()])
    with pytest.raises(coordfit.ConfigError, match=r"loss must be one of .*did you mean 'huber'"):
        coordfit.check_gradients("numpy", losses=["hubr"])


# -- names by installed packages -------------------------------------------------------------------------


@pytest.fixture
def installed(monkeypatch):
    """As if a package had registered Gauss and Lion."""
    named = {
        "coordfit.activations": ("gauss", "Gauss"),
        "coordfit.encodings": ("log-uniform", "LogUniform"),
        "coordfit.optimizers": ("lion", "Lion"),
    }
    points = {
        group: [metadata.EntryPoint(name, f"support.components:{cls}", group)]
        for group, (name, cls) in named.items()
    }
    asked = []

    def entry_points(group):
        asked.append(group)
        return points.get(group, [])

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    return asked


def test_an_installed_name_is_known_everywhere(installed, tmp_path):
    (tmp_path / "own.toml").write_text('activation = "gauss"\noptimizer = "lion"\n')
    from coordfit.config import read_config_file

    assert make_config(read_config_file(tmp_path / "own.toml")).optimizer == Lion()
    words = ["--steps", "2", "--device", "numpy", "--tiles", "none", "--hidden-size", "8", "--quiet"]
    picture = tmp_path / "picture.png"
    coordfit.save_picture(picture, PICTURE)
    folder = tmp_path / "run"
    assert main(["fit", str(picture), "--activation", "gauss", "--out", str(folder), *words]) == 0
    assert coordfit.load(folder, device="numpy").config.activation == Gauss()
    assert main(["fit", str(picture), "--resume", "--out", str(folder), "--steps", "3", "--quiet"]) == 0
    folder, words = tmp_path / "compared", ["--encoding", "none,log-uniform", *words]
    assert main(["compare", str(picture), "--out", str(folder), *words]) == 0
    assert coordfit.load(folder / "model-log-uniform.safetensors").config.encoding == LogUniform()


def test_built_in_names_ask_no_package(installed):
    built_in = {"activation": "sine", "loss": "huber", "optimizer": "adam", "schedule": "linear"}
    make_config(built_in, {"encoding": "grid"})
    assert installed == []


# -- the other verbs -------------------------------------------------------------------------------------


def test_sweep_compare_and_inpaint_take_objects():
    table = coordfit.sweep(PICTURE, device="numpy", activation=[Gauss(2.0), "relu"], **SMALL)
    assert len(table) == 2
    options = {**SMALL, "activation": Gauss(2.0), "loss": LogCosh()}
    comparison = coordfit.compare(PICTURE, device="numpy", encoding=LogUniform(6, 4.0), **options)
    assert all(result.model.config.activation == Gauss(2.0) for result in comparison.results.values())
    built_in, own = comparison.table["encoding"][:-1], comparison.table["encoding"][-1]
    assert {name.split()[0] for name in built_in} == set(get_args(EncodingName))
    assert own == "LogUniform(count=6, highest=4.0)"
    inpainted = coordfit.inpaint(PICTURE, missing=0.3, device="numpy", encoding=Learned(4), **options)
    assert np.isfinite(inpainted.metrics["psnr"])


@pytest.mark.parametrize("tiles", ["none", 6])
def test_a_sweep_of_encodings_is_fits_of_each(tiles):
    """Names beside objects, and objects of one class that have as many features and others frequencies."""
    encodings = [LogUniform(6, 2.0), "gaussian", LogUniform(6, 8.0), "none", Powers(2), Powers(4)]
    encodings += [Learned(4, 2.0), Learned(4, 3.0)] if tiles == "none" else []
    table = coordfit.sweep(PICTURE, device="numpy", tiles=tiles, encoding=encodings, **SMALL)
    for row in table:
        alone = coordfit.fit(PICTURE, encoding=row["encoding"], device="numpy", tiles=tiles, **SMALL)
        assert row["psnr"] == pytest.approx(alone.metrics["psnr"], abs=1e-4)
    assert len({row["psnr"] for row in table}) == len(encodings)


@pytest.mark.parametrize("encoding", ENCODINGS, ids=str)
def test_a_run_goes_on_with_its_own_encoding(tmp_path, encoding):
    picture, config = load_picture(PICTURE), make_config(SMALL, {"encoding": encoding, "schedule": "constant"})
    whole = fit_alone(Job(picture, config), NumpyBackend(threads=1))
    trainer = Trainer([Job(picture, config)], NumpyBackend(threads=1))
    train(trainer, 3)
    save_checkpoint(tmp_path / "half.safetensors", trainer.model, trainer.state())
    with known([type(encoding)]):
        config, state = load_checkpoint(tmp_path / "half.safetensors")
    again = fit_alone(Job(picture, config), NumpyBackend(threads=1), state=state)
    np.testing.assert_array_equal(again.reconstruction, whole.reconstruction)
