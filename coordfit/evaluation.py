"""How good a model is right now: loss and PSNR on training, held-out and all pixels, always told apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .losses import Loss, mean_loss
from .metrics import psnr_from_mse
from .model import Model
from .sampling import permuted

# While training, larger pictures are judged by a fixed sample of this many pixels; the end by all of them.
SAMPLE_PIXELS = 262_144


@dataclass(frozen=True)
class Evaluation:
    """Figures of one moment; PSNR in dB over clipped predictions, the loss over unclipped ones."""

    loss: float
    psnr: float
    psnr_train: float
    psnr_held_out: float | None


class Evaluator:
    """Judges a model against a picture.

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
        model: Model,
        loss: Loss,
        target: NDArray[np.float32],
        train: NDArray[np.bool_],
        *,
        sample: int | None = None,
    ) -> None:
        self.model, self.loss = model, loss
        n = len(target)
        pixels = np.arange(n)
        if sample is not None and n > sample:
            pixels = np.sort(permuted(np.arange(sample), n, seed=0, epoch=0)).astype(np.int64)
            target, train = target[pixels], train[pixels]
        self.target, self.train = target, train
        self.coordinates = model.picture.grid.coordinates(pixels)

    def __call__(self) -> Evaluation:
        """The figures for the model's present parameters."""
        colours = self.model(self.coordinates)
        seen = slice(None) if self.train.all() else self.train
        loss = float(mean_loss(self.loss, np, colours[seen].astype(np.float64), self.target[seen]))
        squared = np.square(np.clip(colours, 0.0, 1.0) - self.target, dtype=np.float64).mean(axis=-1)
        hidden = squared[~self.train]
        return Evaluation(
            loss=loss,
            psnr=psnr_from_mse(float(squared.mean())),
            psnr_train=psnr_from_mse(float(squared[self.train].mean())),
            psnr_held_out=psnr_from_mse(float(hidden.mean())) if hidden.size else None,
        )


def training_mask(train_on: str, height: int, width: int) -> NDArray[np.bool_]:
    """Which pixels (H W,) training sees: all, or those of rows and columns 0, 2, 4, ..."""
    mask = np.zeros((height, width), dtype=np.bool_)
    stride = 2 if train_on == "every-second" else 1
    mask[::stride, ::stride] = True
    return mask.reshape(-1)
