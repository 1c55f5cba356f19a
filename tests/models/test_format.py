"""Models and checkpoints come back as they went, and what cannot be used is refused in one line."""

import json
import math
import sys
import tracemalloc

import numpy as np
import pytest

import coordfit
from coordfit import ModelFileError
from coordfit.config import make_config
from coordfit.files.tensor_file import load_tensors, save_tensors
from coordfit.tasks.load import load as load_model
from coordfit.training.checkpoint import load_checkpoint, save_checkpoint

SMALL = {
    "steps": 3,
    "num_frequencies": 4,
    "hidden_size": 8,
    "depth": 3,
    "batch_size": 16,
    "sigma": 2.0,
    "device": "cpu",
    "threads": 1,
}


def small_fit(**options):
    pixels = np.random.default_rng(0).random((6, 9, 3))
    return coordfit.fit(pixels, **(SMALL | options))


@pytest.fixture(scope="module")
def result():
    return small_fit()


@pytest.fixture
def model_path(tmp_path, result):
    path = tmp_path / "model.safetensors"
    result.save(path)
    return path


@pytest.fixture
def checkpoint_path(tmp_path, result):
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, result.model, result.state)
    return path


def rewrite(path, change):
    """Save the file again, valid as a container, with its tensors and metadata changed."""
    tensors, metadata = load_tensors(path)
    change(tensors, metadata)
    save_tensors(path, tensors, metadata)


def refusal(path, *words, load=load_model):
    with pytest.raises(ModelFileError) as caught:
        load(path)
    message = str(caught.value)
    assert message.isprintable()
    for word in (path, *words):
        assert str(word) in message
    return message


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("encoding", ["none", "basic", "positional", "gaussian"])
def test_a_model_comes_back_bit_by_bit(tmp_path, encoding, dtype):
    result = small_fit(encoding=encoding, dtype=dtype)
    path = tmp_path / "m.safetensors"
    result.save(path)
    model = coordfit.load(path, device="cpu", threads=1)
    assert model.config == result.config
    assert model.picture == result.model.picture
    assert model.metrics["psnr"] == result.metrics["psnr"]
    assert model.num_parameters == result.model.num_parameters
    picture = model.render()
    assert picture.dtype == dtype
    np.testing.assert_array_equal(picture, result.reconstruction)
    np.testing.assert_array_equal(model.render(17), result.render(17))


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_a_model_of_any_depth_comes_back(tmp_path, depth):
    result = small_fit(depth=depth, activation="sine", output_activation="identity")
    result.save(tmp_path / "m")
    np.testing.assert_array_equal(load_model(tmp_path / "m").render(), result.reconstruction)


@pytest.mark.parametrize(
    "optimizer",
    [
        {"optimizer": "adam"},
        {"optimizer": "muon"},
        {"optimizer": "sgd"},
        {"optimizer": "sgd", "momentum": 0.9},
    ],
    ids=str,
)
@pytest.mark.parametrize("encoding", ["none", "gaussian", "grid", "pyramid"])
def test_a_checkpoint_comes_back_bit_by_bit(tmp_path, optimizer, encoding):
    result = small_fit(encoding=encoding, **optimizer)
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, result.model, result.state)
    config, state = load_checkpoint(path)
    assert config == result.config
    assert (state.step, state.seconds) == (result.state.step, result.state.seconds)
    assert state.picture_digest == result.state.picture_digest
    np.testing.assert_array_equal(state.parameters, result.state.parameters)
    assert state.optimizer.keys() == result.state.optimizer.keys()
    for name, array in state.optimizer.items():
        np.testing.assert_array_equal(array, result.state.optimizer[name])
        assert array.any()
    assert (not state.encoder_state) == (encoding != "gaussian")
    for name, array in state.encoder_state.items():
        np.testing.assert_array_equal(array, result.state.encoder_state[name])


def test_a_checkpoint_is_a_model_too(checkpoint_path, result):
    np.testing.assert_array_equal(load_model(checkpoint_path).render(), result.reconstruction)


def test_a_file_tells_what_it_is_to_any_reader(model_path):
    tensors, metadata = load_tensors(model_path)
    assert tensors["encoding.B"].shape == (4, 2)
    assert tensors["layers.0.weight"].shape == (8, 8)
    assert tensors["layers.2.weight"].shape == (8, 3)
    assert tensors["layers.2.bias"].shape == (3,)
    assert metadata["kind"] == "model"
    assert metadata["config"]["sigma"] == 2.0
    assert metadata["picture"]["width"] == 9
    assert "pixel centres" in metadata["coordinates"]


