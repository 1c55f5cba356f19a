"""Define every setting of a fit: name, type, default, limits and help.

The command line, configuration files, recipes and `coordfit.fit(...)` are made from these fields.
"""

from __future__ import annotations

import dataclasses
import json
import math
import numbers
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from .components import Component, Names, described, name_of, resolved
from .errors import ConfigError
from .fit_options import (
    Auto,
    DtypeName,
    EncodingName,
    InitializerName,
    OptimizerName,
    OutputStart,
    PolishName,
    RecipeName,
    ScheduleName,
    TrainOn,
)
from .network.activations import ACTIVATIONS, ActivationName
from .network.losses import LossName
from .option_checks import FRACTION, NOT_NEGATIVE, POSITIVE, check_setting, did_you_mean, option

RECIPES: tuple[str, ...] = get_args(RecipeName)
STORED = ("float16", "float32")
"""Types of the parameters of tiles in files, the default first."""
BUDGETS = ("steps", "epochs", "seconds", "target_psnr")
DEFAULT_STEPS = 600
"""The budget without another one; pictures over `_USUAL_PIXELS` get up to `_MOST_TIMES` as many steps."""
_MOST_TIMES, _USUAL_PIXELS = 4, 128 * 128
USUAL_RATES = {"muon": 1.6e-2, "adam": 4e-3, "sgd": 4e-3}
"""Default learning rates of the optimizers."""
SINE_RATES = {"muon": 0.03, "adam": 0.02}
"""The highest default rates for sines, times their omega; at two to four times as much they learn nothing."""
MOST_STEPS = 10**9
# Held-out pixels need lower frequencies than training pixels.
_DEFAULT_SIGMA = {
    "all": {"gaussian": 10.0, "positional": 32.0},
    "every-second": {"gaussian": 3.0, "positional": 8.0},
}

_network, _training, _picture, _budget, _run = (
    partial(option, group=group) for group in ("network", "training", "picture", "budget", "run")
)


