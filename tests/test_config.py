"""Settings: what is wrong is refused in one line, what is layered is layered, and defaults have one home."""

import dataclasses
import json
import math
import tomllib
from importlib import resources
from typing import get_args, get_type_hints

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cases import over

import coordfit
from coordfit import ConfigError, FitConfig, make_config
from coordfit.backends import FUSED_MODES, PRECISIONS
from coordfit.components import Component, Names
from coordfit.config import BUDGETS, RECIPES, USUAL_RATES, default_steps, read_config_file, recipe_settings
from coordfit.fit_options import FitOptions, FusedMode, Precision
from coordfit.network.activations import ACTIVATIONS, Sine
from coordfit.network.losses import LOSSES

FIELDS = {spec.name: spec for spec in dataclasses.fields(FitConfig)}
CHOICES = [name for name, spec in FIELDS.items() if spec.metadata["choices"]]
NUMBERS = [name for name, spec in FIELDS.items() if spec.metadata["limits"] and name != "size"]
WHOLE = [name for name in NUMBERS if str(FIELDS[name].type).startswith("int")]


def refused(*words, **options):
    """`make_config` must refuse the options in one line that has all `words`."""
    with pytest.raises(ConfigError) as caught:
        make_config(options)
    message = str(caught.value)
    assert message.isprintable()
    for word in words:
        assert str(word) in message
    return message


def values_of(spec):
    """Strategy for values that a field accepts."""
    low, high = spec.metadata["limits"] or (None, None)
    if spec.name == "size":
        side = st.integers(1, 2**20)
        values = side | st.tuples(side, side)
    elif spec.metadata["choices"]:
        values = st.sampled_from(spec.metadata["choices"])
    elif spec.type == "bool":
        values = st.booleans()
    elif spec.name in WHOLE:
        values = st.integers(low, high)
    elif spec.name in NUMBERS:
        values = st.floats(low, None if math.isinf(high) else high, allow_nan=False, allow_infinity=False)
    else:
        values = st.text(max_size=5)
    return values | st.none() if "None" in str(spec.type) else values


settings_by_name = st.fixed_dictionaries({}, optional={n: values_of(spec) for n, spec in FIELDS.items()})


# --- recipes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_loads_and_sets_what_it_says(name):
    config = make_config(recipe=name)
    for field, value in recipe_settings(name).items():
        assert getattr(config, field) == value


def test_every_recipe_file_is_known():
    files = resources.files("coordfit").joinpath("recipes").iterdir()
    assert {file.name for file in files} == {f"{name}.toml" for name in RECIPES}


def test_defaults_stand_in_one_place():
    assert recipe_settings("default") == {}
    assert make_config() == make_config(recipe="default") == FitConfig()


def test_the_paper_s_recipe_has_the_paper_s_settings():
    config = make_config(recipe="paper")
    assert (config.depth, config.hidden_size, config.num_frequencies) == (4, 256, 256)
    assert (config.optimizer, config.learning_rate, config.steps) == ("adam", 1e-3, 2000)
    assert (config.sigma, config.loss, config.batch_size) == (10.0, "mse", None)


def test_an_unknown_recipe_gets_a_hint():
    with pytest.raises(ConfigError, match="did you mean 'paper'"):
        make_config(recipe="papr")


# --- what is refused ----------------------------------------------------------------------------------------


def test_unknown_names_get_a_hint():
    refused("learningrate", "did you mean 'learning_rate'?", learningrate=1.0)
    refused("hidden_sizes", "did you mean 'hidden_size'?", hidden_sizes=3)
    assert "did you mean" not in refused("qqqq", qqqq=1)


@over("name", CHOICES)
def test_unknown_choices_get_the_known_ones(name):
    known = FIELDS[name].metadata["choices"]
    message = refused(name, "'" + known[0] + "x'", *known, **{name: known[0] + "x"})
    assert f"did you mean {known[0]!r}?" in message


@over("name", FIELDS)
@over("value", [b"a", ["1.0"], {"a": 1}, 1j, object])
def test_no_setting_takes_just_anything(name, value):
    refused(name, **{name: value})


@over("name", NUMBERS)
@over("value", ["1", True, math.nan, math.inf, -math.inf, -1, 10**400])
def test_numbers_are_finite_numbers_within_limits(name, value):
    refused(name, **{name: value})