def test_the_number_of_frequencies_is_the_file_s(model_path):
    """B is stored and not drawn anew: what is in the file counts."""
    rewrite(model_path, lambda tensors, metadata: tensors.update({"encoding.B": -tensors["encoding.B"]}))
    changed = load_model(model_path)
    tensors, _ = load_tensors(model_path)
    np.testing.assert_array_equal(changed.backend.to_numpy(changed.encoder.B), tensors["encoding.B"])


# --- what is refused ----------------------------------------------------------------------------------------


def test_a_model_is_no_checkpoint(model_path):
    refusal(model_path, "checkpoint", load=load_checkpoint)


def test_files_that_are_none(tmp_path):
    refusal(tmp_path / "missing", "does not exist")
    (tmp_path / "text").write_text("hello")
    refusal(tmp_path / "text", "safetensors")


@pytest.mark.parametrize(
    "name", ["encoding.B", "layers.0.weight", "layers.0.bias", "layers.2.weight", "layers.2.bias"]
)
def test_every_tensor_is_needed_and_has_its_shape_and_type(model_path, name):
    whole = model_path.read_bytes()

    def refused_after(change):
        model_path.write_bytes(whole)
        rewrite(model_path, lambda tensors, metadata: change(tensors))
        refusal(model_path)
        refusal(model_path, load=load_checkpoint)

    refused_after(lambda tensors: tensors.pop(name))
    refused_after(lambda tensors: tensors.update({name: tensors[name][:-1]}))
    refused_after(lambda tensors: tensors.update({name: tensors[name][None]}))
    refused_after(lambda tensors: tensors.update({name: tensors[name].astype(np.float64)}))
    refused_after(lambda tensors: tensors.update({name: tensors[name].astype(np.int32)}))


@pytest.mark.parametrize("name", ["layers.3.weight", "extra", "layers.0.weights"])
def test_foreign_tensors_are_refused(model_path, name):
    rewrite(model_path, lambda tensors, metadata: tensors.update({name: np.zeros(3, np.float32)}))
    refusal(model_path, "unknown tensors", name)


BAD_METADATA = {
    "no settings": lambda m: m.pop("config"),
    "settings are a list": lambda m: m.update(config=[1]),
    "a setting is missing": lambda m: m["config"].pop("sigma"),
    "a setting is unknown": lambda m: m["config"].update(sigmoid=1),
    "a setting is impossible": lambda m: m["config"].update(depth=-1),
    "a setting has the wrong type": lambda m: m["config"].update(hidden_size="8"),
    "a setting does not fit": lambda m: m["config"].update(depth=2),
    "another encoding": lambda m: m["config"].update(encoding="none"),
    "another type": lambda m: m["config"].update(dtype="float64"),
    "no picture": lambda m: m.pop("picture"),
    "a picture's fact is missing": lambda m: m["picture"].pop("height"),
    "a picture's fact is unknown": lambda m: m["picture"].update(colour="red"),
    "height is no number": lambda m: m["picture"].update(height="6"),
    "height is a fraction": lambda m: m["picture"].update(height=6.5),
    "height is true": lambda m: m["picture"].update(height=True),
    "width is nothing": lambda m: m["picture"].update(width=0),
    "width is absurd": lambda m: m["picture"].update(width=2**40),
    "five channels": lambda m: m["picture"].update(channels=5),
    "other channels": lambda m: m["picture"].update(channels=1),
    "bit depth is odd": lambda m: m["picture"].update(bit_depth=7),
    "name is no text": lambda m: m["picture"].update(name=3),
}


@pytest.mark.parametrize("change", BAD_METADATA.values(), ids=BAD_METADATA.keys())
def test_bad_metadata_is_refused(model_path, change):
    rewrite(model_path, lambda tensors, metadata: change(metadata))
    refusal(model_path)


