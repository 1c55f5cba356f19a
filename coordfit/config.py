"""Every setting of a fit: names, types, defaults, limits and help, here and nowhere else.

The command line, configuration files, recipes and `coordfit.fit(...)` are all made from these fields.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from .components import Component, Names, described, resolved
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

RECIPES: tuple[str, ...] = get_args(RecipeName)
# How the parameters of tiles may be kept in files, the default first.
STORED = ("float16", "float32")
BUDGETS = ("steps", "epochs", "seconds", "target_psnr")
# Steps where no budget is given: so many up to 128x128 training pixels, and beyond in proportion, up to
# four times as many.
DEFAULT_STEPS = 600
_MOST_TIMES, _USUAL_PIXELS = 4, 128 * 128
# Learning rates where an optimizer is asked for and no rate.
USUAL_RATES = {"muon": 1.6e-2, "adam": 4e-3, "sgd": 4e-3}
MOST_STEPS = 10**9
# What memorises best does not interpolate best: held-out pixels want lower frequencies.
_DEFAULT_SIGMA = {
    "all": {"gaussian": 10.0, "positional": 32.0},
    "every-second": {"gaussian": 3.0, "positional": 8.0},
}

_POSITIVE = (math.ulp(0.0), math.inf)
_NOT_NEGATIVE = (0.0, math.inf)
_FRACTION = (0.0, 1.0)


def option(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    limits: tuple[float, float] | None = None,
    group: str,
    word_for_none: str = "",
    names: tuple[str, ...] = (),
    is_new: bool = False,
) -> Any:
    """A field of `FitConfig` with what the command line and the checks need to know of it.

    `limits` are inclusive; `word_for_none` is what a user types for None, where None can be asked for; `names`
    are words that stand for themselves beside numbers; files of 0.1 lack what `is_new`, and mean its default.
    """
    facts = {
        "help": help,
        "choices": choices,
        "limits": limits,
        "group": group,
        "word_for_none": word_for_none,
        "names": names,
        "is_new": is_new,
    }
    return field(default=default, metadata=facts)


@dataclass(frozen=True, repr=False)
class FitConfig:
    """The settings of one fit; impossible values are a `ConfigError`. `make_config` is the usual way to one."""

    encoding: EncodingName | Component = option(
        "gaussian",
        "how (x, y) enters the network",
        choices=Names(get_args(EncodingName), "encoding"),
        group="network",
    )
    num_frequencies: int = option(
        128, "m, the number of Fourier frequencies", limits=(1, 65_536), group="network"
    )
    sigma: float | Auto | None = option(
        None,
        "spread of the Gaussian frequencies, or the highest positional one, in cycles per longer side, or "
        "`auto` (default 10, positional 32; with --train-on every-second 3 and 8)",
        limits=(1e-6, 1e6),
        names=get_args(Auto),
        group="network",
    )
    grid_levels: int = option(
        5,
        "levels of the grid, each twice as fine as the one before",
        limits=(1, 16),
        group="network",
        is_new=True,
    )
    grid_features: int = option(
        4, "trained numbers of each node of the grid", limits=(1, 256), group="network", is_new=True
    )
    grid_spacing: float | None = option(
        None,
        "pixels from node to node of the finest level (default 1; with --train-on every-second 2)",
        limits=(0.5, 1e6),
        group="network",
        is_new=True,
    )
    grid_smoothness: float | None = option(
        None,
        "weight of the squared curvature of the nodes (default 0; with --train-on every-second 10)",
        limits=_NOT_NEGATIVE,
        group="network",
        is_new=True,
    )
    depth: int = option(
        4,
        "number of layers: depth 4 and hidden size 256 make F-256-256-256-C",
        limits=(1, 64),
        group="network",
    )
    hidden_size: int = option(128, "units of each hidden layer", limits=(1, 16_384), group="network")
    activation: ActivationName | Component = option(
        "relu",
        "of the hidden layers",
        choices=Names(get_args(ActivationName), "activation"),
        group="network",
    )
    omega: float = option(30.0, "frequency of the sine activation", limits=(1e-6, 1e6), group="network")
    output_activation: ActivationName | Component = option(
        "sigmoid",
        "of the last layer",
        choices=Names(get_args(ActivationName), "output_activation"),
        group="network",
    )
    initializer: InitializerName = option(
        "auto",
        "of the weights; auto takes sine for sine, Glorot for tanh and sigmoid, He for the rest",
        choices=get_args(InitializerName),
        group="network",
    )
    output_start: OutputStart = option(
        "drawn",
        "of the last layer: drawn like the others, or mean, which starts at the mean colour of the training "
        "pixels with weights of 0",
        choices=get_args(OutputStart),
        group="network",
    )

    loss: LossName | Component = option(
        "mse", "what is minimised", choices=Names(get_args(LossName), "loss"), group="training"
    )
    delta: float = option(0.1, "where Huber's loss turns linear", limits=_POSITIVE, group="training")
    optimizer: OptimizerName | Component = option(
        "muon",
        "what takes the steps; muon is for the matrices between hidden layers, with Adam for the rest; "
        "gauss-newton is for small pictures and batches, and takes no learning rate",
        choices=Names(get_args(OptimizerName), "optimizer"),
        group="training",
    )
    learning_rate: float = option(
        USUAL_RATES["muon"],
        "at the start of the schedule (default {muon:g}, with Adam or SGD {adam:g})".format(**USUAL_RATES),
        limits=_NOT_NEGATIVE,
        group="training",
    )
    momentum: float = option(0.0, "of SGD", limits=(0.0, 1.0 - 1e-9), group="training")
    muon_momentum: float = option(0.9, "of Muon", limits=(0.0, 1.0 - 1e-9), group="training")
    nesterov: bool = option(False, "Nesterov's variant of SGD's momentum", group="training")
    beta1: float = option(0.9, "decay of Adam's first moment", limits=(0.0, 1.0 - 1e-9), group="training")
    beta2: float = option(0.999, "decay of Adam's second moment", limits=(0.0, 1.0 - 1e-9), group="training")
    epsilon: float = option(1e-8, "added to Adam's denominator", limits=_POSITIVE, group="training")
    schedule: ScheduleName | Component = option(
        "cosine",
        "of the learning rate over the budget of steps",
        choices=Names(get_args(ScheduleName), "schedule"),
        group="training",
    )
    warmup_steps: int = option(
        0, "steps in which the learning rate rises linearly", limits=(0, 10**9), group="training"
    )
    final_factor: float = option(
        0.0,
        "learning rate at the end of the schedule, as a share of the first",
        limits=_FRACTION,
        group="training",
    )
    batch_size: int | None = option(
        1024,
        "pixels of a step, or `full` for all of them",
        limits=(1, 2**31),
        group="training",
        word_for_none="full",
    )

    polish: PolishName = option(
        "none",
        "after the last step; ridge gives the last layer its least-squares solution, where that is better",
        choices=get_args(PolishName),
        group="training",
    )

    train_on: TrainOn = option(
        "all",
        "training pixels; every-second keeps rows and columns 0, 2, 4, ... and scores the others as held out",
        choices=get_args(TrainOn),
        group="picture",
    )
    size: int | tuple[int, int] | None = option(
        None,
        "resample the picture first, to WxH, or to N for the longer side",
        limits=(1, 2**20),
        group="picture",
    )
    background: str | None = option(
        None, "a colour to lay under a transparent picture, instead of fitting its alpha", group="picture"
    )

    steps: int | None = option(
        None,
        f"optimizer steps (default, where nothing else is asked for: {DEFAULT_STEPS}, and more for pictures "
        f"larger than 128x128, up to {DEFAULT_STEPS * _MOST_TIMES})",
        limits=(0, MOST_STEPS),
        group="budget",
    )
    epochs: float | None = option(
        None, "passes over the training pixels, instead of steps", limits=_POSITIVE, group="budget"
    )
    seconds: float | None = option(
        None,
        "seconds, evaluations included; without steps the schedule ends with them",
        limits=_POSITIVE,
        group="budget",
    )
    target_psnr: float | None = option(
        None,
        "stop at this PSNR on the training pixels, in dB; without steps a short schedule comes first, and "
        "longer ones where it misses",
        limits=(0.0, 200.0),
        group="budget",
    )
    evaluate_every: int | None = option(
        None,
        "steps between evaluations (default: 12 to 24 in a schedule, fewer towards a PSNR)",
        limits=(1, 10**9),
        group="budget",
    )

    seed: int = option(0, "of all randomness", limits=(0, 2**63 - 1), group="run")
    dtype: DtypeName = option("float32", "of the arithmetic", choices=get_args(DtypeName), group="run")

    def __new__(cls, *values: Any, **settings: Any) -> FitConfig:
        """An unknown name is a `ConfigError` with the nearest one, as it is for `make_config`."""
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
        """The settings that differ from the defaults, as a call."""
        pairs = [(spec, getattr(self, spec.name)) for spec in dataclasses.fields(self)]
        changed = [f"{spec.name}={value!r}" for spec, value in pairs if value != spec.default]
        return f"FitConfig({', '.join(changed)})"

    @property
    def resolved_sigma(self) -> float:
        """Sigma, with the encoding's default where none was given (or `auto` has not been resolved yet)."""
        if isinstance(self.sigma, int | float):
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
        """The budget in steps for a picture with so many training pixels; None without steps and epochs."""
        by_steps = math.inf if self.steps is None else self.steps
        by_epochs = math.inf
        if self.epochs is not None:
            batch = min(self.batch_size or num_training_pixels, num_training_pixels)
            by_epochs = math.ceil(min(self.epochs * num_training_pixels / batch, MOST_STEPS))
        fewest = min(by_steps, by_epochs)
        return None if math.isinf(fewest) else int(fewest)

    def resolved_steps(self, num_training_pixels: int) -> int:
        """The budget in steps, the default number without steps and epochs."""
        counted = self.counted_steps(num_training_pixels)
        return default_steps(num_training_pixels) if counted is None else counted

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain values that JSON can hold."""
        return {
            name: list(value) if isinstance(value, tuple) else described(value)
            for name, value in vars(self).items()
        }

    def as_key(self) -> dict[str, Any]:
        """Return the settings that tell two fits apart, alike in all versions: new ones only if changed."""
        kept = {spec.name for spec in dataclasses.fields(self) if not spec.metadata["is_new"]}
        kept |= {spec.name for spec in dataclasses.fields(self) if getattr(self, spec.name) != spec.default}
        return {name: value for name, value in self.as_dict().items() if name in kept}

    def replace(self, **changes: Any) -> FitConfig:
        """A copy with other values; unknown names are a `ConfigError`."""
        return make_config(vars(self), changes)


def default_steps(num_training_pixels: int) -> int:
    """Steps for a picture with so many training pixels where no budget is given."""
    times = min(max(1.0, num_training_pixels / _USUAL_PIXELS), _MOST_TIMES)
    return round(DEFAULT_STEPS * times)


def make_config(*layers: Mapping[str, Any], recipe: str | None = None) -> FitConfig:
    """Join settings into a `FitConfig`: the recipe first, then each layer over those before it.

    Where no recipe is named, it is `default`, or `interpolate` where the layers train on every second pixel.
    An optimizer other than the recipe's comes with its own usual learning rate, where no other is asked for.
    A layer that names `steps` drops the `epochs` of those below, and the other way round; one that names
    `seconds` or `target_psnr` drops the recipe's steps, whose schedule would not end with that budget.
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
    merged.update(asked)
    return FitConfig(**{name: _plain(value) for name, value in merged.items()})


