"""Pixels that training has not seen: tiles beside one network, and beside bicubic interpolation.

    python -m bench.tiles_held_out PICTURE ... [--size 256] [--tiles 32] --json FILE

Each picture is made square, and trained on every second row and column with the settings that each way has.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import coordfit

_FIGURES = ("psnr_held_out", "psnr_train", "steps", "seconds", "parameters")


def measure(path: str, size: int, tile: int, device: str) -> dict[str, Any]:
    """Figures of one picture: of one network, of tiles, and of interpolation."""
    row: dict[str, Any] = {"picture": Path(path).name, "size": size, "tile": tile}
    ways: dict[str, Any] = {"network": "none", "tiles": tile}
    for name, tiles in ways.items():
        result = coordfit.fit(path, size=(size, size), train_on="every-second", tiles=tiles, device=device)
        row[name] = {figure: result.metrics[figure] for figure in _FIGURES}
        row["bicubic"] = result.metrics["psnr_held_out_bicubic"]
    return row


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.tiles_held_out", description=__doc__)
    parser.add_argument("pictures", nargs="+", metavar="PICTURE")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--tiles", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything here too")
    options = parser.parse_args()
    rows = []
    print("| picture | one network | tiles | bicubic |\n|---|---|---|---|")
    for path in options.pictures:
        rows.append(row := measure(path, options.size, options.tiles, options.device))
        scores = (row["network"]["psnr_held_out"], row["tiles"]["psnr_held_out"], row["bicubic"])
        print(f"| {row['picture']} | " + " | ".join(f"{score:.2f}" for score in scores) + " |", flush=True)
        if options.json:  # after every row: the whole takes long
            options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
