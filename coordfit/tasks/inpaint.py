"""`inpaint`: a network learns the known pixels of a picture and fills the hidden ones.

The loss never sees a hidden pixel. Where the hidden pixels are known after all, the filling is scored on them
alone, beside what the nearest known pixel and biharmonic inpainting give. Where a mask marks damage they are
not known, and nothing is scored.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from .._backends import Backend
from ..config import BUDGETS, FitConfig
from ..encoders.registry import encoding_class
from ..errors import ConfigError
from ..fit_options import AllOptions, RecipeName
from ..images import Source, load_picture
from ..images.interpolation import biharmonic_fill, mean_spacing, nearest_fill
from ..images.masks import TRANSPARENCY, Block, Mask, MaskedPicture, hide
from ..images.metrics import psnr, ssim
from ..report.inpainting import inpainting_picture
from ..tiles.fit import TiledResult
from ..tiles.model import TiledModel
from ..tiles.plan import TileOptions
from ..training.member import HistoryRow
from ..training.result import FitResult
from ..training.state import Callback, Progress
from .job import AnyJob, plan, settled
from .settings import Keywords, Settings

if TYPE_CHECKING:
    from PIL import Image

    from ..report.streamed_comparison import RunningComparison

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

MOST_BIHARMONIC_PIXELS = 40_000  # hidden ones; it solves a sparse system of this many unknowns

Pixels = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, repr=False)
class InpaintResult(FitResult):
    """A finished inpainting: a fit of the known pixels, and the picture with the hidden ones filled.

    Attributes
    ----------
    metrics : dict
        Those of a fit, and `psnr_hidden`, `psnr_hidden_nearest`, `psnr_hidden_biharmonic` (dB, hidden pixels
        alone), `ssim_filled`, `ssim_nearest`, `ssim_biharmonic` (whole pictures, known pixels as they were),
        `known_pixels`, `hidden_pixels`, `hidden_share`, `spacing`, `sigma`, `hiding`, `inpainting_notes`. What
        needs true colours of hidden pixels is None where there are none.
    known : boolean array (H, W)
        True is known, False is hidden.
    has_truth : bool
        Whether the hidden pixels of `picture` are true colours.
    hiding : str
        What hid the pixels, for people.
    """

    known: Mask
    has_truth: bool
    hiding: str

    @property
    def mask(self) -> Mask:
        """The mask (H, W): True is known, False is hidden."""
        return self.known

    @functools.cached_property
    def filled(self) -> Pixels:
        """The picture (H, W, C) in [0, 1] with known pixels kept and hidden ones as the network sees them."""
        guess = np.clip(self.reconstruction, 0.0, 1.0)
        return np.where(self.mask[:, :, None], self.picture.pixels, guess).astype(np.float32)

    def comparison(self, seen: RunningComparison | None = None) -> Image.Image:
        """Draw truth, mask, filled and the error of hidden pixels; damaged, mask and filled without a truth."""
        m, shown = self.metrics, self.picture.pixels
        if self.hiding == TRANSPARENCY and not self.has_truth:
            shown = np.concatenate([shown, self.mask[:, :, None]], axis=2, dtype=np.float32)
        scores = [
            ("hidden pixels", m["psnr_hidden"]),
            ("nearest", m["psnr_hidden_nearest"]),
            ("biharmonic", m["psnr_hidden_biharmonic"]),
        ]
        return inpainting_picture(
            shown,
            self.mask,
            self.filled,
            title=f"{self._title()}; {self.hiding}",
            has_truth=self.has_truth,
            mask_figures=[("hidden", f"{100 * m['hidden_share']:.1f} %")],
            filled_figures=[(name, f"{value:.2f} dB") for name, value in scores if value is not None],
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class TiledInpaintResult(InpaintResult, TiledResult):
    """A finished inpainting by tiles; an interrupted one has neither figures nor a picture."""

    model: TiledModel

    def _title(self) -> str:
        # Without the encoding: what hid the pixels has to find room too.
        return f"{self.picture.name}, {self.picture.width}x{self.picture.height}: {self.model.layout.title}"


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
    average: int = 1,
    config: FitConfig | None = None,
    recipe: RecipeName | None = None,
    callback: Callback | None = None,
    **options: Unpack[InpaintOptions],
) -> InpaintResult:
    """Learn the known pixels of a picture and fill the hidden ones, by one network or by one for each tile.

    Parameters
    ----------
    image : path, PIL image, or array
        As `coordfit.fit` takes it.
    mask : path, PIL image, or boolean array (H, W), optional
        White, or True, is known; black, or False, is hidden, and taken for damage: the filling is not scored.
        Without any mask, transparent pixels are hidden.
    average : int
        Of how many networks of different seeds, trained as one batch, the mean is taken: see `average`.
    config, recipe, callback
        As `coordfit.fit` takes them. A callback's rows hold no figure that needs unknown colours.
    **options
        What hides pixels, see `HidingOptions`: `invert_mask`, `mask_threshold`, `truth`, `missing`, `text`,
        `scribble`, `block`. And all that `coordfit.fit` takes: fields of `FitConfig` over `DEFAULTS`, and sigma
        follows the density of the known pixels by default; `tiles="auto"` is one network, which fills better.

    Raises
    ------
    ConfigError, PictureError, DeviceUnavailableError
    """
    hiding = {name: options.pop(name) for name in _HIDING if name in options}  # type: ignore[misc]
    keywords = Keywords.split(options, tiles="auto")
    settings = Settings.given(keywords.settings, recipe, config, DEFAULTS)
    asked = inpainting_config(keywords.settings, recipe=recipe) if config is None else config
    masked = hidden(image, mask, asked, hiding)
    backend = keywords.device.make()
    job = plan_inpainting(masked, settings, keywords.tiles, average)
    return Inpainter(masked, settled(job, backend)[0], backend).run(callback)


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
        return result


_KINDS: Mapping[type[FitResult], type[InpaintResult]] = {
    FitResult: InpaintResult,
    TiledResult: TiledInpaintResult,
}


def _facts(fit: FitResult, masked: MaskedPicture) -> dict[str, Any]:
    """What an inpainting has from its fit and from its mask."""
    facts = {spec.name: getattr(fit, spec.name) for spec in dataclasses.fields(fit)}
    history = [_told(row, masked.has_truth) for row in fit.history]
    if fit.state is not None:
        facts["state"] = dataclasses.replace(fit.state, history=list(history))
    own = {"known": masked.known, "has_truth": masked.has_truth, "hiding": masked.hiding}
    return facts | own | {"history": history}


def _told(row: HistoryRow, has_truth: bool) -> HistoryRow:
    """A row of the history without the figures that need true colours of hidden pixels, if there are none."""
    return row if has_truth else row | {"psnr": None, "psnr_held_out": None}


def _figures(result: InpaintResult) -> dict[str, Any]:
    """What is said of an inpainting beyond the figures of a fit."""
    known, truth = result.mask, result.picture.pixels
    num_hidden = int(np.count_nonzero(~known))
    figures: dict[str, Any] = {
        "hiding": result.hiding,
        "known_pixels": known.size - num_hidden,
        "hidden_pixels": num_hidden,
        "hidden_share": num_hidden / known.size,
        "spacing": mean_spacing(known),
        "sigma": result.config.resolved_sigma if result.config.encoding in _SIGMA_SHARE else None,
        "averaged": result.metrics.get("averaged", 1),
    }
    if not result.has_truth:
        unknown = ("psnr", "psnr_held_out", "ssim", *_SCORES)
        note = "the true colours of hidden pixels are not known, so the filling has no score"
        return figures | dict.fromkeys(unknown) | {"inpainting_notes": [note]}
    notes: list[str] = []
    fills = {
        ("psnr_hidden", "ssim_filled"): result.filled,
        ("psnr_hidden_nearest", "ssim_nearest"): nearest_fill(truth, known),
        ("psnr_hidden_biharmonic", "ssim_biharmonic"): biharmonic_or_note(truth, known, notes),
    }
    for (hidden_name, ssim_name), filled in fills.items():
        figures[hidden_name] = None if filled is None else psnr(filled, truth, where=~known)
        figures[ssim_name] = None if filled is None else ssim(filled, truth)
    return figures | {"inpainting_notes": notes}


_SCORES = (
    "psnr_hidden",
    "ssim_filled",
    "psnr_hidden_nearest",
    "ssim_nearest",
    "psnr_hidden_biharmonic",
    "ssim_biharmonic",
)


def biharmonic_or_note(pixels: Pixels, known: Mask, notes: list[str]) -> Pixels | None:
    """`biharmonic_fill`, or None and a note where it would take long or scikit-image is not installed."""
    num_hidden = int(np.count_nonzero(~known))
    if num_hidden > MOST_BIHARMONIC_PIXELS:
        notes.append(
            f"no biharmonic fill to compare with: {num_hidden} hidden pixels would take long "
            f"(up to {MOST_BIHARMONIC_PIXELS} are done)"
        )
        return None
    try:
        return biharmonic_fill(pixels, known)
    except ImportError:
        notes.append(
            "no biharmonic fill to compare with: scikit-image is not installed (pip install scikit-image)"
        )
    return None
