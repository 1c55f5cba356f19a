"""Turn pixel centres of a picture of any size, or of a crop, into coordinates.

Coordinates are `(i + 0.5) / longer side`, x to the right and y down, so that frequencies are cycles per longer
side for any shape. A rendering at another size covers the same field of view.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PixelGrid:
    """The pixels of a picture, or of a crop of its rendering, row by row from the top left.

    Parameters
    ----------
    height, width : int
        Of the grid, in pixels.
    extent_y, extent_x : float
        The span of the whole rendering in coordinates: 1 along the picture's longer side.
    full_height, full_width : int
        Of the whole rendering, in pixels.
    top, left : int
        The grid's first pixel in the whole rendering.
    """

    height: int
    width: int
    extent_y: float
    extent_x: float
    full_height: int
    full_width: int
    top: int = 0
    left: int = 0

    @classmethod
    def of_picture(cls, height: int, width: int) -> PixelGrid:
        """Return the grid of a picture's own pixels."""
        longer = max(height, width)
        return cls(height, width, height / longer, width / longer, height, width)

    def resized(self, height: int, width: int) -> PixelGrid:
        """Return the same field of view with other numbers of pixels."""
        return PixelGrid(height, width, self.extent_y, self.extent_x, height, width)

    def cropped(self, left: int, top: int, width: int, height: int) -> PixelGrid:
        """Return a window of this grid, in its pixels; ValueError unless it lies inside."""
        inside = min(left, top) >= 0 and left + width <= self.width and top + height <= self.height
        if not inside or width < 1 or height < 1:
            raise ValueError(
                f"the crop {width}x{height} at ({left}, {top}) does not lie inside {self.width}x{self.height}"
            )
        return replace(self, height=height, width=width, top=self.top + top, left=self.left + left)

    @property
    def x_step(self) -> float:
        """Return the distance of neighbouring columns in coordinates."""
        return self.extent_x / self.full_width

    @property
    def y_step(self) -> float:
        """Return the distance of neighbouring rows in coordinates."""
        return self.extent_y / self.full_height

    def __len__(self) -> int:
        """Return the number of pixels."""
        return self.height * self.width

    def axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the x of each column (width,) and the y of each row (height,)."""
        columns = np.arange(self.width, dtype=np.float64) + (self.left + 0.5)
        rows = np.arange(self.height, dtype=np.float64) + (self.top + 0.5)
        return np.multiply(columns, self.x_step), np.multiply(rows, self.y_step)

    def coordinates(self, pixels: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return coordinates (N, 2), columns x and y, of pixels (N,) counted row by row."""
        rows, columns = np.divmod(pixels, self.width)
        x, y = self.axes()
        return np.stack([x[columns], y[rows]], axis=-1)
