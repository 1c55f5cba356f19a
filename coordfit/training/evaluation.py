"""Evaluation of a model: loss and PSNR, on training, held-out and all pixels."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..backends import Array
from ..images import Colours
from ..images.metrics import RunningSSIM, psnr_from_mse
from ..models.model import FixedPixels, Model
from ..network.losses import Loss
from ..pixels.batch_order import permuted

if TYPE_CHECKING:
    from ..codec import CompressedPicture
    from ..tiles.model import TiledModel

# During training, larger pictures are evaluated on a fixed sample of this many pixels; at the end on all.
SAMPLE_PIXELS = 65_536
NUM_SUMS = 3
"""Number of sums from which the figures of a network are computed."""


@dataclass(frozen=True)
class Evaluation:
    """Loss of unclipped predictions, and PSNR in dB of clipped ones."""

    loss: float
    psnr: float
    psnr_train: float
    psnr_held_out: float | None


class Evaluator:
    """Compares a model with a picture, a bounded number of pixels at a time.

    The target (N, C) has the samples in order, on the host, at the coordinates `points` (N, D) or those of the
    model's own grid; training sees those of the mask `train` (N,), and nothing is compared at `unknown` ones.
    With a `sample`, that many are compared, drawn once.
    """

    def __init__(
        self,
        model: Model | TiledModel | CompressedPicture,
        loss: Loss,
        target: NDArray[np.float32] | Colours,
        train: NDArray[np.bool_],
        *,
        sample: int | None = None,
        points: NDArray[np.float64] | None = None,
        unknown: NDArray[np.bool_] | None = None,
    ) -> None:
        self.model, self.loss = model, loss
        self.target: NDArray[np.float32] | Colours = target
        self.train, self.held_out = train, ~train if unknown is None else ~(train | unknown)
        self._coordinates = points
        self.features: Array | None = None
        """(N, F) on the device, if training has them for all samples."""
        if sample is not None and len(target) > sample:
            pixels = permuted(np.arange(sample), len(target), seed=0, epoch=0).astype(np.int64)
            pixels = np.union1d(pixels, _some_of_each(train, train[pixels]))
            self.target, self.train, self.held_out = target[pixels], train[pixels], self.held_out[pixels]
            self._coordinates = model.signal.grid.coordinates(pixels) if points is None else points[pixels]

    def __call__(self) -> Evaluation:
        """Return the figures of the model's present parameters."""
        return self.read(self.model.backend.to_numpy(self.sums()))

    def sums(self) -> Array:
        """Return the sums (NUM_SUMS,) for `read`, in float64, on the device, without waiting for them."""
        sums = ErrorSums(self.model.backend.xp, self.loss, *self._on_device)
        for colours in self._pixels.colours():
            sums.add(colours)
        return sums.total

    def read(self, sums: NDArray[np.float64]) -> Evaluation:
        """Return the figures of `sums`, from a copy on the host."""
        loss, seen, hidden = (float(x) for x in sums)
        num_seen, num_hidden = int(self.train.sum()), int(self.held_out.sum())
        return Evaluation(
            loss=loss / (num_seen * self.target.shape[-1]),
            psnr=psnr_from_mse((seen + hidden) / (num_seen + num_hidden)),
            psnr_train=psnr_from_mse(seen / num_seen),
            psnr_held_out=psnr_from_mse(hidden / num_hidden) if num_hidden else None,
        )

    @functools.cached_property
    def _pixels(self) -> FixedPixels:
        if not isinstance(self.model, Model):
            raise TypeError("only the model of one network is evaluated on the device")
        return FixedPixels(self.model, self._coordinates, self.features)

    @functools.cached_property
    def _on_device(self) -> tuple[Array, Array, Array]:
        backend = self.model.backend
        return tuple(map(backend.asarray, (self.target, self.train, self.held_out)))

    def with_ssim(self) -> tuple[Evaluation, float | None]:
        """Return the figures and the SSIM, from one pass over the whole picture."""
        facts = self.model.signal
        figures = ErrorSums(np, self.loss, self.target, self.train, self.held_out)
        is_picture = facts.dimensions == 2 and self._coordinates is None and (self.train | self.held_out).all()
        ssim = RunningSSIM(self.target.reshape(*facts.shape, -1)) if is_picture else None
        for values in self._predictions():
            figures.add(values)
            if ssim is not None:
                ssim.add(values.reshape(-1, facts.width, facts.channels))
        return self.read(figures.total), None if ssim is None else ssim.mean

    def _predictions(self) -> Iterator[NDArray[np.floating]]:
        """Yield unclipped predictions (n, C) on the host, in order; whole lines of a grid."""
        if self.features is None and self._coordinates is None:
            for rows in self.model.predict_rows(self.model.signal.grid):
                yield rows.reshape(-1, rows.shape[-1])
            return
        for colours in self._pixels.colours():
            yield self.model.backend.to_numpy(colours)


def _some_of_each(train: NDArray[np.bool_], sampled: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return numbers of training or held-out pixels, if a sample has none of them."""
    missing = [kind for kind in (True, False) if not (sampled == kind).any()]
    found = [np.flatnonzero(train == kind)[:4096] for kind in missing]
    return np.concatenate([np.empty(0, np.int64), *found])


class ErrorSums:
    """Sums of errors over predictions that are added some pixels at a time, in order.

    The target (n, C) and the masks (n,) of samples that training sees and of held-out ones are arrays of `xp`.
    """

    def __init__(self, xp: Any, loss: Loss, target: Array, train: Array, held_out: Array) -> None:
        self._xp, self._loss, self._target, self._train, self._held_out = xp, loss, target, train, held_out
        self._start = 0
        self.total: Any = 0.0
        """(NUM_SUMS,): loss and squared error of training pixels, and squared error of the others."""

    def add(self, colours: Array) -> None:
        """Add the next predictions (n, C), unclipped."""
        xp, these = self._xp, slice(self._start, self._start + colours.shape[0])
        target, seen, held_out = self._target[these, :], self._train[these], self._held_out[these]
        error = xp.astype(xp.clip(colours, 0.0, 1.0) - target, xp.float64)
        squared = xp.mean(error * error, axis=-1)
        residual = xp.astype(colours, xp.float64) - xp.astype(target, xp.float64)
        loss = xp.sum(self._loss.value(xp, residual), axis=-1)
        # `where` and not a product with the mask, through which NaN of other pixels would pass.
        parts = (xp.where(seen, loss, 0.0), xp.where(seen, squared, 0.0), xp.where(held_out, squared, 0.0))
        self.total = xp.stack([xp.sum(part) for part in parts]) + self.total
        self._start = these.stop
