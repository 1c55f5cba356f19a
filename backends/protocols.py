"""What backends and their callers pass to each other: arrays, and the protocols of what the callers define."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

Array = Any
"""An array of the backend's own library (numpy.ndarray, cupy.ndarray, ...)."""

Tables = tuple[Array, Array]
"""Cosines and sines of the same phases."""


class Activation(Protocol):
    """An element-wise non-linearity: a frozen dataclass whose formulas are written on `xp` (see `lowering`)."""

    def __hash__(self) -> int:
        """Equal formulas are lowered once."""

    @property
    def saves_input(self) -> bool:
        """Whether `backward` needs the input z of the activation; if not, it gets the output y."""

    def forward(self, xp: Any, z: Array) -> Array:
        """Return `y = f(z)`."""

    def backward(self, xp: Any, dy: Array, saved: Array) -> Array:
        """Return `dz = dy f'(z)`, from z or from y as `saves_input` says."""


class ElementwiseLoss(Protocol):
    """A loss of the residual r = prediction - target: a frozen dataclass whose formulas are written on `xp`."""

    def __hash__(self) -> int:
        """Equal formulas are lowered once."""

    def value(self, xp: Any, residual: Array) -> Array:
        """Return the loss of each element."""

    def gradient(self, xp: Any, residual: Array) -> Array:
        """Return the derivative of `value` with respect to the residual."""


class UpdateRule(Protocol):
    """The update of an element-wise optimizer: a frozen dataclass whose formula is written on `xp`."""

    def __hash__(self) -> int:
        """Equal formulas are lowered once."""

    @property
    def state(self) -> tuple[str, ...]:
        """Names of the buffers that it keeps, each of the parameters' shape and zero at first."""

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
    """One worker's part of a batch: members in groups, one after the other (None: all), and rows in blocks."""

    groups: list[slice | None]
    blocks: list[slice]

    @property
    def members(self) -> slice | None:
        """All its members, who are neighbours; None for all there are."""
        first, last = self.groups[0], self.groups[-1]
        return None if first is None or last is None else slice(first.start, last.stop)


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
    saved: Array | None = None
    dy: Array | None = None
    dz_previous: Array | None = None
    value: Array | None = None


class Orthogonalize(Protocol):
    """Brings matrices (*E, n, n) near the nearest orthogonal ones: see `coordfit.optimizers.muon`.

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


class Moment(Protocol):
    """A point in the work that a device was asked for: it passes when all of that is done."""

    def seconds_since(self, earlier: Any) -> float:
        """Seconds of the device's time between another moment and this one, both of which have passed."""


class Readback(Protocol):
    """Copies of small arrays on their way to the host, in order; nobody waits for them who need not."""

    def send(self, array: Array) -> None:
        """Have an array copied, as it is after the work that was asked for so far.

        Waits for earlier ones where too many are on their way: the host stays in touch with the device.
        """

    def arrived(self, wait: bool = False) -> list[NDArray[Any]]:
        """Copies that have come since the last call, in order; all of them with `wait`."""


class DeviceState(Protocol):
    """The step's number, rates, batch and loss in device memory, for steps that are recorded."""

    @property
    def counter(self) -> Array:
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

    def loss_buffer(self, place: int) -> Array | None:
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
