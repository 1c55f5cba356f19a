"""Arrays, and the protocols of objects that backends and their callers pass to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

Array = Any
"""An array of the backend's own library (numpy.ndarray, cupy.ndarray, ...)."""


class Activation(Protocol):
    """An element-wise activation: a frozen dataclass with formulas on `xp` (see `lowering`)."""

    def __hash__(self) -> int: ...

    @property
    def saves_input(self) -> bool:
        """Whether `backward` gets the input z of the activation; if not, it gets the output y."""

    def forward(self, xp: Any, z: Array) -> Array:
        """Return `y = f(z)`."""

    def backward(self, xp: Any, dy: Array, saved: Array) -> Array:
        """Return `dz = dy f'(z)`, from z if `saves_input`, else from y."""


class ElementwiseLoss(Protocol):
    """A loss of the residual `prediction - target`: a frozen dataclass with formulas on `xp`."""

    def __hash__(self) -> int: ...

    def value(self, xp: Any, residual: Array) -> Array:
        """Return the loss of each element."""

    def gradient(self, xp: Any, residual: Array) -> Array:
        """Return the derivative of `value` with respect to the residual."""


class UpdateRule(Protocol):
    """The update of an element-wise optimizer: a frozen dataclass with a formula on `xp`."""

    def __hash__(self) -> int: ...

    @property
    def state(self) -> tuple[str, ...]:
        """Names of its state's buffers, each of the parameters' shape and zero at first."""

    def update(
        self,
        xp: Any,
        parameter: Array,
        gradient: Array,
        state: tuple[Array, ...],
        step: int | Array,
        learning_rate: float | Array,
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the new parameter and the new state. `step` counts from 1."""


@dataclass(frozen=True)
class Partition:
    """One worker's part of a batch: consecutive groups of members (None: all), and blocks of rows."""

    groups: list[slice | None]
    blocks: list[slice]

    @property
    def members(self) -> slice | None:
        """The range of its members; None for all."""
        first, last = self.groups[0], self.groups[-1]
        return None if first is None or last is None else slice(first.start, last.stop)


class Lattice(NamedTuple):
    """The coordinates of a grid's points: `v_k = i_k scales[k] + starts[k]`.

    The place `i_k` along each axis follows from a point's number, which counts the first axis fastest: of a
    picture `i_0 = number - columns i_1` is the column and `i_1 = number // columns` the row.
    """

    counts: tuple[int, ...]
    """Points along each axis."""
    scales: tuple[float, ...]
    starts: tuple[float, ...]


class OutputBuffers(NamedTuple):
    """Optional memory for the results of `Backend.output_step`."""

    y: Array | None = None
    saved: Array | None = None
    dy: Array | None = None
    dz_previous: Array | None = None
    value: Array | None = None


class Orthogonalize(Protocol):
    """Approximates the nearest orthogonal matrices of (*E, m, n): see `coordfit.optimizers.muon`.

    After a division by `||X^T X||_F^(1/2)` it iterates `X <- X (a I + b A + c A^2)` with `A = X^T X`.
    """

    shape: tuple[int, ...]
    """(m, n)."""
    iterations: int
    coefficients: tuple[float, float, float]
    """a, b, c."""
    shift: float
    """b / 2c."""
    inner: Array
    """(n, n): b / 2c on the diagonal."""
    outer: Array
    """(n, n): a / c - (b / 2c)^2 on the diagonal."""
    buffers: tuple[Array, Array, Array]
    """Two of shape (*E, n, n), and one of (*E, m, n)."""

    def __call__(self, X: Array) -> Array:
        """Return the result, perhaps in one of the buffers; overwrite X."""


class Moment(Protocol):
    """A point in the device's work, which passes when all work before it is finished."""

    def seconds_since(self, earlier: Any) -> float:
        """Return the device's seconds between an earlier moment and this one, both of which have passed."""


class Readback(Protocol):
    """A queue of asynchronous copies of small arrays to the host."""

    def send(self, array: Array) -> None:
        """Copy an array as it is after the work enqueued so far; wait if too many copies are pending."""

    def arrived(self, wait: bool = False) -> list[NDArray[Any]]:
        """Return the copies finished since the last call, in order; with `wait`, all pending ones too."""


class DeviceState(Protocol):
    """The step's number, learning rates, batch and loss in device memory, for recorded steps."""

    @property
    def counter(self) -> Array:
        """Steps taken, shape (1,); after `advance`, the number of the current step, from 1."""

    def put_step(self, step: int) -> None:
        """Set the number of steps taken."""

    def put_rates(self, rates: NDArray[Any]) -> None:
        """Set the learning rates (n, num_rates) of the next n steps, without waiting for the device."""

    def send_losses(self, count: int) -> None:
        """Start to copy the losses of the last `count` steps to the host; wait if too many are pending."""

    def arrived(self, wait: bool = False) -> list[NDArray[Any]]:
        """Return losses (n, *E) that reached the host since the last call; with `wait`, all pending ones."""

    def loss_buffer(self, place: int) -> Array | None:
        """Return optional memory for the loss of step `place` since the last refill, shape E."""

    def keep_losses(self, values: Sequence[Array]) -> None:
        """Keep the losses of the steps that are taken, or recorded, together."""

    def batch(self) -> Array | None:
        """Return the pixel numbers of the next batch: (B,) for all members, or (K, B)."""

    def advance(self) -> None:
        """Count one step."""

    def rate(self, place: int) -> Array:
        """Return the learning rates of step `place` since the last refill: (1,), or (K, 1) in float64."""


class NotRecordedError(RuntimeError):
    """A step cannot be recorded by this backend; the host has to drive it."""
