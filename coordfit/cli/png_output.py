"""Write a rendering as PNG while its rows are computed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..files import atomic_write
from ..images.formats.png import PngWriter, quantize
from ..images.grid import PixelGrid
from ..models.model import Model
from ..tiles.model import TiledModel


def write_png(
    path: Path,
    model: Model | TiledModel,
    grid: PixelGrid,
    *,
    shown: bool,
    see: Callable[[NDArray[np.floating]], None] | None = None,
) -> None:
    """Render rows and write them as they come, for `see` too: the picture need not fit into memory."""
    depth = model.picture.bit_depth
    bar = tqdm(total=grid.height, unit="row", file=sys.stderr, disable=None if shown else True, mininterval=0.2)
    with bar, atomic_write(path) as file:
        writer = PngWriter(file, grid.width, grid.height, model.picture.channels, depth)
        for rows in model.render_rows(grid):
            writer.write_rows(quantize(rows, depth))
            if see is not None:
                see(rows)
            bar.update(len(rows))
        writer.close()
