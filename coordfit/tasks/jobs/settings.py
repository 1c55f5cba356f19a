"""What is asked by name: settings of a network in layers, where it runs, and tiles."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from ...backends import Backend, get_backend
from ...config import FitConfig, make_config
from ...errors import ConfigError
from ...tiles.plan import TILE_OPTIONS, TileOptions

Layer = Mapping[str, Any]


@dataclass(frozen=True)
class Settings:
    """What is asked of a network by name: a recipe, and layers of settings over it.

    Attributes
    ----------
    defaults : mapping
        Below the layers if no recipe is named; tiles have defaults of their own.
    """

    layers: Sequence[Layer] = ()
    recipe: str | None = None
    defaults: Layer = field(default_factory=dict)

    @classmethod
    def given(
        cls, options: Layer, recipe: str | None, config: FitConfig | None, defaults: Layer | None = None
    ) -> Self:
        """Take options by name, or a whole config instead of them; ConfigError for both."""
        if config is None:
            return cls([options], recipe, defaults or {})
        if options or recipe:
            raise ConfigError("give either a config, or a recipe and options, not both")
        return cls([vars(config)])

    @property
    def config(self) -> FitConfig:
        """Settings of one network."""
        below = [] if self.recipe else [self.defaults]
        return make_config(*below, *self.layers, recipe=self.recipe)

    @property
    def asked(self) -> dict[str, Any]:
        """What the layers ask for, the last one first."""
        return {name: value for layer in self.layers for name, value in layer.items()}

    def over(self, layer: Layer) -> Settings:
        """Return these settings with another layer over them."""
        return dataclasses.replace(self, layers=[*self.layers, layer])


@dataclass(frozen=True)
class Device:
    """How a backend is made: the words that `coordfit.get_backend` takes. It can be sent between processes."""

    device: str = "auto"
    threads: int | None = None
    fused: str = "auto"
    precision: str = "float32"

    def make(self) -> Backend:
        """Return the backend."""
        return get_backend(self.device, fused=self.fused, threads=self.threads, precision=self.precision)


def values_in(several: Iterable[Any] | None) -> list[Any]:
    """Return the values of a list, a tuple, an array or an iterator, as Python has them; none for None."""
    found = [] if several is None else list(several)
    return [value.tolist() if hasattr(value, "tolist") else value for value in found]


DEVICE_OPTIONS = tuple(spec.name for spec in dataclasses.fields(Device))


@dataclass(frozen=True)
class Keywords:
    """What was given by name: settings of a network, where it runs, and tiles."""

    settings: dict[str, Any]
    device: Device
    tiles: TileOptions

    @classmethod
    def split(cls, options: Mapping[str, Any], tiles: str | None = None) -> Self:
        """Sort keywords by what they are for; `tiles` is what is taken if none are asked for."""
        of_device = {name: options[name] for name in DEVICE_OPTIONS if name in options}
        of_tiles = {"tiles": tiles} | {name: options[name] for name in TILE_OPTIONS if name in options}
        others = {k: v for k, v in options.items() if k not in of_device and k not in of_tiles}
        return cls(others, Device(**of_device), TileOptions(**of_tiles))
