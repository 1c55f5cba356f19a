"""How good a model is right now: loss and PSNR on training, held-out and all pixels, always told apart."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._backends import Array
from ..images import Colours
from ..images.metrics import RunningSSIM, psnr_from_mse
from ..models.model import Model, Watch
from ..network.losses import Loss
from ..pixels.batch_order import permuted

if TYPE_CHECKING:
    from ..tiles.model import TiledModel

# While training, larger pictures are judged by a fixed sample of this many pixels; the end by all of them.
SAMPLE_PIXELS = 65_536
NUM_SUMS = 3
"""Numbers that the figures of one network are read from."""


@dataclass(frozen=True)
class Evaluation:
    """Figures of one moment; PSNR in dB over clipped predictions, the loss over unclipped ones."""

    loss: float
    psnr: float
    psnr_train: float
    psnr_held_out: float | None


class Evaluator:
    """Judges a model against a picture, a bounded number of pixels at a time.

    Parameters
    ----------
    target : array, shape (H W, C)
        The picture's pixels row by row, on the host.
    train : boolean array, shape (H W,)
        Which pixels training sees.
    sample : int, optional
        Judge by so many pixels, drawn once; None for all.
    """

    def __init__(
        self,
        model: Model | TiledModel,
        loss: Loss,
        target: NDArray[np.float32] | Colours,
        train: NDArray[np.bool_],
        *,
        sample: int | None = None,
    ) -> None:
        self.model, self.loss = model, loss
        self.target: NDArray[np.float32] | Colours = target
        self.train = train
        self._coordinates: NDArray[np.float64] | None = None
        self.features: Array | None = None
        """(H W, F) on the device, where training has those of all pixels: they need not be computed again."""
        if sample is not None and len(target) > sample:
            pixels = permuted(np.arange(sample), len(target), seed=0, epoch=0).astype(np.int64)
            pixels = np.union1d(pixels, _some_of_each(train, train[pixels]))
            self.target, self.train = target[pixels], train[pixels]
            self._coordinates = model.picture.grid.coordinates(pixels)

    def __call__(self) -> Evaluation:
        """The figures for the model's present parameters."""
        return self.read(self.model.backend.to_numpy(self.sums()))

    def sums(self) -> Array:
        """What the figures for the model's present parameters are read from: asked for, and not waited for.

        Returns
        -------
        sums : float64 array on the device, shape (NUM_SUMS,)
        """
        sums = ErrorSums(self.model.backend.xp, self.loss, *self._on_device)
        for colours in self._watch.colours():
            sums.add(colours)
        return sums.total

    def read(self, sums: NDArray[np.float64]) -> Evaluation:
        """The figures that `sums` stand for, from a copy on the host."""
        loss, seen, hidden = (float(x) for x in sums)
        num_seen, num_hidden = int(self.train.sum()), int((~self.train).sum())
        return Evaluation(
            loss=loss / (num_seen * self.target.shape[-1]),
            psnr=psnr_from_mse((seen + hidden) / (num_seen + num_hidden)),
            psnr_train=psnr_from_mse(seen / num_seen),
            psnr_held_out=psnr_from_mse(hidden / num_hidden) if num_hidden else None,
        )

    @functools.cached_property
    def _watch(self) -> Watch:
        if not isinstance(self.model, Model):
            raise TypeError("only the model of one network is judged on the device")
        return Watch(self.model, self._coordinates, self.features)

    @functools.cached_property
    def _on_device(self) -> tuple[Array, Array]:
        backend = self.model.backend
        return backend.asarray(self.target), backend.asarray(self.train)

    def with_ssim(self) -> tuple[Evaluation, float | None]:
        """The same and the SSIM, from one pass over the whole picture."""
        facts = self.model.picture
        figures = ErrorSums(np, self.loss, self.target, self.train)
        ssim = RunningSSIM(self.target.reshape(facts.height, facts.width, -1))
        for rows in self._rows_of_picture():
            figures.add(rows.reshape(-1, rows.shape[-1]))
            ssim.add(rows)
        return self.read(figures.total), ssim.mean

    def _rows_of_picture(self) -> Iterator[NDArray[np.floating]]:
        """Predictions (n, W, C), unclipped, on the host, from the top to the bottom."""
        facts = self.model.picture
        if self.features is None:
            yield from self.model.predict_rows(facts.grid)
            return
        for colours in self._watch.colours():
            yield self.model.backend.to_numpy(colours).reshape(-1, facts.width, facts.channels)


def _some_of_each(train: NDArray[np.bool_], sampled: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Numbers of pixels that a sample lacks: of the training or of the held-out ones, if it has none."""
    missing = [kind for kind in (True, False) if not (sampled == kind).any()]
    found = [np.flatnonzero(train == kind)[:4096] for kind in missing]
    return np.concatenate([np.empty(0, np.int64), *found])


class ErrorSums:
    """Sums of errors over predictions that come some pixels at a time, in order.

    Parameters
    ----------
    target : array of `xp`, shape (n, C)
    train : boolean array of `xp`, shape (n,)
        Which pixels training sees.
    """

    def __init__(self, xp: Any, loss: Loss, target: Array, train: Array) -> None:
        self._xp, self._loss, self._target, self._train = xp, loss, target, train
        self._start = 0
        self.total: Any = 0.0
        """The loss and the squared error of pixels that training sees, and the squared error of others."""

    def add(self, colours: Array) -> None:
        """Take the next predictions (n, C), unclipped."""
        xp, these = self._xp, slice(self._start, self._start + colours.shape[0])
        target, seen = self._target[these, :], self._train[these]
        error = xp.astype(xp.clip(colours, 0.0, 1.0) - target, xp.float64)
        squared = xp.mean(error * error, axis=-1)
        residual = xp.astype(colours, xp.float64) - xp.astype(target, xp.float64)
        loss = xp.sum(self._loss.value(xp, residual), axis=-1)
        # A sum of what is chosen, and not a product with the choice: NaN of others would come through.
        parts = (xp.where(seen, loss, 0.0), xp.where(seen, squared, 0.0), xp.where(seen, 0.0, squared))
        self.total = xp.stack([xp.sum(part) for part in parts]) + self.total
        self._start = these.stop
