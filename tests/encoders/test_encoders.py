"""What every encoding keeps to, for one network and for K, on every backend; and what the grid is."""

import dataclasses
import re
from typing import get_args

import numpy as np
import pytest
from coordfit.backends.numpy_backend.backend import NumpyBackend
from support.backend_matrix import on
from support.cases import over
from support.components import ENCODINGS as OWN
from support.components import Learned, Powers

import coordfit
from coordfit.components import classes_by_name, name_of
from coordfit.config import make_config
from coordfit.encoders.grid import Grid
from coordfit.encoders.registry import ENCODINGS, encoding_class, encoding_of, join_encoders
from coordfit.errors import ConfigError, ModelFileError
from coordfit.files.tensor_file import load_tensors, save_tensors
from coordfit.fit_options import EncodingName
from coordfit.network.parameters import ParameterLayout
from coordfit.pixels.rows import GridRows
from coordfit.signals.grid import SampleGrid
from coordfit.tasks.jobs.average import AverageTrainer
from coordfit.training.job import Job
from coordfit.training.trainer import Trainer, fit_alone, fit_together

SIZE = (7, 11)
SIZES = over("size", [SIZE, (40,), (4, 5, 6)])
SETTINGS = {"num_frequencies": 6, "sigma": 3.0, "grid_levels": 3, "grid_features": 2, "grid_smoothness": 0.5}
SETTINGS |= {"pyramid_levels": 3, "pyramid_smoothness": 0.5}
ALL = [*ENCODINGS, *OWN]
LEARNING = [encoding for encoding in ALL if encoding_class(encoding).learns]
COMPONENTS = [type(encoding) for encoding in OWN]
SMALL = SETTINGS | {"steps": 6, "evaluate_every": 3, "hidden_size": 12, "batch_size": 50}


@pytest.fixture(params=ALL, ids=name_of)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def cat():
    return coordfit.load_picture(coordfit.bundled_picture(32), size=(13, 9))


class Built:
    """An encoder of float64 with parameters that are far from 0, and a buffer for its gradient."""

    def __init__(self, backend, name, seeds=(0,), ensemble=(), size=SIZE):
        self.backend = backend
        encoding = encoding_of(make_config(SETTINGS, {"encoding": name}), size)
        drawn = [np.random.default_rng(seed) for seed in seeds]
        encoders = [encoding.encoder(backend, encoding.draw(rng, "float64"), "float64") for rng in drawn]
        joined = join_encoders(backend, encoders, "float64")
        self.layout = ParameterLayout((joined.num_features, 3), encoding.parameter_shapes())
        flat = np.stack([rng.normal(size=self.layout.size) for rng in drawn])
        self.flat = backend.asarray(flat if ensemble else flat[0], "float64")
        self.gradient = backend.zeros(self.flat.shape, "float64")
        views = (self.layout.encoder_views(backend.xp, buffer) for buffer in (self.flat, self.gradient))
        self.encoder = joined.with_parameters(*views)

    def own_gradient(self):
        """The encoder's part of the gradient, without gaps."""
        gradient = np.array(self.backend.to_numpy(self.gradient))
        parts = self.layout.encoder_views(np, gradient).values()
        return np.concatenate([part.reshape(*gradient.shape[:-1], -1) for part in parts], axis=-1)


def test_names_are_those_of_the_types():
    assert set(classes_by_name("coordfit.encoders")) == set(get_args(EncodingName))


# -- features ------------------------------------------------------------------------------------------------


