"""Fill hidden pixels by a network that learns the known ones, or by one for each tile."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...backends import Backend
from ...config import BUDGETS, FitConfig
from ...encoders.registry import encoding_class
from ...errors import ConfigError
from ...images import Picture
from ...images.interpolation import mean_spacing
from ...images.masks import Mask, MaskedPicture
from ...tiles.fit import TiledResult
from ...tiles.model import TiledModel
from ...tiles.plan import TileOptions
from ...training.member import HistoryRow
from ...training.result import FitResult
from ...training.state import Callback, Progress
from ..jobs.plan import AnyJob, plan
from ..jobs.settings import Settings
from .figures import Pixels, filling_figures, sheet

if TYPE_CHECKING:
    from PIL import Image

    from ...report.streamed_comparison import RunningComparison

# Measured on four photographs at 128x128 with half of the pixels hidden. Of depth, width, frequencies, sigma,
# rate and loss, depth and sigma matter: each layer from 3 to 6 gains on hidden pixels, 2 dB in all, where twice
# the width or the frequencies gain 0.3. Muon, the default of every fit, gains half a decibel over 1500 steps of
# Adam, and loses 0.2 to 0.4 with few known pixels (64x64).
DEFAULTS: Mapping[str, Any] = {"depth": 6}

# Sigma as a share of the rate at which known pixels sample the picture: with half of 128x128 hidden 3 is best,
# with nine tenths 1 to 1.5, with half of 256x256 5. The positional encoding's highest frequency is more.
_SIGMA_SHARE = {"gaussian": 1 / 30, "positional": 1 / 12}

# Fewer known pixels are sooner learned by heart, and hidden ones are the worse for it: with 2048 of camera 300
# steps have 24.94 dB and 600 have 24.69, with 410 of coffee 150 have 20.04, 300 have 19.73 and 600 have 19.42.
_ENOUGH_KNOWN = 8192


@dataclass(frozen=True, kw_only=True, repr=False)
class InpaintResult(FitResult):
    """A finished inpainting: a fit of the known pixels, and the picture with the hidden ones filled.

    Attributes
    ----------
    metrics : dict
        Those of a fit, and `psnr_hidden`, `psnr_hidden_nearest`, `psnr_hidden_biharmonic` (dB, hidden pixels
        alone), `ssim_filled`, `ssim_nearest`, `ssim_biharmonic` (whole pictures, known pixels as they were),
        `known_pixels`, `hidden_pixels`, `hidden_share`, `spacing`, `sigma`, `hiding`, `inpainting_notes`. What
        needs true colours of hidden pixels is None where there are none. A mean of networks also has those of
        a deviation, as kriging does; see `KrigingResult`.
    known : boolean array (H, W)
        True is known, False is hidden.
    has_truth : bool
        Whether the hidden pixels of `picture` are true colours.
    hiding : str
        What hid the pixels, for people.
    """

    signal: Picture
    known: Mask
    has_truth: bool
    hiding: str

    @property
    def mask(self) -> Mask:
        """Return the mask (H, W): True is known, False is hidden."""
        return self.known

    @functools.cached_property
    def filled(self) -> Pixels:
        """Return the picture (H, W, C) in [0, 1]: known pixels as they are, hidden ones by the network."""
        filled = np.where(self.mask[:, :, None], self.signal.pixels, self.reconstruction)
        return filled.astype(np.float32)

    @property
    def masked(self) -> MaskedPicture:
        """Return the picture and its mask."""
        return MaskedPicture(self.signal, self.known, self.has_truth, self.hiding)

    def comparison(self, seen: RunningComparison | None = None) -> Image.Image:
        """Draw truth, mask, filled and the error of hidden pixels; damaged, mask and filled without a truth."""
        return sheet(self.masked, self.filled, self._title(), self.metrics)


@dataclass(frozen=True, kw_only=True, repr=False)
class TiledInpaintResult(InpaintResult, TiledResult):
    """A finished inpainting by tiles; an interrupted one has neither figures nor a picture."""

    model: TiledModel

    def _title(self) -> str:
        # Without the encoding: what hid the pixels has to find room too.
        return f"{self.signal.name}, {self.signal.width}x{self.signal.height}: {self.model.layout.title}"


def plan_inpainting(masked: MaskedPicture, settings: Settings, tiles: TileOptions, average: int = 1) -> AnyJob:
    """Plan the training of the known pixels.

    A sigma that is not given follows their density; see `mean_spacing`.
    """
    job = plan(masked.picture, settings, tiles, known=masked.known, average=average)
    return job.with_config(_with_sigma(job.config, masked))


def inpainting_config(*layers: Mapping[str, Any], recipe: str | None = None) -> FitConfig:
    """Return the settings of one network: `DEFAULTS` below the layers, or a recipe if one is named."""
    config = Settings(layers, recipe, DEFAULTS).config
    if config.train_on != "all":
        raise ConfigError("train_on has no meaning where a mask says which pixels are known; leave it out")
    return config


def _with_sigma(config: FitConfig, masked: MaskedPicture) -> FitConfig:
    """Return settings with sigma, or a grid's spacing, from the density of known pixels, if none is given."""
    if config.encoding not in _SIGMA_SHARE:
        of_encoding = encoding_class(config.encoding).settings_for_spacing(config, mean_spacing(masked.known))
        return config.replace(**of_encoding)
    if config.sigma is not None:
        return config
    rate = max(masked.known.shape) / mean_spacing(masked.known)  # known pixels along the longer side
    return config.replace(sigma=max(0.5, round(_SIGMA_SHARE[config.encoding] * rate, 2)))


