"""Write a rendering as PNG while its rows are computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..files import atomic_write
from ..images.formats.png import PngWriter, quantize
from ..signals.grid import SampleGrid
from .rendering import Drawable


def save_rows(
    path: Path, model: Drawable, grid: SampleGrid, *, see: Callable[[NDArray[np.floating]], object]
) -> None:
    """Render and write rows piece by piece, without the whole picture in memory; `see` gets each."""
    depth = model.signal.bit_depth
    with atomic_write(path) as file:
        writer = PngWriter(file, grid.width, grid.lines, model.signal.channels, depth)
        for rows in model.render_rows(grid):
            writer.write_rows(quantize(rows, depth))
            see(rows)
        writer.close()
