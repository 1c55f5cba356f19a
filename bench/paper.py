"""Compare encodings in the setting of the paper, beside its Table 1: 512 x 512, every second pixel trained.

    python -m bench.paper                     # four photographs: some ten minutes on two quiet cores
    python -m bench.paper --pictures astronaut --encodings none gaussian --json bench/results/paper.json
    python -m bench.paper --batch-size full   # as the paper has it, a quarter of an hour a network

Tancik et al., "Fourier Features Let Networks Learn High Frequency Functions" (NeurIPS 2020), section 6 and the
authors' notebook: 4 layers of 256 from Glorot's initial weights, m = 256, sigma = 10, positional frequencies up
to 2^6, Adam at a constant 1e-3 (none and basic: 1e-2), 2000 steps on all 65 536 training pixels at once; test
pixels are those of odd rows and columns. Here a step takes a batch of them by default: as many steps, fewer
visits of each pixel.

Photographs are cut to their middle squares; chelsea (300 pixels) and coffee (400) are enlarged to 512.
"""

from __future__ import annotations

from statistics import fmean
from typing import Any

import numpy as np

from coordfit import get_backend, make_config
from coordfit.images.metrics import psnr
from coordfit.training.job import Job
from coordfit.training.trainer import fit_together

from .command_line import PHOTOGRAPHS, Parser, count, new_file, run_main
from .records import Runs
from .scikit_pictures import square_photograph

SIZE = 512
PAPER = {"none": 19.32, "basic": 21.72, "positional": 24.95, "gaussian": 25.57}  # Table 1, natural images, dB
OWN = {
    "none": {"learning_rate": 1e-2},
    "basic": {"learning_rate": 1e-2},
    "positional": {"sigma": 64.0},
    "gaussian": {"sigma": 10.0},
}

Row = dict[str, Any]


def measure(name: str, encoding: str, settings: dict[str, Any], backend: Any) -> Row:
    """Fit one network on one photograph; return PSNR of the training and of the paper's test pixels."""
    picture = square_photograph(name, SIZE)
    own = {"encoding": encoding, "train_on": "every-second", "initializer": "glorot"} | OWN[encoding]
    config = make_config(settings, own, recipe="paper")
    result = fit_together([Job(picture, config)], backend)[0]
    odd = np.zeros((SIZE, SIZE), bool)
    odd[1::2, 1::2] = True
    return {
        "settings": config.as_dict(),
        "psnr_train": result.metrics["psnr_train"],
        "psnr_test": psnr(result.reconstruction, picture.pixels, where=odd),
        "stopped": result.stopped,
        "seconds": result.metrics["seconds"],
    }


def show(rows: list[Row]) -> None:
    """Print the test PSNR of each encoding, and what it has more than `none`, beside the paper's."""
    names = list(dict.fromkeys(row["picture"] for row in rows))
    values = {(row["picture"], row["encoding"]): row["psnr_test"] for row in rows}
    means = {e: fmean(values[n, e] for n in names) for e in PAPER if all((n, e) in values for n in names)}
    table = {n: {e: values[n, e] for e in PAPER if (n, e) in values} for n in names}
    print("test PSNR / dB  " + "".join(f"{e:>18}" for e in PAPER) + "   (more than none)")
    for label, row in {**table, "mean": means, "paper": PAPER}.items():
        cells = [
            f"{row[e]:>10.2f} ({row[e] - row['none']:+5.2f})" if {e, "none"} <= row.keys() else f"{'':>18}"
            for e in PAPER
        ]
        print(f"{label:<16}" + "".join(cells))


def _batch(text: str) -> int | None:
    return None if text == "full" else count(text)


def main() -> int:
    """Measure, write, print."""
    parser = Parser(prog="python -m bench.paper", description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", nargs="+", choices=PHOTOGRAPHS, default=PHOTOGRAPHS)
    parser.add_argument("--encodings", nargs="+", choices=tuple(PAPER), default=tuple(PAPER))
    parser.add_argument("--steps", type=count, default=2000)
    parser.add_argument("--batch-size", type=_batch, default=2048, help="pixels of a step, or full")
    parser.add_argument(
        "--json", type=new_file, help="write the rows here; those of other runs are kept and shown"
    )
    args = parser.parse_args()
    settings = {"batch_size": args.batch_size, "steps": args.steps, "evaluate_every": args.steps}
    backend = get_backend("cpu")
    runs = Runs(args.json, "rows", ["scikit-image"], paper=PAPER)
    for name in args.pictures:
        for encoding in args.encodings:
            key = {"picture": name, "encoding": encoding}
            runs.keep(key, measure(name, encoding, settings, backend))
    show(runs.rows)
    return 0


if __name__ == "__main__":
    run_main("paper", main)