@on("numpy", "numba", "strict", "cupy-on-host")
@SIZES
def test_features_by_coordinates_by_number_and_by_runs_are_the_same(backend, name, size):
    if name in OWN and size != SIZE:
        with pytest.raises(ConfigError, match=f"is for 2 coordinates, not {len(size)}; give its class a field"):
            Built(backend, name, size=size)
        return
    encoder, grid = Built(backend, name, size=size).encoder, SampleGrid.of(*size)
    rows = GridRows(backend, grid, 1, "float64")
    numbers = np.random.default_rng(1).integers(0, len(grid), 40)
    index = backend.asarray(numbers)
    everything = backend.to_numpy(encoder(rows.rows(slice(0, len(grid)))))
    assert everything.shape == (len(grid), encoder.num_features)
    buffer = encoder.buffer(backend.scratch, (), len(numbers), "float64")
    by_number = backend.to_numpy(encoder.of_pixels(index, rows.lattice, "float64", buffer))
    np.testing.assert_allclose(by_number, everything[numbers], rtol=0, atol=1e-12)
    on_grid = encoder.on_grid(grid.axes(), "float64")
    for start, stop in [(0, len(grid)), (0, 4), (3, 30), (11, 33), (len(grid) - 7, len(grid))]:
        run = slice(start, stop)
        for found in (on_grid(run, None), encoder.of_run(rows, run)):
            np.testing.assert_allclose(backend.to_numpy(found), everything[run], rtol=0, atol=1e-12)


@on("numba", "strict")
@over("own", [False, True])
def test_members_together_are_members_alone(backend, name, own):
    together = Built(backend, name, seeds=(0, 1, 2), ensemble=(3,))
    rng = np.random.default_rng(3)
    places = rng.uniform(size=(3, 20, 2) if own else (20, 2))
    features = backend.to_numpy(together.encoder(backend.asarray(places, "float64")))
    F = together.encoder.num_features
    dx = rng.normal(size=(3, 20, F))
    if together.encoder.learns:
        together.encoder.backward(backend.asarray(dx, "float64"))
    for k in range(3):
        alone = Built(backend, name, seeds=(k,))
        own_places = backend.asarray(places[k] if own else places, "float64")
        expected = backend.to_numpy(alone.encoder(own_places))
        found = np.broadcast_to(features, (3, 20, F))[k]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)
        if together.encoder.learns:
            alone.encoder.backward(backend.asarray(dx[k], "float64"))
            np.testing.assert_allclose(together.own_gradient()[k], alone.own_gradient(), rtol=0, atol=1e-12)


def test_a_state_makes_the_same_encoder(name):
    backend, settings = NumpyBackend(threads=1), make_config(SETTINGS, {"encoding": name})
    encoding = encoding_of(settings, SIZE)
    state = encoding.draw(np.random.default_rng(0), "float32")
    assert set(state) == set(encoding.state_names)
    assert not encoding.fault_of(state, "float32")
    encoder = encoding.encoder(backend, state, "float32")
    for key, array in encoder.state().items():
        np.testing.assert_array_equal(array, state[key])
    assert encoder.num_features == encoding.num_features(state)


def test_own_encoders_are_shared_if_they_are_alike():
    backend = NumpyBackend(threads=1)
    two, again, four = (Powers(degree).encoder(backend, {}, "float64") for degree in (2, 2, 4))
    assert join_encoders(backend, [two, again], "float64") is two
    assert join_encoders(backend, [two, four], "float64").num_features == 8


def test_members_of_other_encodings_have_their_own_features_and_then_zeros(backend):
    names, places = ("gaussian", "none", "basic"), np.random.default_rng(3).uniform(size=(20, 2))
    alone = [Built(backend, name).encoder for name in names]
    mixed = join_encoders(backend, alone, "float64")
    for encoder, members in ((mixed, alone), (mixed.members(slice(1, 3)), alone[1:])):
        features = backend.to_numpy(encoder(backend.asarray(places, "float64")))
        assert features.shape == (len(members), 20, mixed.num_features)
        for own, member in zip(features, members, strict=True):
            expected = backend.to_numpy(member(backend.asarray(places, "float64")))
            np.testing.assert_array_equal(own[:, : member.num_features], expected)
            assert not own[:, member.num_features :].any()


# -- encoders that learn ---------------------------------------------------------------------------------------


