"""Make the first weights of the codec's context network: `coordfit/codec/pyramid/first_contexts.py`.

    python -m bench.context_start astronaut.png chelsea.png coffee.png      # three minutes

Trains crops one after the other, at prices of a bit that are drawn, and moves the weights towards each one's.
Source: A. Nichol, J. Achiam and J. Schulman, "On first-order meta-learning algorithms" (arXiv 1803.02999).
"""

from __future__ import annotations

import base64
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from coordfit import get_backend
from coordfit.codec import PyramidSettings
from coordfit.codec.pyramid import first_contexts
from coordfit.codec.pyramid.training import PyramidTrainer

from .command_line import Parser, count, run_main

CROP, STEPS = 192, 80
LAMBDAS = 10**-4.4, 10**-3.3
SETTINGS = PyramidSettings(
    step_share=0.25,
    latent_rate=0.1,
    decoder_rate=0.04,
    context_rate=0.02,
    matrix_rate=0.0,  # by Adam: weights that Muon finds take 1 % more bits after 300 steps
    rate_share=1.0,
    trained_start=False,
    temperatures=(0.5, 0.1),
)
HEAD = '''"""First weights of the context network, trained on other pictures; see `bench/context_start.py`.

Multiples of 2^-{bits} as 16-bit integers, little-endian, in base 85: the layers one after the other.
"""

FRACTION_BITS = {bits}
UNITS = {units}
WEIGHTS = (
{lines}
)
'''


def train(files: list[Path], rounds: int) -> NDArray[np.float32]:
    """Return the weights of the context network (n,), after so many crops; the decoder goes along."""
    rng = np.random.default_rng(1)
    pictures = [np.asarray(Image.open(file).convert("RGB"), np.float32) / 255 for file in files]
    weights: NDArray[np.float32] | None = None
    for i in range(rounds):
        picture = pictures[i % len(pictures)]
        lmbda = math.exp(rng.uniform(*np.log(LAMBDAS)))
        row, column = (int(rng.integers(0, length - CROP)) for length in picture.shape[:2])
        target = picture[row : row + CROP, column : column + CROP].transpose(2, 0, 1)
        trainer = PyramidTrainer(target, lmbda, SETTINGS, seed=i)
        networks = trainer.parameters[trainer.parts["decoder"].start :]
        if weights is not None:
            networks[...] = weights
        for step in range(STEPS):
            trainer.step(0.9 * step / STEPS)
        share = max(0.15, 0.5 * (1 + math.cos(math.pi * i / rounds)))
        weights = networks.copy() if weights is None else weights + share * (networks - weights)
        psnr, bits = trainer.reached()
        print(f"crop {i + 1}: lambda {lmbda:.1e}, {psnr:.2f} dB, {bits:.3f} bits per pixel", flush=True)
    assert weights is not None
    return weights[-trainer.parameters[trainer.parts["context"]].size :]


def main() -> None:
    """Write the module."""
    parser = Parser(prog="python -m bench.context_start")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=count, default=90)
    arguments = parser.parse_args()
    with get_backend("numpy", threads=1).activate():
        weights = train(arguments.files, arguments.rounds)
    bits, units = 8, PyramidSettings().context_units
    text = base64.b85encode(np.rint(weights * 2**bits).astype("<i2").tobytes()).decode()
    lines = "\n".join(f'    "{text[i : i + 100]}"' for i in range(0, len(text), 100))
    Path(first_contexts.__file__).write_text(HEAD.format(bits=bits, units=units, lines=lines))


if __name__ == "__main__":
    run_main("context_start", main)