BAD_PROGRESS = {
    "no progress": lambda t, m: m.pop("progress"),
    "progress is a list": lambda t, m: m.update(progress=[]),
    "step is missing": lambda t, m: m["progress"].pop("step"),
    "step is a text": lambda t, m: m["progress"].update(step="3"),
    "step is a fraction": lambda t, m: m["progress"].update(step=3.5),
    "step is true": lambda t, m: m["progress"].update(step=True),
    "step is negative": lambda t, m: m["progress"].update(step=-1),
    "step is absurd": lambda t, m: m["progress"].update(step=10**400),
    "seconds are missing": lambda t, m: m["progress"].pop("seconds"),
    "seconds are nothing": lambda t, m: m["progress"].update(seconds=None),
    "seconds are a text": lambda t, m: m["progress"].update(seconds="x"),
    "seconds are negative": lambda t, m: m["progress"].update(seconds=-1.0),
    "no digest": lambda t, m: m["progress"].pop("picture_digest"),
    "a moment is missing": lambda t, m: [t.pop(n) for n in list(t) if "second_moment" in n],
    "a layer's moment is missing": lambda t, m: t.pop("optimizer.first_moment.layers.1.bias"),
    "a moment has another shape": lambda t, m: t.update(
        {"optimizer.first_moment.layers.1.bias": np.zeros(3, np.float32)}
    ),
    "a foreign state": lambda t, m: t.update({"optimizer.x": np.zeros(3, np.float32)}),
    "a foreign layer's state": lambda t, m: t.update({"optimizer.first_moment.x": np.zeros(3, np.float32)}),
    "another optimizer": lambda t, m: m["config"].update(optimizer="sgd", momentum=0.5),
}


@pytest.mark.parametrize("change", BAD_PROGRESS.values(), ids=BAD_PROGRESS.keys())
def test_bad_training_states_are_refused(checkpoint_path, change):
    rewrite(checkpoint_path, change)
    refusal(checkpoint_path, load=load_checkpoint)


def test_absurd_claims_ask_for_no_memory(model_path):
    """Settings that claim gigabytes, with one long tensor to make them likely, cost nothing to refuse."""

    def change(tensors, metadata):
        metadata["config"].update(depth=64, hidden_size=16_384)
        tensors["layers.0.bias"] = np.zeros(16_384, np.float32)
        tensors["layers.0.weight"] = np.zeros((8, 16_384), np.float32)

    rewrite(model_path, change)
    tracemalloc.start()
    refusal(model_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6


def test_only_whole_models_are_saved(tmp_path, result):
    model = coordfit.Model(
        result.model.backend,
        make_config(result.config.as_dict()),
        result.model.picture,
        result.state.encoder_state,
        np.full_like(result.state.parameters, np.nan),
    )
    with pytest.raises(ModelFileError, match="NaN"):
        model.save(tmp_path / "m")
    assert not (tmp_path / "m").exists()


def declare(path, name, shape):
    """Have a file declare one tensor of gigabytes, and be as long: its hole takes no room on the disk."""
    whole = path.read_bytes()
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
    header[name] = {"dtype": "F32", "shape": shape}
    end = 0
    for entry in (entry for name, entry in header.items() if name != "__metadata__"):
        start, end = end, end + math.prod(entry["shape"]) * (2 if entry["dtype"] == "F16" else 4)
        entry["data_offsets"] = [start, end]
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


@pytest.fixture
def tiled_path(tmp_path):
    path = tmp_path / "tiled.safetensors"
    coordfit.fit(coordfit.bundled_picture(32), tiles=16, steps=1, device="numpy").save(path)
    return path


CLAIMS = {
    "a foreign tensor": ("x", [2**28], "unknown tensors"),
    "a shape": ("layers.2.weight", [2**20, 2**8], "layers.2.weight is"),
    "frequencies": ("encoding.B", [2**27, 2], "its frequencies have"),
    "tiles": ("tiles.parameters", [2**12, 2**17], "its parameters are not of shape"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="files with holes")
@pytest.mark.parametrize("name", CLAIMS)
def test_gigabytes_that_cannot_be_a_model_are_refused_unread(
    model_path, checkpoint_path, tiled_path, name, monkeypatch
):
    tensor, shape, said = CLAIMS[name]
    paths = [tiled_path] if name == "tiles" else [model_path, checkpoint_path]
    paths += [tiled_path] if name in ("a foreign tensor", "frequencies") else []
    monkeypatch.setattr("coordfit.files.tensor_file._digest", None)
    for path in paths:
        declare(path, tensor, shape)
        tracemalloc.start()
        refusal(path, said)
        if path == checkpoint_path:
            refusal(path, said, load=load_checkpoint)
        assert tracemalloc.get_traced_memory()[1] < 20e6
        tracemalloc.stop()
