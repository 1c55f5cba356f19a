"""Write a model for PyTorch: a state_dict, and beside it the module that loads it, without coordfit."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import OutputError
from ..files import FilePath, escaped, write_bytes
from .arrays import ModelArrays, axis_tables, stored
from .program_text import in_order, last_or_hidden, units_of

_ACTIVATIONS = {
    "relu": "torch.relu(z)",
    "sine": "torch.sin({omega} * z)",
    "tanh": "torch.tanh(z)",
    "sigmoid": "torch.sigmoid(z)",
    "identity": "z",
}

_HEAD = '''
"""{title}.

A module from coordinates (N, {D}) to colours (N, {C}), not clipped. Coordinates are
{coordinates}.
"""

from pathlib import Path

import torch
from torch import nn
'''

_CLASS = """
class Picture(nn.Module):
    def __init__(self):
        super().__init__()
{members}
    def forward(self, v):
"""

_LAYERS = """        for k, layer in enumerate(self.layers):
            z = layer(x)
            x = {activation}
        return x
"""

_FOURIER = """
    def features(self, v):  # [cos(2 pi B v), sin(2 pi B v)]; whole turns go first, to keep digits
        turns = v @ self.B.T
        phase = 2 * torch.pi * (turns - turns.round())
        return torch.cat([phase.cos(), phase.sin()], -1)
