"""Choose tiles and their networks: by `auto`, by the size of a tile, or by a number of parameters.

Shapes are measured by `python -m bench.tiles`; sigma is in cycles per side of a tile.
"""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..components import name_of
from ..config import STORED, FitConfig, make_config, recipe_settings
from ..encoders.registry import encoding_class
from ..errors import ConfigError
from ..signals.signal import Signal
from .layout import TileLayout
from .network import TileNetwork

# `auto` cuts pictures of more pixels into tiles; for others one network is fast and has fewer parameters.
AUTO_PIXELS = 256 * 256
OVERLAP = 2
LEAST_TILE, MOST_TILE = 4, 256

MEMORISE = "memorise"
"""The recipe of the networks of tiles, whose name asks for tiles."""

# Defaults if training does not see all pixels: the best network to memorise does not interpolate best. On two
# photographs at 96x96 with missing pixels, words or lines, a fourth layer, a lower sigma and smaller weights
# (`group.RIDGE_BETWEEN`) together gain 0.6 dB over three layers and an 18th (from -0.1 to 1.8 dB).
_BETWEEN_PIXELS: Mapping[str, Any] = {"depth": 4, "steps": 200}
# Sigma as a share of the training pixels along the side of a tile.
_SIGMA_SHARE = 1 / 30

# Settings that describe neither a network nor its training: with them `auto` may still choose tiles.
_NEUTRAL = frozenset({"target_psnr", "seconds", "seed", "dtype", "size", "background"})


@dataclass(frozen=True)
class Shape:
    """The size of a tile and its network."""

    tile: int
    num_frequencies: int
    hidden_size: int
    sigma: float


# From the most parameters for each colour value to the fewest.
SHAPES = (
    Shape(8, 16, 48, 1.0),
    Shape(8, 16, 32, 1.0),
    Shape(16, 24, 64, 1.5),
    Shape(24, 24, 48, 2.0),
    Shape(32, 32, 48, 2.5),
    Shape(48, 48, 48, 3.5),
    Shape(64, 48, 48, 4.5),
)
# The shape of `auto`. With fewer parameters 40 dB take half as long again; with more, models are larger still.
# It suits grey pictures too: with half of the parameters, 40 dB take 2.5 to 4 times as many steps.
DEFAULT_SHAPE = SHAPES[0]


@dataclass(frozen=True)
class TileOptions:
    """The options of tiles, by their names in `coordfit.fit` and on the command line."""

    tiles: str | int | None = None
    """`auto`, `none`, or the side of a tile; None is `auto` with a budget or `memorise`, and else `none`."""
    budget_parameters: int | None = None
    every_tile: bool = False
    stored: str = STORED[0]

    def __post_init__(self) -> None:
        if self.stored not in STORED:
            raise ConfigError(f"stored must be one of {', '.join(STORED)}, not {self.stored!r}")

    def plan(
        self,
        signal: Signal,
        settings: Mapping[str, Any],
        *,
        recipe: str | None = None,
        spacing: float | None = None,
    ) -> TilePlan | str:
        """Return `plan_tiles` of these options; ConfigError for `every_tile` without tiles or a target."""
        budget = self.budget_parameters
        request = self.tiles or ("none" if budget is None and recipe != MEMORISE else "auto")
        plan = plan_tiles(signal, request, settings, recipe=recipe, budget=budget, spacing=spacing)
        if self.every_tile and isinstance(plan, str):
            raise ConfigError(f"every_tile needs tiles, and there are none: {plan}")
        if self.every_tile and isinstance(plan, TilePlan) and plan.config.target_psnr is None:
            raise ConfigError("every_tile needs target_psnr")
        return plan


TILE_OPTIONS = tuple(spec.name for spec in dataclasses.fields(TileOptions))


@dataclass(frozen=True)
class TilePlan:
    """The tiles of a picture, the settings of their networks, and the reason in one line."""

    layout: TileLayout
    config: FitConfig
    reason: str

    @property
    def words(self) -> str:
        """The choice and its reason, in one line."""
        config, layout = self.config, self.layout
        return (
            f"{layout.title}, each with {config.num_frequencies} "
            f"frequencies and {config.hidden_size} units: {self.reason}"
        )

    def facts(self, signal: Signal, *, every_tile: bool, stored: str) -> dict[str, Any]:
        """Return the facts that identify a run beside its settings, for JSON."""
        return {
            "tile": self.layout.tile,
            "overlap": self.layout.overlap,
            "every_tile": every_tile,
            "stored": stored,
            "picture_digest": signal.digest,
        }