@on("numpy", "numba", "strict", "cupy-on-host")
@pytest.mark.parametrize(
    ("name", "size"),
    [(name, size) for name in LEARNING for size in (SIZE, (4, 5, 6)) if name not in OWN or size == SIZE],
    ids=lambda value: f"{len(value)}-D" if isinstance(value, tuple) else name_of(value),
)
@over("in_order", [False, True])
def test_a_gradient_is_that_of_finite_differences(backend, name, in_order, size):
    """Of sum(dx * features) along a direction, for a batch that comes in two blocks; and of the penalty."""
    built, rng = Built(backend, name, size=size), np.random.default_rng(5)
    rows = GridRows(backend, SampleGrid.of(*size), 1, "float64")
    places, dx = rng.uniform(-0.1, 1.1, (60, len(size))), rng.normal(size=(60, built.encoder.num_features))
    places[:2] = places[2]  # pixels of a batch may come twice

    def features(block):
        if in_order:
            return built.encoder.of_run(rows, slice(block.start + 5, block.stop + 5))
        return built.encoder(backend.asarray(places[block], "float64"))

    def value():
        parts = [backend.to_numpy(features(block)) * dx[block] for block in blocks]
        return sum(float(part.sum()) for part in parts) + float(built.encoder.penalty())

    blocks = [slice(0, 23), slice(23, 60)]
    built.gradient[...] = 7.0  # what an earlier step has left
    for k, block in enumerate(blocks):
        features(block)
        built.encoder.backward(backend.asarray(dx[block], "float64"), accumulate=k > 0)
    built.encoder.add_penalty_gradient()
    direction = np.zeros(built.layout.size)
    for view in built.layout.encoder_views(np, direction).values():
        view[...] = rng.normal(size=view.shape)
    analytic = float(np.sum(direction * backend.to_numpy(built.gradient)))
    start, slopes = built.flat + 0.0, []
    for step in (1e-4, 2e-4):
        found = []
        for sign in (1.0, -1.0):
            built.flat[...] = start + sign * step * backend.asarray(direction, "float64")
            found.append(value())
        slopes.append((found[0] - found[1]) / (2 * step))
    assert analytic == pytest.approx((4 * slopes[0] - slopes[1]) / 3, rel=1e-8)
    assert abs(analytic) > 0.1


def gradients(backend, name, picture, **options):
    config = make_config(SMALL, {"encoding": name, "dtype": "float64", "optimizer": "sgd"}, options)
    trainer = Trainer([Job(picture, config)], backend)
    with backend.activate():
        trainer.take_steps(1)
    return np.array(backend.to_numpy(trainer.training_step.gradient)), trainer


@pytest.mark.parametrize("batch_size", [50, None], ids=["batch", "full"])
@pytest.mark.parametrize("name", LEARNING, ids=name_of)
def test_blocks_and_workers_add_up_to_the_whole(monkeypatch, cat, name, batch_size):
    """A step by two workers, in blocks, has the gradient that one call on all rows has, penalty included."""
    whole, _ = gradients(NumpyBackend(threads=1), name, cat, batch_size=batch_size)
    monkeypatch.setattr("coordfit.backends.numpy_backend.backend._MIN_WORKER_FLOPS", 1)
    monkeypatch.setattr("coordfit.backends.numpy_backend.backend._MIN_WORKER_ROWS", 8)
    monkeypatch.setattr("coordfit.backends.numpy_backend.backend._MIN_BLOCK_ROWS", 8)
    backend = NumpyBackend(threads=2)
    backend.block_bytes = 1
    parts, trainer = gradients(backend, name, cat, batch_size=batch_size)
    assert len(trainer.training_step.parts) == 2
    assert len(trainer.training_step.parts[0].blocks) > 1
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-14)


@on("numba", "cupy-on-host")
@pytest.mark.parametrize("name", LEARNING, ids=name_of)
def test_networks_together_learn_what_they_learn_alone(cat, name, idle_backend):
    backend = idle_backend
    config = make_config(SMALL, {"encoding": name, "dtype": "float64"})
    jobs = [Job(cat, config.replace(seed=seed, learning_rate=rate)) for seed, rate in ((0, 1e-2), (5, 2e-2))]
    together = fit_together(jobs, backend)
    for job, result in zip(jobs, together, strict=True):
        alone = fit_alone(job, backend)
        np.testing.assert_allclose(result.reconstruction, alone.reconstruction, rtol=0, atol=1e-11)
        assert result.metrics["parameters"] == alone.metrics["parameters"]


