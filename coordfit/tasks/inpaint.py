"""`inpaint`: known pixels of a picture fill its hidden ones, and are scored on them.

Kriging does it by default: it needs no training, and is ahead of a network (docs/results.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

from ..config import FitConfig
from ..errors import ConfigError
from ..fit_options import AllOptions, FillingMethod, RecipeName
from ..images import Source, load_picture
from ..images.masks import Block, MaskedPicture, hide
from ..training.state import Callback
from .filling.kriging import KrigingResult, fill_by_kriging
from .filling.network import DEFAULTS, Inpainter, InpaintResult, inpainting_config, plan_inpainting
from .jobs.plan import settled
from .jobs.settings import Keywords, Settings

OF_ANY_METHOD = {"size", "background", "seed", "threads", "device", "fused", "precision"}
"""Options that do not choose a network."""


class HidingOptions(TypedDict, total=False):
    """What hides pixels.

    `invert_mask` hides what is white in the mask, and not what is black; `mask_threshold`, from 0 to 1, is the
    level from which on a grey pixel of a soft mask is white, half by default. `truth`, the undamaged picture,
    scores what fills a mask or transparent pixels; training does not see it. `missing` hides this share of the
    pixels, drawn from the seed, `text` words written across the picture, `scribble` lines drawn from the seed,
    and `block` a rectangle (x, y, width, height) in pixels.
    """

    invert_mask: bool
    mask_threshold: float | None
    truth: Source | None
    missing: float | None
    text: str | None
    scribble: bool
    block: Block | None


class InpaintOptions(AllOptions, HidingOptions, total=False):
    """All keywords of an inpainting."""


def inpaint(
    image: Source,
    mask: Source | None = None,
    *,
    method: FillingMethod | None = None,
    average: int = 1,
    config: FitConfig | None = None,
    recipe: RecipeName | None = None,
    callback: Callback | None = None,
    **options: Unpack[InpaintOptions],
) -> InpaintResult | KrigingResult:
    """Fill the hidden pixels of a picture from the known ones.

    Parameters
    ----------
    image : path, PIL image, or array
        As `coordfit.fit` takes it.
    mask : path, PIL image, or boolean array (H, W), optional
        White, or True, is known; black, or False, is hidden, and taken for damage: the filling is not scored.
        Without any mask, transparent pixels are hidden.
    method : {"kriging", "network"}, optional
        By default kriging, or a network if an option of one is given.
    average : int
        Of how many networks of different seeds, trained as one batch, the mean is taken: `result.deviation` is
        the standard deviation of them.
    config, recipe, callback
        As `coordfit.fit` takes them, for a network. Rows hold no figure that needs unknown colours.
    **options
        What hides pixels, see `HidingOptions`: `invert_mask`, `mask_threshold`, `truth`, `missing`, `text`,
        `scribble`, `block`. And all that `coordfit.fit` takes: fields of `FitConfig` over `DEFAULTS`, and sigma
        follows the density of the known pixels by default; `tiles="auto"` is one network, which fills better.

    Returns
    -------
    KrigingResult or InpaintResult
        The first by kriging, the second by a network. Both have `filled`, the picture (H, W, C) in [0, 1] with
        known pixels as they are; `mask` (H, W), True where a pixel is known; `metrics`, a dict with
        `hidden_pixels`, `seconds` and, if true colours are known, `psnr_hidden`; and `comparison()`, a picture
        of them. `deviation` is a standard deviation: (H, W) by kriging, as it estimates it, or (H, W, C) of the
        networks with `average` above 1, else None. An `InpaintResult` is also a `FitResult`, with a `model`.

    Raises
    ------
    ConfigError, PictureError, DeviceUnavailableError
    """
    hiding = {name: options.pop(name) for name in _HIDING if name in options}  # type: ignore[misc]
    of_network = [name for name in options if name not in OF_ANY_METHOD]
    others = {"config": config, "recipe": recipe, "callback": callback, "average": average > 1 or None}
    of_network += [name for name, value in others.items() if value is not None]
    keywords = Keywords.split(options, tiles="auto")
    asked = inpainting_config(keywords.settings, recipe=recipe) if config is None else config
    masked = hidden(image, mask, asked, hiding)
    if chosen_method(method, of_network) == "kriging":
        result = fill_by_kriging(masked, keywords.device.threads)
        assert result is not None  # nothing ends it
        return result
    settings = Settings.given(keywords.settings, recipe, config, DEFAULTS)
    backend = keywords.device.make()
    job = plan_inpainting(masked, settings, keywords.tiles, average)
    return Inpainter(masked, settled(job, backend)[0], backend).run(callback)


def chosen_method(method: FillingMethod | None, of_network: Sequence[str]) -> FillingMethod:
    """Return the method; without one, a network if options of it are given. ConfigError if they do not fit."""
    if method == "kriging" and of_network:
        raise ConfigError(f"{of_network[0]} is of a network, and kriging has none: leave it out, or the method")
    if method not in ("kriging", "network", None):
        raise ConfigError(f"method must be kriging or network, not {method!r}")
    return method or ("network" if of_network else "kriging")


_HIDING = tuple(HidingOptions.__annotations__)


def hidden(
    image: Source, mask: Source | None, config: FitConfig, hiding: Mapping[str, Any], load: Any = load_picture
) -> MaskedPicture:
    """Load a picture at the size that is asked for, and hide its pixels by `HidingOptions`."""
    truth = hiding.get("truth")
    words = {"invert_mask": "invert", "mask_threshold": "threshold"}
    return hide(
        load(image, size=config.size, background=config.background),
        mask=mask,
        truth=None if truth is None else load(truth, size=config.size, background=config.background),
        seed=config.seed,
        **{words.get(name, name): value for name, value in hiding.items() if name != "truth"},
    )
