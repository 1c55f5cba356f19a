"""`fit`: from a picture to a model, within a budget of steps, epochs, seconds or PSNR."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Unpack

from .._backends import get_backend
from ..config import FitConfig, make_config
from ..errors import ConfigError
from ..fit_options import FitOptions, FusedMode, Precision, RecipeName, Tiles
from ..images import MAX_PIXELS, load_picture
from ..training.job import Job
from ..training.trainer import fit_alone

if TYPE_CHECKING:
    from ..tiles.fit import TiledResult
    from ..training.result import FitResult


def fit(
    image: Any,
    config: FitConfig | None = None,
    *,
    recipe: RecipeName | None = None,
    device: str = "auto",
    threads: int | None = None,
    fused: FusedMode = "auto",
    precision: Precision = "float32",
    callback: Callable[[Any], bool | None] | None = None,
    tiles: Tiles = "auto",
    every_tile: bool = False,
    budget_parameters: int | None = None,
    max_pixels: int = MAX_PIXELS,
    **options: Unpack[FitOptions],
) -> FitResult | TiledResult:
    """Fit a coordinate network to a picture, or one to each tile of a large one.

    Parameters
    ----------
    image : path, PIL image, or array
        An array is (H, W) or (H, W, C): uint8, uint16, or float in [0, 1].
    config : FitConfig, optional
        All settings at once, instead of `recipe` and `options`.
    recipe : str, optional
        A named set of settings that `options` then change; see `coordfit.config.RECIPES`.
    device : str
        `auto`, `cpu`, `gpu`, `gpu:N`; `auto` alone may fall back to the CPU.
    threads : int, optional
        Worker threads on the CPU.
    fused : {"auto", "always", "never"}
        See `backends.Backend`.
    precision : {"float32", "tf32", "bf16", "fp16"}
        Of matrix products on a GPU; the CPU has float32 alone. See `backends.get_backend`.
    callback : callable, optional
        Told of the progress; returning True ends the run. See `Progress`.
    tiles : {"auto", "none"} or int
        The side of a tile in pixels; `auto` cuts pictures of more than 256x256 where no option speaks of one
        network, and leaves them whole where a `config` is given.
    every_tile : bool
        Whether `target_psnr` is for each tile, and not for the picture alone.
    budget_parameters : int, optional
        Choose tiles and networks that have so many parameters at most, all together.
    max_pixels : int
        Refuse a larger picture, before it is decoded.
    **options
        Fields of `FitConfig`, e.g. `encoding="gaussian", sigma=10, target_psnr=40`.

    Returns
    -------
    FitResult
        Reconstruction, metrics, history and model. `result.stopped` says what ended the run.

    Raises
    ------
    ConfigError, PictureError, DeviceUnavailableError
    """
    if config is not None and (options or recipe):
        raise ConfigError("give either a config, or a recipe and options, not both")
    settings = config if config is not None else make_config(options, recipe=recipe)
    picture = load_picture(image, size=settings.size, background=settings.background, max_pixels=max_pixels)
    backend = get_backend(device, fused=fused, threads=threads, precision=precision)
    if config is None or tiles not in ("auto", "none") or budget_parameters is not None:
        from ..tiles.fit import TiledFit
        from ..tiles.plan import TilePlan, plan_tiles

        asked = options if config is None else config.as_dict()
        plan = plan_tiles(picture, tiles, asked, recipe=recipe, budget=budget_parameters)
        if isinstance(plan, TilePlan):
            return TiledFit(picture, plan, backend, every_tile=every_tile).run(callback)
    if every_tile:
        raise ConfigError("every_tile needs tiles; name their size, e.g. tiles=8")
    if settings.sigma == "auto":
        from .sigma import with_sigma

        settings = with_sigma(Job(picture, settings), backend)
    return fit_alone(Job(picture, settings), backend, callback)
