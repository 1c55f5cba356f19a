"""Score tiles on pixels that training has not seen, beside one network and bicubic interpolation.

    python -m bench.tiles_held_out [NAME|FILE ...] [--size 256] [--tiles 32] --json FILE
    python -m bench.tiles_held_out --missing 0.5 --size 128 --tiles 16

A photograph of scikit-image is cut to its middle square, and a file is resized to a square. Each is trained on
every second row and column with the settings of each way. With `--missing` it is filled where pixels are
missing, and biharmonic equations take the place of interpolation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import coordfit

from .command_line import PHOTOGRAPHS, Parser, count, device_name, new_file, picture_name, run_main, share
from .records import Runs
from .scikit_pictures import picture_named, square_photograph

_SHARED = ("psnr_train", "steps", "seconds", "parameters")


def measure(name: str, size: int, tile: int, device: str, missing: float | None = None) -> dict[str, Any]:
    """Return figures of one picture: of one network, of tiles, and of methods that learn nothing."""
    row: dict[str, Any] = {}
    ways: dict[str, Any] = {"network": "none", "tiles": tile}
    picture = square_photograph(name, size) if name in PHOTOGRAPHS else picture_named(name)
    for way, tiles in ways.items():
        common: dict[str, Any] = {"size": (size, size), "tiles": tiles, "device": device}
        if missing is None:
            metrics = coordfit.fit(picture, train_on="every-second", **common).metrics
            unseen, row["plain"] = "psnr_held_out", metrics["psnr_held_out_bicubic"]
        else:
            metrics = coordfit.inpaint(picture, missing=missing, **common).metrics
            unseen, row["plain"] = "psnr_hidden", metrics["psnr_hidden_biharmonic"]
        row[way] = {"psnr_unseen": metrics[unseen]} | {figure: metrics[figure] for figure in _SHARED}
    return row


def main() -> None:
    """Run the command line."""
    parser = Parser(prog="python -m bench.tiles_held_out", description=__doc__)
    parser.add_argument("pictures", nargs="*", type=picture_name, default=PHOTOGRAPHS, metavar="NAME|FILE")
    parser.add_argument("--size", type=count, default=256)
    parser.add_argument("--tiles", type=count, default=32)
    parser.add_argument("--missing", type=share, help="hide this share of the pixels instead")
    parser.add_argument("--device", type=device_name, default="cpu")
    parser.add_argument(
        "--json",
        type=new_file,
        metavar="FILE",
        help="write the rows here too; those of other sizes and masks stay",
    )
    options = parser.parse_args()
    runs = Runs(options.json, "rows", ["scikit-image"])
    plain = "bicubic" if options.missing is None else "biharmonic"
    print(f"| picture | one network | tiles | {plain} |\n|---|---|---|---|")
    for name in options.pictures:
        key = {
            "picture": Path(name).stem,
            "size": options.size,
            "tile": options.tiles,
            "missing": options.missing,
        }
        row = runs.keep(key, measure(name, options.size, options.tiles, options.device, options.missing))
        scores = (row["network"]["psnr_unseen"], row["tiles"]["psnr_unseen"], row["plain"])
        told = ["" if score is None else f"{score:.2f}" for score in scores]
        print(f"| {row['picture']} | {' | '.join(told)} |", flush=True)


if __name__ == "__main__":
    run_main("tiles_held_out", main)
