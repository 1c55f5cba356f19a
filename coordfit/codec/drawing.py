"""A compressed picture as a function that draws itself at any size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..backends import get_backend
from ..files import FilePath, escaped
from ..images.formats.levels import Levels, to_pixels
from ..models.rendering import Drawable, mean_rows
from ..signals.facts import SignalFacts
from ..signals.grid import SampleGrid
from .container import Compressed, save
from .synthesis import check_synthesis, synthesised_rows


class CompressedPicture(Drawable):
    """A decoded file; CompressedFileError if it cannot draw.

    In its own size it has the pixels that the file stands for, on every machine. A larger one is drawn between
    them; in a smaller one each pixel is the mean of points in its area. Fully transparent pixels are black.
    """

    def __init__(self, compressed: Compressed, name: str) -> None:
        channels = check_synthesis(compressed, name)
        self.backend = get_backend("numpy")
        self.compressed = compressed
        size = compressed.height, compressed.width
        self.signal = SignalFacts(size, channels, compressed.bit_depth, name)

    def __repr__(self) -> str:
        return f"<CompressedPicture of {escaped(self.title)}>"

    def __reduce__(self) -> tuple[type[Self], tuple[Compressed, str]]:
        return type(self), (self.compressed, self.signal.name)

    @property
    def title(self) -> str:
        """The picture and the number of its latents in one line."""
        own = self.signal
        return f"{own.name}, {own.width}x{own.height}: a pyramid of {self.num_parameters:,d} numbers"

    @property
    def num_parameters(self) -> int:
        """Number of latents, and of weights of the decoder network."""
        latents = sum(level.size for level in self.compressed.latents)
        return latents + sum(array.values.size for array in self.compressed.synthesis)

    def save(self, path: FilePath) -> None:
        """Write the file, atomically; OutputError if it cannot be written."""
        save(path, self.compressed)

    @property
    def multiplications_per_pixel(self) -> float:
        """Multiplications of drawing: four weights each way for a latent, and the decoder network."""
        skip, _, first, _, last = (array.values.shape for array in self.compressed.synthesis)
        networks = float(math.prod(skip) + math.prod(first) + math.prod(last))
        height, levels = self.signal.height, self.compressed.latents[1:]
        return networks + math.fsum(4.0 * len(level) * (1 + level.shape[1] / height) for level in levels)

    def levels(self) -> Levels:
        """Return the picture's own levels (H, W, C), uint8 or uint16."""
        return np.concatenate([*map(_without_hidden, synthesised_rows(self.compressed, self.signal.grid))])

    def render_rows(self, grid: SampleGrid) -> Iterator[NDArray[np.floating]]:
        """Yield whole rows (n, width, C) in [0, 1] of a grid from the top, in parts of bounded size."""
        down, across = (
            math.ceil(own / full) for own, full in zip(self.signal.size, grid.full_shape, strict=True)
        )
        yield from map(_without_hidden, mean_rows(self._points, grid, down, across))

    def _points(self, grid: SampleGrid) -> Iterator[NDArray[np.floating]]:
        return map(to_pixels, synthesised_rows(self.compressed, grid))


def _without_hidden(colours: NDArray[Any]) -> NDArray[Any]:
    """Return colours (n, W, C), those of fully transparent pixels 0."""
    if colours.shape[2] in (2, 4):
        colours[colours[..., -1] == 0] = 0
    return colours
