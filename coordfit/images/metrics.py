"""Measure how close a prediction is to a picture: PSNR, SSIM, baselines, bits per pixel.

Pictures are float arrays (H, W, C) in [0, 1]. Predictions are clipped to that range before they are scored,
since pictures are shown clipped. All sums are float64.
"""

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .formats.levels import Colours
from .resizing import resize_channels

FloatArray = NDArray[np.floating[Any]]

_BLOCK_VALUES = 1 << 16  # of a block of rows: 512 KiB of float64, which fit into a core's own cache

_SSIM_RADIUS = 5
_SSIM_SIGMA = 1.5
_SSIM_C1 = 0.01**2
_SSIM_C2 = 0.03**2

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_PAD = 3  # the bicubic kernel reaches two pixels past the edge; one more for safety of rounding


def check_pair(prediction: FloatArray, target: FloatArray) -> None:
    """Raise ValueError unless both are float arrays of one shape (H, W, C); nothing is broadcast.

    Raises
    ------
    ValueError
        Unless both are float arrays of one shape (H, W, C).
    """
    for name, pixels in (("prediction", prediction), ("target", target)):
        if pixels.ndim != 3:
            raise ValueError(f"{name} has shape {pixels.shape}; expected (H, W, C)")
        if not np.issubdtype(pixels.dtype, np.floating):
            raise ValueError(f"{name} has dtype {pixels.dtype}; expected float values in [0, 1]")
    if prediction.shape != target.shape:
        raise ValueError(f"prediction has shape {prediction.shape} but target has {target.shape}")


def _peak(prediction: NDArray[Any], target: NDArray[Any]) -> float:
    """Return the value of white: the highest of uint8 or uint16 if both have that type, else 1.

    ValueError unless both are pictures of one shape, of floats or of one of these types.
    """
    if prediction.dtype == target.dtype and target.dtype in (np.uint8, np.uint16):
        if prediction.ndim != 3 or prediction.shape != target.shape:
            raise ValueError(
                f"the pictures have shapes {prediction.shape} and {target.shape}; expected (H, W, C)"
            )
        return float(np.iinfo(target.dtype).max)
    check_pair(prediction, target)
    return 1.0