def plan_tiles(
    signal: Signal,
    request: str | int,
    settings: Mapping[str, Any],
    *,
    recipe: str | None = None,
    budget: int | None = None,
    spacing: float | None = None,
) -> TilePlan | str:
    """Return the tiles of a picture, or the reason why one network learns all of it.

    Parameters
    ----------
    request : "auto", "none", or the side of a tile in pixels
    settings : mapping
        The settings that were given, without defaults.
    budget : int, optional
        The most parameters of all networks together.
    spacing : float, optional
        The mean distance of known pixels, if there is a mask (`mean_spacing`).

    Raises
    ------
    ConfigError
        Tiles were asked for and do not work with these settings.
    """
    if request not in ("auto", "none") and not isinstance(request, numbers.Integral):
        raise _wrong_side(request)
    if request == "none":
        if budget is not None:
            raise ConfigError("budget_parameters chooses among tiles; leave tiles=none out")
        if recipe == MEMORISE:
            raise ConfigError(f"the recipe {recipe!r} is of tiles; leave tiles=none out")
        return "tiles were not asked for"
    tile = None if request == "auto" else int(request)
    if spacing is None:
        spacing = 2.0 if settings.get("train_on", "all") == "every-second" else 1.0
    if tile is None and budget is None and (reason := _why_one_network(signal, settings, recipe, spacing)):
        return reason
    _check_settings(settings, recipe)
    if budget is not None:
        return _within(signal, budget, settings, tile, spacing)
    if tile is None and recipe == MEMORISE:
        return _plan(signal, DEFAULT_SHAPE, settings, "the recipe 'memorise'", spacing)
    if tile is None:
        reason = f"{len(signal.grid):,d} pixels are more than one network learns in seconds"
        return _plan(signal, DEFAULT_SHAPE, settings, reason, spacing)
    return _plan(signal, _shape_for(tile), settings, "as asked for", spacing)


def _shape_for(tile: int) -> Shape:
    """Return the shape for tiles of this side: with the network of the next larger size in the table."""
    if not LEAST_TILE <= tile <= MOST_TILE:
        raise _wrong_side(tile)
    nearest = next((shape for shape in SHAPES if shape.tile >= tile), SHAPES[-1])
    return Shape(tile, nearest.num_frequencies, nearest.hidden_size, nearest.sigma)


def _wrong_side(asked: object) -> ConfigError:
    return ConfigError(f"tiles must be auto, none, or a side of {LEAST_TILE} to {MOST_TILE}, not {asked!r}")


def _why_one_network(signal: Signal, settings: Mapping[str, Any], recipe: str | None, spacing: float) -> str:
    """Return why `auto` leaves a picture whole; empty if it does not."""
    if recipe == MEMORISE:
        return ""
    if len(signal.grid) <= AUTO_PIXELS:
        return f"the picture has {AUTO_PIXELS:,d} pixels or fewer"
    if spacing > 1.0:
        return "one network fills pixels that it has not seen as well as tiles do, or better"
    named = sorted(set(settings) - _NEUTRAL - {"train_on"})
    if recipe is not None:
        return f"the recipe {recipe!r} is for one network"
    if named:
        return f"{named[0]} was given, which is taken to be for one network; name a size of tiles for them"
    return ""


def _check_settings(settings: Mapping[str, Any], recipe: str | None) -> None:
    """Raise ConfigError for settings that tiles do not support."""
    if recipe not in (None, MEMORISE):
        raise ConfigError(f"the recipe {recipe!r} is for one network; leave it out, or take tiles=none")
    if settings.get("batch_size") is not None:
        raise ConfigError("a step of tiles takes all their pixels; leave batch_size out, or take tiles=none")
    if settings.get("epochs") is not None:
        raise ConfigError("an epoch of tiles is a step; give steps instead of epochs, or take tiles=none")
    if encoding_class(_encoding(settings)).learns:
        raise ConfigError(f"the encoding {name_of(_encoding(settings))} is for one network; take tiles=none")
    if settings.get("sigma") == "auto":
        raise ConfigError("sigma=auto is for one network; give a number of cycles per tile, or take tiles=none")


def _encoding(settings: Mapping[str, Any]) -> Any:
    """Return the encoding that is asked for, or the default."""
    return make_config({name: settings[name] for name in ("encoding",) if name in settings}).encoding


def _plan(signal: Signal, shape: Shape, settings: Mapping[str, Any], reason: str, spacing: float) -> TilePlan:
    of_shape = {
        "num_frequencies": shape.num_frequencies,
        "hidden_size": shape.hidden_size,
        "sigma": shape.sigma,
    }
    layout = TileLayout(signal.shape, shape.tile, min(OVERLAP, shape.tile // 2))
    defaults = recipe_settings(MEMORISE)
    if spacing > 1.0:
        defaults |= _BETWEEN_PIXELS
        of_shape["sigma"] = round(_SIGMA_SHARE * layout.side / spacing, 3)
    of_shape["sigma"] *= encoding_class(_encoding(settings)).sigma_times
    config = make_config(defaults, of_shape, settings)
    return TilePlan(layout, config, reason)


def _within(
    signal: Signal, budget: int, settings: Mapping[str, Any], tile: int | None, spacing: float
) -> TilePlan:
    """Return the plan with the most parameters within a budget."""
    values = len(signal.grid) * signal.channels
    fewest = 0
    for shape in SHAPES:
        if tile is not None and shape.tile != tile:
            continue
        reason = f"at most {budget:,d} parameters, {budget / values:.2f} for each colour value"
        plan = _plan(signal, shape, settings, reason, spacing)
        fewest = (
            len(plan.layout)
            * TileNetwork.drawn(plan.config, signal.channels, len(signal.shape)).layout.num_parameters
        )
        if fewest <= budget:
            return plan
    raise ConfigError(f"budget_parameters {budget} is too small for this picture: tiles need {fewest} at least")