@dataclass(frozen=True, repr=False)
class FitConfig:
    """The settings of one fit, usually made by `make_config`; impossible values are a `ConfigError`."""

    encoding: EncodingName | Component = _network(
        "gaussian", "how (x, y) enters the network", choices=Names(get_args(EncodingName), "encoding")
    )
    num_frequencies: int = _network(128, "m, the number of Fourier frequencies", limits=(1, 65_536))
    sigma: float | tuple[float, ...] | Auto | None = _network(
        None,
        "spread of the Gaussian frequencies, or the highest positional one, in cycles per longer side; one for "
        "each coordinate as 10x3, or `auto` (default 10, positional 32; with --train-on every-second 3 and 8)",
        limits=(1e-6, 1e6),
        names=get_args(Auto),
    )
    grid_levels: int = _network(
        5, "levels of the grid, each twice as fine as the one before", limits=(1, 16), is_new=True
    )
    grid_features: int = _network(4, "trained numbers of each node of the grid", limits=(1, 256), is_new=True)
    grid_spacing: float | None = _network(
        None,
        "pixels from node to node of the finest level (default 1; with --train-on every-second 2)",
        limits=(0.5, 1e6),
        is_new=True,
    )
    grid_smoothness: float | None = _network(
        None,
        "weight of the squared curvature of the nodes (default 0; with --train-on every-second 10)",
        limits=NOT_NEGATIVE,
        is_new=True,
    )
    pyramid_levels: int = _network(
        5, "levels of the pyramid, each twice as fine as the one before", limits=(1, 16), is_new=True
    )
    pyramid_features: int = _network(
        1,
        "trained numbers of each cell of the pyramid's finest level; the next level has twice, the others "
        "three times as many",
        limits=(1, 256),
        is_new=True,
    )
    pyramid_spacing: float | None = _network(
        None,
        "side in pixels of the cells of the finest level (default 1; with --train-on every-second 2)",
        limits=(0.5, 1e6),
        is_new=True,
    )
    pyramid_smoothness: float | None = _network(
        None,
        "weight of the squared curvature of the cells (default 0; with --train-on every-second 0.1)",
        limits=NOT_NEGATIVE,
        is_new=True,
    )
    depth: int = _network(
        4, "number of layers: depth 4 and hidden size 256 make F-256-256-256-C", limits=(1, 64)
    )
    hidden_size: int = _network(128, "units of each hidden layer", limits=(1, 16_384))
    activation: ActivationName | Component = _network(
        "relu", "of the hidden layers", choices=Names(get_args(ActivationName), "activation")
    )
    omega: float = _network(30.0, "frequency of the sine activation", limits=(1e-6, 1e6))
    output_activation: ActivationName | Component = _network(
        "sigmoid", "of the last layer", choices=Names(get_args(ActivationName), "output_activation")
    )
    initializer: InitializerName = _network(
        "auto",
        "of the weights; auto takes sine for sine, Glorot for tanh and sigmoid, He for the rest",
        choices=get_args(InitializerName),
    )
    output_start: OutputStart = _network(
        "drawn",
        "of the last layer: drawn like the others; mean, which starts at the mean colour of the training "
        "pixels with weights of 0; or picture, which starts at the picture, with encoding pyramid",
        choices=get_args(OutputStart),
    )

    loss: LossName | Component = _training(
        "mse", "what is minimised", choices=Names(get_args(LossName), "loss")
    )
    delta: float = _training(0.1, "where Huber's loss turns linear", limits=POSITIVE)
    optimizer: OptimizerName | Component = _training(
        "muon",
        "what takes the steps; muon is for the matrices between hidden layers, with Adam for the rest; "
        "gauss-newton is for small pictures and batches, and takes no learning rate",
        choices=Names(get_args(OptimizerName), "optimizer"),
    )
    learning_rate: float = _training(
        USUAL_RATES["muon"],
        "at the start of the schedule (default {muon:g}, with Adam or SGD {adam:g}; for sines less, by their "
        "omega)".format(**USUAL_RATES),
        limits=NOT_NEGATIVE,
    )
    momentum: float = _training(0.0, "of SGD", limits=(0.0, 1.0 - 1e-9))
    muon_momentum: float = _training(0.9, "of Muon", limits=(0.0, 1.0 - 1e-9))
    nesterov: bool = _training(False, "Nesterov's variant of SGD's momentum")
    beta1: float = _training(0.9, "decay of Adam's first moment", limits=(0.0, 1.0 - 1e-9))
    beta2: float = _training(0.999, "decay of Adam's second moment", limits=(0.0, 1.0 - 1e-9))
    epsilon: float = _training(1e-8, "added to Adam's denominator", limits=POSITIVE)
    schedule: ScheduleName | Component = _training(
        "cosine",
        "of the learning rate over the budget of steps",
        choices=Names(get_args(ScheduleName), "schedule"),
    )
    warmup_steps: int = _training(0, "steps in which the learning rate rises linearly", limits=(0, 10**9))
    final_factor: float = _training(
        0.0, "learning rate at the end of the schedule, as a share of the first", limits=FRACTION
    )
    batch_size: int | None = _training(
        1024, "pixels of a step, or `full` for all of them", limits=(1, 2**31), word_for_none="full"
    )

    polish: PolishName = _training(
        "none",
        "after the last step; ridge gives the last layer its least-squares solution, if that is better",
        choices=get_args(PolishName),
    )

    train_on: TrainOn = _picture(
        "all",
        "training pixels; every-second keeps rows and columns 0, 2, 4, ... and scores the others as held out",
        choices=get_args(TrainOn),
    )
    size: int | tuple[int, int] | None = _picture(
        None, "resample the picture first, to WxH, or to N for the longer side", limits=(1, 2**20)
    )
    background: str | None = _picture(
        None, "a colour to lay under a transparent picture, instead of fitting its alpha"
    )

    steps: int | None = _budget(
        None,
        f"optimizer steps (default without another budget: {DEFAULT_STEPS}, and more for pictures "
        f"larger than 128x128, up to {DEFAULT_STEPS * _MOST_TIMES})",
        limits=(0, MOST_STEPS),
    )
    epochs: float | None = _budget(None, "passes over the training pixels, instead of steps", limits=POSITIVE)
    seconds: float | None = _budget(
        None, "seconds, evaluations included; without steps the schedule ends with them", limits=POSITIVE
    )
    target_psnr: float | None = _budget(
        None,
        "stop at this PSNR on the training pixels, in dB; without steps a short schedule comes first, and "
        "longer ones if it misses",
        limits=(0.0, 200.0),
    )
    evaluate_every: int | None = _budget(
        None,
        "steps between evaluations (default: 12 to 24 in a schedule, fewer towards a PSNR)",
        limits=(1, 10**9),
    )

    seed: int = _run(0, "of all randomness", limits=(0, 2**63 - 1))
    dtype: DtypeName = _run("float32", "of the arithmetic", choices=get_args(DtypeName))

    def __new__(cls, *values: Any, **settings: Any) -> FitConfig:
        """Raise ConfigError for an unknown name, with the nearest known one."""
        for name in settings:
            _check_name(name)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            choices, value = spec.metadata["choices"], getattr(self, spec.name)
            if isinstance(choices, Names):
                object.__setattr__(self, spec.name, resolved(spec.name, value, choices))
            check_setting(spec, getattr(self, spec.name))

    def __repr__(self) -> str:
        """Return the settings that differ from the defaults, as a call."""
        pairs = [(spec, getattr(self, spec.name)) for spec in dataclasses.fields(self)]
        changed = [f"{spec.name}={value!r}" for spec, value in pairs if value != spec.default]
        return f"FitConfig({', '.join(changed)})"

    @property
    def resolved_sigma(self) -> float | tuple[float, ...]:
        """Return sigma, or the encoding's default if sigma is None or `auto`."""
        if isinstance(self.sigma, int | float | tuple):
            return self.sigma
        return _DEFAULT_SIGMA[self.train_on].get(str(self.encoding), 1.0)

    @property
    def resolved_initializer(self) -> str | Callable[..., Any]:
        """Return the initializer; for `auto` the activation's own, which may be a method of it."""
        if self.initializer != "auto":
            return self.initializer
        activation = ACTIVATIONS[self.activation] if isinstance(self.activation, str) else self.activation
        own: str | Callable[..., Any] = getattr(activation, "initializer", "he")
        return own

    @property
    def resolved_omega(self) -> float:
        """Return the frequency for the sine's initial weights: the activation's own, if it has one."""
        return float(getattr(self.activation, "omega", self.omega))

    def counted_steps(self, num_training_pixels: int) -> int | None:
        """Return the budget in steps for a number of training pixels; None without steps and epochs."""
        by_steps = math.inf if self.steps is None else self.steps
        by_epochs = math.inf
        if self.epochs is not None:
            batch = min(self.batch_size or num_training_pixels, num_training_pixels)
            by_epochs = math.ceil(min(self.epochs * num_training_pixels / batch, MOST_STEPS))
        fewest = min(by_steps, by_epochs)
        return None if math.isinf(fewest) else int(fewest)

    def resolved_steps(self, num_training_pixels: int) -> int:
        """Return the budget in steps, by default that of `default_steps`."""
        counted = self.counted_steps(num_training_pixels)
        return default_steps(num_training_pixels) if counted is None else counted

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain values for JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else described(value)
            for name, value in vars(self).items()
        }

    def as_key(self) -> dict[str, Any]:
        """Return the settings that identify a fit in all versions: new ones only if changed."""
        settings = self.as_dict()
        for spec in dataclasses.fields(self):
            if spec.metadata["is_new"] and getattr(self, spec.name) == spec.default:
                del settings[spec.name]
        return settings

    def replace(self, **changes: Any) -> FitConfig:
        """Return a copy with other values; ConfigError for unknown names."""
        return make_config(vars(self), changes)