def _plain(value: Any) -> Any:
    """Python's own number for a number of NumPy's, and a tuple for JSON's list."""
    if isinstance(value, list | tuple):
        return tuple(_plain(item) for item in value)
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) and not isinstance(value, bool) else value


def recipe_settings(name: str) -> dict[str, Any]:
    """What a recipe sets, by field name. A recipe is a TOML file like any a user would write."""
    if name not in RECIPES:
        raise ConfigError(f"unknown recipe {name!r}{did_you_mean(name, RECIPES)}; known: {', '.join(RECIPES)}")
    text = resources.files(__package__).joinpath("recipes", f"{name}.toml").read_text(encoding="utf-8")
    return _words_to_none(tomllib.loads(text))


def read_config_file(path: Path) -> dict[str, Any]:
    """Settings from a TOML file by field name; `recipe = "NAME"` may stand there too."""
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration file {path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    for name in settings:
        if name != "recipe":
            _check_name(name, where=f" in {path}")
    return _words_to_none(settings)


def _words_to_none(settings: dict[str, Any]) -> dict[str, Any]:
    """TOML has no null: a field's own word (`batch_size = "full"`) stands for it."""
    words = {spec.name: spec.metadata["word_for_none"] for spec in dataclasses.fields(FitConfig)}
    return {name: None if value == words.get(name) else value for name, value in settings.items()}


def _check_name(name: str, where: str = "") -> None:
    known = [spec.name for spec in dataclasses.fields(FitConfig)]
    if name not in known:
        raise ConfigError(f"unknown option {name!r}{where}{did_you_mean(name, known)}")


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return a question for the known word that is nearest, with `prefix` before it, or an empty string.

    Near are words with few other letters, the whole of a beginning, and initials: `lr` for `learning_rate`.
    """
    words = {word.replace("-", "_"): word for word in known}
    asked = name.lower().replace("-", "_")
    begun = [word for word in words if len(asked) > 2 and word.startswith(asked)]
    of_initials = [word for word in words if "_" in word and asked == "".join(p[:1] for p in word.split("_"))]
    near = [*difflib.get_close_matches(asked, words, n=1), *begun, *of_initials]
    return f"; did you mean {prefix + words[near[0]]!r}?" if near else ""


def check_setting(spec: dataclasses.Field[Any], value: Any) -> None:
    """Refuse a value of the wrong type, outside the choices, or outside the limits."""
    expected = kind_of(spec)
    if value is None and "None" in expected:
        return
    if isinstance(spec.metadata["choices"], Names) and not isinstance(value, str):
        return  # a component, which `resolved` has looked at
    if not _has_type(value, expected):
        wanted = expected.replace(" | None", "").replace("tuple[int, int]", "(width, height)")
        raise ConfigError(f"{spec.name} must be {wanted}, not {value!r}")
    choices, limits, names = (spec.metadata[key] for key in ("choices", "limits", "names"))
    if isinstance(value, str) and names:
        if value not in names:
            raise ConfigError(f"{spec.name} must be a number or {' or '.join(names)}, not {value!r}")
        return
    if choices and value not in choices:
        raise ConfigError(
            f"{spec.name} must be one of {', '.join(choices)}, not {value!r}{did_you_mean(value, choices)}"
        )
    for number in value if isinstance(value, tuple) else (value,):
        if limits and not (limits[0] <= number <= min(limits[1], sys.float_info.max)):  # NaN is neither
            raise ConfigError(f"{spec.name} must be {_in_words(limits)}, not {number!r}")


def kind_of(spec: dataclasses.Field[Any]) -> str:
    """The Python types of a field's values: `str` for words that have a type of their own."""
    return "str" if spec.metadata["choices"] else str(spec.type).replace("Auto", "str")


def _has_type(value: Any, expected: str) -> bool:
    if isinstance(value, bool) or "bool" in expected:
        return isinstance(value, bool) and "bool" in expected
    if isinstance(value, tuple):
        return "tuple" in expected and len(value) == 2 and all(type(n) is int for n in value)
    if isinstance(value, int):
        return "int" in expected or "float" in expected
    return ("float" in expected and isinstance(value, float)) or ("str" in expected and isinstance(value, str))


def _in_words(limits: tuple[float, float]) -> str:
    low, high = limits
    if limits == _POSITIVE:
        return "a finite number above 0"
    return f"a finite number of {low:g} or more" if math.isinf(high) else f"between {low:g} and {high:g}"
