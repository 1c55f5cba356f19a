"""Train the network of `coordfit.enlarging` on photographs, and write its module of weights.

    python -m bench.enlarging_weights --out coordfit/enlarging/weights.py    # on those of scikit-image
    python -m bench.enlarging_weights a.png b.png --out weights.py

A photograph is halved by means over 2x2 pixels; the network learns the four pixels from 7x7 means. Each batch
is turned or reflected in one of eight ways. The loss is the mean squared error. Adam, and Muon for the matrices
of the hidden layers, with a cosine schedule; a minute of one core.
"""

from __future__ import annotations

import base64
import math
import textwrap
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coordfit import get_backend, load_picture
from coordfit.codec.pyramid.optimizers import PyramidOptimizer
from coordfit.enlarging.network import (
    PIXELS,
    RADIUS,
    Activations,
    EnlargingNetwork,
    inputs,
    symmetries,
    weight_shapes,
)

from .command_line import Parser, count, need, run_main

# Public domain or CC0, as scikit-image's README says. None is one of the Kodak pictures.
SHIPPED = ["astronaut", "camera", "chelsea", "coffee", "brick.png", "grass.png", "gravel.png", "rocket.jpg"]
FRACTION_BITS, BATCH, RATE, MATRIX_RATE = 11, 4096, 0.003, 0.01
GREY = np.array([0.299, 0.587, 0.114], np.float32)

Array = NDArray[np.float32]


def examples(file: Path) -> list[tuple[Array, Array, Array]]:
    """Return inputs, root mean squares and quarters (4, N) of a photograph's luminance and of each channel."""
    colours = load_picture(file).pixels
    colours = colours[: colours.shape[0] // 2 * 2, : colours.shape[1] // 2 * 2]
    planes = [colours[..., 0]]
    if colours.shape[2] >= 3:
        planes = [colours[..., :3] @ GREY, *np.moveaxis(colours[..., :3], 2, 0)]
    found = []
    for plane in planes:
        cells = plane.reshape(plane.shape[0] // 2, 2, plane.shape[1] // 2, 2)
        means = cells.mean((1, 3))
        x, spread, middle = inputs(np.pad(means, RADIUS, mode="symmetric"), means.shape[1])
        quarters = cells.transpose(1, 3, 0, 2).reshape(4, -1)
        found.append((x, spread, (quarters - middle) / spread))
    return found


def backward(network: EnlargingNetwork, gradients: EnlargingNetwork, dy: Array, at: Activations) -> None:
    """Fill the gradients of all weights from that of the quarters (4, N)."""
    _, second, last, _ = network.weights
    d_b = (last[:, :-1].T @ dy) * (at.second[:-1] > 0)
    d_a = (second[:, :-1].T @ d_b) * (at.first[:-1] > 0)
    products = (d_a, at.x), (d_b, at.first), (dy, at.second), (dy, at.x[:PIXELS])
    for gradient, (left, right) in zip(gradients.weights, products, strict=True):
        np.matmul(left, right.T, out=gradient)


def train(data: tuple[Array, Array, Array], units: int, steps: int) -> EnlargingNetwork:
    """Return a trained network."""
    x, spread, quarters = data
    rng = np.random.default_rng(1)
    size = sum(map(math.prod, weight_shapes(units)))
    network, gradients = (EnlargingNetwork(np.zeros(size, np.float32), units) for _ in range(2))
    hidden = [*zip(network.weights[:2], gradients.weights, strict=False)]
    for w, _ in hidden:
        w[:, :-1] = rng.normal(size=(w.shape[0], w.shape[1] - 1)) * math.sqrt(2 / w.shape[1])
    backend = get_backend("numpy", threads=1)
    with backend.activate():
        matrices = [(w[:, :-1], g[:, :-1]) for w, g in hidden]
        rates = [(slice(0, size), RATE)]
        optimizer = PyramidOptimizer(backend, network.flat, gradients.flat, rates, matrices, MATRIX_RATE)
        for step in range(steps):
            some, (pixels, places) = rng.integers(0, len(spread), BATCH), symmetries()[rng.integers(8)]
            found, activations = network.forward(x[:, some][pixels])
            weight = (spread[some] / np.float32(0.05)) ** 2 * np.float32(4 / BATCH)
            backward(network, gradients, (found - quarters[:, some][places]) * weight, activations)
            optimizer.step(min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / steps)))
    return network


def written(network: EnlargingNetwork, units: int) -> str:
    """Return the text of the module of weights."""
    integers = np.rint(np.ldexp(network.flat, FRACTION_BITS))
    if abs(integers).max() > np.iinfo(np.int16).max:
        raise OverflowError("a weight is beyond 16 bits")
    text = base64.b85encode(integers.astype("<i2").tobytes()).decode()
    lines = "\n".join(f'    "{line}"' for line in textwrap.wrap(text, 100, break_on_hyphens=False))
    return f'''"""Weights of the enlarging network, trained on photographs; see `bench/enlarging_weights.py`.

Multiples of 2^-{FRACTION_BITS} as 16-bit integers, little-endian, in base 85: the arrays one after the other.
"""

FRACTION_BITS = {FRACTION_BITS}
UNITS = {units}
WEIGHTS = (
{lines}
)
'''


def main() -> None:
    """Run the command line."""
    parser = Parser(prog="python -m bench.enlarging_weights", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="(default: scikit-image's)")
    parser.add_argument("--units", type=count, default=48)
    parser.add_argument("--steps", type=count, default=12_000)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.py")
    options = parser.parse_args()
    files = options.files
    if not files:
        need("skimage", "pip install scikit-image")
        folder = resources.files("skimage.data")
        files = [Path(str(folder / (name if "." in name else f"{name}.png"))) for name in SHIPPED]
    parts = zip(*(example for file in files for example in examples(file)), strict=True)
    x, spread, quarters = (np.concatenate(part, axis=-1) for part in parts)
    network = train((x, spread, quarters), options.units, options.steps)
    options.out.write_text(written(network, options.units), encoding="utf-8")
    print(f"{options.out}: {network.flat.size} weights from {len(spread)} pixels")


if __name__ == "__main__":
    run_main("enlarging_weights", main)