"""

_LEVELS = """
    def features(self, v):  # of every level, interpolated between its nodes
        found = []
        for (start, step), level in zip(self.nodes, self.levels):
            column, a = self.taps((v[:, 0] - start) / step, level.shape[1])
            row, b = self.taps((v[:, 1] - start) / step, level.shape[0])
            found.append(torch.einsum("nj,ni,njif->nf", b, a, level[row[:, :, None], column[:, None]]))
        return torch.cat(found, -1)

    def taps(self, place, count):  # the nodes around each place along an axis, and their weights
        n = len(self.kernel)
        place = (place + n // 2 - 1).clamp(0, count + n - 3)
        cell = place.floor().clamp(0, count + n - 4)
        tap = torch.arange(n, device=place.device)
        node = (cell[:, None] + tap - n + 2).clamp(0, count - 1).long()
        return node, (place - cell)[:, None] ** tap @ self.kernel
"""

_TILES = """        p = {longer} * v.double()  # in pixels
        total = p.new_zeros(len(p), {C}, dtype=self.W[0].dtype)
        for column, x, a in self.along(p[:, 0].contiguous(), self.column_starts, self.column_borders):
            for row, y, b in self.along(p[:, 1].contiguous(), self.row_starts, self.row_borders):
                number, place, weight = row * {columns} + column, torch.stack([x, y], -1), a * b
                for k in number[weight > 0].unique():
                    at = (number == k) & (weight > 0)
                    colours = self.tile(k, place[at].to(total.dtype))
                    total[at] = total[at] + weight[at, None].to(total.dtype) * colours
        return total

    def along(self, p, starts, borders):  # two tiles at each position: numbers, places in them, weights
        first = torch.searchsorted(borders + {half}, p, right=True)
        t = ((p - borders[first]) / {overlap} + 0.5).clamp(0, 1)
        rise = 0.5 - 0.5 * (torch.pi * t).cos()
        for number, weight in (first, 1 - rise), ((first + 1).clamp(max=len(starts) - 1), rise):
            yield number, (p - starts[number]) / {side}, weight

    def tile(self, number, v):  # the colours of one tile's network at places in the tile
        x = {features}
        for k, (W, b) in enumerate(zip(self.W, self.b)):
            z = x @ W[number] + b[number]
            x = {activation}
        return x
"""

_LOAD = """
def load(path=Path(__file__).with_suffix(".pt")):
    picture = Picture()
    picture.load_state_dict(torch.load(path, weights_only=True))
    return picture.eval()
"""

_MAIN = """
if __name__ == "__main__":
    y, x = torch.meshgrid(torch.arange({height}), torch.arange({width}), indexing="ij")
    pixels = (torch.stack([x, y], -1).reshape(-1, 2).to(torch.{dtype}) + 0.5) / {longer}
    with torch.no_grad():
        colours = torch.cat([*map(load(), pixels.split(4096))])
    print(colours.reshape({height}, {width}, {C}).shape)
"""


_VALUES = """
    def values(self, points):  # both in the signal's own units
        units, start, spread, low = map(points.new_tensor, ({units}, {start}, {spread}, {low}))
        return self(points / units + start) * spread + low
"""


def program_beside(path: FilePath) -> Path:
    """Return the path of the module that is written beside a state_dict."""
    return Path(path).with_suffix(".py")


def save_torch(path: FilePath, arrays: ModelArrays) -> None:
    """Write the state_dict and the module; OutputError without PyTorch, or if a file cannot be written."""
    arrays.check_built_in("a PyTorch module")
    arrays.check_axes("a PyTorch module", of_any_network=True)
    try:
        import torch  # optional and slow
    except ImportError as error:
        raise OutputError(f"a .pt file needs PyTorch ({error}): pip install 'coordfit[torch]'") from error
    file = io.BytesIO()
    # PyTorch takes no memory that may not be written.
    state = {name: torch.from_numpy(np.array(array)) for name, array in _state(arrays).items()}
    torch.save(state, file)
    write_bytes(path, file.getvalue())
    write_bytes(program_beside(path), module_text(arrays).encode())


def _state(arrays: ModelArrays) -> dict[str, Any]:
    """Return the state_dict as arrays; those of `nn.Linear` are (n_out, n_in)."""
    features, state = arrays.features, {}
    if features.B is not None:
        state["B"] = features.B
    if features.kernel is not None:
        state["kernel"] = features.kernel.polynomials().astype(arrays.dtype)
        state |= {f"levels.{k}": values for k, (_, values) in enumerate(features.levels)}
    for k, (W, b) in enumerate(arrays.layers):
        if arrays.layout:
            state[f"W.{k}"], state[f"b.{k}"] = stored(W), stored(b)
        else:
            state[f"layers.{k}.weight"], state[f"layers.{k}.bias"] = W[0].T, b[0]
    if arrays.layout:
        for name, axis in zip(("row", "column"), arrays.layout.axes, strict=True):
            state[f"{name}_starts"], state[f"{name}_borders"] = axis_tables(axis)
    return state


def module_text(arrays: ModelArrays) -> str:
    """Return the Python file of the module."""
    own, layout, features = arrays.signal, arrays.layout, arrays.features
    facts: dict[str, Any] = {
        "title": escaped(arrays.title).replace("\\", "\\\\").replace('"', "'"),
        "coordinates": arrays.coordinates,
        "D": own.dimensions,
        "C": own.channels,
        "height": own.height,
        "width": own.width,
        "longer": arrays.longer,
        "dtype": arrays.dtype,
        "members": _members(arrays),
        "features": "v" if features.B is None and not features.levels else "self.features(v)",
        "activation": last_or_hidden(arrays, _ACTIVATIONS, "k"),
    }
    if layout:
        facts |= {"overlap": layout.overlap, "half": layout.overlap / 2, "side": layout.side}
        facts["columns"] = layout.counts[-1]
    body = _TILES if layout else "        x = {features}\n" + _LAYERS
    encode = _FOURIER if features.B is not None else _LEVELS if features.levels else ""
    values = "" if own.frame is None else _VALUES.format(**units_of(own))
    main = _MAIN.format(**facts) if own.dimensions == 2 else ""
    network = (_CLASS + body).format(**facts) + encode + values
    return in_order([_HEAD.format(**facts), network, _LOAD, main])


def _members(arrays: ModelArrays) -> str:
    """Return the lines of `__init__` that make parameters and buffers."""
    features, dtype = arrays.features, f"dtype=torch.{arrays.dtype}"
    lines = []
    if features.B is not None:
        lines.append(f'self.register_buffer("B", torch.empty({features.B.shape}, {dtype}))')
    if features.kernel is not None:
        taps = features.kernel.taps
        lines.append(f'self.register_buffer("kernel", torch.empty({taps}, {taps}, {dtype}))')
        lines.append(f"self.nodes = {[(level.start, level.step) for level, _ in features.levels]}")
        shapes = [values.shape for _, values in features.levels]
        lines.append(_parameters("levels", shapes, dtype))
    if arrays.layout:
        lines += [_parameters("W", [W.shape for W, _ in arrays.layers], dtype)]
        lines += [_parameters("b", [b.shape for _, b in arrays.layers], dtype)]
        for name, axis in zip(("row", "column"), arrays.layout.axes, strict=True):
            for part in ("starts", "borders"):
                empty = f"torch.empty({len(axis)}, dtype=torch.float64)"
                lines.append(f'self.register_buffer("{name}_{part}", {empty})')
    else:
        lines.append(f"sizes = {arrays.layer_sizes}")
        linear = f"nn.Linear(i, o, {dtype}) for i, o in zip(sizes, sizes[1:])"
        lines.append(f"self.layers = nn.ModuleList({linear})")
    return "".join(f"        {line}\n" for line in lines)


def _parameters(name: str, shapes: list[tuple[int, ...]], dtype: str) -> str:
    """Return a line that makes a list of parameters."""
    return f"self.{name} = nn.ParameterList(torch.empty(s, {dtype}) for s in {shapes})"