def sigma_in_words(sigma: float | tuple[float, ...]) -> str:
    """Return sigma as it is typed: 10, or 3x10x10 if it differs by coordinate."""
    return "x".join(f"{number:g}" for number in (sigma if isinstance(sigma, tuple) else (sigma,)))


def default_steps(num_training_pixels: int) -> int:
    """Return the default budget in steps for a number of training pixels."""
    times = min(max(1.0, num_training_pixels / _USUAL_PIXELS), _MOST_TIMES)
    return round(DEFAULT_STEPS * times)


def make_config(*layers: Mapping[str, Any], recipe: str | None = None) -> FitConfig:
    """Join settings into a `FitConfig`: the recipe first, then each layer over those before it.

    The default recipe is `default`, or `interpolate` if the layers train on every second pixel. An optimizer
    other than the recipe's comes with its own usual learning rate, unless one is given. A layer with `steps`
    drops the `epochs` of earlier ones, and the reverse; one with `seconds` or `target_psnr` drops the recipe's
    steps, whose schedule would not end with that budget.
    """
    asked: dict[str, Any] = {}
    for layer in layers:
        for name in layer:
            _check_name(name)
        if "steps" in layer and "epochs" not in layer:
            asked.pop("epochs", None)
        if "epochs" in layer and "steps" not in layer:
            asked.pop("steps", None)
        asked.update(layer)
    usual = "interpolate" if asked.get("train_on") == "every-second" else "default"
    merged = recipe_settings(recipe or usual)
    if any(asked.get(name) is not None for name in BUDGETS):
        merged = {name: value for name, value in merged.items() if name not in BUDGETS}
    other = asked.get("optimizer", merged.get("optimizer"))
    if other not in (merged.get("optimizer"), "gauss-newton"):  # a wrong name is refused below
        of_object = getattr(other, "usual_rate", USUAL_RATES["adam"])
        merged["learning_rate"] = USUAL_RATES.get(str(other), of_object)
    has_its_own_rate = merged.get("activation") == "sine" or asked.get("learning_rate") is not None
    merged.update(asked)
    config = FitConfig(**{name: _plain(value) for name, value in merged.items()})
    if has_its_own_rate or name_of(config.activation) != "sine" or config.optimizer not in SINE_RATES:
        return config
    highest = SINE_RATES[str(config.optimizer)] / config.resolved_omega
    return config.replace(learning_rate=min(config.learning_rate, highest))


