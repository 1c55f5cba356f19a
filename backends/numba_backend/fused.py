"""The fused bodies of the Numba backend: each writes its work down as instructions of `compiled`."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dispatch import fused
from ..numpy_backend.backend import NumpyBackend, even_slices
from ..protocols import (
    Activation,
    Array,
    ElementwiseLoss,
    NotRecordedError,
    Orthogonalize,
    UpdateRule,
)

# Below this many operations, or this many columns, a part of a product is not worth a worker of its own.
_MIN_PART_FLOPS = 400_000
_MIN_PART_COLUMNS = 32
_LINE = 16  # numbers of float32 in a cache line
# Below this many numbers each, the optimizer's pass is not worth a second worker: in a program, and outside.
_MIN_PART_NUMBERS = 8_192
_MIN_PART_BYTES = 32_768
_MIN_WORKER_NUMBERS = 1_000_000


class NumbaFused(NumpyBackend):
    """Primitives as instructions, carried out at once or noted for a program.

    Parameters as of `NumpyBackend`.
    """

    def __init__(self, fused: str = "auto", threads: int | None = None) -> None:
        super().__init__(fused, threads)
        import backends.numba_backend.compiled as compiled  # half a second that other backends do not pay

        from .loops import NUMBA_LOOPS

        self.loops = NUMBA_LOOPS
        self._compiled = compiled
        self._gemm = compiled.find_gemm([library.dynlib for library in self._blas.lib_controllers])
        self._barrier = compiled.Barrier(1).argument()  # of one thread: a program that runs alone never waits
        self._recordings = threading.local()

    @property
    def _recording(self) -> Any:
        """What this thread records a step into; None where instructions are carried out."""
        return getattr(self._recordings, "current", None)

    # -- instructions: done at once, or noted ----------------------------------------------------------

    def _do(self, parts: Sequence[Any], *arrays: Array, dtype: Any) -> None:
        """Carry out a primitive's parts, or note them while a step is recorded."""
        if self._recording is not None:
            self._recording.add(parts, *arrays, dtype=dtype)
            return
        dtype = np.dtype(np.float32 if dtype is None else dtype)
        gemm, like = self._gemm_of(dtype), self._reuse("like", (1,), dtype)
        for part in parts:
            self._compiled.execute(part, gemm, like, self._barrier)

    def _gemm_of(self, dtype: Any) -> Any:
        found = None if self._gemm is None else self._gemm.argument(dtype)
        return found or (0, np.int64(0))  # never called where there is none

    def _compiles(self, *arrays: Array, product: bool = False) -> bool:
        """Whether compiled code can take these arrays; while a step is recorded it must."""
        dtype = arrays[0].dtype
        known = dtype in (np.float32, np.float64) and all(a.dtype == dtype for a in arrays)
        if known and all(map(self._compiled.is_plain, arrays)) and not (product and self._gemm is None):
            return True
        self._refuse("arrays of this kind")
        return False

    def _refuse(self, what: str) -> None:
        if self._recording is not None:
            raise NotRecordedError(f"{what}: no compiled body")

    def _result(self, array: Array) -> Array:
        return array if self._recording is None else self._compiled.pending(array)

    def _parts(self, numbers: int, smallest: int) -> list[slice]:
        """Cut [0, numbers) for the workers of a program; whole outside of one."""
        ways = 1 if self._recording is None else self._recording.ways
        return even_slices(0, numbers, max(1, min(ways, numbers // smallest)))

    # -- primitives --------------------------------------------------------------------------------------

    @fused("take_rows")
    def _take_rows(self, array: Array, index: Array, *, out: Array | None = None) -> Array:
        c = self._compiled
        fits = index.ndim <= 2 and index.dtype == np.int64 and index.strides[-1] == index.itemsize
        if (
            not fits
            or not c.is_plain(array)
            or (array.ndim == 3 and index.ndim == 2 and len(array) != len(index))
        ):
            self._refuse("take_rows of such arrays")
            return super()._take_rows(array, index, out=out)
        ensemble, rows = array.shape[:-2] or index.shape[:-1], index.shape[-1]
        y = _out_or_new((*ensemble, rows, array.shape[-1]), array.dtype, out)
        row_bytes = array.shape[-1] * array.itemsize
        whole = c.instruction(
            c.TAKE_ROWS,
            **c.at("x", array),
            **c.at("y", y),
            index=c.address_of(index),
            index_step=0 if index.ndim == 1 else index.strides[0],
            members=math.prod(ensemble),
            rows=rows,
            inputs=row_bytes,
        )
        parts = self._parts(rows, max(1, _MIN_PART_BYTES // row_bytes))
        self._do(c.shared_out(whole, columns=parts), array, index, y, dtype=None)
        return self._result(y)

    @fused("linear")
    def _linear(
        self,
        x: Array,
        W: Array,
        b: Array,
        activation: Activation,
        *,
        out: Array | None = None,
        out_saved: Array | None = None,
    ) -> tuple[Array, Array]:
        c = self._compiled
        if not self._compiles(x, W, b, product=True):
            return super()._linear(x, W, b, activation, out=out, out_saved=out_saved)
        rows, (inputs, units) = x.shape[-2], W.shape[-2:]
        y = _out_or_new((*W.shape[:-2], rows, units), W.dtype, out)
        saved = _out_or_new(y.shape, W.dtype, out_saved) if activation.saves_input else y
        shape = {"members": math.prod(W.shape[:-2]), "rows": rows, "inputs": inputs, "units": units}
        places = {**c.at("x", x), **c.at("W", W), **c.at("b", b), **c.at("y", y), **c.at("saved", saved)}
        kernel = c.forward_kernel(activation, W.dtype)
        whole = c.instruction(c.LINEAR, **kernel.fields, **shape, **places)
        # By columns, so that each worker reads its own weights; an output layer has too few of them.
        by_rows = units < 2 * _MIN_PART_COLUMNS
        parts = self._parts_of_product(rows if by_rows else units, 2 * rows * W.size)
        all_rows, all_columns = [slice(0, rows)] * len(parts), [slice(0, units)] * len(parts)
        ranges = (parts, all_columns) if by_rows else (all_rows, parts)
        programs = c.shared_out(whole, rows=ranges[0], columns=ranges[1])
        self._do(programs, x, W, b, y, saved, kernel.coefficients, dtype=W.dtype)
        return self._result(y), self._result(saved)

    def _parts_of_product(self, length: int, flops: int) -> list[slice]:
        """Cut an axis of so many numbers, where a product over all of it takes `flops` operations."""
        smallest = max(_MIN_PART_COLUMNS, -(-_MIN_PART_FLOPS * length // max(flops, 1)))
        # Two workers that write into one cache line would wait for each other at every row.
        groups = self._parts(-(-length // _LINE), -(-smallest // _LINE))
        return [slice(g.start * _LINE, min(g.stop * _LINE, length)) for g in groups]

    @fused("activation_backward")
    def _activation_backward(self, activation: Activation, dy: Array, saved: Array) -> Array:
        c = self._compiled
        contiguous = dy.flags.c_contiguous and saved.flags.c_contiguous and dy.shape == saved.shape
        if not contiguous or not self._compiles(dy, saved):
            self._refuse("activation_backward of such arrays")
            return super()._activation_backward(activation, dy, saved)
        kernel = c.backward_kernel(activation, dy.dtype)
        places = {"dz": c.address_of(dy), "y": c.address_of(saved)}
        whole = c.instruction(c.ACTIVATION_BACKWARD, **kernel.fields, **places)
        programs = c.shared_out(whole, columns=self._parts(dy.size, _MIN_PART_NUMBERS))
        self._do(programs, dy, saved, kernel.coefficients, dtype=dy.dtype)
        return dy

    @fused("linear_backward")
    def _linear_backward(
        self,
        dz: Array,
        x: Array,
        W: Array,
        *,
        dW: Array,
        db: Array,
        accumulate: bool = False,
        previous: tuple[Activation, Array] | None = None,
        out: Array | None = None,
    ) -> Array | None:
        c = self._compiled
        saved = x if previous is None else previous[1]
        if not self._compiles(dz, x, W, dW, db, saved, product=True):
            return super()._linear_backward(
                dz, x, W, dW=dW, db=db, accumulate=accumulate, previous=previous, out=out
            )
        rows, (inputs, units) = x.shape[-2], W.shape[-2:]
        dx = None if previous is None else _out_or_new((*W.shape[:-2], rows, inputs), W.dtype, out)
        places = {**c.at("x", x), **c.at("W", W), **c.at("dz", dz), **c.at("dW", dW), **c.at("db", db)}
        arrays = [dz, x, W, dW, db]
        if previous is not None and dx is not None:
            kernel = c.backward_kernel(previous[0], W.dtype)
            places |= {**c.at("dx", dx), **c.at("saved", saved), **kernel.fields}
            arrays += [saved, dx, kernel.coefficients]
        shape = {"members": math.prod(W.shape[:-2]), "rows": rows, "inputs": inputs, "units": units}
        whole = c.instruction(c.LINEAR_BACKWARD, accumulate=accumulate, **shape, **places)
        parts = self._parts_of_product(inputs, (2 if dx is None else 4) * rows * W.size)
        by_units = even_slices(0, units, len(parts))
        self._do(c.shared_out(whole, columns=parts, units=by_units), *arrays, dtype=W.dtype)
        return None if dx is None else self._result(dx)

    @fused("loss_and_gradient")
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
        c = self._compiled
        given = (prediction, target) if weights is None else (prediction, target, weights)
        if not self._compiles(*given):
            return super()._loss_and_gradient(loss, prediction, target, count=count, weights=weights, out=out)
        ensemble, (rows, channels) = prediction.shape[:-2], prediction.shape[-2:]
        dy, value = _out_or_new(prediction.shape, prediction.dtype, out), np.empty(ensemble, prediction.dtype)
        places = {**c.at("y", prediction), **c.at("target", target), **c.at("dz", dy)}
        if weights is not None:
            places |= c.at("weights", weights)
        kernel = c.loss_kernel(loss, prediction.dtype, 1.0 / count)
        whole = c.instruction(
            c.LOSS,
            **places,
            **kernel.fields,
            members=math.prod(ensemble),
            rows=rows,
            units=channels,
            value=c.address_of(value),
        )
        self._do([whole], *given, dy, value, kernel.coefficients, dtype=prediction.dtype)
        return self._result(value) if self._recording is not None else value[()], self._result(dy)

    @fused("optimizer_step")
    def _optimizer_step(
        self,
        rule: UpdateRule,
        parameters: Array,
        gradients: Sequence[Array],
        state: Sequence[Array],
        *,
        step: int | Array,
        learning_rate: float | Array,
    ) -> None:
        if not self._lie_flat(parameters, *gradients, *state):
            super()._optimizer_step(rule, parameters, gradients, state, step=step, learning_rate=learning_rate)
            return
        c, dtype = self._compiled, parameters.dtype
        kernel = c.update_kernel(rule, dtype)
        states = np.array([c.address_of(buffer) for buffer in state] or [0], np.int64)
        settings = {**kernel.fields, "states": c.address_of(states)}
        whole, arrays = self._update_of(c.UPDATE, parameters, gradients, learning_rate, step, settings)
        arrays += (states, *state, kernel.coefficients)
        programs = self._shared_by_workers(whole, math.prod(parameters.shape[:-1]), parameters.shape[-1])
        if self._recording is not None or len(programs) == 1:
            self._do(programs, *arrays, dtype=dtype)
        else:
            self.run_workers(
                [functools.partial(self._do, [program], *arrays, dtype=dtype) for program in programs]
            )

    def _muon_is_compiled(self, parameters: Array, gradients: Sequence[Array], momenta: Array, **_: Any) -> str:
        if self._gemm is not None and self._lie_flat(parameters, *gradients, momenta):
            return ""
        return "has no compiled Muon for such arrays"

    @fused("muon_step", supports=_muon_is_compiled)
    def _muon_step(
        self,
        parameters: Array,
        gradients: Sequence[Array],
        momenta: Array,
        *,
        orthogonalize: Orthogonalize,
        learning_rate: float | Array,
        momentum: float,
        scale: float,
        out: Array,
    ) -> None:
        c, n = self._compiled, orthogonalize.size
        linear, cubic, quintic = orthogonalize.coefficients
        rooms = dict(zip(("y", "dz", "dx"), map(c.address_of, orthogonalize.buffers), strict=True))
        settings = {
            **rooms,
            "x": c.address_of(out),
            "rows": n,
            "iterations": orthogonalize.iterations,
            "momenta": c.address_of(momenta),
            "momentum": momentum,
            "scale": scale,
            "linear": linear,
            "cubic": cubic,
            "quintic": quintic,
        }
        whole, arrays = self._update_of(c.MUON, parameters, gradients, learning_rate, None, settings)
        self._do([whole], *arrays, momenta, out, *orthogonalize.buffers, dtype=parameters.dtype)

    def _lie_flat(self, *buffers: Array) -> bool:
        """Whether parts of flat buffers (*E, P) lie alike, in one dtype; in a recorded step they must."""
        dtype, stride = buffers[0].dtype, _row_bytes(buffers[0])
        known = dtype in (np.float32, np.float64) and all(a.dtype == dtype for a in buffers)
        if known and all(a.strides[-1] == a.itemsize and _row_bytes(a) == stride for a in buffers):
            return True
        self._refuse("an optimizer on arrays of this kind")
        return False

    def _update_of(
        self,
        kind: int,
        parameters: Array,
        gradients: Sequence[Array],
        learning_rate: float | Array,
        step: int | Array | None,
        settings: dict[str, float],
    ) -> tuple[Any, tuple[Array, ...]]:
        """Return the instruction for all members, and the arrays that it names."""
        c = self._compiled
        rates = (
            learning_rate if isinstance(learning_rate, np.ndarray) else np.array([learning_rate], np.float64)
        )
        counter = step if isinstance(step, np.ndarray) else np.array([step or 0], np.int64)
        if rates.dtype != np.float64 or not rates.flags.c_contiguous:
            self._refuse("learning rates of this kind")
            rates = np.ascontiguousarray(rates, np.float64)
        table = np.array([c.address_of(gradient) for gradient in gradients], np.int64)
        members, width = math.prod(parameters.shape[:-1]), parameters.shape[-1]
        whole = c.instruction(
            kind,
            units=_row_bytes(parameters) // parameters.itemsize,
            members=members,
            last_row=members,
            last=width,
            parameters=c.address_of(parameters),
            gradients=c.address_of(table),
            num_gradients=len(table),
            rates=c.address_of(rates),
            num_rates=rates.size,
            counter=c.address_of(counter),
            **settings,
        )
        return whole, (parameters, *gradients, rates, table, counter)

    def _shared_by_workers(self, whole: Any, members: int, width: int) -> list[Any]:
        """An optimizer's pass in parts: of members where there are enough, else of each one's columns."""
        if self._recording is not None:
            ways = min(self._recording.ways, members * width // _MIN_PART_NUMBERS)
        else:
            ways = 1 if self._local.is_at_work else min(self.threads, members * width // _MIN_WORKER_NUMBERS)
        if ways <= 1:
            return [whole]
        if members >= ways:
            return self._compiled.shared_out(whole, rows=even_slices(0, members, ways))
        return self._compiled.shared_out(whole, columns=even_slices(0, width, ways))


def _row_bytes(a: Array) -> int:
    """From one member's numbers to the next one's in a part of a flat buffer (*E, P); -1 where that varies."""
    if a.ndim == 1:
        return int(a.size * a.itemsize)
    return int(a.strides[-2]) if a.ndim == 2 or a.flags.c_contiguous else -1


def _out_or_new(shape: tuple[int, ...], dtype: Any, out: Array | None) -> Array:
    """Room for a result: what is on offer if it fits, else new memory."""
    if out is not None and out.shape == shape and out.dtype == dtype and out.flags.c_contiguous:
        return out
    return np.empty(shape, dtype)
