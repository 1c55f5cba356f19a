"""The fused bodies of the GPU: products by cublasLt, everything else by kernels of our own.

Where cublasLt refuses an epilogue, a plain product and a kernel do the same; where there is no cublasLt at
all, CuPy's own product and a kernel. Nothing here waits for the device, and nothing that changes from step to
step is a number in a launch where the caller gives it as an array: so a step can be recorded and replayed.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .base import Activation, Array, Backend, ElementwiseLoss, Lattice, Orthogonalize, Tables
from .cublaslt import (
    PRECISIONS,
    WORKSPACE_BYTES,
    CublasLtError,
    CublasLtUnavailableError,
    Ladder,
    Library,
    Planner,
    Pointers,
    Product,
    Rung,
    Strides,
    Types,
    Workspace,
    backward_input,
    backward_weights,
    forward,
    load,
    mask_bytes,
    matmul,
)
from .cupy_layout import (
    C_TYPES,
    ensemble_of,
    fault_of,
    fault_of_written,
    is_packed,
    member_stride,
    members_of,
)
from .cupy_masks import ReluMasks
from .cupy_storage import PRODUCT_TYPES, STORED, Shadows
from .dispatch import FusedUnavailableError, fused
from .kernels import (
    ACTIVATION_TYPES,
    LOSS_TYPES,
    OPTIONS,
    Launcher,
    blocks_for,
    groups_of_rows,
    name_expressions,
    source,
)

_RUNS_TO_TIME = 5


class CupyFused(Backend):
    """The fused bodies, and what they share: the library, the kernels, the workspace, reused buffers."""

    precision: str
    autotune: bool
    _is_recording = False

    def __init__(self, fused: str = "auto") -> None:
        super().__init__(fused)
        self._masks, self._shadows = ReluMasks(), Shadows()
        self._no_masks: set[tuple[Any, ...]] = set()
        self._buffers: dict[tuple[Any, ...], Array] = {}
        self._ladder: Ladder | None = None
        self._workspace: Workspace | None = None
        self._functions: dict[tuple[str, str], Any] = {}
        self._launcher: Launcher | None = None

    # -- what the bodies share -------------------------------------------------------------------------

    @property
    def ladder(self) -> Ladder:
        """Where products find their rung; made at the first one, with this device current."""
        if self._ladder is None:
            with self._here():
                self._ladder = self._new_ladder()
        return self._ladder

    def _new_ladder(self) -> Ladder:
        if self.fused == "never" or getattr(self.xp.cuda.runtime, "is_hip", False):
            return Ladder(None, self.fused, "cublasLt is not for AMD's GPUs")
        try:
            planner = Planner(self._load_cublaslt(), self._time if self.autotune else None)
        except (CublasLtUnavailableError, CublasLtError) as error:
            return Ladder(None, self.fused, str(error))
        return Ladder(planner, self.fused)

    def _load_cublaslt(self) -> Library:
        return load(self.xp.cuda.runtime.runtimeGetVersion() // 1000)

    @property
    def relu_hides_nan(self) -> bool:
        """Whether ReLU is cublasLt's, which turns NaN into 0."""
        return self.fused != "never" and self.ladder.planner is not None

    def _here(self) -> Any:
        return contextlib.nullcontext()

    def _time(self, run: Any) -> float | None:
        """Milliseconds of one run, by events; None while a step is recorded."""
        cuda = self.xp.cuda
        if self._is_recording:
            return None
        stream, start, end = cuda.get_current_stream(), cuda.Event(), cuda.Event()
        run()
        start.record(stream)
        for _ in range(_RUNS_TO_TIME):
            run()
        end.record(stream)
        end.synchronize()
        return float(cuda.get_elapsed_time(start, end)) / _RUNS_TO_TIME

    def launch(
        self,
        name: str,
        instance: tuple[str, ...],
        grid: tuple[int, int],
        *arguments: Any,
        block: int | None = None,
    ) -> None:
        """Launch one of our kernels on the current stream; see `Launcher`."""
        if self._launcher is None:
            scalars = {"int32": np.int32, "int64": np.int64, "float64": np.float64}
            self._launcher = Launcher(self._get_function, scalars)
        self._launcher(name, instance, grid, *arguments, block=block)

    def _get_function(self, file: str, expression: str) -> Any:
        if (file, expression) not in self._functions:
            assert expression in name_expressions(file)
            module = self.xp.RawModule(code=source(file), options=OPTIONS, name_expressions=[expression])
            self._functions[file, expression] = module.get_function(expression)
        return self._functions[file, expression]

    @contextlib.contextmanager
    def _told_if_full(self, what: str) -> Iterator[None]:
        """Turn CuPy's OutOfMemoryError into one line with the sizes and the remedy."""
        try:
            yield
        except MemoryError as error:
            if isinstance(error, DeviceMemoryError):
                raise
            raise DeviceMemoryError(self._line_of_memory(what, error)) from error

    def _line_of_memory(self, what: str, error: MemoryError) -> str:
        return f"{self.device} has no memory for {what}"

    def _new(self, shape: tuple[int, ...], dtype: Any) -> Array:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        with self._told_if_full(f"another {_megabytes(size)} MB (an array of shape {shape})"):
            return self.xp.empty(shape, dtype=dtype)

    def _reuse(self, purpose: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """The same memory for a purpose at every step."""
        key = (purpose, shape, str(dtype))
        if key not in self._buffers:
            self._refuse_new_memory(purpose)
            self._buffers[key] = self._new(shape, dtype)
        return self._buffers[key]

    def _refuse_new_memory(self, purpose: str) -> None:
        if self._is_recording:
            raise RuntimeError(f"the recorded step needs memory ({purpose}) that the steps before it did not")

    def _room(self, offered: Array | None, shape: tuple[int, ...], like: Array) -> Array:
        """The offered buffer where it fits, or a new array."""
        if offered is None or offered.shape != shape or offered.dtype != like.dtype:
            return self._new(shape, like.dtype)
        if is_packed(offered):
            return offered
        return self._new(shape, like.dtype)

    def _packed(self, array: Array, core: int = 2) -> Array:
        return array if is_packed(array, core) else self.xp.ascontiguousarray(array)

    # -- activations of 16 bits --------------------------------------------------------------------------

    @property
    def _stored(self) -> str:
        """The dtype of 16 bits in which activations of float32 networks are kept, or an empty string."""
        return "" if self.fused == "never" else STORED.get(self.precision, "")

    def stored_dtype(self, dtype: str) -> str:
        """See `Backend.stored_dtype`."""
        return (dtype == "float32" and self._stored) or dtype

    def as_numbers(self, array: Array) -> Array:
        """See `Backend.as_numbers`: the words of bfloat16 would be taken for whole numbers."""
        return self._cast(array, self._new(array.shape, np.float32)) if self._is_stored(array) else array

    def _is_stored(self, array: Array | None) -> bool:
        return array is not None and str(array.dtype) == self._stored

    def parameters_changed(self, parameters: Array) -> None:
        """Copy the parameters into 16 bits anew, where products read them so."""
        if self._stored and str(parameters.dtype) == "float32":
            shadow = self._shadows.of(parameters)
            if shadow is None:
                shadow = self._new(parameters.shape, self._stored)
            self._shadows.keep(parameters, shadow)
            self._cast(parameters, shadow, core=parameters.ndim)

    def _shadow(self, parameter: Array) -> Array:
        """W or b in 16 bits: from the copy of its flat buffer, or cast now where it has none."""
        found = self._shadows.find(parameter)
        return self._cast(parameter, self._new(parameter.shape, self._stored)) if found is None else found

    def _widened(self, purpose: str, array: Array) -> Array:
        """The array in float32: itself, or a copy in memory for that purpose."""
        if not self._is_stored(array):
            return array
        return self._cast(array, self._reuse(f"{purpose}, widened", array.shape, np.float32))

    def _cast(self, source: Array, target: Array, core: int = 2) -> Array:
        """Round the numbers of packed arrays of equal shape to another type; the result is `target`."""
        self._masks.forget(target)
        count, members = math.prod(source.shape[-core:]), members_of(source.shape, core)
        types = (C_TYPES[str(source.dtype)], C_TYPES[str(target.dtype)])
        places = (source, member_stride(source, core), target, member_stride(target, core), count)
        self.launch("cast", types, (blocks_for(count), members), *places)
        return target

    def _unless_16_bits(self, fault: str, *arrays: Array | None) -> str:
        """The fault; raised where generic bodies would take words of 16 bits for whole numbers."""
        if fault and any(self._is_stored(array) for array in arrays):
            raise FusedUnavailableError(
                f"precision {self.precision} has fused bodies alone, and this one {fault}; take float32"
            )
        return fault

    # -- products --------------------------------------------------------------------------------------

    def _types(self, operand: Array) -> Types:
        name = str(operand.dtype)
        return PRECISIONS["tf32" if name == "float32" and self.precision == "tf32" else PRODUCT_TYPES[name]]

    def _run(self, product: Product, pointers: Pointers, *, only: Rung | None = None) -> Rung:
        """Run a product on its rung, or on `only` if it has that one; return the rung that was found."""
        stream = self.xp.cuda.get_current_stream().ptr
        step = self.ladder.take(product, pointers, self._get_workspace(), stream)
        if step.rung is not Rung.LIBRARY and only in (None, step.rung):
            step.run(pointers, self._get_workspace(), stream)
        return step.rung

    def _get_workspace(self) -> Workspace:
        if self._workspace is None:
            if self.ladder.planner is None:  # nobody will use it
                return Workspace(0, 0)
            memory = self._reuse("workspace", (WORKSPACE_BYTES,), np.uint8)
            self._workspace = Workspace(memory.data.ptr)
        return self._workspace

    def _multiply(self, a: Array, b: Array, out: Array, transpose_a: bool, transpose_b: bool) -> Array:
        """out = op(a) op(b), of packed operands; `out` is packed too."""
        rows, columns = out.shape[-2:]
        product = matmul(
            rows,
            columns,
            a.shape[-2] if transpose_a else a.shape[-1],
            self._types(out),
            transpose_left=transpose_a,
            transpose_right=transpose_b,
            members=members_of(out.shape),
            strides=Strides(member_stride(a), member_stride(b), member_stride(out)),
        )
        self._or_library(self._run(product, _at(a, b, out)), a, b, out, transpose_a, transpose_b)
        return out

    def _or_library(
        self,
        rung: Rung,
        a: Array,
        b: Array,
        out: Array,
        transpose_a: bool = False,
        transpose_b: bool = False,
        accumulate: bool = False,
    ) -> None:
        """CuPy's own product, where the rung says that none of cublasLt's has run."""
        if rung is not Rung.LIBRARY:
            return
        xp = self.xp
        a, b = self._widened("left", a), self._widened("right", b)
        a = xp.swapaxes(a, -1, -2) if transpose_a else a
        b = xp.swapaxes(b, -1, -2) if transpose_b else b
        product = xp.matmul(a, b)
        if self._is_stored(out):
            self._cast(product, out)
        else:
            out[...] = out + product if accumulate else product

    def _matmul_fits(
        self, a: Array, b: Array, *, transpose_a: bool = False, transpose_b: bool = False, out: Any = None
    ) -> str:
        return fault_of(a, b)

    @fused("matmul", supports=_matmul_fits)
    def _matmul(
        self,
        a: Array,
        b: Array,
        *,
        transpose_a: bool = False,
        transpose_b: bool = False,
        out: Array | None = None,
    ) -> Array:
        a, transpose_a = self._as_it_lies(a, transpose_a)
        b, transpose_b = self._as_it_lies(b, transpose_b)
        rows = a.shape[-1] if transpose_a else a.shape[-2]
        columns = b.shape[-2] if transpose_b else b.shape[-1]
        out = self._room(out, (*ensemble_of(a, b), rows, columns), a)
        self._masks.forget(out)
        return self._multiply(a, b, out, transpose_a, transpose_b)

    def _as_it_lies(self, array: Array, transposed: bool) -> tuple[Array, bool]:
        """A packed operand and its flag: a transposed view is told by the flag, and anything else copied."""
        if not is_packed(array):
            turned = self.xp.swapaxes(array, -1, -2)
            if is_packed(turned):
                return turned, not transposed
        return self._packed(array), transposed

    # -- layers ----------------------------------------------------------------------------------------

    def _linear_fits(self, x: Array, W: Array, b: Array, activation: Activation, **_: Any) -> str:
        fault = _unless_known("activation", activation.name, ACTIVATION_TYPES)
        return self._unless_16_bits(fault or fault_of(x, W, b, stored=self._stored), x)

    @fused("linear", supports=_linear_fits)
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
        x, W, b = self._packed(x), self._packed(W), self._packed(b)
        if self._is_stored(x) == self._is_stored(out):
            return self._layer(x, W, b, activation, out, out_kept)
        # An input that is not stored (coordinates), or an output that is not (the network's own): in float32.
        narrow = self._is_stored(out)
        shape = (*ensemble_of(x, W, b), x.shape[-2], W.shape[-1])
        rooms = [self._reuse(purpose, shape, W.dtype) for purpose in ("y", "z")] if narrow else [out, out_kept]
        y, kept = self._layer(self._widened("x", x), W, b, activation, *rooms)
        if not narrow:
            return y, kept
        stored = self._cast(y, self._room(out, shape, out))
        if kept is y:
            return stored, stored
        return stored, self._cast(kept, self._room(out_kept, shape, out))

    def _layer(
        self,
        x: Array,
        W: Array,
        b: Array,
        activation: Activation,
        out: Array | None,
        out_kept: Array | None,
    ) -> tuple[Array, Array]:
        """`linear` of packed operands, with x and the results in one dtype."""
        shape = (*ensemble_of(x, W, b), x.shape[-2], W.shape[-1])
        z = y = self._room(out_kept if activation.keeps_input else out, shape, x)
        if activation.keeps_input:
            y = self._room(out, shape, x)
        self._masks.forget(y, z)
        if not self._forward(x, W, b, z, activation.name, offered=z is out):
            rows, width = shape[-2:]
            self.launch(
                "bias_activation",
                (C_TYPES[str(z.dtype)], ACTIVATION_TYPES[activation.name]),
                (blocks_for(rows, groups_of_rows(width)), members_of(shape)),
                *(z, member_stride(z), b, member_stride(b), y, member_stride(y), rows, width),
                *(int(activation.keeps_input), getattr(activation, "omega", 0.0)),
            )
        return y, z if activation.keeps_input else y

    def _forward(self, x: Array, W: Array, b: Array, z: Array, name: str, *, offered: bool) -> bool:
        """Z = x W, and whether bias and activation were done with it."""
        rows, (n_in, n_out), types = x.shape[-2], W.shape[-2:], self._types(x)
        if self._is_stored(x):
            W, b = self._shadow(W), self._shadow(b)
        strides: dict[str, Any] = {
            "members": members_of(z.shape),
            "x_stride": member_stride(x),
            "W_stride": member_stride(W),
            "b_stride": member_stride(b),
            "y_stride": member_stride(z),
        }
        pointers = _at(x, W, z)._replace(vector=b.data.ptr)
        if name == "relu" and (mask := self._room_for_mask(z) if offered else None) is not None:
            product = forward(rows, n_in, n_out, types, **strides)
            if self._run(product, pointers._replace(mask=mask.data.ptr), only=Rung.EPILOGUE) is Rung.EPILOGUE:
                self._masks.note(z)
                return True
        ends = name in ("relu", "identity")
        relu = name == "relu"
        product = forward(rows, n_in, n_out, types, bias=ends, relu=relu, mask=False, **strides)
        rung = self._run(product, pointers if ends else _at(x, W, z))
        self._or_library(rung, x, W, z)
        return ends and rung is Rung.EPILOGUE

    def _room_for_mask(self, y: Array) -> Array | None:
        """Memory for the mask of y, or None where the product that would read it is refused."""
        if self.ladder.planner is None or (*y.shape, str(y.dtype)) in self._no_masks:
            return None
        size = mask_bytes(*y.shape[-2:]) * members_of(y.shape)
        mask = self._masks.room(y, size)
        if mask is None:
            self._refuse_new_memory("mask")
            mask = self._new((size,), np.uint8)
            self._masks.keep_room(y, mask)
        return mask

    def _derivative_fits(self, activation: Activation, dy: Array, kept: Array) -> str:
        fault = _unless_known("activation", activation.name, ACTIVATION_TYPES)
        fault = fault or fault_of(dy, kept, stored=self._stored)
        if not fault and dy.dtype != kept.dtype:
            fault = f"takes arrays of one dtype, not of {dy.dtype} and {kept.dtype}"
        return self._unless_16_bits(fault, dy, kept)

    @fused("activation_backward", supports=_derivative_fits)
    def _activation_backward(self, activation: Activation, dy: Array, kept: Array) -> Array:
        if activation.name == "identity":
            return dy
        dz = dy if is_packed(dy) else self.xp.ascontiguousarray(dy)
        kept = self._packed(kept)
        self._masks.forget(dz)
        rows, width = dz.shape[-2:]
        self.launch(
            "activation_backward",
            (C_TYPES[str(dz.dtype)], ACTIVATION_TYPES[activation.name]),
            (blocks_for(rows * width), members_of(dz.shape)),
            *(dz, member_stride(dz), kept, member_stride(kept), dz, member_stride(dz), rows * width),
            getattr(activation, "omega", 0.0),
        )
        return dz

    def _backward_fits(
        self,
        dz: Array,
        x: Array,
        W: Array,
        *,
        dW: Array,
        db: Array,
        below: tuple[Activation, Array] | None = None,
        **_: Any,
    ) -> str:
        kept = None if below is None else below[1]
        fault = fault_of(dz, x, W, dW, db, kept, stored=self._stored) or fault_of_written(dW, db)
        if not fault and below is not None:
            fault = _unless_known("activation", below[0].name, ACTIVATION_TYPES)
        return self._unless_16_bits(fault, dz, x, kept)

    @fused("linear_backward", supports=_backward_fits)
    def _linear_backward(
        self,
        dz: Array,
        x: Array,
        W: Array,
        *,
        dW: Array,
        db: Array,
        accumulate: bool = False,
        below: tuple[Activation, Array] | None = None,
        out: Array | None = None,
    ) -> Array | None:
        dz, x = self._packed(dz), self._packed(x)
        if self._is_stored(dz) != self._is_stored(x):  # see `_linear`: the layer is computed in float32
            dz, x = self._widened("dz", dz), self._widened("x", x)
        self._weights_backward(dz, x, dW, db, accumulate)
        if below is None:
            return None
        activation, kept = below
        W, kept = self._packed(W), kept if is_packed(kept) else self.xp.ascontiguousarray(kept)
        shape = (*ensemble_of(dz, W), dz.shape[-2], W.shape[-2])
        if self._is_stored(dz) == self._is_stored(kept):
            dx = self._room(out, shape, dz)
            if self._input_backward(dz, W, dx, kept if activation.name == "relu" else None):
                return dx
        else:
            wide = self._reuse("dx", shape, W.dtype)
            self._input_backward(dz, W, wide, None)
            dx = self._cast(wide, self._room(out, shape, kept))
        return self._activation_backward(activation, dx, kept)

    def _weights_backward(self, dz: Array, x: Array, dW: Array, db: Array, accumulate: bool) -> None:
        """DW = x^T dz and db = the sum over rows of dz; both added to where they accumulate."""
        members = members_of(dW.shape)
        # The library overwrites db, so that what is to be added goes to a place of its own first.
        new_db = self._reuse("db", db.shape, db.dtype) if accumulate else db
        product = backward_weights(
            x.shape[-2],
            dW.shape[-2],
            dW.shape[-1],
            self._types(x),
            accumulate=accumulate,
            members=members,
            x_stride=member_stride(x),
            dz_stride=member_stride(dz),
            dW_stride=member_stride(dW),
            db_stride=member_stride(new_db),
        )
        rung = self._run(product, _at(x, dz, dW)._replace(vector=new_db.data.ptr))
        self._or_library(rung, x, dz, dW, transpose_a=True, accumulate=accumulate)
        if rung is not Rung.EPILOGUE:
            self._sum_over_rows(dz, db, accumulate)
        elif accumulate:
            self._add(db, new_db, core=2)

    def _sum_over_rows(self, dz: Array, db: Array, accumulate: bool) -> None:
        rows, width = dz.shape[-2:]
        members, c_type = members_of(db.shape), (C_TYPES[str(dz.dtype)],)
        blocks = blocks_for(rows, groups_of_rows(width))
        partials = self._reuse("column sums", (members, blocks, width), db.dtype)
        grid = (blocks, members)
        self.launch("column_sums", c_type, grid, dz, member_stride(dz), partials, blocks * width, rows, width)
        self._sum_partials(partials, db, member_stride(db), accumulate)

    def _sum_partials(self, partials: Array, out: Array, stride: int, accumulate: bool) -> None:
        """Sum partials (K, parts, width) into `width` numbers from where `out` begins, for each member."""
        members, parts, width = partials.shape
        grid = (blocks_for(width, 32), members)
        places = (partials, parts * width, out, stride, parts, width, int(accumulate))
        self.launch("sum_partials", (C_TYPES[str(out.dtype)],), grid, *places)

    def _input_backward(self, dz: Array, W: Array, dx: Array, kept: Array | None) -> bool:
        """Dx = dz W^T, and whether the ReLU below, whose output `kept` is, was masked with it."""
        mask = None
        if kept is not None and (*kept.shape, str(kept.dtype)) not in self._no_masks:
            mask = self._masks.find(kept, mask_bytes(*kept.shape[-2:]) * members_of(kept.shape))
        self._masks.forget(dx)
        if self._is_stored(dz):
            W = self._shadow(W)
        product = backward_input(
            dz.shape[-2],
            W.shape[-2],
            W.shape[-1],
            self._types(dz),
            masked=mask is not None,
            members=members_of(dx.shape),
            dz_stride=member_stride(dz),
            W_stride=member_stride(W),
            out_stride=member_stride(dx),
        )
        pointers = _at(dz, W, dx)
        rung = self._run(product, pointers if mask is None else pointers._replace(mask=mask.data.ptr))
        self._or_library(rung, dz, W, dx, transpose_b=True)
        if mask is None:
            return False
        if rung is not Rung.EPILOGUE and kept is not None:
            self._no_masks.add((*kept.shape, str(kept.dtype)))  # a mask that nobody reads is not written again
        return rung is Rung.EPILOGUE

    # -- features, rows, losses ------------------------------------------------------------------------

    def _features_fit(self, coordinates: Array, B: Array, **_: Any) -> str:
        if coordinates.shape[-1] != 2:
            return f"takes coordinates in 2 dimensions, not {coordinates.shape[-1]}"
        return fault_of(coordinates, B)

    @fused("fourier_features", supports=_features_fit)
    def _fourier_features(self, coordinates: Array, B: Array, *, out: Array | None = None) -> Array:
        coordinates, B = self._packed(coordinates), self._packed(B)
        rows, m = coordinates.shape[-2], B.shape[-2]
        out = self._room(out, (*ensemble_of(coordinates, B), rows, 2 * m), out if self._is_stored(out) else B)
        self.launch(
            "fourier_features",
            (C_TYPES[str(B.dtype)], C_TYPES[str(out.dtype)]),
            (blocks_for(rows, groups_of_rows(m)), members_of(out.shape)),
            *(coordinates, member_stride(coordinates), B, member_stride(B), out, member_stride(out), rows, m),
        )
        return out

    def _pixels_fit(self, index: Array, lattice: Lattice, B: Array, *, dtype: str, **_: Any) -> str:
        if str(index.dtype) != "int64" or index.ndim not in (1, 2) or str(B.dtype) != dtype:
            return "takes numbers of pixels in int64, and frequencies of the coordinates' dtype"
        return fault_of(B) or ("" if index.size else "takes no empty arrays")

    @fused("pixel_fourier_features", supports=_pixels_fit)
    def _pixel_fourier_features(
        self, index: Array, lattice: Lattice, B: Array, *, dtype: str, out: Array | None = None
    ) -> Array:
        index, B = self._packed(index, core=1), self._packed(B)
        rows, m = index.shape[-1], B.shape[-2]
        ensemble = max(index.shape[:-1], B.shape[:-2])
        out = self._room(out, (*ensemble, rows, 2 * m), out if self._is_stored(out) else B)
        self.launch(
            "pixel_fourier_features",
            (C_TYPES[str(B.dtype)], C_TYPES[str(out.dtype)]),
            (blocks_for(rows, groups_of_rows(m)), members_of(out.shape)),
            *(index, member_stride(index, 1), B, member_stride(B), out, member_stride(out), rows, m, *lattice),
        )
        return out

    def _tables_fit(self, x_tables: Tables, y_tables: Tables, rows: slice, **_: Any) -> str:
        if x_tables[0].ndim != 2 or rows.stop <= rows.start:
            return "takes tables of one network, and a pixel or more"
        return fault_of(*x_tables, *y_tables)

    @fused("grid_fourier_features", supports=_tables_fit)
    def _grid_fourier_features(
        self, x_tables: Tables, y_tables: Tables, rows: slice, *, out: Array | None = None
    ) -> Array:
        tables = (*x_tables, *y_tables)
        if len({_pitch(table) for table in tables}) > 1 or _pitch(tables[0]) == 0:
            tables = tuple(self.xp.ascontiguousarray(table) for table in tables)
        width, m = tables[0].shape
        count = rows.stop - rows.start
        out = self._room(out, (count, 2 * m), out if self._is_stored(out) else tables[0])
        grid = (blocks_for(count, groups_of_rows(m)), 1)
        arguments = (_pitch(tables[0]) or m, out, rows.start, count, m, width)
        types = (C_TYPES[str(tables[0].dtype)], C_TYPES[str(out.dtype)])
        self.launch("grid_fourier_features", types, grid, *tables, *arguments)
        return out

    def _rows_fit(self, array: Array, index: Array, **_: Any) -> str:
        if str(index.dtype) != "int64" or not index.size:
            return "takes numbers of rows of int64"
        return fault_of(array, stored=self._stored)

    @fused("take_rows", supports=_rows_fit)
    def _take_rows(self, array: Array, index: Array, *, out: Array | None = None) -> Array:
        array, index = self._packed(array), self._packed(index, core=1)
        rows, width = index.shape[-1], array.shape[-1]
        ensemble = array.shape[:-2] or index.shape[:-1]
        out = self._room(out, (*ensemble, rows, width), array)
        self.launch(
            "take_rows",
            (C_TYPES[str(array.dtype)],),
            (blocks_for(rows, groups_of_rows(width)), members_of(out.shape)),
            *(array, member_stride(array), index, member_stride(index, core=1), out, member_stride(out)),
            *(rows, width),
        )
        return out

    def _loss_fits(
        self,
        loss: ElementwiseLoss,
        prediction: Array,
        target: Array,
        *,
        weights: Array | None = None,
        **_: Any,
    ) -> str:
        return _unless_known("loss", loss.name, LOSS_TYPES) or fault_of(prediction, target, weights)

    @fused("loss_and_gradient", supports=_loss_fits)
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
        prediction, target = self._packed(prediction), self._packed(target)
        weights = None if weights is None else self._packed(weights)
        dy = self._room(out, prediction.shape, prediction)
        rows, channels = prediction.shape[-2:]
        members, c_type = members_of(prediction.shape), C_TYPES[str(prediction.dtype)]
        blocks = blocks_for(rows * channels)
        partials = self._reuse("losses", (members, blocks), np.float64)
        # Not a buffer that the next call would write over: who sums up losses may still hold this one.
        value = self._new(prediction.shape[:-2], prediction.dtype)
        self.launch(
            "loss_and_gradient",
            (c_type, LOSS_TYPES[loss.name]),
            (blocks, members),
            *(prediction, member_stride(prediction), target, member_stride(target)),
            *(weights, 0 if weights is None else member_stride(weights), dy, member_stride(dy)),
            *(partials, blocks, rows, channels, self._loss_scale(prediction) / count),
            getattr(loss, "delta", 0.0),
        )
        self._sum_values(partials, 1.0 / count, value)
        return value, dy

    def _loss_scale(self, array: Array) -> float:
        return self.loss_scale if str(array.dtype) == "float32" else 1.0

    def _sum_values(self, partials: Array, scale: float, value: Array) -> None:
        """Value = scale times the sum of partials (K, blocks), shape E."""
        members, blocks = partials.shape
        places = (value, 1, 1, None, 0, 0)  # no history: one value for each member
        c_type = (C_TYPES[str(value.dtype)],)
        self.launch("sum_values", c_type, (1, members), partials, blocks, blocks, scale, *places)

    # -- optimizers ------------------------------------------------------------------------------------

    def _update_fits(self, gradients: Sequence[Array], *buffers: Array | None) -> str:
        arrays = [array for array in (*buffers, *gradients) if array is not None]
        fault = fault_of(*arrays, core=1) or fault_of_written(*arrays, core=1)
        if fault or len({member_stride(array, 1) for array in arrays}) == 1:
            return fault
        return "takes buffers that are laid out alike"

    def _sgd_fits(self, parameters: Array, gradients: Sequence[Array], velocity: Array | None, **_: Any) -> str:
        return self._update_fits(gradients, parameters, velocity)

    @fused("sgd_step", supports=_sgd_fits)
    def _sgd_step(
        self,
        parameters: Array,
        gradients: Sequence[Array],
        velocity: Array | None,
        *,
        learning_rate: float | Array,
        momentum: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        rates, stride = self._rates(learning_rate)
        count, members = parameters.shape[-1], members_of(parameters.shape, 1)
        shadow, types = self._shadow_and_types(parameters)
        self.launch(
            "sgd_step",
            types,
            (blocks_for(count), members),
            *(parameters, self._sum(gradients), velocity, shadow, member_stride(parameters, 1), count),
            *(rates, stride, momentum, int(nesterov), self._loss_scale(parameters)),
        )

    def _adam_fits(
        self,
        parameters: Array,
        gradients: Sequence[Array],
        first_moment: Array,
        second_moment: Array,
        **_: Any,
    ) -> str:
        return self._update_fits(gradients, parameters, first_moment, second_moment)

    @fused("adam_step", supports=_adam_fits)
    def _adam_step(
        self,
        parameters: Array,
        gradients: Sequence[Array],
        first_moment: Array,
        second_moment: Array,
        *,
        step: int | Array,
        learning_rate: float | Array,
        beta1: float,
        beta2: float,
        epsilon: float,
    ) -> None:
        rates, stride = self._rates(learning_rate)
        if isinstance(step, int):
            counter = self._reuse("step", (1,), np.int64)
            counter.fill(step)
            step = counter
        count, members = parameters.shape[-1], members_of(parameters.shape, 1)
        shadow, types = self._shadow_and_types(parameters)
        self.launch(
            "adam_step",
            types,
            (blocks_for(count), members),
            *(parameters, self._sum(gradients), first_moment, second_moment, shadow),
            *(member_stride(parameters, 1), count, step, rates, stride, beta1, beta2, epsilon),
            self._loss_scale(parameters),
        )

    @fused("muon_step")
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
        # A loss scale changes the length of gradient and momentum, and no step is as long as those.
        Backend.muon_step(  # of primitives, whose products are our own
            self,
            parameters,
            gradients,
            momenta,
            orthogonalize=orthogonalize,
            learning_rate=learning_rate,
            momentum=momentum,
            scale=scale,
            out=out,
        )
        shadow = self._shadows.of_part(parameters)
        if shadow is not None:
            self._cast(parameters, shadow, core=1)

    def _shadow_and_types(self, parameters: Array) -> tuple[Array | None, tuple[str, str]]:
        """The copy in 16 bits that the optimizer's pass keeps up to date, if there is one, and both types."""
        shadow, own = self._shadows.of_part(parameters), C_TYPES[str(parameters.dtype)]
        return shadow, (own, own if shadow is None else C_TYPES[str(shadow.dtype)])

    def _rates(self, learning_rate: float | Array) -> tuple[Array, int]:
        """Learning rates in float64 on the device, and the stride from one member's to the next."""
        if isinstance(learning_rate, int | float):
            rates = self._reuse("rate", (1,), np.float64)
            rates.fill(learning_rate)
            return rates, 0
        stride = 0 if learning_rate.size == 1 else 1
        if str(learning_rate.dtype) == "float64" and learning_rate.flags.c_contiguous:
            return learning_rate, stride
        rates = self._reuse("rates", learning_rate.shape, np.float64)
        rates[...] = learning_rate
        return rates, stride

    def _sum(self, gradients: Sequence[Array]) -> Array:
        """The sum of the workers' gradients, in the first of them."""
        for part in gradients[1:]:
            self._add(gradients[0], part, core=1)
        return gradients[0]

    def _add(self, total: Array, part: Array, core: int) -> None:
        count, members = math.prod(total.shape[-core:]), members_of(total.shape, core)
        places = (total, member_stride(total, core), part, member_stride(part, core), count)
        self.launch("add", (C_TYPES[str(total.dtype)],), (blocks_for(count), members), *places)


class DeviceMemoryError(MemoryError):
    """The device is full; the message has the sizes and the remedy, in one line."""


def _at(left: Array, right: Array, out: Array) -> Pointers:
    return Pointers(left.data.ptr, right.data.ptr, out.data.ptr)


def _pitch(table: Array) -> int:
    """Elements from one row of a table to the next, 0 where its rows are not contiguous."""
    if table.shape[1] > 1 and table.strides[1] != table.itemsize:
        return 0
    return int(table.strides[0]) // int(table.itemsize) if table.shape[0] > 1 else int(table.shape[1])


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f}"


def _unless_known(kind: str, name: str, known: Any) -> str:
    return "" if name in known else f"has no fused body for the {kind} {name!r}"