def _plain(value: Any) -> Any:
    """Return Python's own number for one of NumPy's, and a tuple for JSON's list."""
    if isinstance(value, list | tuple):
        return tuple(_plain(item) for item in value)
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) and not isinstance(value, bool) else value


def recipe_settings(name: str) -> dict[str, Any]:
    """Return the settings of a recipe by field name, read from its TOML file."""
    if name not in RECIPES:
        raise ConfigError(f"unknown recipe {name!r}{did_you_mean(name, RECIPES)}; known: {', '.join(RECIPES)}")
    text = resources.files(__package__).joinpath("recipes", f"{name}.toml").read_text(encoding="utf-8")
    return _words_to_none(tomllib.loads(text))


def read_config_file(path: Path) -> dict[str, Any]:
    """Return settings by field name, and possibly `recipe`, from a TOML file or the `config.json` of a run."""
    is_of_run = path.suffix == ".json"
    try:
        text = path.read_text(encoding="utf-8")
        settings = _settings_of_run(json.loads(text)) if is_of_run else tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration file {path}: {error}") from error
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid {'JSON' if is_of_run else 'TOML'}: {error}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{path} is no config.json of a run: it has no settings")
    for name in settings:
        if name != "recipe":
            _check_name(name, where=f" in {path}")
    return _words_to_none(settings)


def _settings_of_run(document: Any) -> Any:
    """Return the settings of a `config.json`; a null says nothing, but for the batch of all pixels."""
    settings = document.get("config") if isinstance(document, dict) else None
    if not isinstance(settings, dict):
        return None
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    return {name: value for name, value in plain.items() if value is not None or name == "batch_size"}


def _words_to_none(settings: dict[str, Any]) -> dict[str, Any]:
    """Replace a field's word for None (`batch_size = "full"`), since TOML has no null."""
    words = {spec.name: spec.metadata["word_for_none"] for spec in dataclasses.fields(FitConfig)}
    return {name: None if value == words.get(name) else value for name, value in settings.items()}


def _check_name(name: str, where: str = "") -> None:
    known = [spec.name for spec in dataclasses.fields(FitConfig)]
    if name not in known:
        raise ConfigError(f"unknown option {name!r}{where}{did_you_mean(name, known)}")
