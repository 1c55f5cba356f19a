"""The result of a fit: reconstruction, figures, history and model."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray

from ..components import name_of
from ..files import atomic_write, escaped, write_bytes
from ..images import png_bytes, save_picture
from ..images.metrics import bits_per_pixel, interpolate_every_second, psnr
from ..models.deviation import deviation_of
from ..models.model import Model
from ..models.writing import save_rows
from ..network.cost import item_size
from ..pixels.masks import training_mask
from ..report.comparison import comparison_picture
from ..report.curves import save_curves
from ..report.deviation import deviation_sheet
from ..report.notebook import html_of
from ..report.streamed_comparison import RunningComparison
from ..sources.writing import suffix_for, write_array

if TYPE_CHECKING:
    from PIL import Image
    from xarray import DataArray

    from ..backends import Backend
    from ..codec import CompressedPicture
    from ..config import FitConfig
    from ..models.rendering import Crop
    from ..optimizers.last_layer import Polish
    from ..signals.signal import Signal
    from ..tiles.model import TiledModel
    from .evaluation import Evaluator
    from .member import HistoryRow, Member
    from .state import TrainingState


@dataclass(frozen=True, repr=False)
class FitResult:
    """A finished fit: of one network, of tiles, or of few bits.

    Attributes
    ----------
    metrics : dict
        `psnr`, `psnr_train`, `psnr_held_out` (dB), `ssim`, `loss`, `steps`, `seconds` (of training),
        `device`, `backend`, `fused` (routes taken), `parameters`, `bits_per_pixel` and more; None if a figure
        has no meaning.
    history : list of dict
        One row for each evaluation.
    stopped : str
        The reason to stop: `steps`, `seconds`, `target_psnr`, `interrupted` or `diverged`. After divergence
        the model is the last finite one.
    state : TrainingState or None
        The final state of one network; None for tiles.
    known : boolean array (H, W) or None
        The pixels that training saw, if they were given as a mask; for tiles also those of `train_on`.
    step_losses : array (n,)
        The loss of each batch before its step (of the last million steps of this run, at most); empty for
        tiles.
    networks : sequence of Model
        If the model is a mean of several networks: they themselves.
    """

    metrics: dict[str, Any]
    history: list[HistoryRow]
    stopped: str
    model: Model | TiledModel | CompressedPicture
    signal: Signal
    state: TrainingState | None = None
    known: NDArray[np.bool_] | None = None
    step_losses: NDArray[np.floating] = field(default_factory=lambda: np.empty(0))
    networks: Sequence[Model] = ()

    @property
    def picture(self) -> Signal:
        """Return the signal, by the name that most of them have."""
        return self.signal

    has_curve: ClassVar[bool] = True
    """Whether the history is a curve over the steps of a network."""

    @property
    def has_model(self) -> bool:
        """Whether the model can be used: it was finite once."""
        return bool(self.history)

    @property
    def learned(self) -> Any:
        """The data from which `Job.model_of` makes the model again, in another process too."""
        return self.state

    @functools.cached_property
    def other_bits_per_pixel(self) -> dict[str, float | None]:
        """Bits per pixel of the plain picture, and of JPEG, WebP and AVIF at this PSNR; measured on first use.

        None for each codec if a mask hides pixels: then no file of theirs is comparable.
        """
        is_masked = self.known is not None and self.config.train_on == "all"
        return self.signal.other_bits_per_pixel(None if is_masked else self.metrics["psnr"])

    @property
    def full_metrics(self) -> dict[str, Any]:
        """The metrics and `other_bits_per_pixel`, as `metrics.json` has them; empty if there are none."""
        return self.metrics and self.metrics | {"other_bits_per_pixel": self.other_bits_per_pixel}

    @functools.cached_property
    def reconstruction(self) -> NDArray[np.floating]:
        """The model's picture (H, W, C) in [0, 1]; rendered on first use."""
        return self.model.render()

    @functools.cached_property
    def deviation(self) -> NDArray[np.floating] | None:
        """The standard deviation (H, W, C) of the networks of a mean; None if there are no several."""
        return self.render_deviation() if self.networks else None

    def render_deviation(
        self,
        height: int | None = None,
        width: int | None = None,
        *,
        shape: Sequence[int] | None = None,
        crop: Crop | None = None,
    ) -> NDArray[np.floating]:
        """Return the standard deviation at another size, as `render` does the picture.

        ValueError if there are no several networks.
        """
        return deviation_of(self.networks, height, width, shape=shape, crop=crop)

    @property
    def config(self) -> FitConfig:
        """The settings of the fit."""
        return cast("Model | TiledModel", self.model).config

    @property
    def settings(self) -> dict[str, Any]:
        """What was chosen, for JSON."""
        return self.config.as_dict()

    @property
    def missed_target(self) -> bool:
        """Whether a target PSNR was not reached."""
        return self.config.target_psnr is not None and self.stopped != "target_psnr"

    def render(
        self,
        height: int | None = None,
        width: int | None = None,
        *,
        shape: Sequence[int] | None = None,
        crop: Crop | None = None,
    ) -> NDArray[np.floating]:
        """Return the picture, or another signal, at another size; see `Model.render`."""
        return self.model.render(height, width, shape=shape, crop=crop)

    def to_xarray(self) -> DataArray:
        """Return the reconstruction as an `xarray.DataArray`; see `Model.to_xarray`."""
        return self.model.to_xarray()

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model; see `Model.save`."""
        self.model.save(path)

    def write_pictures(self, folder: Path) -> None:
        """Write the reconstruction, `comparison.png` and, for a network, `curves.svg`."""
        self._write_reconstruction(folder)
        with atomic_write(folder / "comparison.png") as file:
            self.comparison().save(file, format="PNG")
        if self.has_curve:
            save_curves(folder / "curves.svg", self.history)
        if self.deviation is not None:
            self._write_deviation(folder, self.deviation)

    def comparison(self) -> Image.Image:
        """Return truth, reconstruction and error side by side, with the figures."""
        signal = self.signal
        made = self.reconstruction if signal.is_picture else np.concatenate([*self._rows()])
        truth = signal.shown(signal.values_on_grid)
        made = signal.shown(made.reshape(*signal.shape, signal.channels))
        return comparison_picture(truth, made, self._title(), self._figures())

    def _write_reconstruction(self, folder: Path) -> None:
        """Write `reconstruction.png`, or an array in its own units to a file of its source's kind."""
        frame = self.signal.frame
        if frame is None:
            save_picture(folder / "reconstruction.png", self.reconstruction, bit_depth=self.signal.bit_depth)
        else:
            file = folder / f"reconstruction{suffix_for(self.signal.name)}"
            write_array(file, self.reconstruction, frame)

    def _write_deviation(self, folder: Path, deviation: NDArray[np.floating]) -> None:
        """Write the deviation of a mean: a sheet `deviation.png`, or an array as `deviation.npy`."""
        if self.signal.frame is not None:
            write_array(folder / "deviation.npy", deviation, self.signal.frame)
            return
        title = f"{self._title()}, mean of {len(self.networks)}"
        sheet = deviation_sheet(self.reconstruction, deviation, title=title)
        write_bytes(folder / "deviation.png", png_bytes(sheet))

    def _rows(self) -> Iterator[NDArray[np.floating]]:
        return self.model.render_rows(self.model.grid())

    def __repr__(self) -> str:
        psnr = self.metrics.get("psnr")
        quality = "" if psnr is None else f"; PSNR {psnr:.2f} dB"
        return f"<{type(self).__name__} of {escaped(self._title())}{quality}, stopped: {self.stopped}>"

    def _repr_png_(self) -> bytes | None:
        """Return the comparison for notebooks; None for unfinished tiles."""
        return png_bytes(self.comparison()) if self.metrics else None

    def _repr_html_(self) -> str:
        """Return the figures and the comparison for notebooks; unfinished tiles have neither."""
        rows = self._figures() if self.metrics else []
        return html_of(self._title(), [*rows, ("stopped", self.stopped)], self._repr_png_())

    def _title(self) -> str:
        return self.model.title

    def _figures(self) -> list[tuple[str, str]]:
        m = self.metrics
        rows = [("PSNR", m["psnr"], "{:.2f} dB")]
        if m["psnr_held_out"] is not None:
            rows += [("train", m["psnr_train"], "{:.2f} dB"), ("held out", m["psnr_held_out"], "{:.2f} dB")]
            rows += [("bicubic", m["psnr_held_out_bicubic"], "{:.2f} dB")]
        rows += [
            ("SSIM", m["ssim"], "{:.4f}"),
            ("steps", m["steps"], "{:d}"),
            ("training", m["seconds"], "{:.1f} s"),
            ("parameters", m["parameters"], "{:,d}"),
        ]
        return [(label, pattern.format(value)) for label, value, pattern in rows if value is not None]


