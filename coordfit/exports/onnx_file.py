"""Write a model as an `.onnx` file: coordinates (N, D) in, unclipped colours (N, C) out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .._version import __version__
from ..files import FilePath, escaped, write_bytes
from ..tiles.layout import Axis, TileLayout
from .arrays import Host, ModelArrays, axis_tables
from .onnx_graph import Graph, Value

# Newer operator sets add nothing that is used here, and older runtimes could not read the file.
_NEWEST_OPSET = 21
_REAL = "float32"


def save_onnx(path: FilePath, arrays: ModelArrays) -> None:
    """Write the file, atomically; OutputError without the package onnx, or if it cannot be written."""
    write_bytes(path, make_onnx(arrays).SerializeToString())


def make_onnx(arrays: ModelArrays) -> Any:
    """Return the model as an `onnx.ModelProto`, checked."""
    graph = Graph()
    onnx, helper = graph.onnx, graph.onnx.helper
    points = Value(graph, "coordinates", _REAL)
    if arrays.layout is None:
        colours = _network(graph, arrays, points, [(W[0], b[0]) for W, b in arrays.layers])
    else:
        colours = _blended(graph, arrays, arrays.layout, points)
    graph.nodes.append(helper.make_node("Identity", [colours.name], ["colours"]))
    sizes = arrays.features.num_coordinates, arrays.picture.channels
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", size])
        for name, size in zip(("coordinates", "colours"), sizes, strict=True)
    ]
    made = helper.make_graph(
        graph.nodes, "picture", ends[:1], ends[1:], graph.initializers, escaped(arrays.title)
    )
    opset = helper.make_opsetid("", min(_NEWEST_OPSET, onnx.defs.onnx_opset_version()))
    model = helper.make_model_gen_version(
        made, opset_imports=[opset], producer_name="coordfit", producer_version=__version__
    )
    helper.set_model_props(model, _facts(arrays))
    onnx.checker.check_model(model, full_check=True)
    return model


def _facts(arrays: ModelArrays) -> dict[str, str]:
    own = arrays.picture
    return {
        "picture": escaped(own.name),
        "width": str(own.width),
        "height": str(own.height),
        "channels": str(own.channels),
        "bit_depth": str(own.bit_depth),
        "coordinates": arrays.coordinates,
        "colours": "in [0, 1], not clipped",
    }


# -- one network -----------------------------------------------------------------------------------------


def _network(graph: Graph, arrays: ModelArrays, points: Value, layers: list[tuple[Host, Host]]) -> Value:
    """Return the colours of one network at points (N, D)."""
    x = _features(graph, arrays, points)
    for i, ((W, b), activation) in enumerate(zip(layers, arrays.activations, strict=True)):
        weight, bias = graph.parameter(W, _REAL, f"layers.{i}.weight"), graph.parameter(b, _REAL)
        x = activation.forward(graph, graph.node("MatMul", x, weight) + bias)
    return x


def _features(graph: Graph, arrays: ModelArrays, points: Value) -> Value:
    """Return the features (N, F) of points (N, D)."""
    features = arrays.features
    if features.B is not None:
        cycles = graph.node("MatMul", points, graph.constant(features.B.T, _REAL, "encoding.B"))
        phase = (cycles - graph.round(cycles)) * (2.0 * np.pi)
        return graph.node("Concat", graph.cos(phase), graph.sin(phase), axis=-1)
    if features.levels:
        parts = [_level(graph, arrays, i, points) for i in range(len(features.levels))]
        return graph.node("Concat", *parts, axis=-1)
    return points


def _level(graph: Graph, arrays: ModelArrays, i: int, points: Value) -> Value:
    """Return the interpolated features (N, F_l) of a level."""
    (level, values), kernel = arrays.features.levels[i], arrays.features.kernel
    assert kernel is not None
    nodes: list[Value] = []
    weights: list[Value] = []
    for axis, count in ((0, level.columns), (1, level.rows)):
        position = graph.node("Gather", points, graph.constant(axis, "int64"), axis=1, dtype=_REAL)
        taps = kernel.along(graph, level.places(position), count)
        for found, values_of in ((nodes, 0), (weights, 1)):
            columns = [_column(graph, tap[values_of]) for tap in taps]
            found.append(graph.node("Concat", *columns, axis=1))
    number = nodes[1] * level.columns
    pairs = _all_pairs(graph, "Add", nodes[0], number), _all_pairs(graph, "Mul", *weights)
    table = graph.constant(values.reshape(-1, level.features), _REAL, f"encoding.level{i}")
    around = graph.node("Gather", table, graph.cast(pairs[0], "int64"), axis=0, dtype=_REAL)
    weighted = graph.node("MatMul", graph.node("Unsqueeze", pairs[1], graph.constant([1], "int64")), around)
    return graph.node("Squeeze", weighted, graph.constant([1], "int64"))


def _column(graph: Graph, value: Value) -> Value:
    return graph.node("Unsqueeze", value, graph.constant([1], "int64"))


def _all_pairs(graph: Graph, kind: str, across: Value, down: Value) -> Value:
    """Return (N, taps^2): an operation applied to every pair of across (N, taps) and down (N, taps)."""
    square = graph.node(
        kind,
        graph.node("Unsqueeze", across, graph.constant([1], "int64")),
        graph.node("Unsqueeze", down, graph.constant([2], "int64")),
    )
    return graph.node("Flatten", square, axis=1)


# -- tiles -----------------------------------------------------------------------------------------------


def _blended(graph: Graph, arrays: ModelArrays, layout: TileLayout, points: Value) -> Value:
    """Return the colours of up to four tiles at each point, blended as `TiledModel` blends them."""
    pixels = graph.cast(points, "float64") * arrays.longer
    axes = [
        [*_covering(graph, axis, graph.node("Gather", pixels, graph.constant([k], "int64"), axis=1), layout)]
        for k, axis in enumerate((layout.columns, layout.rows))
    ]
    colours = None
    for column, x, x_weight in axes[0]:
        for row, y, y_weight in axes[1]:
            tile = row * len(layout.columns) + column
            local = graph.cast(graph.node("Concat", x, y, axis=1), _REAL)
            part = _tile(graph, arrays, tile, local) * graph.cast(x_weight * y_weight, _REAL)
            colours = part if colours is None else colours + part
    assert colours is not None
    return colours


def _covering(
    graph: Graph, axis: Axis, positions: Value, layout: TileLayout
) -> Iterator[tuple[Value, Value, Value]]:
    """Yield the first and the second tile (N, 1) at positions (N, 1): number, place in the tile, weight."""
    starts, borders = axis_tables(axis)
    ends = graph.constant(borders + axis.overlap / 2, "float64")
    passed = graph.cast(graph.node("LessOrEqual", ends, positions, dtype="bool"), "int64")
    first = graph.node("ReduceSum", passed, graph.constant([1], "int64"))
    second = graph.minimum(first + 1, len(axis) - 1)
    border = graph.node("Gather", graph.constant(borders, "float64"), first, dtype="float64")
    t = graph.clip((positions - border) / axis.overlap + 0.5, 0.0, 1.0)
    weight = 0.5 - 0.5 * graph.cos(np.pi * t)
    for tile, share in ((first, 1.0 - weight), (second, weight)):
        start = graph.node("Gather", graph.constant(starts, "float64"), tile, dtype="float64")
        yield tile, (positions - start) / layout.side, share


def _tile(graph: Graph, arrays: ModelArrays, tile: Value, local: Value) -> Value:
    """Return the colours (N, C) of a tile of each point, number (N, 1), at places (N, 2) in it."""
    x = graph.node("Unsqueeze", _features(graph, arrays, local), graph.constant([1], "int64"))
    which = graph.node("Squeeze", tile, graph.constant([1], "int64"))
    for i, ((W, b), activation) in enumerate(zip(arrays.layers, arrays.activations, strict=True)):
        weight = graph.node("Gather", graph.parameter(W, _REAL, f"layers.{i}.weight"), which)
        bias = graph.node("Gather", graph.parameter(b[:, None], _REAL, f"layers.{i}.bias"), which)
        x = activation.forward(graph, graph.node("MatMul", x, weight) + bias)
    return graph.node("Squeeze", x, graph.constant([1], "int64"))