@over("name", WHOLE)
def test_whole_numbers_are_whole(name):
    refused(name, **{name: 1.5})
    refused(name, **{name: 1.0})


@over("name", NUMBERS)
def test_limits_belong_to_what_is_allowed(name):
    low, high = FIELDS[name].metadata["limits"]
    assert getattr(make_config({name: low}), name) == low
    if math.isfinite(high):
        assert getattr(make_config({name: high}), name) == high
        refused(name, **{name: high + 1})
    if low > 1e-300:
        refused(name, **{name: low - 1})


@pytest.mark.parametrize(
    "size", [0, -3, 2**20 + 1, (8,), (8, 8, 8), (8, 0), (8.0, 8), (True, 8), "8x8", 8.0], ids=str
)
def test_sizes_that_are_none(size):
    refused("size", size=size)


def test_only_what_may_be_none_may_be_none():
    for name, spec in FIELDS.items():
        if "None" in str(spec.type):
            assert getattr(make_config({name: None}), name) is None
        else:
            refused(name, **{name: None})


# --- layers -------------------------------------------------------------------------------------------------


def test_a_later_layer_wins():
    config = make_config({"depth": 2, "sigma": 3.0}, {"depth": 5}, recipe="paper")
    assert (config.depth, config.sigma, config.num_frequencies) == (5, 3.0, 256)


@pytest.mark.parametrize(
    ("layers", "recipe", "steps", "epochs"),
    [
        ([{"epochs": 3}], "paper", None, 3),  # a recipe's steps give way
        ([{"steps": 7}], "seed-adam", 7, None),  # and so do its epochs
        ([{"steps": 7}, {"epochs": 3}], None, None, 3),
        ([{"epochs": 3}, {"steps": 7}], None, 7, None),
        ([{"steps": 7, "epochs": 3}], "paper", 7, 3),  # both in one layer: whichever comes first
        ([{"steps": 7, "epochs": 3}, {"depth": 2}], None, 7, 3),
    ],
)
def test_steps_and_epochs_of_different_layers_exclude_each_other(layers, recipe, steps, epochs):
    config = make_config(*layers, recipe=recipe)
    assert (config.steps, config.epochs) == (steps, epochs)


def test_every_second_pixel_has_a_default_of_its_own():
    asked = {"train_on": "every-second"}
    assert make_config(asked) == make_config(asked, recipe="interpolate")
    assert make_config(asked, recipe="fast").optimizer == "muon"
    assert make_config(asked, {"train_on": "all"}) == make_config()


def test_the_fast_recipe_is_the_default_written_out():
    fast, default = make_config(recipe="fast").as_dict(), make_config().as_dict()
    assert fast.pop("steps") == default_steps(128 * 128)
    assert fast.pop("sigma") == make_config().resolved_sigma
    assert fast.items() <= default.items()


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "muon"])
def test_an_optimizer_comes_with_its_usual_rate(optimizer):
    asked = {"optimizer": optimizer}
    assert make_config(asked).learning_rate == USUAL_RATES[optimizer]
    assert make_config(asked, {"learning_rate": 0.5}).learning_rate == 0.5
    config = make_config(asked, {"learning_rate": 0.5})
    assert make_config(config.as_dict()) == config
    assert make_config({"depth": 3}, recipe="paper").learning_rate == 1e-3
    assert make_config({"optimizer": "adam"}, recipe="paper").learning_rate == 1e-3


def test_the_settings_of_a_run_are_a_configuration_file(tmp_path):
    asked = {
        "steps": 2,
        "size": (12, 16),
        "batch_size": None,
        "sigma": (2.0, 3.0),
        "hidden_size": 8,
        "loss": "mae",
    }
    run = coordfit.fit(coordfit.bundled_picture(), out=tmp_path / "run", device="numpy", **asked)
    found = read_config_file(tmp_path / "run" / "config.json")
    assert make_config(found) == run.config
    for content in ("[]", '{"config": 3}', "{", '{"config": {"lerning_rate": 1}}'):
        (tmp_path / "wrong.json").write_text(content)
        with pytest.raises(ConfigError, match=r"no settings|not valid JSON|did you mean 'learning_rate'"):
            read_config_file(tmp_path / "wrong.json")


