"""Base classes of encodings: their settings (`Encoding`), and their features on a device (`Encoder`).

A new encoding is a subclass of each, or one of `FourierEncoding` if it only draws frequencies. One that learns
names the shapes of its parameters, which lie behind the network's in the same flat buffers: optimizers,
checkpoints and batches of K networks treat both alike.
"""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ..backends import Array, Backend, Lattice
from ..components import from_settings, name_of
from ..config import FitConfig, sigma_in_words
from ..errors import ConfigError
from ..signals.grid import GridAxes
from .jets import Jet

Size = tuple[int, ...]
"""The samples along each axis of the signal, in the order of arrays: height and width of a picture."""
Shapes = Mapping[str, tuple[int, ...]]
State = Mapping[str, NDArray[Any]]
"""The arrays of an encoder that are stored but not trained, on the host, by name."""
OnGrid = Callable[[slice, Array | None], Array]
"""Returns features (n, F) of a run of a grid's points, counted line by line; takes an optional buffer."""


class PixelLattice(Protocol):
    """Training pixels that form a grid, addressed by number: see `pixels.rows.GridRows`."""

    lattice: Lattice
    dtype: str

    def axes(self) -> GridAxes:
        """Return the x of a line's points, and the other coordinates of each line."""


class Encoding(ABC):
    """An encoding with its settings, without arrays on a device."""

    name: ClassVar[str]
    """Of a built-in one; others are known by their class and its fields."""
    learns: ClassVar[bool] = False
    """Whether it has parameters that training changes."""
    has_sigma: ClassVar[bool] = False
    """Whether it uses `FitConfig.sigma`."""
    sigma_times: ClassVar[float] = 1.0
    """Its sigma that performs like sigma 1 of the Gaussian encoding."""
    gives_coordinates: ClassVar[bool] = False
    """Whether its features are the coordinates, which some initializers treat specially."""
    state_names: ClassVar[tuple[str, ...]] = ()
    dimensions: int = 2
    """D, the coordinates of a point. An encoding of any number of them has a field of this name."""

    @classmethod
    def of(cls, config: FitConfig, size: Size) -> Encoding:
        """Return the encoding that settings describe, for a signal of this size.

        An object is itself, but for its `dimensions`, unless its class overrides this; a built-in one has
        settings of its fields' names.

        Raises
        ------
        ConfigError
            The encoding is for another number of coordinates.
        """
        own = {"dimensions": len(size)}
        if not isinstance(config.encoding, Encoding):
            built_in: Encoding = from_settings(cls, vars(config) | {"sigma": config.resolved_sigma} | own)
            return built_in
        encoding = config.encoding
        if encoding.dimensions == len(size):
            return encoding
        if "dimensions" not in {field.name for field in dataclasses.fields(cast(Any, cls))}:
            raise ConfigError(
                f"the encoding {name_of(encoding)} is for {encoding.dimensions} coordinates, not {len(size)}; "
                "give its class a field `dimensions: int = 2`, and use it in its methods"
            )
        return cast(Encoding, dataclasses.replace(cast(Any, encoding), **own))

    @classmethod
    def title(cls, config: FitConfig) -> str:
        """Return the encoding and its settings in words."""
        sigma = f", sigma {sigma_in_words(config.resolved_sigma)}" if cls.has_sigma else ""
        return f"{name_of(config.encoding)} encoding{sigma}"

    def draw(self, rng: np.random.Generator, dtype: str) -> dict[str, NDArray[Any]]:
        """Draw the state: random arrays that are never trained."""
        return {}

    def fault_of(self, state: State, dtype: str) -> str:
        """Return why a file's state has unusable types or shapes; empty if it has not."""
        return ""

    @abstractmethod
    def num_features(self, state: State) -> int:
        """Return F."""

    @abstractmethod
    def encoder(self, backend: Backend, state: State, dtype: str) -> Encoder:
        """Return the encoder on a backend; `with_parameters` gives it those that are trained."""

    # -- trained encodings ---------------------------------------------------------------------------

    def parameter_shapes(self) -> Shapes:
        """Return the shapes of the trained arrays by name, each of two axes or more."""
        return {}

    def draw_parameters(self, rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
        """Draw the first values of the trained arrays."""
        return {}

    def first_parameters(
        self, rng: np.random.Generator, pixels: NDArray[np.floating], known: NDArray[np.bool_]
    ) -> Mapping[str, NDArray[np.float64]]:
        """Return the first values for a signal `(*size, C)`.

        Training sees its samples `known`, `(*size)`. They are drawn, unless an encoding overrides this.
        """
        return self.draw_parameters(rng)

    def colour_weights(self, channels: int) -> NDArray[np.float64] | None:
        """Return S (F, C), which makes the picture less its mean of first features; None if there is none."""
        return None

    @classmethod
    def settings_for_spacing(cls, config: FitConfig, spacing: float) -> dict[str, Any]:
        """Return settings for training pixels of this mean distance, if the user has given none."""
        return {}

    # -- the mean of K networks: one network with the features of all ----------------------------------

    @classmethod
    def settings_of_mean(cls, config: FitConfig, count: int) -> dict[str, Any]:
        """Return settings for one encoder with the features of `count` encoders; none if they are shared."""
        return {}

    @property
    def feature_groups(self) -> int | Sequence[int]:
        """Groups within which the features of K encoders are joined: a number, or ends as of `numpy.split`."""
        return 1

    def joined_states(self, states: Sequence[State]) -> State:
        """Return the state of one encoder with the features of all."""
        return states[0]


class Encoder(ABC):
    """The map gamma(v) from coordinates to features on a device, for one network or K of them.

    Attributes
    ----------
    num_features : int
        F.
    """

    num_features: int
    learns: ClassVar[bool] = False
    """Whether `backward` fills gradients."""
    parameters: Mapping[str, Array] = MappingProxyType({})
    """The trained arrays by name, shapes `(*E, ...)`; none before `with_parameters`."""
    gradients: Mapping[str, Array] = MappingProxyType({})
    """The arrays of the same shapes that `backward` fills."""
    flops_of_a_feature: ClassVar[int] = 16
    """Operations for a feature of a pixel, which are mainly a write to memory."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @property
    def is_cacheable(self) -> bool:
        """Whether the features of all pixels may be kept in a table: they stay the same, and cost something."""
        return not self.learns

    @property
    def is_recordable(self) -> bool:
        """Whether a backend may record its part of a step; if not, the host drives every step."""
        return not self.learns

    @property
    def ensemble(self) -> tuple[int, ...]:
        """(K,) if members have their own features, () if they share them."""
        return ()

    def feature_dtype(self, dtype: str) -> str:
        """Return the type of stored features, for a network of `dtype`."""
        return dtype

    def buffer(
        self,
        scratch: Callable[[tuple[int, ...], str], Array | None],
        ensemble: tuple[int, ...],
        rows: int,
        dtype: str,
    ) -> Array | None:
        """Return a buffer for the features of some rows, with ensemble axes if members differ."""
        own = ensemble if self.ensemble else ()
        return scratch((*own, rows, self.num_features), self.feature_dtype(dtype))

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the stored arrays that are not trained, on the host."""
        return {}

    # -- features ------------------------------------------------------------------------------------

    @abstractmethod
    def __call__(self, coordinates: Array, out: Array | None = None) -> Array:
        """Return features (N, F) of coordinates (N, D), or `(*E, N, F)` if one of the two differs by member."""

    def of_pixels(self, index: Array, lattice: Lattice, dtype: str, out: Array | None = None) -> Array:
        """Return the features of pixels of a lattice by number, for index (N,) or `(*E, N)`."""
        return self(self.backend.pixel_coordinates(index, lattice, dtype), out)

    def of_run(self, pixels: PixelLattice, rows: slice, out: Array | None = None) -> Array:
        """Return the features of training pixels in order, from `rows.start` to `rows.stop`."""
        return self.of_pixels(self.backend.arange(rows.start, rows.stop), pixels.lattice, pixels.dtype, out)

    def on_grid(self, axes: GridAxes, dtype: str) -> OnGrid:
        """Return a function for the features of runs of a grid's points, to render a signal."""
        xp, backend = self.backend.xp, self.backend
        x, others = (backend.asarray(positions, dtype) for positions in axes)

        def features(rows: slice, out: Array | None = None) -> Array:
            index = backend.arange(rows.start, rows.stop)
            line = index // x.shape[0]
            column = xp.take(x, index - line * x.shape[0])
            return self(xp.concat([column[:, None], xp.take(others, line, axis=0)], axis=-1), out)

        return features

    def jet(self, points: Jet) -> Jet:
        """Return features (N, F) with their derivatives, for coordinates (N, D) in float64 with theirs.

        Raises
        ------
        NotImplementedError
            A subclass from outside does not override this.
        """
        raise NotImplementedError(f"{type(self).__name__} has no derivatives; give it a method `jet`")

    # -- trained encoders ----------------------------------------------------------------------------

    def with_parameters(self, parameters: Mapping[str, Array], gradients: Mapping[str, Array]) -> Encoder:
        """Return an encoder on these arrays `(*E, ...)`, for one worker; itself if it learns nothing."""
        if not self.learns:
            return self
        bound = copy.copy(self)
        bound.parameters, bound.gradients = parameters, gradients
        return bound

    def backward(self, dx: Array, *, accumulate: bool = False) -> None:
        """Fill (or add to) the gradients, from dx `(*E, N, F)` for the pixels of the last call."""
        raise NotImplementedError(f"{type(self).__name__} has no parameters")

    def penalty(self) -> Array | float:
        """Return the penalty in the training loss, shape E."""
        return 0.0

    def add_penalty_gradient(self) -> None:  # noqa: B027, as there may be no penalty
        """Add the gradient of the penalty, once in a step."""

    # -- members -------------------------------------------------------------------------------------

    def members(self, members: slice) -> Encoder:
        """Return the encoder of some of the members; itself if they share it."""
        return self

    def alone(self, member: int) -> Encoder:
        """Return the encoder of one member; itself if they share it."""
        return self

    def joined(self, others: Sequence[Encoder]) -> Encoder | None:
        """Return one encoder for this member and the others; None if each is to compute its own features.

        Those that learn are of one encoding: this one serves all, with parameters of K members. Others are
        shared if all their attributes are equal; arrays are if they are the same one.
        """
        return self if self.learns or all(self._is_like(other) for other in others) else None

    def _is_like(self, other: Encoder) -> bool:
        own, its = vars(self), vars(other)
        alike = type(other) is type(self) and own.keys() == its.keys()
        return alike and all(own[name] is its[name] or (own[name] == its[name]) is True for name in own)
