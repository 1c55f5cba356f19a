"""Measure what a photograph costs as a batch of small networks: tile size x frequencies x hidden size.

    python -m bench.tiles astronaut coffee --tiles 400 --json FILE

Each row is the mean over the pictures of: PSNR after the default steps and its cost for the whole picture, and
the seconds and steps that 40 dB take, with parameters beside them. "twice" measures how smooth the picture is
between its pixels: tiles learn a picture of half the size, and are compared at the full size, less what bicubic
interpolation gives.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from coordfit.backends import Backend, get_backend
from coordfit.config import make_config, recipe_settings
from coordfit.images import Picture, load_picture
from coordfit.images.metrics import psnr, psnr_from_mse
from coordfit.tiles.fit import TiledFit
from coordfit.tiles.layout import TileLayout
from coordfit.tiles.network import TileNetwork
from coordfit.tiles.plan import MEMORISE, OVERLAP, SHAPES, Shape, TilePlan
from coordfit.tiles.trainer import TileTrainer

from .command_line import Parser, count, new_file, picture_name, run_main
from .records import write_record
from .scikit_pictures import picture_named

PICTURES = ("astronaut", "coffee")
TARGET = 40.0
STEPS = 48
_CROP = 192
_TIMES = ("seconds_aimed", "rate")


def table_shapes() -> list[Shape]:
    """Return the shapes that are compared: those of the table in use, and their neighbours."""
    around = [
        Shape(tile, m, hidden, sigma)
        for tile, sigma in ((8, 1.0), (12, 1.25), (16, 1.5), (32, 2.5))
        for m, hidden in ((12, 64), (16, 32), (16, 64), (24, 48), (24, 64), (32, 96))
    ]
    return sorted({*SHAPES, *around}, key=lambda s: (s.tile, s.num_frequencies, s.hidden_size))


def _name(shape: Shape) -> str:
    return f"{shape.tile},{shape.num_frequencies},{shape.hidden_size}"


def measure(backend: Backend, pictures: Sequence[Picture], shape: Shape, count: int) -> dict[str, Any]:
    """Return one row of the table, means over the pictures."""
    rows = [_measure_one(backend, picture, shape, count) for picture in pictures]
    means = {name: statistics.fmean(row[name] for row in rows) for name in rows[0]}
    facts = {
        "tile": shape.tile,
        "num_frequencies": shape.num_frequencies,
        "hidden_size": shape.hidden_size,
        "sigma": shape.sigma,
    }
    return facts | means


def _measure_one(backend: Backend, picture: Picture, shape: Shape, count: int) -> dict[str, float]:
    layout = TileLayout(picture.shape, shape.tile, OVERLAP)
    tiles = np.random.default_rng(0).choice(len(layout), min(count, len(layout)), replace=False)
    pixels = layout.pixels(picture.pixels, np.sort(tiles))
    plain = _trained(backend, picture, layout, shape, pixels, None)
    aimed = _trained(backend, picture, layout, shape, pixels, TARGET)
    whole, own = len(layout) / len(tiles), picture.height * picture.width / 400_000
    network = plain[0].network
    flops = _step_flops(network, layout)
    return {
        "psnr": psnr_from_mse(float(plain[1].mean())),
        "gflop": flops * STEPS * len(layout) / 1e9 / own,
        "psnr_aimed": psnr_from_mse(float(aimed[1].mean())),
        "gflop_aimed": flops * aimed[0].steps_taken * whole / 1e9 / own,
        "steps_aimed": aimed[0].steps_taken / len(tiles),
        "seconds_aimed": aimed[0].seconds * whole / own,
        "rate": flops * aimed[0].steps_taken / aimed[0].seconds / 1e9,
        "parameters_per_value": network.layout.num_parameters * len(layout) / picture.pixels.size,
        "twice": _between_pixels(backend, picture, shape),
    }


def _trained(
    backend: Backend, picture: Picture, layout: TileLayout, shape: Shape, pixels: Any, target: float | None
) -> tuple[TileTrainer, Any]:
    network = TileNetwork.drawn(_config(shape, target), picture.channels)
    TileTrainer(backend, network, layout).fit(pixels[:8], 1)  # compile and load before the clock starts
    trainer = TileTrainer(backend, network, layout)
    return trainer, trainer.fit(pixels, STEPS)[1]


def _config(shape: Shape, target: float | None) -> Any:
    of_shape = {
        "num_frequencies": shape.num_frequencies,
        "hidden_size": shape.hidden_size,
        "sigma": shape.sigma,
    }
    return make_config(recipe_settings(MEMORISE), of_shape, {"target_psnr": target, "steps": STEPS})


def _step_flops(network: TileNetwork, layout: TileLayout) -> float:
    """Return the operations of the products of a tile's step: forward, dW, and dx except for layer 0."""
    sizes = network.layout.layer_sizes
    products = [n_in * n_out for n_in, n_out in itertools.pairwise(sizes)]
    return float((6 * sum(products) - 2 * products[0]) * len(layout.grid))


