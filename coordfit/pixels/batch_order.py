"""The order of mini-batches: a permutation for each seed and epoch, without state and without sorting.

It is a Feistel network over the smallest even number of bits that holds n, with cycle-walking for the rest
(Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002; used for shuffling by Mitchell et al.,
arXiv:2106.06161). With integers only, every backend draws the same batches bit for bit, and a resumed run goes
on as if it had never stopped.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 8
# Number of positions that are permuted at a time, so that small batches share the cost of a call.
_WINDOW = 32_768


def permuted(
    index: NDArray[np.integer], n: int, seed: int, epoch: int | NDArray[np.integer]
) -> NDArray[np.uint32]:
    """Return the images of indices in [0, n) under the permutation of a seed and an epoch.

    n is at most 2^32 - 1; seed and epoch are taken modulo 2^32. Epochs may broadcast to the shape of `index`.
    """
    half = np.uint32(max(2, (n - 1).bit_length() + 1) // 2)
    mask = np.uint32((1 << int(half)) - 1)
    epochs = np.asarray((epoch + 0x9E3779B9) & 0xFFFFFFFF, dtype=np.uint32)
    keys = _mix(np.uint32(seed & 0xFFFFFFFF) ^ _mix(epochs)).reshape(epochs.shape)
    x = _feistel(np.asarray(index, dtype=np.uint32), half, mask, keys)
    keys = np.broadcast_to(keys, x.shape)
    while (outside := x >= n).any():
        x[outside] = _feistel(x[outside], half, mask, keys[outside])
    return x.reshape(np.shape(index))


class BatchOrder:
    """Batches of an endless sequence of epochs of n pixels: batch t has its positions `t B` to `(t + 1) B`.

    The batch size B is at most n, the seed below 2^32.
    """

    def __init__(self, n: int, batch_size: int, seed: int) -> None:
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self._start, self._window = 0, np.empty(0, dtype=np.int64)

    def batch(self, t: int) -> NDArray[np.int64]:
        """Return the indices (B,) of the training pixels of batch t, as a view that later calls may change."""
        start = t * self.batch_size
        offset = start - self._start
        if offset < 0 or offset + self.batch_size > self._window.size:
            length = max(1, _WINDOW // self.batch_size) * self.batch_size
            self._start, self._window, offset = start, self._positions(start, start + length), 0
        return self._window[offset : offset + self.batch_size]

    def _positions(self, start: int, stop: int) -> NDArray[np.int64]:
        epochs, index = np.divmod(np.arange(start, stop), self.n)
        return permuted(index, self.n, self.seed, epochs).astype(np.int64)


def _feistel(
    x: NDArray[np.uint32], half: np.uint32, mask: np.uint32, key: NDArray[np.uint32]
) -> NDArray[np.uint32]:
    left, right = x >> half, x & mask
    for k in range(_ROUNDS):
        round_key = key ^ np.uint32((k * 0x9E3779B1) & 0xFFFFFFFF)
        left, right = right, (left ^ _mix(right ^ round_key)) & mask
    return (left << half) | right


def _mix(x: NDArray[np.uint32] | np.uint32) -> NDArray[np.uint32]:
    """Mix 32 bits, with wrap-around: every input bit changes about half of the output bits."""
    x = np.atleast_1d(np.asarray(x, dtype=np.uint32))  # scalars would warn of the wrap-around
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))
