"""The size of a drawing from --size, --scale and --crop, for all that `coordfit render` draws."""

from __future__ import annotations

from ...models.rendering import Drawable
from ...signals.grid import SampleGrid
from ..option_types import UsageError
from ..options import Options


def shape_of(options: Options, model: Drawable) -> tuple[int, ...]:
    """Return the samples of a whole drawing along each axis; by default those of the signal."""
    shape = model.signal.shape
    if isinstance(options.size, tuple):
        return tuple(options.size[::-1])
    if options.size is None and options.scale is None:
        return shape
    factor = options.scale or options.size / max(shape)
    return tuple(max(1, round(side * factor)) for side in shape)


def grid_of(options: Options, model: Drawable) -> SampleGrid:
    """Return the samples that are drawn; UsageError if they are impossible."""
    try:
        return model.grid(shape=shape_of(options, model), crop=options.crop)
    except ValueError as error:
        raise UsageError(str(error)) from error