def _with_steps(config: FitConfig, masked: MaskedPicture) -> FitConfig:
    """The settings with fewer steps where few pixels are known and no budget is given."""
    known = int(np.count_nonzero(masked.known))
    if known >= _ENOUGH_KNOWN or any(getattr(config, name) is not None for name in BUDGETS):
        return config
    share = math.sqrt(known / _ENOUGH_KNOWN)
    return config.replace(steps=max(1, round(share * config.resolved_steps(known))))


class Inpainter:
    """One inpainting: a fit that sees known pixels alone, and what is told of the hidden ones.

    Parameters
    ----------
    job : NetworkJob or TiledJob
        As `plan_inpainting` makes it, with a number for sigma. It gets fewer steps if few pixels are known and
        no budget is given.
    """

    def __init__(self, masked: MaskedPicture, job: AnyJob, backend: Backend) -> None:
        self.masked, self.job = masked, job.with_config(_with_steps(job.config, masked))
        self.fit = self.job.begin(backend)

    def run(self, callback: Callback | None = None) -> InpaintResult:
        """Train until a budget is spent or the callback returns True; then fill and score."""
        with_truth = self.masked.has_truth

        def tell(progress: Progress) -> bool:
            row = progress.row and _told(progress.row, with_truth)
            return callback is not None and bool(callback(progress.with_row(row)))

        made = self.fit.run(tell)
        result = _KINDS[type(made)](**_facts(made, self.masked))
        if result.metrics:  # tiles that were interrupted have neither figures nor a picture
            result.metrics.update(_figures(result))
            for name in () if with_truth else ("within_1", "within_2"):
                result.metrics.pop(name, None)
        return result


_KINDS: Mapping[type[FitResult], type[InpaintResult]] = {
    FitResult: InpaintResult,
    TiledResult: TiledInpaintResult,
}


def _facts(fit: FitResult, masked: MaskedPicture) -> dict[str, Any]:
    """Return what an inpainting has from its fit and from its mask."""
    facts = {spec.name: getattr(fit, spec.name) for spec in dataclasses.fields(fit)}
    history = [_told(row, masked.has_truth) for row in fit.history]
    if fit.state is not None:
        facts["state"] = dataclasses.replace(fit.state, history=list(history))
    own = {"known": masked.known, "has_truth": masked.has_truth, "hiding": masked.hiding}
    return facts | own | {"history": history}


def _told(row: HistoryRow, has_truth: bool) -> HistoryRow:
    """Return a row of the history, without figures of hidden pixels if there is no truth."""
    return row if has_truth else row | {"psnr": None, "psnr_held_out": None}


def _figures(result: InpaintResult) -> dict[str, Any]:
    """Return what is told of an inpainting beyond the figures of a fit."""
    config = result.config
    figures = {
        "method": "network",
        **filling_figures(result.masked, result.filled),
        "sigma": config.resolved_sigma if config.encoding in _SIGMA_SHARE else None,
        "averaged": result.metrics.get("averaged", 1),
    }
    return figures if result.has_truth else figures | dict.fromkeys(("psnr", "psnr_held_out", "ssim"))
