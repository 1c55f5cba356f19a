"""The CPU backend: row blocks over threads, buffers reused, one BLAS thread for each worker.

Why blocks: a BLAS that splits one small product over threads loses a factor of two to ten at the sizes of
this project. Here each worker runs the whole step on blocks of rows that fit its cache, with a
single-threaded BLAS, so the element-wise work is parallel too and activations never leave the cache.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import threadpoolctl

from .base import Activation, Array, Backend, ElementwiseLoss
from .dispatch import fused
from .numpy_inplace import BACKWARD, FORWARD, LOSSES

# A block's activations should stay in a core's own cache, and a product needs some rows to run at speed.
_BLOCK_BYTES = 2_500_000
_MIN_BLOCK_ROWS, _MAX_BLOCK_ROWS = 64, 2048
# Handing work to a thread costs some 50 microseconds; below this many operations each it does not pay.
_MIN_WORKER_FLOPS = 10_000_000
# The optimizers' passes run over pieces of the flat buffers that stay in a core's first caches.
_CHUNK = 16_384


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class NumpyBackend(Backend):
    """NumPy on the host's cores.

    Parameters
    ----------
    threads : int, optional
        Worker threads; None takes the cores that this process may use. A run repeats bit by bit for the
        same number of threads.
    """

    name = "numpy"
    device = "cpu"
    xp = np

    def __init__(self, fused: str = "auto", threads: int | None = None) -> None:
        super().__init__(fused)
        self.threads = usable_cores() if threads is None else threads
        self._blas = threadpoolctl.ThreadpoolController()
        self._pool: ThreadPoolExecutor | None = None
        self._depth = 0
        self._local = threading.local()

    def describe(self) -> dict[str, Any]:
        """Library, processor, threads and BLAS."""
        blas = [lib for lib in self._blas.info() if lib["user_api"] == "blas"]
        return super().describe() | {
            "processor": platform.processor() or platform.machine(),
            "cores": usable_cores(),
            "threads": self.threads,
            "blas": blas[0]["internal_api"] if blas else None,
            "blas_version": blas[0]["version"] if blas else None,
        }

    def scratch(self, shape: tuple[int, ...], dtype: str) -> Array | None:
        """Return a buffer that the fused bodies fill, or None where only generic bodies run."""
        return None if self.fused == "never" else np.empty(shape, dtype)

    @contextlib.contextmanager
    def activate(self) -> Iterator[None]:
        """Hold the worker threads and keep the BLAS to one thread for each; may be nested.

        Overflow warns nobody in here: a run that diverges is told by its loss.
        """
        # The generic bodies know no row blocks, so there the BLAS keeps its threads.
        limits = None if self.fused == "never" else 1
        self._depth += 1
        try:
            with self._blas.limit(limits=limits, user_api="blas"), np.errstate(all="ignore"):
                yield
        finally:
            self._depth -= 1
            if self._depth == 0 and self._pool is not None:
                self._pool.shutdown()
                self._pool = None

    # -- the row-block hook --------------------------------------------------------------------------

    @fused("row_blocks")
    def _row_blocks(self, num_rows: int, row_bytes: int, row_flops: int) -> list[list[slice]]:
        useful = max(1, num_rows * row_flops // _MIN_WORKER_FLOPS)
        workers = max(1, min(self.threads, useful, num_rows))
        limit = min(max(_BLOCK_BYTES // max(row_bytes, 1), _MIN_BLOCK_ROWS), _MAX_BLOCK_ROWS)
        shares = _even_slices(0, num_rows, workers)
        return [_even_slices(s.start, s.stop, -(-(s.stop - s.start) // limit)) for s in shares]

    def run_workers(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Run the first task in the calling thread and the others in the pool; wait for all."""
        if len(tasks) == 1:
            tasks[0]()
            return
        if self._pool is None:
            others = max(len(tasks), self.threads) - 1
            self._pool = ThreadPoolExecutor(others, "coordfit-worker", _silence_this_thread)
        futures = [self._pool.submit(task) for task in tasks[1:]]
        try:
            tasks[0]()
        finally:
            wait(futures)
        for future in futures:
            future.result()

    # -- fused bodies --------------------------------------------------------------------------------

    @fused("matmul")
    def _matmul(
        self,
        a: Array,
        b: Array,
        *,
        transpose_a: bool = False,
        transpose_b: bool = False,
        out: Array | None = None,
    ) -> Array:
        # The BLAS takes transposed views by a flag and members by their strides: nothing is copied.
        a = a.swapaxes(-1, -2) if transpose_a else a
        b = b.swapaxes(-1, -2) if transpose_b else b
        return np.matmul(a, b, out=out)

    def _activation_is_known(self, *args: Any, **kwargs: Any) -> str:
        name = next(v.name for v in (*args, *kwargs.values()) if hasattr(v, "keeps_input"))
        return "" if name in FORWARD else f"has no fused body for the activation {name!r}"

    @fused("linear", supports=_activation_is_known)
    def _linear(
        self,
        x: Array,
        W: Array,
        b: Array,
        activation: Activation,
        *,
        out: Array | None = None,
        out_kept: Array | None = None,
    ) -> tuple[Array, Array]:
        z = np.matmul(x, W, out=out_kept if activation.keeps_input else out)
        z += b
        y = np.empty_like(z) if activation.keeps_input and out is None else out
        y = FORWARD[activation.name](activation, z, y if activation.keeps_input else z)
        return y, (z if activation.keeps_input else y)

    @fused("linear_backward", supports=_activation_is_known)
    def _linear_backward(
        self,
        dy: Array,
        x: Array,
        W: Array,
        kept: Array,
        activation: Activation,
        *,
        dW: Array,
        db: Array,
        accumulate: bool = False,
        need_dx: bool = True,
        out: Array | None = None,
    ) -> Array | None:
        dz = BACKWARD[activation.name](activation, dy, kept, self._reuse)
        x_T = x.swapaxes(-1, -2)
        if accumulate:
            dW += np.matmul(x_T, dz, out=self._reuse("dW", dW.shape, dW.dtype))
            db += np.add.reduce(dz, axis=-2, keepdims=True, out=self._reuse("db", db.shape, db.dtype))
        else:
            np.matmul(x_T, dz, out=dW)
            np.add.reduce(dz, axis=-2, keepdims=True, out=db)
        return np.matmul(dz, W.swapaxes(-1, -2), out=out) if need_dx else None

    @fused("fourier_features")
    def _fourier_features(self, coordinates: Array, B: Array, *, out: Array | None = None) -> Array:
        m = B.shape[-2]
        if out is None:
            ensemble = np.broadcast_shapes(coordinates.shape[:-2], B.shape[:-2])
            out = np.empty((*ensemble, coordinates.shape[-2], 2 * m), B.dtype)
        cosines, sines = out[..., :m], out[..., m:]
        phase = np.matmul(coordinates, B.swapaxes(-1, -2), out=sines)
        phase -= np.rint(phase, out=cosines)
        phase *= 2.0 * np.pi
        np.cos(phase, out=cosines)
        np.sin(phase, out=sines)
        return out

    def _loss_is_known(self, loss: ElementwiseLoss, *args: Any, **kwargs: Any) -> str:
        return "" if loss.name in LOSSES else f"has no fused body for the loss {loss.name!r}"

    @fused("loss_and_gradient", supports=_loss_is_known)
    def _loss_and_gradient(
        self,
        loss: ElementwiseLoss,
        prediction: Array,
        target: Array,
        *,
        count: int,
        weights: Array | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array]:
        residual = np.subtract(prediction, target, out=out)
        value = self._reuse("loss", residual.shape, residual.dtype)
        LOSSES[loss.name](loss, residual, value)
        if weights is not None:
            value *= weights
            residual *= weights
        residual *= 1.0 / count
        return np.add.reduce(value, axis=(-2, -1)) / count, residual

    def _pieces(self, *arrays: Array | None) -> Iterator[tuple[Array, ...]]:
        """Walk over flat buffers of shape (*E, P) together, piece by piece along the last axis."""
        length = next(array for array in arrays if array is not None).shape[-1]
        for start in range(0, length, _CHUNK):
            piece = slice(start, start + _CHUNK)
            yield tuple(None if array is None else array[..., piece] for array in arrays)

    @fused("sgd_step")
    def _sgd_step(
        self,
        parameters: Array,
        gradient: Array,
        velocity: Array | None,
        *,
        learning_rate: float | Array,
        momentum: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        for p, g, v in self._pieces(parameters, gradient, velocity):
            t = self._reuse("step", p.shape, p.dtype)
            if v is None:
                p -= np.multiply(g, learning_rate, out=t)
                continue
            v *= momentum
            v += g
            direction = v
            if nesterov:
                direction = np.multiply(v, momentum, out=t)
                direction += g
            p -= np.multiply(direction, learning_rate, out=t)

    @fused("adam_step")
    def _adam_step(
        self,
        parameters: Array,
        gradient: Array,
        first_moment: Array,
        second_moment: Array,
        *,
        step: int,
        learning_rate: float | Array,
        beta1: float,
        beta2: float,
        epsilon: float,
    ) -> None:
        # The two bias corrections are moved into the scalars, which saves a pass over the buffers:
        # m / c1 / (sqrt(v / c2) + eps) = (sqrt(c2) / c1) m / (sqrt(v) + sqrt(c2) eps).
        root_correction = (1.0 - beta2**step) ** 0.5
        step_size = learning_rate * (root_correction / (1.0 - beta1**step))
        for p, g, m, v in self._pieces(parameters, gradient, first_moment, second_moment):
            t = self._reuse("step", p.shape, p.dtype)
            m *= beta1
            m += np.multiply(g, 1.0 - beta1, out=t)
            v *= beta2
            np.multiply(g, g, out=t)
            t *= 1.0 - beta2
            v += t
            np.sqrt(v, out=t)
            t += epsilon * root_correction
            np.divide(m, t, out=t)
            t *= step_size
            p -= t

    def _reuse(self, purpose: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return this thread's own buffer for a purpose: the same memory at every step."""
        try:
            buffers = self._local.buffers
        except AttributeError:
            buffers = self._local.buffers = {}
        key = (purpose, shape, dtype)
        if key not in buffers:
            buffers[key] = np.empty(shape, dtype)
        return buffers[key]


def _silence_this_thread() -> None:
    np.seterr(all="ignore")  # NumPy keeps this by thread


def _even_slices(start: int, stop: int, parts: int) -> list[slice]:
    """Cut [start, stop) into `parts` slices whose lengths differ by at most one."""
    edges = [start + (stop - start) * k // parts for k in range(parts + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]