def _between_pixels(backend: Backend, picture: Picture, shape: Shape) -> float:
    """Return the PSNR at twice the learned size, less that of bicubic interpolation, on a crop."""
    side = min(_CROP, picture.height, picture.width) // 2 * 2
    top, left = (picture.height - side) // 2, (picture.width - side) // 2
    truth = picture.pixels[top : top + side, left : left + side]
    half = np.stack([_resized(truth[..., c], side // 2) for c in range(picture.channels)], axis=-1)
    small = load_picture(half)
    layout = TileLayout((side // 2, side // 2), shape.tile, OVERLAP)
    fit = TiledFit(small, TilePlan(layout, _config(shape, TARGET), ""), backend, stored="float32")
    bicubic = np.stack([_resized(half[..., c], side) for c in range(picture.channels)], axis=-1)
    scores = [psnr(p, truth) for p in (fit.run().render(side, side), bicubic)]
    return math.nan if None in scores else float(np.subtract(*scores))


def _resized(channel: Any, side: int) -> Any:
    filters = Image.Resampling
    chosen = filters.BICUBIC if side > len(channel) else filters.LANCZOS
    resized = np.asarray(Image.fromarray(channel).resize((side, side), chosen))
    return np.clip(resized, 0.0, 1.0)


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print Markdown; costs are for 400 000 pixels."""
    print(
        f"| tile | m | hidden | PSNR, {STEPS} steps | GFLOP | steps to {TARGET:g} dB | reached | GFLOP "
        "| s | GFLOP/s | parameters per value | twice |"
    )
    print("|---" * 12 + "|")
    for row in rows:
        print(
            f"| {row['tile']} | {row['num_frequencies']} | {row['hidden_size']} | {row['psnr']:.2f} "
            f"| {row['gflop']:.0f} | {row['steps_aimed']:.1f} | {row['psnr_aimed']:.2f} "
            f"| {row['gflop_aimed']:.0f} | {_or_none(row, 'seconds_aimed', 2)} | {_or_none(row, 'rate', 0)} "
            f"| {row['parameters_per_value']:.2f} | {row['twice']:+.2f} |"
        )


def _or_none(row: dict[str, Any], name: str, digits: int) -> str:
    return f"{row[name]:.{digits}f}" if name in row else "-"


def main() -> None:
    """Run the command line."""
    parser = Parser(prog="python -m bench.tiles", description=__doc__)
    parser.add_argument("pictures", nargs="*", type=picture_name, default=PICTURES, metavar="NAME|FILE")
    parser.add_argument("--tiles", type=count, default=200, help="of each picture, drawn at random")
    parser.add_argument("--threads", type=count, help="of the CPU")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=[_name(shape) for shape in table_shapes()],
        metavar="TILE,M,HIDDEN",
        help="some rows alone",
    )
    parser.add_argument("--without-times", action="store_true", help="where the machine is busy")
    parser.add_argument("--json", type=new_file, metavar="FILE", help="write everything here too")
    options = parser.parse_args()
    backend = get_backend("cpu", threads=options.threads)
    pictures = [picture_named(name) for name in options.pictures]
    rows = []
    for shape in table_shapes():
        if options.only is None or _name(shape) in options.only:
            row = measure(backend, pictures, shape, options.tiles)
            dropped = _TIMES if options.without_times else ()
            rows.append({figure: value for figure, value in row.items() if figure not in dropped})
            if options.json:  # after every row: the whole takes long
                of = {"pictures": [Path(name).name for name in options.pictures], "tiles": options.tiles}
                write_record(options.json, of | {"rows": rows}, ["scikit-image"], options.threads)
    print_table(rows)


if __name__ == "__main__":
    run_main("tiles", main)