def test_sines_have_a_rate_at_which_they_learn():
    assert make_config({"activation": "sine"}).learning_rate == pytest.approx(0.03 / 30)
    assert make_config({"activation": Sine(10.0)}).learning_rate == pytest.approx(0.003)
    assert make_config({"activation": "sine", "optimizer": "adam", "omega": 2}).learning_rate == 4e-3
    assert make_config({"activation": "sine", "learning_rate": 0.5}).learning_rate == 0.5
    assert make_config({"depth": 3}, recipe="sharp").learning_rate == 5e-3
    config = make_config({"activation": "sine"})
    assert config.replace(depth=3).learning_rate == config.learning_rate
    small = {"size": 32, "steps": 150, "device": "numpy"}
    for encoding in ("none", "gaussian"):
        result = coordfit.fit(coordfit.bundled_picture(), activation="sine", encoding=encoding, **small)
        assert result.metrics["psnr"] > 25  # 15 at the usual rate: one colour


@pytest.mark.parametrize("asked", [{"seconds": 3.0}, {"target_psnr": 30.0}, {"epochs": 2.0}], ids=str)
def test_a_budget_takes_the_place_of_the_recipe_s(asked):
    config = make_config(asked, recipe="paper")
    assert config.steps is None
    assert config.as_dict().items() >= asked.items()
    assert make_config({"steps": 5}, asked, recipe="paper").steps in (5, None)


def test_a_replaced_budget_drops_the_other():
    assert make_config(recipe="seed-adam").replace(steps=5).epochs is None


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FitConfig().depth = 2


@settings(max_examples=200, deadline=None)
@given(settings_by_name)
def test_settings_go_through_a_dictionary_and_json(options):
    config = make_config(options)
    assert make_config(config.as_dict()) == config
    assert make_config(json.loads(json.dumps(config.as_dict(), allow_nan=False))) == config
    assert config.replace() == config
    assert set(config.as_dict()) == set(FIELDS)


@settings(max_examples=100, deadline=None)
@given(settings_by_name, st.integers(1, 64))
def test_replace_changes_one_setting_alone(options, depth):
    config = make_config(options)
    assert config.replace(depth=depth) == dataclasses.replace(config, depth=depth)


# --- files --------------------------------------------------------------------------------------------------


@pytest.fixture
def toml(tmp_path):
    def write(text):
        path = tmp_path / "settings.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def test_a_file_sets_what_it_says(toml):
    path = toml('recipe = "paper"\nsigma = 3\nbatch_size = "full"\nsize = [20, 10]\n')
    found = read_config_file(path)
    assert found == {"recipe": "paper", "sigma": 3, "batch_size": None, "size": [20, 10]}
    config = make_config({k: v for k, v in found.items() if k != "recipe"}, recipe=found["recipe"])
    assert (config.sigma, config.batch_size, config.size, config.hidden_size) == (3, None, (20, 10), 256)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sigma = \n", "not valid TOML"),
        (b"\xff", "cannot read"),
        ("sgma = 1\n", "did you mean 'sigma'"),
        ("[network]\nsigma = 1\n", "network"),
    ],
)
def test_files_that_cannot_be_used(toml, text, words):
    path = toml(text)
    with pytest.raises(ConfigError, match=words) as caught:
        read_config_file(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_missing(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        read_config_file(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match="cannot read"):
        read_config_file(tmp_path)


def test_recipes_are_files_as_users_write_them():
    for name in RECIPES:
        file = resources.files("coordfit").joinpath("recipes", f"{name}.toml")
        with resources.as_file(file) as path:
            assert read_config_file(path) == recipe_settings(name)
            assert tomllib.loads(path.read_text(encoding="utf-8")).keys() == recipe_settings(name).keys()


# --- what follows from the settings -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "sigma"), [("gaussian", 10.0), ("positional", 32.0), ("basic", 1.0), ("none", 1.0)]
)
def test_sigma_has_a_default_for_each_encoding(encoding, sigma):
    assert make_config({"encoding": encoding}).resolved_sigma == sigma
    assert make_config({"encoding": encoding, "sigma": 2.5}).resolved_sigma == 2.5


@pytest.mark.parametrize(
    ("activation", "initializer"),
    [("relu", "he"), ("identity", "he"), ("sine", "sine"), ("tanh", "glorot"), ("sigmoid", "glorot")],
)
def test_the_initializer_follows_the_activation(activation, initializer):
    assert make_config({"activation": activation}).resolved_initializer == initializer
    chosen = make_config({"activation": activation, "initializer": "glorot"})
    assert chosen.resolved_initializer == "glorot"


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"steps": 0}, 0),
        ({"steps": 12}, 12),
        ({"epochs": 3, "batch_size": 50}, 6),
        ({"epochs": 3, "batch_size": 30}, 10),
        ({"epochs": 0.01, "batch_size": 30}, 1),
        ({"epochs": 3, "batch_size": None}, 3),
        ({"epochs": 3, "batch_size": 5000}, 3),  # a batch holds no more than there is
        ({"epochs": 3, "batch_size": 50, "steps": 4}, 4),
        ({"epochs": 3, "batch_size": 50, "steps": 40}, 6),
        ({"epochs": 1e308}, 10**9),
    ],
)
def test_the_budget_in_steps_for_100_pixels(options, steps):
    assert make_config(options).counted_steps(100) == steps


