"""`Backend`: an array module and the primitives of a training step, each with a generic body.

Letters in shapes: E ensemble axes (`()` for one network, `(K,)` for K), N rows (pixels), F features,
H hidden units, C channels, m frequencies. Only the last two axes are ever addressed; an array whose
ensemble axes are missing is shared by all members.

The generic bodies use the array API standard alone, so any library that follows it becomes a backend by a
subclass of a few lines. They are the reference: a fused body must give the same result (tests hold it).

`out=` is an offer, not an order: a primitive may fill the buffer and return it, or return a new array.
Callers use what is returned. Gradients (`dW`, `db`) and optimizer state are always written in place.
"""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .dispatch import composed, install_routes, primitive

Array = Any
"""An array of the backend's own library (numpy.ndarray, cupy.ndarray, ...)."""

Tables = tuple[Array, Array]
"""Cosines and sines of the same phases."""


class Activation(Protocol):
    """An element-wise non-linearity, its formula written on `xp` by whoever defines it."""

    @property
    def name(self) -> str:
        """The key by which fused bodies know the formula."""

    @property
    def keeps_input(self) -> bool:
        """Whether `backward` needs the input z of the activation; if not, it gets the output y."""

    def forward(self, xp: Any, z: Array) -> Array:
        """Y = f(z)."""

    def backward(self, xp: Any, dy: Array, kept: Array) -> Array:
        """Dz = dy * f'(z), from z or from y as `keeps_input` says."""


class ElementwiseLoss(Protocol):
    """A loss of the residual r = prediction - target, its formula written on `xp` by whoever defines it."""

    @property
    def name(self) -> str:
        """The key by which fused bodies know the formula."""

    def value(self, xp: Any, residual: Array) -> Array:
        """The loss of each element."""

    def gradient(self, xp: Any, residual: Array) -> Array:
        """The derivative of `value` with respect to the residual."""


@dataclass(frozen=True)
class Share:
    """One worker's part of a batch: some members (None: all), and its rows in blocks."""

    members: slice | None
    blocks: list[slice]


class Lattice(NamedTuple):
    """Where the pixels of a grid lie, by number: v = (column x_scale + x_start, row y_scale + y_start).

    With row = number // columns and column = number - row columns.
    """

    columns: int
    x_scale: float
    x_start: float
    y_scale: float
    y_start: float


class OutputBuffers(NamedTuple):
    """Buffers on offer to `Backend.output_step`: each for what its name says, or None."""

    y: Array | None = None
    kept: Array | None = None
    dy: Array | None = None
    dz_below: Array | None = None
    value: Array | None = None


class Orthogonalize(Protocol):
    """Brings matrices (*E, n, n) near the nearest orthogonal ones: see `coordfit.muon`.

    By `iterations` of X <- X (a I + b A + c A^2) with A = X^T X, after division by ||X^T X||_F^(1/2).
    """

    size: int
    """n."""
    iterations: int
    coefficients: tuple[float, float, float]
    """a, b, c."""
    buffers: tuple[Array, Array, Array]
    """Three of shape (*E, n, n)."""

    def __call__(self, X: Array) -> Array:
        """The result, perhaps in one of the buffers; X is overwritten."""


class DeviceState(Protocol):
    """The step's number, rates, batch and loss in device memory, for steps that are recorded."""

    counter: Array
    """Steps taken, shape (1,); inside a step, from `advance` on, the number of that step, from 1."""

    def put_step(self, step: int) -> None:
        """Say how many steps have been taken."""

    def put_rates(self, rates: NDArray[Any]) -> None:
        """Learning rates (n, num_rates) of the next n steps, without waiting for the device."""

    def send_losses(self, count: int) -> None:
        """Have the losses of the last `count` steps copied to the host, without waiting for them.

        Waits for earlier ones where the host is many calls ahead of the device.
        """

    def arrived(self, wait: bool = False) -> list[NDArray[Any]]:
        """Losses (n, *E) that have come to the host since the last call, in order; all of them with `wait`."""

    def loss_room(self, place: int) -> Array | None:
        """A buffer on offer for the loss of step `place` since the last refill, shape E."""

    def keep_losses(self, values: Sequence[Array]) -> None:
        """Note the losses of the steps that are taken, or recorded, together."""

    def batch(self) -> Array | None:
        """Numbers of the batch of the step that comes next: (B,) for all members, or (K, B)."""

    def advance(self) -> None:
        """Count one step."""

    def rate(self, place: int) -> Array:
        """The learning rates of step `place` since the last refill: (1,), or (K, 1) in float64."""