class StreamedResult(FitResult):
    """A finished fit of a picture that may be large; one that was interrupted has no figures."""

    @property
    def has_model(self) -> bool:
        """Whether the model can be used: training came to its end."""
        return bool(self.metrics)

    def write_pictures(self, folder: Path) -> None:
        """Write reconstruction and `comparison.png`; of a picture from rows that are rendered once."""
        if not self.signal.is_picture:
            super().write_pictures(folder)
            return
        running = RunningComparison(self.signal.colours)
        save_rows(folder / "reconstruction.png", self.model, self.model.grid(), see=running.add)
        with atomic_write(folder / "comparison.png") as file:
            running.draw(self._title(), self._figures()).save(file, format="PNG")

    def comparison(self) -> Image.Image:
        """Return truth, reconstruction and error side by side, without the whole rendering in memory."""
        if not self.signal.is_picture:
            return super().comparison()
        running = RunningComparison(self.signal.colours)
        for rows in self.model.render_rows(self.model.grid()):
            running.add(rows)
        return running.draw(self._title(), self._figures())


def make_result(
    member: Member,
    state: TrainingState,
    stopped: str,
    backend: Backend,
    networks: int = 1,
    *,
    losses: NDArray[np.floating],
    polished: Polish | None = None,
) -> FitResult:
    """Evaluate a member's model on all pixels and return the result of its run.

    `networks` is the number trained together, which share the seconds. `losses` (n,) are those of the steps.
    `polished` tells how the least-squares last layer changed the model after `state`.
    """
    metrics = _metrics(member, state, backend) | {"stopped": stopped, "networks": networks}
    if polished is not None:
        metrics["seconds"] += polished.seconds
        metrics["polish"] = {"mse_before": polished.before, "mse": polished.after, "seconds": polished.seconds}
    member.model.metrics = metrics
    history, model, known = list(member.history), member.model, member.known
    return FitResult(metrics, history, stopped, model, member.signal, state, known, losses)