@pytest.mark.parametrize("name", LEARNING, ids=name_of)
def test_encodings_that_learn_are_batches_of_their_own(cat, name):
    jobs = [Job(cat, make_config(SMALL, {"encoding": encoding})) for encoding in (name, "gaussian")]
    assert jobs[0].shape_key != jobs[1].shape_key
    others = [Job(cat, make_config(SMALL, {"encoding": Learned(6, sigma)})) for sigma in (1.0, 3.0)]
    assert len({job.shape_key for job in [*jobs, *others]}) == 4  # of one class and shape, and others
    wider = dataclasses.replace(jobs[0], signal=coordfit.load_picture(cat, size=(9, 13)))
    assert jobs[0].shape_key != wider.shape_key


@pytest.mark.parametrize("name", LEARNING, ids=name_of)
def test_what_trains_the_network_alone_is_refused(cat, name):
    with pytest.raises(ConfigError, match=f"gauss-newton .*{re.escape(name_of(name))}"):
        coordfit.fit(cat, encoding=name, optimizer="gauss-newton", device="numpy")
    with pytest.raises(ConfigError, match=f"{re.escape(name_of(name))} is for one network; take tiles=none"):
        coordfit.fit(cat, encoding=name, tiles=8, device="numpy")


def test_a_grid_follows_the_density_of_the_known_pixels(cat):
    """No finer than they are apart, so that hidden pixels have nodes that were trained."""
    result = coordfit.inpaint(
        cat, missing=0.75, config=make_config(SMALL, {"encoding": "grid"}), device="numpy"
    )
    assert result.config.grid_spacing == result.metrics["spacing"] > 1.9
    assert result.config.grid_smoothness == SMALL["grid_smoothness"]  # as asked for
    every_second = Grid.of(make_config({"train_on": "every-second"}), SIZE)
    assert (every_second.spacing, every_second.smoothness) == (2.0, 10.0)
    assert Grid.of(make_config(), SIZE).smoothness == 0.0
    nodes = Grid.of(make_config({"grid_levels": 3, "grid_spacing": 1.0}), SIZE).nodes()
    assert [level.counts for level in nodes] == [(3, 4), (4, 6), (7, 11)]


@pytest.mark.parametrize("name", ["grid", "pyramid", *OWN], ids=name_of)
def test_the_mean_of_networks_has_the_mean_of_their_colours(cat, name):
    """Before the last activation: here the identity."""
    config = make_config(SMALL, {"encoding": name, "output_activation": "identity", "dtype": "float64"})
    trainer = AverageTrainer(Job(cat, config), NumpyBackend(threads=1), 3)
    [result] = trainer.run()
    places = np.random.default_rng(0).uniform(size=(50, 2))
    each = [member.model(places) for member in trainer.trainer.members]
    np.testing.assert_allclose(result.model(places), np.mean(each, axis=0), rtol=0, atol=1e-12)
    assert np.ptp(each, axis=0).max() > 1e-3


# -- model files -----------------------------------------------------------------------------------------------


def test_a_model_file_without_an_array_of_the_encoder_is_refused(tmp_path, cat, name):
    result = coordfit.fit(cat, make_config(SMALL, {"encoding": name}), device="numpy")
    path, broken = tmp_path / "m.safetensors", tmp_path / "broken.safetensors"
    result.save(path)
    loaded = coordfit.load(path, device="numpy", components=COMPONENTS)
    np.testing.assert_array_equal(loaded.render(), result.reconstruction)
    assert loaded.config.encoding == name
    tensors, metadata = load_tensors(path)
    for missing in [tensor for tensor in tensors if tensor.startswith("encoding.")]:
        others = {tensor: array for tensor, array in tensors.items() if tensor != missing}
        save_tensors(broken, others, metadata)
        with pytest.raises(ModelFileError, match="missing"):
            coordfit.load(broken, device="numpy", components=COMPONENTS)