def test_other_budgets_count_no_steps():
    assert make_config({"seconds": 3.0, "target_psnr": 30.0}).counted_steps(100) is None
    assert set(BUDGETS) <= set(FIELDS)


def test_every_setting_is_explained():
    for spec in FIELDS.values():
        assert len(spec.metadata["help"]) > 5
        assert spec.metadata["group"] in ("network", "training", "picture", "budget", "run")


def test_numbers_of_numpy_become_pythons():
    config = make_config({"depth": np.int64(3), "sigma": np.float32(2.5), "size": [np.int32(8), 4]})
    assert config == make_config({"depth": 3, "sigma": 2.5, "size": (8, 4)})
    assert type(config.depth) is int
    assert type(config.sigma) is float


# --- types --------------------------------------------------------------------------------------------------


def test_the_options_of_fit_have_the_types_of_the_settings():
    assert get_type_hints(FitOptions) == get_type_hints(FitConfig)
    assert not FitOptions.__required_keys__


def test_words_with_a_type_are_those_that_are_known():
    assert get_args(FusedMode) == FUSED_MODES
    assert get_args(Precision) == PRECISIONS
    for spec in FIELDS.values():
        words = get_args(get_type_hints(FitConfig)[spec.name])
        if isinstance(spec.metadata["choices"], Names):  # or an object
            words, component = get_args(words[0]), words[1]
            assert component is Component
        if spec.metadata["choices"]:
            assert words == spec.metadata["choices"]


def test_the_names_of_activations_and_losses_are_those_of_their_classes():
    assert FIELDS["activation"].metadata["choices"] == FIELDS["output_activation"].metadata["choices"]
    assert FIELDS["activation"].metadata["choices"] == tuple(ACTIVATIONS)
    assert FIELDS["loss"].metadata["choices"] == tuple(LOSSES)


@pytest.mark.very_slow
def test_type_checkers_see_a_wrong_option(tmp_path):
    api = pytest.importorskip("mypy.api")
    wrong = [
        'coordfit.fit("a.png", optimiser="adam")',
        'coordfit.fit("a.png", encoding="gausian")',
        'coordfit.fit("a.png", sigma="aut")',
        'coordfit.fit("a.png", steps="3")',
        'coordfit.fit("a.png", recipe="shrp")',
        'coordfit.fit("a.png", fused="alwys")',
        'coordfit.compare("a.png", lerning_rate=3)',
        'coordfit.compare("a.png", encodings=["gausian"])',
        'coordfit.inpaint("a.png", loss="l2")',
        'coordfit.FitConfig(encoding="gausian")',
    ]
    right = [
        'coordfit.fit("a.png", encoding="basic", sigma=10, size=(3, 4), steps=None, tiles=8, recipe="sharp")',
        'coordfit.compare("a.png", encodings=["none", "gaussian"], sigmas=[1, "auto"], train_on="all")',
        'coordfit.inpaint("a.png", missing=0.5, sigma="auto", precision="tf32", hidden_size=3)',
    ]
    script = tmp_path / "script.py"
    script.write_text("\n".join(["import coordfit", *wrong, *right]) + "\n")
    options = ["--strict", "--cache-dir", str(tmp_path / "cache"), "--follow-imports", "silent"]
    said, _, _ = api.run([*options, str(script)])
    found = {int(line.split(":")[1]) for line in said.splitlines() if ": error:" in line}
    assert found == set(range(2, 2 + len(wrong))), said