def _metrics(member: Member, state: TrainingState, backend: Backend) -> dict[str, Any]:
    signal, config, model = member.signal, member.config, member.model
    stored = model.num_parameters + sum(array.size for array in member.encoder_state.values())
    bits = bits_per_pixel(stored * item_size(config.dtype), len(member.target))
    train_on = config.train_on if member.known is None else ""
    return metrics_of(member.evaluate_all, signal, config, backend, train_on=train_on) | {
        "steps": state.step,
        "epochs": state.step * member.batch_rows / member.num_training_pixels,
        "seconds": state.seconds,
        "fused": backend.routes(),
        "bits_per_pixel": bits,
    }


def metrics_of(
    evaluator: Evaluator, signal: Signal, config: FitConfig, backend: Backend, *, train_on: str
) -> dict[str, Any]:
    """Return the metrics of any model: its figures on all pixels, its device and its picture.

    `train_on` is "" if pixels are hidden by a mask: then there is no plain interpolation between them.
    """
    figures, similarity = evaluator.with_ssim()
    return {
        "psnr": figures.psnr,
        "psnr_train": figures.psnr_train,
        "psnr_held_out": figures.psnr_held_out,
        **signal.own_figures(figures.psnr),
        **baselines(signal, train_on),
        "ssim": similarity,
        "loss": figures.loss,
        "loss_name": name_of(config.loss),
        "device": backend.device,
        "device_fallback": backend.fallback_reason,
        "backend": backend.name,
        "threads": getattr(backend, "threads", None),
        "precision": backend.precision,
        "parameters": evaluator.model.num_parameters,
        "parameters_per_value": evaluator.model.num_parameters / signal.num_values,
        **signal.size_facts,
        "channels": signal.channels,
        "picture_notes": list(signal.notes),
        "seed": config.seed,
    }


def baselines(signal: Signal, train_on: str) -> dict[str, float | None]:
    """Return the PSNR in dB on held-out pixels of plain interpolation between training pixels."""
    methods: tuple[Literal["bilinear", "bicubic"], ...] = ("bilinear", "bicubic")
    names = {method: f"psnr_held_out_{method}" for method in methods}
    if train_on != "every-second" or not signal.is_picture:
        return dict.fromkeys(names.values())
    held_out = ~training_mask(train_on, signal.samples)
    return {
        name: psnr(interpolate_every_second(signal.pixels, method), signal.pixels, where=held_out)
        for method, name in names.items()
    }
