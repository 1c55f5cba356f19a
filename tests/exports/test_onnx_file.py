"""An `.onnx` file computes what the model computes, by another program."""

import sys

import numpy as np
import pytest
from coordfit.backends.lowering import FUNCTIONS
from support.components import GELU, Gauss
from support.exported import MODELS, PICTURE, SMALL, model, points

import coordfit
from coordfit import OutputError
from coordfit.exports.arrays import arrays_of
from coordfit.exports.onnx_file import make_onnx
from coordfit.exports.onnx_graph import Graph, Value


@pytest.fixture
def colours_of(tmp_path):
    """Return colours of points, by onnxruntime, of the file of a model."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")

    def colours(of, at):
        path = coordfit.export(of, tmp_path / "picture.onnx")
        session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return session.run(["colours"], {"coordinates": at})[0]

    return colours


@pytest.mark.parametrize("name", MODELS)
def test_a_runtime_of_onnx_gives_the_same_colours(colours_of, name):
    at = points(model(name))
    np.testing.assert_allclose(colours_of(model(name), at), model(name)(at), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["gaussian, relu", "tiles"])
def test_a_model_in_float64_is_written_in_float32(colours_of, name):
    of = model(name, "float64")
    at = points(of).astype(np.float32)
    np.testing.assert_allclose(colours_of(of, at), of(at), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["gaussian, relu", "pyramid", "tiles"])
@pytest.mark.parametrize("count", [0, 1, 100_000])
def test_any_number_of_points_is_taken(colours_of, name, count):
    at = np.random.default_rng(1).random((count, 2), np.float32)
    found, expected = colours_of(model(name), at), model(name)(at)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_activations_of_ones_own_are_written_by_their_formula(colours_of):
    own = coordfit.fit(PICTURE, activation=GELU(), output_activation=Gauss(1.5), **SMALL).model
    np.testing.assert_allclose(colours_of(own, points(own)), own(points(own)), rtol=0, atol=1e-5)


FORMULAS = {
    "where": lambda xp, x: xp.where(x > 0.5, x, 0.25) + xp.where(x - 0.25, 1.0, 2.0),
    "clip": lambda xp, x: xp.clip(x, 0.25, 0.75),
    "maximum": lambda xp, x: xp.maximum(x, 0.5),
    "minimum": lambda xp, x: xp.minimum(x, 0.5 * x + 0.25),
    "operators": lambda xp, x: -(x**2) / (1.0 + x) - 2.0**x + 3.0 * (x >= 0.5) + (x < 0.25) * x,
}


@pytest.mark.parametrize("name", sorted({*FUNCTIONS, *FORMULAS}))
def test_whatever_a_formula_may_use_is_written(name):
    runtime = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    formula = FORMULAS.get(name, lambda xp, x: getattr(xp, name)(x) + 0.0 * x)
    graph, x = Graph(), np.linspace(0.25, 1.0, 4, dtype=np.float32)
    end = formula(graph, Value(graph, "x", "float32")).name
    sides = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [4]) for name in ("x", end)]
    made = onnx.helper.make_graph(graph.nodes, "formula", sides[:1], sides[1:], graph.initializers)
    opset = onnx.helper.make_opsetid("", 21)
    model = onnx.helper.make_model_gen_version(made, opset_imports=[opset])
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": x})[0], formula(np, x), rtol=1e-6)


def test_the_file_says_what_it_is_of():
    onnx = pytest.importorskip("onnx")
    made = make_onnx(arrays_of(model("alpha")))
    facts = {entry.key: entry.value for entry in made.metadata_props}
    assert facts["coordinates"] == "pixel centres (i + 0.5) / 32: x to the right, y down"
    assert (facts["width"], facts["height"], facts["channels"]) == ("32", "24", "4")
    assert made.producer_name == "coordfit"
    sizes = [end.type.tensor_type.shape.dim[1].dim_value for end in (*made.graph.input, *made.graph.output)]
    assert sizes == [2, 4]
    assert made.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_a_missing_package_is_named_with_the_cure(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(OutputError, match=r"needs the package onnx .*: pip install 'coordfit\[export\]'"):
        coordfit.export(model("grey"), tmp_path / "picture.onnx")
    assert not (tmp_path / "picture.onnx").exists()
