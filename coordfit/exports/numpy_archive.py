"""Write a model as an `.npz` archive, with a README in it that is also a program which evaluates it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from ..files import FilePath, write_bytes
from ..signals.facts import SignalFacts
from .arrays import Host, ModelArrays, axis_tables, stored
from .program_text import comment, in_order, last_or_hidden, units_of

_ACTIVATIONS = {
    "relu": "np.maximum(z, 0)",
    "sine": "np.sin({omega} * z)",
    "tanh": "np.tanh(z)",
    "sigmoid": "0.5 + 0.5 * np.tanh(0.5 * z)",  # 1 / (1 + exp(-z)) without overflow
    "identity": "z",
}

_FOURIER = """
def features(v):  # [cos(2 pi B v), sin(2 pi B v)]; whole turns go first, to keep digits
    turns = v @ m["B"].T
    phase = 2 * np.pi * (turns - np.round(turns))
    return np.concatenate([np.cos(phase), np.sin(phase)], -1)
"""

_IDENTITY = """
def features(v):
    return v
"""

_LEVELS = """
def taps(place, count):  # the nodes around each place along an axis, and their weights
    n = len(m["kernel"])
    place = np.clip(place + n // 2 - 1, 0, count + n - 3)
    cell = np.clip(np.floor(place), 0, count + n - 4)
    node = np.clip(cell[:, None] + np.arange(n) - n + 2, 0, count - 1).astype(int)
    return node, (place - cell)[:, None] ** np.arange(n) @ m["kernel"]


def features(v):  # of every level, interpolated between its nodes
    found = []
    for k, (start, step) in enumerate(m["nodes"]):
        level = m[f"level{k}"]
        column, a = taps((v[:, 0] - start) / step, level.shape[1])
        row, b = taps((v[:, 1] - start) / step, level.shape[0])
        found.append(np.einsum("nj,ni,njif->nf", b, a, level[row[:, :, None], column[:, None]]))
    return np.concatenate(found, -1)
"""

_ONE = """
def colours(v):  # (N, {D}) -> (N, {C})
    x = features(v)
    for k in range({layers}):
        z = x @ m[f"W{{k}}"] + m[f"b{{k}}"]
        x = {activation}
    return x
"""

_TILES = """
def tile(number, v):  # the colours of one tile's network at places in the tile
    x = features(v)
    for k in range({layers}):
        z = x @ m[f"W{{k}}"][number] + m[f"b{{k}}"][number]
        x = {activation}
    return x


def along(p, starts, borders):  # two tiles at positions in pixels: numbers, places in them, weights
    first = np.searchsorted(borders + {half}, p, side="right")
    rise = 0.5 - 0.5 * np.cos(np.pi * np.clip((p - borders[first]) / {overlap} + 0.5, 0, 1))
    for number, weight in (first, 1 - rise), (np.minimum(first + 1, len(starts) - 1), rise):
        yield number, (p - starts[number]) / {side}, weight


def colours(v):  # (N, {D}) -> (N, {C})
    p, total = {longer} * np.asarray(v, float), np.zeros((len(v), {C}))
    for column, x, a in along(p[:, 0], m["column_starts"], m["column_borders"]):
        for row, y, b in along(p[:, 1], m["row_starts"], m["row_borders"]):
            number, place, weight = row * {columns} + column, np.stack([x, y], -1), a * b
            for k in np.unique(number[weight > 0]):
                at = (number == k) & (weight > 0)
                total[at] += weight[at, None] * tile(k, place[at])
    return total
"""

_PICTURE = """
def picture(height={height}, width={width}):  # (height, width, {C}), row by row
    x, y = ((np.arange(n) + 0.5) * side / n / {longer} for n, side in ((width, {width}), (height, {height})))
    return np.clip([colours(np.stack([x, np.full(width, at)], -1)) for at in y], 0, 1)
"""

_VALUES = """
def values(points):  # (N, {D}) -> (N, {C}), both in the signal's own units
    v = np.asarray(points, float) / {units} + {start}
    return colours(v) * {spread} + {low}
"""


def save_npz(path: FilePath, arrays: ModelArrays) -> None:
    """Write the archive, atomically; OutputError if it cannot be written."""
    arrays.check_built_in("an .npz file's program")
    arrays.check_axes("an .npz file's program", of_any_network=True)
    named = named_arrays(arrays)
    readme: Any = np.array(readme_of(arrays, Path(path).name, named))
    file = io.BytesIO()
    np.savez(file, README=readme, **named)  # type: ignore[arg-type]
    write_bytes(path, file.getvalue())


def named_arrays(arrays: ModelArrays) -> dict[str, Host]:
    """Return the arrays by plain names; `W0` and `b0` are those of the first layer."""
    features, named = arrays.features, {}
    if features.B is not None:
        named["B"] = features.B
    if features.kernel is not None:
        named["kernel"] = features.kernel.polynomials()
        named["nodes"] = np.array([[level.start, level.step] for level, _ in features.levels])
    named |= {f"level{k}": values for k, (_, values) in enumerate(features.levels)}
    for k, (W, b) in enumerate(arrays.layers):
        pair = (W, b) if arrays.layout else (W[0], b[0])
        named[f"W{k}"], named[f"b{k}"] = map(stored, pair)
    if arrays.layout:
        for name, axis in zip(("row", "column"), arrays.layout.axes, strict=True):
            named[f"{name}_starts"], named[f"{name}_borders"] = axis_tables(axis)
    return named


def readme_of(arrays: ModelArrays, file: str, named: dict[str, Host]) -> str:
    """Return the README: comments, and a program in NumPy."""
    own, layout = arrays.signal, arrays.layout
    shapes = [f"{name} {' x '.join(map(str, array.shape))}" for name, array in named.items()]
    told = [
        f"{arrays.title}.",
        f"A function from coordinates to colours. Coordinates are {arrays.coordinates}.",
        _told_of_values(own),
        "A layer is f(x W + b)." + (f" {layout.title}, blended where they overlap." if layout else ""),
        "Arrays: " + ", ".join(shapes) + ".",
        "This text is a program: exec(str(numpy.load(FILE)['README'])) in the file's folder.",
    ]
    facts: dict[str, Any] = {
        "D": own.dimensions,
        "C": own.channels,
        "layers": len(arrays.layers),
        "activation": last_or_hidden(arrays, _ACTIVATIONS, "k"),
        "height": own.height,
        "width": own.width,
        "longer": arrays.longer,
    }
    if layout:
        facts |= {"overlap": layout.overlap, "half": layout.overlap / 2, "side": layout.side}
        facts["columns"] = layout.counts[-1]
    parts = [
        f"import numpy as np\n\nm = dict(np.load({file!r}))\n",
        _FOURIER if arrays.features.B is not None else _LEVELS if arrays.features.levels else _IDENTITY,
        (_TILES if layout else _ONE).format(**facts),
        _PICTURE.format(**facts) if own.dimensions == 2 else "",
        "" if own.frame is None else _VALUES.format(**units_of(own)),
    ]
    return in_order([comment(told), *parts])


def _told_of_values(signal: SignalFacts) -> str:
    if signal.frame is not None:
        return f"Colours are {signal.channels} channels in [0, 1]; values() takes and gives the signal's units."
    most = 2**signal.bit_depth - 1
    return f"Colours ({signal.channels} channels) are levels / {most}, and not clipped by colours()."
