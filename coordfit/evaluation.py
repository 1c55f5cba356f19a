"""How good a model is right now: loss and PSNR on training, held-out and all pixels, always told apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .losses import Loss
from .metrics import RunningSSIM, psnr_from_mse
from .model import Model
from .sampling import permuted

if TYPE_CHECKING:
    from .tiles.model import TiledModel

# While training, larger pictures are judged by a fixed sample of this many pixels; the end by all of them.
SAMPLE_PIXELS = 65_536


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
        target: NDArray[np.float32],
        train: NDArray[np.bool_],
        *,
        sample: int | None = None,
    ) -> None:
        self.model, self.loss = model, loss
        self.target, self.train = target, train
        self.coordinates: NDArray[np.float64] | None = None
        if sample is not None and len(target) > sample:
            pixels = permuted(np.arange(sample), len(target), seed=0, epoch=0).astype(np.int64)
            pixels = np.union1d(pixels, _some_of_each(train, train[pixels]))
            self.target, self.train = target[pixels], train[pixels]
            self.coordinates = model.picture.grid.coordinates(pixels)

    def __call__(self) -> Evaluation:
        """The figures for the model's present parameters."""
        figures = _Figures(self.loss, self.target, self.train)
        if self.coordinates is not None:
            figures.add(self.model(self.coordinates))
        else:
            for rows in self.model.predict_rows(self.model.picture.grid):
                figures.add(rows.reshape(-1, rows.shape[-1]))
        return figures.evaluation

    def with_ssim(self) -> tuple[Evaluation, float | None]:
        """The same and the SSIM, from one pass over the whole picture."""
        facts = self.model.picture
        figures = _Figures(self.loss, self.target, self.train)
        ssim = RunningSSIM(self.target.reshape(facts.height, facts.width, -1))
        for rows in self.model.predict_rows(facts.grid):
            figures.add(rows.reshape(-1, rows.shape[-1]))
            ssim.add(rows)
        return figures.evaluation, ssim.mean


def _some_of_each(train: NDArray[np.bool_], sampled: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Numbers of pixels that a sample lacks: of the training or of the held-out ones, if it has none."""
    missing = [kind for kind in (True, False) if not (sampled == kind).any()]
    found = [np.flatnonzero(train == kind)[:4096] for kind in missing]
    return np.concatenate([np.empty(0, np.int64), *found])


class _Figures:
    """Gathers an evaluation from predictions that come some pixels at a time, in order."""

    def __init__(self, loss: Loss, target: NDArray[np.float32], train: NDArray[np.bool_]) -> None:
        self._loss_function, self._target, self._train = loss, target, train
        self._seen, self._hidden, self._loss, self._start = _Sum(), _Sum(), _Sum(), 0

    def add(self, colours: NDArray[np.floating]) -> None:
        """Take the next predictions (n, C), unclipped."""
        these = slice(self._start, self._start + len(colours))
        target, train = self._target[these], self._train[these]
        squared = np.square(np.clip(colours, 0.0, 1.0) - target, dtype=np.float64).mean(axis=-1)
        self._seen.add(squared[train])
        self._hidden.add(squared[~train])
        residual = np.subtract(colours[train], target[train], dtype=np.float64)
        self._loss.add(self._loss_function.value(np, residual))
        self._start = these.stop

    @property
    def evaluation(self) -> Evaluation:
        seen, hidden = self._seen, self._hidden
        return Evaluation(
            loss=self._loss.mean,
            psnr=psnr_from_mse((seen.total + hidden.total) / (seen.count + hidden.count)),
            psnr_train=psnr_from_mse(seen.mean),
            psnr_held_out=psnr_from_mse(hidden.mean) if hidden.count else None,
        )


class _Sum:
    """Sum and number of what was added."""

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def add(self, values: NDArray[np.floating]) -> None:
        self.total += float(values.sum())
        self.count += values.size

    @property
    def mean(self) -> float:
        return self.total / self.count


def training_mask(train_on: str, height: int, width: int) -> NDArray[np.bool_]:
    """Which pixels (H W,) training sees: all, or those of rows and columns 0, 2, 4, ..."""
    mask = np.zeros((height, width), dtype=np.bool_)
    stride = 2 if train_on == "every-second" else 1
    mask[::stride, ::stride] = True
    return mask.reshape(-1)