class NotRecordedError(RuntimeError):
    """A step holds something that this backend cannot record; the host has to drive it, step by step."""


class Backend:
    """An array module `xp` on one device, with the primitives that a training step is made of.

    Parameters
    ----------
    fused : {"auto", "always", "never"}
        Whether primitives take their fused bodies: where they can, always (an error where they cannot),
        or never (the generic bodies are the reference).
    """

    name: str = "generic"
    device: str = "cpu"
    xp: Any
    precision: str = "float32"
    """Of products of float32 arrays; see `get_backend`."""
    loss_scale: float = 1.0
    """What float32 gradients are multiplied by on their way from the loss to the optimizer, which divides."""
    fallback_reason: str | None = None
    """Why `auto` did not take the GPU, where it did not."""
    group_bytes: int = 256 * 2**20
    """Bytes of activations that many small networks should have together, where they are trained in groups."""

    def __init__(self, fused: str = "auto") -> None:
        self.fused = fused
        self._routes = install_routes(self, fused)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(device={self.device!r}, fused={self.fused!r})"

    # -- what there is -------------------------------------------------------------------------------

    @property
    def relu_hides_nan(self) -> bool:
        """Whether a fused ReLU turns NaN into 0; a run that diverges is then told by its loss alone."""
        return False

    @classmethod
    def why_unavailable(cls, index: int = 0) -> str:
        """Return why this backend cannot run on device `index` here, or an empty string where it can."""
        return ""

    def routes(self) -> dict[str, dict[str, int]]:
        """Calls of each primitive so far by route, as `{"linear": {"fused": 12}, ...}`."""
        return self._routes.totals()

    def describe(self) -> dict[str, Any]:
        """What runs the arithmetic: library, version, device and the like, for reports."""
        return {"backend": self.name, "device": self.device, "library": getattr(self.xp, "__version__", None)}

    def limits(self) -> list[str]:
        """What keeps this device below its best, a line each with the cure where there is one."""
        return []

    def memory_in_use(self) -> int | None:
        """Bytes that the device holds for arrays, or None where nobody counts them."""
        return None

    def free_memory(self) -> int | None:
        """Bytes that arrays may still take before anything is asked for, or None where the allocator tells."""
        return None

    # -- arrays, transfer, synchronisation -----------------------------------------------------------

    def asarray(self, array: Any, dtype: str | None = None) -> Array:
        """Move an array (host or device) to this backend's device, as `dtype` where one is named."""
        return self.xp.asarray(array, dtype=self.dtype(dtype))

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """Copy an array to the host. The only way back; it waits for the device."""
        return np.asarray(array)

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Return a new array of zeros on the device."""
        return self.xp.zeros(shape, dtype=self.dtype(dtype))

    def arange(self, start: int, stop: int) -> Array:
        """Integers from `start` up to `stop`, on the device."""
        return self.xp.arange(start, stop, dtype=self.dtype("int64"))

    def scratch(self, shape: tuple[int, ...], dtype: str) -> Array | None:
        """Return a buffer to offer as `out=`, or None where the generic bodies could not use one."""
        return None

    def dtype(self, name: str | None) -> Any:
        """Return the library's dtype of that name, e.g. "float32"."""
        return None if name is None else getattr(self.xp, name)

    def stored_dtype(self, dtype: str) -> str:
        """In which dtype hidden activations and features of a network of `dtype` are kept.

        Another one only where products take operands of fewer bits. An `out=` of it then says that a result is
        to be kept so; parameters, gradients, losses and outputs keep `dtype`.
        """
        return dtype

    def as_numbers(self, array: Array) -> Array:
        """Activations for arithmetic on `xp`: as they are, or in float32 where they are kept in 16 bits."""
        return array

    def parameters_changed(self, parameters: Array) -> None:
        """Say that others than the optimizer may have written to a flat buffer of parameters (*E, P).

        To be said before every stretch of work on it: a backend may keep a copy in fewer bits.
        """

    def synchronize(self) -> None:
        """Wait until the device has done all that it was asked to do."""

    @contextlib.contextmanager
    def activate(self) -> Iterator[None]:
        """Hold threads, streams and library settings for a stretch of work; give them back at the end."""
        yield

    # -- the two hooks -------------------------------------------------------------------------------

    def share_out(self, num_rows: int, num_members: int, row_bytes: int, row_flops: int) -> list[Share]:
        """Cut a batch into blocks of rows and deal them to workers, members too where that is better.

        Parameters
        ----------
        num_rows : int
            Rows to deal out, 1 or more.
        num_members : int
            Networks that each see all rows.
        row_bytes, row_flops : int
            Bytes of activations that one row of one member keeps alive, and operations that it costs: for
            blocks that stay in cache, and to tell work worth a second thread.

        Returns
        -------
        shares : list of Share
            One for each worker: either all have all members and different rows, or different members and
            all rows.
        """
        return [Share(None, [slice(0, num_rows)])]

    def run_workers(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Run one task for each worker, side by side where the backend can, and wait for all."""
        for task in tasks:
            task()

    def chosen(self, numbers: Array, index: Array) -> Array:
        """Numbers (n,) or (K, n) at places (B,) or (K, B) of the last axis."""
        if numbers.ndim == 1:
            return self.xp.take(numbers, index)
        return self.xp.take_along_axis(numbers, index, axis=-1)

    def total(self, values: Sequence[Array]) -> Array:
        """The sum of arrays of one shape, in their order."""
        return functools.reduce(operator.add, values)

    def joined(self, values: Sequence[Array]) -> Array:
        """Vectors (n,) one behind the other."""
        return self.xp.concat(values)

    def side_by_side(self) -> list[Backend]:
        """Backends that do work of their own side by side, one for each worker; `run_workers` runs them.

        Where the device takes all work in one queue, that is this backend alone.
        """
        return [self]

    def capture(self, step: Callable[[], None], warm_up: int = 2) -> Callable[[], None]:
        """Return a callable that does what `step` does, once for each call; a GPU may record and replay it.

        Parameters
        ----------
        step : callable
            Does the same at every call, on the same arrays; what changes between calls is in those arrays.
            It leaves nothing behind on the host that would have to be done again at a replay.
        warm_up : int
            Calls that run `step` as it is before one is recorded.

        Raises
        ------
        NotRecordedError
            Where the backend sees at once that the step cannot be recorded.
        """
        return step

    def steps_at_once(self, flops: float) -> int:
        """Steps of so many operations that one call may well take: the host has no say between them."""
        return 1

    def device_state(
        self,
        num_rates: int,
        max_steps: int,
        orders: Sequence[tuple[int, int, int]],
        losses: tuple[tuple[int, ...], str],
    ) -> DeviceState | None:
        """What changes from step to step, kept by the device; None where the host drives every step.

        Parameters
        ----------
        num_rates : int
            Learning rates of a step: 1, or one for each member.
        max_steps : int
            Steps between two refills of the learning rates.
        orders : sequence of (n, batch_size, seed)
            The orders of mini-batches: one for all members, or one for each. Empty for a batch that stays.
        losses : (E, dtype)
            Shape and dtype of a step's loss.
        """
        return None

    # -- coordinates by number -------------------------------------------------------------------------

    def pixel_coordinates(self, index: Array, lattice: Lattice, dtype: str) -> Array:
        """Coordinates (*E, N, 2) of the pixels of a lattice by number, index (*E, N)."""
        xp, kind = self.xp, self.dtype(dtype)
        row = index // lattice.columns
        column = index - row * lattice.columns
        x = xp.astype(column, kind) * lattice.x_scale + lattice.x_start
        y = xp.astype(row, kind) * lattice.y_scale + lattice.y_start
        return xp.stack([x, y], axis=-1)

    # -- the primitives ------------------------------------------------------------------------------

    @primitive
    def take_rows(self, array: Array, index: Array, *, out: Array | None = None) -> Array:
        """Rows by number, as (*E, n, C).

        Parameters
        ----------
        array : array, shape (N, C) shared by the members, or (*E, N, C)
        index : integer array, shape (n,) for all members, or (*E, n)
        """
        xp = self.xp
        if index.ndim == 1:
            return xp.take(array, index, axis=-2)
        if array.ndim == 2:
            rows = xp.take(array, xp.reshape(index, (-1,)), axis=0)
            return xp.reshape(rows, (*index.shape, array.shape[-1]))
        return xp.take_along_axis(array, index[..., None], axis=-2)

    @primitive
    def matmul(
        self,
        a: Array,
        b: Array,
        *,
        transpose_a: bool = False,
        transpose_b: bool = False,
        out: Array | None = None,
    ) -> Array:
        """Matrix product of the last two axes, each operand transposed if asked, ensemble axes broadcast."""
        a = self.xp.matrix_transpose(a) if transpose_a else a
        b = self.xp.matrix_transpose(b) if transpose_b else b
        return self.xp.matmul(a, b)

    @primitive
    def linear(
        self,
        x: Array,
        W: Array,
        b: Array,
        activation: Activation,
        *,
        out: Array | None = None,
        out_kept: Array | None = None,
    ) -> tuple[Array, Array]:
        """One layer forward: y = f(x W + b).

        Parameters
        ----------
        x : array, shape (N, n_in) shared by the members, or (*E, N, n_in)
        W : array, shape (*E, n_in, n_out)
        b : array, shape (*E, 1, n_out)
        activation : Activation
            f.
        out, out_kept : array, shape (*E, N, n_out), optional
            Buffers on offer for y, and for z where the activation keeps its input.

        Returns
        -------
        y, kept : arrays, shape (*E, N, n_out)
            The output, and what `linear_backward` needs: z where the activation keeps its input, else y.
        """
        z = self.matmul(x, W) + b
        y = activation.forward(self.xp, z)
        return y, (z if activation.keeps_input else y)

    @primitive
    def activation_backward(self, activation: Activation, dy: Array, kept: Array) -> Array:
        """dz = dy f'(z), from what `linear` kept. `dy` may be overwritten, and `kept` too.

        Parameters
        ----------
        dy, kept : array, shape (*E, N, n_out)

        Returns
        -------
        dz : array, shape (*E, N, n_out)
            Gradient of the loss with respect to z.
        """
        return activation.backward(self.xp, dy, kept)

    @primitive
    def linear_backward(
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
        """One layer backward, from its z to the z of the layer below: the mask of ReLU ends a product.

        Parameters
        ----------
        dz : array, shape (*E, N, n_out)
            Gradient of the loss with respect to z = x W + b.
        x, W
            As given to `linear`.
        dW, db : array, shapes of W and b
            Filled with the sum over rows of the gradient; added to with `accumulate`.
        below : (activation, kept), optional
            Of the layer whose output x is: its activation and what `linear` kept, which may be overwritten.
            None for the first layer, whose input has no use for a gradient.
        out : array, shape (*E, N, n_in), optional
            A buffer on offer for what is returned. It shares no memory with the other arguments.

        Returns
        -------
        dz_below : array, shape (*E, N, n_in), or None without `below`
            Gradient of the loss with respect to the z of the layer below: (dz W^T) f'(z_below).
        """
        xp = self.xp
        new_dW = self.matmul(x, dz, transpose_a=True)
        new_db = xp.sum(dz, axis=-2, keepdims=True)
        dW[...] = dW + new_dW if accumulate else new_dW
        db[...] = db + new_db if accumulate else new_db
        if below is None:
            return None
        activation, kept = below
        return self.activation_backward(activation, self.matmul(dz, W, transpose_b=True), kept)

    @primitive
    def fourier_features(self, coordinates: Array, B: Array, *, out: Array | None = None) -> Array:
        """Fourier features [cos(2 pi B v), sin(2 pi B v)] of Tancik et al. (2020), equation 3.

        Parameters
        ----------
        coordinates : array, shape (N, d) shared by the members, or (*E, N, d)
        B : array, shape (*E, m, d)
            Frequencies in cycles per unit of the coordinates.

        Returns
        -------
        features : array, shape (*E, N, 2 m)
            First the m cosines, then the m sines.
        """
        xp = self.xp
        cycles = self.matmul(coordinates, B, transpose_b=True)
        # Whole turns are taken off before the multiplication by 2 pi: large phases lose digits in it.
        phase = (2.0 * np.pi) * (cycles - xp.round(cycles))
        return xp.concat([xp.cos(phase), xp.sin(phase)], axis=-1)

    @composed
    def pixel_fourier_features(
        self, index: Array, lattice: Lattice, B: Array, *, dtype: str, out: Array | None = None
    ) -> Array:
        """`fourier_features` of pixels by number, whose coordinates nobody keeps.

        Parameters
        ----------
        index : integer array, shape (N,) shared by the members, or (*E, N)
            Below 2^32.
        lattice : Lattice
        B : array, shape (*E, m, 2)
        dtype : str
            Of the coordinates.

        Returns
        -------
        features : array, shape (*E, N, 2 m)
        """
        return self.fourier_features(self.pixel_coordinates(index, lattice, dtype), B, out=out)

    @primitive
    def grid_fourier_features(
        self, x_tables: Tables, y_tables: Tables, rows: slice, *, out: Array | None = None
    ) -> Array:
        """Fourier features of a run of grid pixels, from tables for the columns and for the rows of the grid.

        cos(a + b) = cos a cos b - sin a sin b and sin(a + b) = sin a cos b + cos a sin b, with a for x and b
        for y: no trigonometry for each pixel, and memory for one row and one column of features alone.

        Parameters
        ----------
        x_tables, y_tables : pairs of arrays, shapes (width, m) and (height, m)
            Cosines and sines of 2 pi B_x x for each column, and of 2 pi B_y y for each row of pixels.
        rows : slice
            Pixels from `rows.start` to `rows.stop`, counted row by row of the grid.

        Returns
        -------
        features : array, shape (N, 2 m)
        """
        xp = self.xp
        index = self.arange(rows.start, rows.stop)
        row = index // x_tables[0].shape[0]
        column = index - row * x_tables[0].shape[0]
        cos_x, sin_x = (xp.take(table, column, axis=0) for table in x_tables)
        cos_y, sin_y = (xp.take(table, row, axis=0) for table in y_tables)
        return xp.concat([cos_x * cos_y - sin_x * sin_y, sin_x * cos_y + cos_x * sin_y], axis=-1)

    @primitive
    def loss_and_gradient(
        self,
        loss: ElementwiseLoss,
        prediction: Array,
        target: Array,
        *,
        count: int,
        weights: Array | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array]:
        """Sum the loss over rows and channels, divided by `count`, and its gradient, in one pass.

        Parameters
        ----------
        loss : ElementwiseLoss
        prediction : array, shape (*E, N, C)
        target : array, shape (N, C) shared by the members, or (*E, N, C)
        count : int
            What the sum is divided by: rows of the whole batch times C, so that blocks add up to its mean.
        weights : array, shape (N, 1) or (*E, N, 1), optional
            A factor for each row; 0 hides it.
        out : array, shape of `prediction`, optional
            A buffer on offer for dy.

        Returns
        -------
        value : array, shape E
        dy : array, shape (*E, N, C)
            Gradient of the sum over members of `value`: members stay independent.
        """
        xp = self.xp
        residual = prediction - target
        value = loss.value(xp, residual)
        dy = loss.gradient(xp, residual)
        if weights is not None:
            value = value * weights
            dy = dy * weights
        return xp.sum(value, axis=(-2, -1)) / count, dy / count

    @composed
    def output_step(
        self,
        loss: ElementwiseLoss,
        h: Array,
        W: Array,
        b: Array,
        activation: Activation,
        target: Array,
        *,
        count: int,
        weights: Array | None = None,
        dW: Array,
        db: Array,
        accumulate: bool = False,
        below: tuple[Activation, Array] | None = None,
        room: OutputBuffers = OutputBuffers(),  # noqa: B008 - a tuple of None
    ) -> tuple[Array, Array | None]:
        """The output layer forward, the loss, and the layer backward: all that a step does with h (*E, N, H).

        Parameters are those of `linear`, `loss_and_gradient` and `linear_backward`, with buffers in `room`.

        Returns
        -------
        value : array, shape E
        dz_below : array, shape (*E, N, H), or None without `below`
        """
        y, kept = self.linear(h, W, b, activation, out=room.y, out_kept=room.kept)
        value, dy = self.loss_and_gradient(loss, y, target, count=count, weights=weights, out=room.dy)
        dz = self.activation_backward(activation, dy, kept)
        dz_below = self.linear_backward(
            dz, h, W, dW=dW, db=db, accumulate=accumulate, below=below, out=room.dz_below
        )
        return value, dz_below

    @composed
    def muon_step(
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
        """One step of Muon (Jordan et al., 2024) on one matrix of each member; all in place.

        M <- momentum M + G;  W <- W - learning_rate scale orthogonalize(G + momentum M).

        Parameters
        ----------
        parameters, momenta : array, shape (*E, n n)
        gradients : arrays, shape (*E, n n)
            The gradient is their sum, taken in their order. The first may be overwritten by the sum.
        orthogonalize : Orthogonalize
        learning_rate : float, or array of shape (*E, 1)
        out : array, shape (*E, n n)
            Room for the direction of the step; contiguous.
        """
        # Element by element on flat members: of strided matrices NumPy would make a copy first.
        gradient, *others = gradients
        for part in others:
            gradient += part
        momenta *= momentum
        momenta += gradient
        out[...] = momenta
        out *= momentum
        out += gradient
        n = orthogonalize.size
        step = self.xp.reshape(orthogonalize(self.xp.reshape(out, (*out.shape[:-1], n, n))), out.shape)
        step *= learning_rate * scale
        parameters -= step

    @primitive
    def sgd_step(
        self,
        parameters: Array,
        gradients: Sequence[Array],
        velocity: Array | None,
        *,
        learning_rate: float | Array,
        momentum: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        """One step of gradient descent, with momentum where `velocity` is given; all in place.

        v <- momentum v + g;  p <- p - learning_rate v, or with Nesterov p - learning_rate (g + momentum v).

        Parameters
        ----------
        parameters, velocity : array, shape (*E, P)
        gradients : arrays, shape (*E, P)
            The gradient is their sum, taken in their order: one for each worker that had a part of the rows.
            The first may be overwritten by the sum.
        learning_rate : float, or array of shape (*E, 1)
        """
        gradient = functools.reduce(operator.add, gradients)
        if velocity is None:
            parameters -= learning_rate * gradient
            return
        velocity *= momentum
        velocity += gradient
        direction = gradient + momentum * velocity if nesterov else velocity
        parameters -= learning_rate * direction

    @primitive
    def adam_step(
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
        """One step of Adam (Kingma and Ba, 2015, algorithm 1); all in place.

        The moments are kept as plain sums, m <- beta1 m + g and v <- beta2 v + g^2; the factors (1 - beta) of
        the paper stand with the bias corrections instead, in scalars, which saves two passes over the buffers.

        Parameters
        ----------
        parameters, first_moment, second_moment : array, shape (*E, P)
        gradients : arrays, shape (*E, P)
            The gradient is their sum, taken in their order. The first may be overwritten by the sum.
        step : int, or integer array of shape (1,)
            Counts from 1. On the device it is for steps that are recorded.
        learning_rate : float, or array of shape (*E, 1)
        """
        gradient = functools.reduce(operator.add, gradients)
        first_moment *= beta1
        first_moment += gradient
        second_moment *= beta2
        second_moment += gradient * gradient
        root = self.xp.sqrt(second_moment * ((1.0 - beta2) / (1.0 - beta2**step)))
        step_size = learning_rate * ((1.0 - beta1) / (1.0 - beta1**step))
        parameters -= step_size * first_moment / (root + epsilon)