def _with_channels(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return a grey picture (H, W) as (H, W, 1), and others as they are."""
    return pixels[..., None] if pixels.ndim == 2 else pixels


def psnr_from_mse(mse: float) -> float:
    """Return `-10 log10(mse)` in dB, the peak signal-to-noise ratio with peak 1.

    `math.inf` for 0, NaN for NaN, ValueError below 0.
    """
    mse = float(mse)
    if mse < 0:
        raise ValueError(f"a mean squared error cannot be negative, got {mse}")
    return math.inf if mse == 0 else -10.0 * math.log10(mse)


def psnr(
    prediction: NDArray[Any], target: NDArray[Any], *, where: NDArray[np.bool_] | None = None
) -> float | None:
    """Return the peak signal-to-noise ratio of a prediction, clipped to [0, 1], with peak 1.

    Parameters
    ----------
    prediction, target
        Pictures of one shape, (H, W) or (H, W, C): float of any width, the target in [0, 1]; or both uint8,
        or both uint16, which are divided by their highest value. ValueError otherwise.
    where
        Mask of the pixels to count, (H, W), bool; all of them by default.

    Returns
    -------
    float or None
        PSNR in dB over all channels of the counted pixels; `math.inf` if they are equal, NaN if the
        prediction holds a NaN there, None if no pixel is counted.
    """
    prediction, target = _with_channels(prediction), _with_channels(target)
    peak = _peak(prediction, target)
    height, width, channels = target.shape
    if where is not None and (where.shape != (height, width) or where.dtype != np.bool_):
        raise ValueError(f"where is {where.dtype} {where.shape}; expected bool {(height, width)}")
    count = channels * (height * width if where is None else int(np.count_nonzero(where)))
    if count == 0:
        return None

    squares = 0.0
    rows = max(1, _BLOCK_VALUES // (width * channels))
    for top in range(0, height, rows):
        block = slice(top, top + rows)
        error = np.clip(prediction[block] / peak, 0.0, 1.0, dtype=np.float64)
        error -= target[block] / peak
        counted = error if where is None else error[where[block]]
        # Not by a BLAS's product, which leaves threads that spin.
        squares += float(np.square(counted, out=counted).sum())
    return psnr_from_mse(squares / count)


def shares_within(
    prediction: FloatArray, target: FloatArray, deviation: FloatArray, where: NDArray[np.bool_]
) -> dict[str, float]:
    """Return `within_1` and `within_2`: shares of pixels with an error of up to one and two deviations.

    Error and deviation of a pixel are root mean squares over its channels. No pixel gives no shares.

    Parameters
    ----------
    prediction, target
        Pictures (H, W, C) in [0, 1].
    deviation
        Standard deviations, (H, W) or (H, W, C).
    where
        Mask (H, W) of the pixels to count.
    """
    if not where.any():
        return {}
    squares = np.mean(np.square(prediction[where] - target[where], dtype=np.float64), axis=-1)
    expected = np.square(deviation[where], dtype=np.float64)
    expected = expected if expected.ndim == 1 else expected.mean(axis=-1)
    return {f"within_{n}": float(np.mean(squares <= n * n * expected)) for n in (1, 2)}


def _smooth(maps: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Convolve along one axis with SSIM's Gaussian, at the positions where the window fits."""
    size = maps.shape[axis] - 2 * _SSIM_RADIUS

    def shifted(offset: int) -> NDArray[np.float64]:
        index = [slice(None)] * maps.ndim
        index[axis] = slice(_SSIM_RADIUS + offset, _SSIM_RADIUS + offset + size)
        return maps[tuple(index)]

    weights = np.exp(-0.5 * (np.arange(_SSIM_RADIUS + 1) / _SSIM_SIGMA) ** 2)
    weights /= weights[0] + 2 * weights[1:].sum()
    smoothed: NDArray[np.float64] = weights[0] * shifted(0)
    pair = np.empty_like(smoothed)
    for offset in range(1, _SSIM_RADIUS + 1):  # the window is symmetric: two taps share one product
        np.add(shifted(-offset), shifted(offset), out=pair)
        pair *= weights[offset]
        smoothed += pair
    return smoothed


def _ssim_sum(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Sum the SSIM of two planes (rows, W) over the positions where the window fits."""
    moments = np.stack([x, y, x * x + y * y, x * y])
    mean_x, mean_y, power, product = _smooth(_smooth(moments, 1), 2)
    means_squared = mean_x * mean_x + mean_y * mean_y
    means_product = mean_x * mean_y
    variances = power - means_squared
    covariance = product - means_product
    similarity = (2 * means_product + _SSIM_C1) / (means_squared + _SSIM_C1)
    similarity *= (2 * covariance + _SSIM_C2) / (variances + _SSIM_C2)
    return float(similarity.sum())


def ssim(prediction: NDArray[Any], target: NDArray[Any]) -> float | None:
    """Return the mean structural similarity of a prediction, clipped to [0, 1].

    The index of Wang, Bovik, Sheikh and Simoncelli (2004): Gaussian window of 11 taps with sigma 1.5,
    K1 = 0.01, K2 = 0.03, data range 1, population covariances; averaged over the positions where the
    window lies inside the picture, then over the channels.

    Parameters
    ----------
    prediction, target
        As `psnr` takes them.

    Returns
    -------
    float or None
        At most 1, which means equal; None if a side is shorter than the window or there is no channel.
    """
    prediction, target = _with_channels(prediction), _with_channels(target)
    peak = _peak(prediction, target)
    running = RunningSSIM(target if peak == 1.0 else target / peak)
    rows = max(4 * _SSIM_RADIUS, _BLOCK_VALUES // max(1, prediction[:1].size))
    for top in range(0, len(prediction), rows):
        running.add(prediction[top : top + rows] / peak)
    return running.mean


class RunningSSIM:
    """The `ssim` of a prediction that comes a few rows at a time, with a target (H, W, C)."""

    def __init__(self, target: FloatArray | Colours) -> None:
        self._target, self._total, self._top = target, 0.0, 0
        self._pending = target[:0]  # rows whose windows are not complete yet

    def add(self, rows: FloatArray) -> None:
        """Add the next rows (n, W, C) of the prediction, from the top."""
        pending = np.concatenate([self._pending, rows])
        done = max(0, len(pending) - 2 * _SSIM_RADIUS)
        if done and min(pending.shape[1:]) > 0 and pending.shape[1] > 2 * _SSIM_RADIUS:
            truth = self._target[self._top : self._top + len(pending)]
            for channel in range(pending.shape[2]):
                x = np.clip(pending[:, :, channel], 0.0, 1.0, dtype=np.float64)
                self._total += _ssim_sum(x, truth[:, :, channel].astype(np.float64))
        self._pending, self._top = pending[done:], self._top + done

    @property
    def mean(self) -> float | None:
        """Return the mean; None if a side is shorter than the window or there is no channel."""
        height, width, channels = self._target.shape
        if min(height, width) <= 2 * _SSIM_RADIUS or channels == 0:
            return None
        return self._total / float(channels * (height - 2 * _SSIM_RADIUS) * (width - 2 * _SSIM_RADIUS))


def interpolate_every_second(pixels: FloatArray, method: Literal["bilinear", "bicubic"]) -> NDArray[np.float32]:
    """Rebuild a picture from its rows and columns 0, 2, 4, ... by classical interpolation.

    This is the baseline of networks that are trained on those pixels. They are returned unchanged; past the
    last of them the edge value holds.

    Parameters
    ----------
    pixels
        The full picture, (H, W, C), float and not empty; only every second row and column is read.
    method
        "bilinear", or "bicubic" for the cubic convolution of Keys (1981) with a = -0.5; ValueError otherwise.

    Returns
    -------
    numpy.ndarray
        Interpolated picture, (H, W, C), float32; bicubic may leave [0, 1].
    """
    if method not in _FILTERS:
        raise ValueError(f"unknown method {method!r}; expected one of {', '.join(_FILTERS)}")
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise ValueError(f"pixels has shape {pixels.shape}; expected a non-empty (H, W, C)")

    height, width, _ = pixels.shape
    # Pillow puts the centre of output pixel i at start + (i + 1/2) / 2; training pixel k has its centre at
    # pad + k + 1/2. The two agree for i = 2k when the box starts at pad + 1/4.
    start = _PAD + 0.25
    box = (start, start, start + width / 2, start + height / 2)
    training = np.pad(pixels[::2, ::2], ((_PAD, _PAD), (_PAD, _PAD), (0, 0)), mode="edge")
    return resize_channels(training, (width, height), _FILTERS[method], box)


def bits_per_pixel(num_bytes: int, num_pixels: int) -> float:
    """Return the bits per pixel of a file of `num_bytes`.

    Raises
    ------
    ValueError
        If a number is impossible.
    """
    if num_bytes < 0:
        raise ValueError(f"num_bytes must not be negative, got {num_bytes}")
    if num_pixels < 1:
        raise ValueError(f"a picture of {num_pixels} pixels has no bits per pixel")
    return 8.0 * num_bytes / num_pixels
