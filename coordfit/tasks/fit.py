"""`fit`: from a picture to a model, within a budget of steps, epochs, seconds or PSNR."""

from __future__ import annotations

import dataclasses
import os
from os import PathLike
from typing import TYPE_CHECKING, Any, Unpack

from ..callbacks import CallbackList
from ..fit_options import AllOptions, RecipeName
from ..images import MAX_PIXELS
from ..live.notebook import NotebookView
from .folders.folder_fit import Files, fit_in
from .folders.resume import Asked
from .jobs.settings import Keywords, Settings

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from ..config import FitConfig
    from ..training.result import FitResult
    from ..training.state import Callback


def fit(
    image: Any,
    config: FitConfig | None = None,
    *,
    recipe: RecipeName | None = None,
    callback: Callback | None = None,
    known: NDArray[np.bool_] | None = None,
    weights: ArrayLike | None = None,
    average: int = 1,
    executor: Executor | None = None,
    live: bool = False,
    max_pixels: int = MAX_PIXELS,
    out: str | PathLike[str] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    **options: Unpack[AllOptions],
) -> FitResult:
    """Fit a function to a picture: a network, one for each tile, or a pyramid of few bits.

    Pictures of more than 256x256 pixels, with nothing asked for but budgets, a target, a seed, a size or a
    background, are learned by the recipe `compact`; with other settings of a network, by one network. The
    recipe `memorise` learns them by tiles.

    Parameters
    ----------
    image : path, PIL image, or array
        An array is (H, W) or (H, W, C): uint8, uint16, or float in [0, 1].
    config : FitConfig, optional
        All settings at once, instead of `recipe` and settings by name.
    recipe : str, optional
        A named set of settings that those by name then change; see `coordfit.config.RECIPES`.
    callback : callable, optional
        Told of the progress; returning True ends the run. See `Progress`.
    known : boolean array (H, W), optional
        The pixels that training may see; the others are held out.
    weights : array (H, W), optional
        How much each pixel counts in training, 0 or more, relative to the others; figures count all alike.
    average : int
        Of how many networks of different seeds, trained as one batch, the mean is taken: `result.deviation` is
        the standard deviation of them.
    executor : concurrent.futures.Executor, optional
        Trains chunks of tiles, in processes or on a cluster; see `sweep`. The callback is told of each chunk.
    live : bool
        Whether a notebook shows picture, figures and curve while they change. Elsewhere, see `LiveView`.
    max_pixels : int
        Refuse a larger picture, before it is decoded.
    out : path, optional
        A folder for the files of `coordfit fit --out DIR`, a checkpoint every half minute among them.
    overwrite, resume : bool
        Whether a run in `out` is replaced, or continued: bit for bit as if it had never stopped, with the same
        picture and settings, but for budgets.
    **options
        Fields of `FitConfig`, e.g. `encoding="gaussian", sigma=10, target_psnr=40`; where it runs:
        `device`, `threads`, `fused`, `precision`, see `DeviceOptions`; and `tiles`, `every_tile`,
        `budget_parameters`, see `TileKeywords`; with a `config` pictures are left whole by default.

    Returns
    -------
    FitResult
        Reconstruction, metrics, history and model. `result.stopped` says what ended the run.

    Raises
    ------
    ConfigError, PictureError, DeviceUnavailableError
    OutputError
        `out` cannot be written, or holds a run that is neither replaced nor continued.
    """
    keywords = Keywords.split(options)
    settings, tiles = Settings.given(keywords.settings, recipe, config), keywords.tiles
    if config is not None and tiles.tiles is None and tiles.budget_parameters is None:
        tiles = dataclasses.replace(tiles, tiles="none")
    limit = None if max_pixels == MAX_PIXELS else max_pixels
    asked = Asked(path_of(image), settings, tiles, limit, None if average == 1 else average)
    files = Files(out, overwrite, resume)
    view = NotebookView() if live else None
    callbacks = [each for each in (view, callback) if each is not None]
    told = CallbackList(callbacks) if callbacks else None
    result = fit_in(files, asked, image, keywords.device, told, executor, known=known, weights=weights)
    if view is not None:
        view.end(result)
    return result


def path_of(image: Any) -> str | None:
    """Return the path of a picture that is a file."""
    return os.fspath(image) if isinstance(image, str | PathLike) else None
