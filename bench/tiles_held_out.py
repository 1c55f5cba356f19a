"""Pixels that training has not seen: tiles beside one network, and beside bicubic interpolation.

    python -m bench.tiles_held_out PICTURE ... [--size 256] [--tiles 32] --json FILE
    python -m bench.tiles_held_out PICTURE ... --missing 0.5 --size 128 --tiles 16

Each picture is made square, and trained on every second row and column with the settings that each way has; or
filled where a share of its pixels is missing, and then biharmonic equations stand for interpolation.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import coordfit

_SHARED = ("psnr_train", "steps", "seconds", "parameters")


def measure(path: str, size: int, tile: int, device: str, missing: float | None = None) -> dict[str, Any]:
    """Figures of one picture: of one network, of tiles, and of what learns nothing."""
    row: dict[str, Any] = {"picture": Path(path).name, "size": size, "tile": tile, "missing": missing}
    ways: dict[str, Any] = {"network": "none", "tiles": tile}
    for name, tiles in ways.items():
        common: dict[str, Any] = {"size": (size, size), "tiles": tiles, "device": device}
        if missing is None:
            metrics = coordfit.fit(path, train_on="every-second", **common).metrics
            unseen, row["plain"] = "psnr_held_out", metrics["psnr_held_out_bicubic"]
        else:
            metrics = coordfit.inpaint(path, missing=missing, **common).metrics
            unseen, row["plain"] = "psnr_hidden", metrics["psnr_hidden_biharmonic"]
        row[name] = {"psnr_unseen": metrics[unseen]} | {figure: metrics[figure] for figure in _SHARED}
    return row


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.tiles_held_out", description=__doc__)
    parser.add_argument("pictures", nargs="+", metavar="PICTURE")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--tiles", type=int, default=32)
    parser.add_argument("--missing", type=float, help="hide this share of the pixels instead")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything here too")
    options = parser.parse_args()
    rows = []
    plain = "bicubic" if options.missing is None else "biharmonic"
    print(f"| picture | one network | tiles | {plain} |\n|---|---|---|---|")
    for path in options.pictures:
        rows.append(row := measure(path, options.size, options.tiles, options.device, options.missing))
        scores = (row["network"]["psnr_unseen"], row["tiles"]["psnr_unseen"], row["plain"])
        told = ["" if score is None else f"{score:.2f}" for score in scores]
        print(f"| {row['picture']} | {' | '.join(told)} |", flush=True)
        if options.json:  # after every row: the whole takes long
            options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
