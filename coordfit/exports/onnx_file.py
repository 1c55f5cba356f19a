"""Write a model as an `.onnx` file: coordinates (N, D) in, unclipped colours (N, C) out."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Iterator
from typing import Any

import numpy as np

from .._version import __version__
from ..files import FilePath, escaped, write_bytes
from ..signals.facts import SignalFacts
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
    own = arrays.signal
    points = _to_network(graph, own, Value(graph, "coordinates", _REAL))
    if arrays.layout is None:
        colours = _network(graph, arrays, points, [(W[0], b[0]) for W, b in arrays.layers])
    else:
        colours = _blended(graph, arrays, arrays.layout, points)
    if own.frame is not None:
        colours = colours * graph.constant(own.frame.spread, _REAL) + graph.constant(own.frame.low, _REAL)
    graph.nodes.append(helper.make_node("Identity", [colours.name], ["colours"]))
    sizes = own.dimensions, own.channels
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
    own = arrays.signal
    facts = {"channels": str(own.channels)}
    if own.frame is not None:
        names, units = ", ".join(own.coordinate_names), "in the units of the signal"
        shape = "x".join(map(str, own.shape))
        return facts | {
            "signal": escaped(own.name),
            "shape": shape,
            "coordinates": f"{names}, {units}",
            "colours": units,
        }
    return facts | {
        "picture": escaped(own.name),
        "width": str(own.width),
        "height": str(own.height),
        "bit_depth": str(own.bit_depth),
        "coordinates": arrays.coordinates,
        "colours": "in [0, 1], not clipped",
    }


def _to_network(graph: Graph, signal: SignalFacts, points: Value) -> Value:
    """Return the coordinates of networks for points in the signal's own units."""
    if signal.frame is None:
        return points
    start = signal.to_network(np.zeros(signal.dimensions))
    scaled = graph.cast(points, "float64") * graph.constant(1.0 / signal.units, "float64")
    return graph.cast(scaled + graph.constant(start, "float64"), _REAL)


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
    for axis, count in enumerate(level.counts[::-1]):
        position = graph.node("Gather", points, graph.constant(axis, "int64"), axis=1, dtype=_REAL)
        taps = kernel.along(graph, level.places(position), count)
        for found, values_of in ((nodes, 0), (weights, 1)):
            columns = [_column(graph, tap[values_of]) for tap in taps]
            found.append(graph.node("Concat", *columns, axis=1))
    strides = np.cumprod([1, *level.counts[:0:-1]]).tolist()
    numbers = [
        node * float(stride) if stride > 1 else node for node, stride in zip(nodes, strides, strict=True)
    ]
    pairs = (
        functools.reduce(functools.partial(_all_pairs, graph, kind), parts)
        for kind, parts in (("Add", numbers), ("Mul", weights))
    )
    places, shares = pairs
    table = graph.constant(values.reshape(-1, level.features), _REAL, f"encoding.level{i}")
    around = graph.node("Gather", table, graph.cast(places, "int64"), axis=0, dtype=_REAL)
    weighted = graph.node("MatMul", graph.node("Unsqueeze", shares, graph.constant([1], "int64")), around)
    return graph.node("Squeeze", weighted, graph.constant([1], "int64"))


def _column(graph: Graph, value: Value) -> Value:
    return graph.node("Unsqueeze", value, graph.constant([1], "int64"))


def _all_pairs(graph: Graph, kind: str, across: Value, down: Value) -> Value:
    """Return (N, n m): an operation applied to every pair of across (N, n) and down (N, m)."""
    square = graph.node(
        kind,
        graph.node("Unsqueeze", across, graph.constant([1], "int64")),
        graph.node("Unsqueeze", down, graph.constant([2], "int64")),
    )
    return graph.node("Flatten", square, axis=1)


# -- tiles -----------------------------------------------------------------------------------------------


def _blended(graph: Graph, arrays: ModelArrays, layout: TileLayout, points: Value) -> Value:
    """Return the colours of up to two tiles along each axis at each point, blended as `TiledModel` does."""
    samples = graph.cast(points, "float64") * arrays.longer
    axes = [
        [*_covering(graph, axis, graph.node("Gather", samples, graph.constant([k], "int64"), axis=1), layout)]
        for k, axis in enumerate(layout.axes[::-1])
    ]
    strides = np.cumprod([1, *layout.counts[:0:-1]]).tolist()
    parts = []
    for corner in itertools.product(*axes):
        numbers = [number * stride for (number, _, _), stride in zip(corner, strides, strict=True)]
        places = [place for _, place, _ in corner]
        local = places[0] if len(places) == 1 else graph.node("Concat", *places, axis=1)
        weight = functools.reduce(operator.mul, [share for _, _, share in corner])
        tile = _tile(graph, arrays, functools.reduce(operator.add, numbers), graph.cast(local, _REAL))
        parts.append(tile * graph.cast(weight, _REAL))
    return functools.reduce(operator.add, parts)


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
