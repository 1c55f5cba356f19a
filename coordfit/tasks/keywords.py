"""The keywords of a public function, sorted: settings of a network, where it runs, and tiles."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from .._backends import Backend, get_backend
from ..tiles.plan import TILE_OPTIONS, TileOptions


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
