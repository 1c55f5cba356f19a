"""`fit`: from a picture to a model, within a budget of steps, epochs, seconds or PSNR."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from ..fit_options import AllOptions, RecipeName
from ..images import MAX_PIXELS, load_picture
from .jobs.plan import plan, plan_fit, settled
from .jobs.settings import Keywords, Settings

if TYPE_CHECKING:
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
    max_pixels: int = MAX_PIXELS,
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
    max_pixels : int
        Refuse a larger picture, before it is decoded.
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
    """
    keywords = Keywords.split(options)
    settings = Settings.given(keywords.settings, recipe, config)
    asked = settings.config
    picture = load_picture(image, size=asked.size, background=asked.background, max_pixels=max_pixels)
    more: dict[str, Any] = {"known": known, "weights": weights, "average": average}
    if config is None:
        made = plan_fit(picture, settings, keywords.tiles, keywords.device, **more)
    else:
        made = plan(picture, settings, keywords.tiles, **more)
    backend = made.device(keywords.device).make()
    job, _ = settled(made, backend)
    return job.run(backend, callback)
