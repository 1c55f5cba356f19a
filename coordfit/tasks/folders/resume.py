"""How a run goes on: what `config.json` says of it, and what may be asked of it now."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..._backends import Backend
from ...config import STORED, FitConfig, recipe_settings
from ...errors import ConfigError, OutputError
from ...files import jsonable, printable
from ...images import Picture
from ...tiles.fit import TiledResult
from ...tiles.plan import TileOptions
from ...training.result import FitResult
from ..jobs.plan import AnyJob
from ..jobs.settings import Settings
from ..load import load_tiled

_TILE_FACTS: dict[str, Callable[[Any], bool]] = {
    "tile": lambda value: type(value) is int,
    "overlap": lambda value: type(value) is int,
    "every_tile": lambda value: type(value) is bool,
    "stored": lambda value: value in STORED,
    "picture_digest": lambda value: type(value) is str,
    "max_pixels": lambda value: value is None or (type(value) is int and value >= 1),
}
"""What `config.json` says of tiles, and whether it can be that."""


@dataclass(frozen=True)
class Asked:
    """What a user asks of a run that has a folder.

    Attributes
    ----------
    image : str or None
        The picture's path; None for the bundled one, or for that of the run that goes on.
    """

    image: str | None
    settings: Settings
    tiles: TileOptions
    max_pixels: int | None = None


@dataclass(frozen=True)
class Begun:
    """What `config.json` says of a run that goes on; nothing in it is trusted to choose a file.

    Attributes
    ----------
    image : str or None
        The picture's path; None for the bundled one.
    picture_digest : str or None
        `Picture.digest` of the picture that the run began with.
    tiles : mapping or None
        What the tiles are known by; None for one network.
    """

    config: FitConfig
    image: str | None
    picture_digest: str | None
    tiles: Mapping[str, Any] | None = None

    def going_on(self, asked: Asked) -> Asked:
        """Return what is asked, with what the run began with wherever nothing else is asked for.

        Raises
        ------
        ConfigError
            Tiles are asked for and the run has one network, or the other way round.
        """
        options, settings = asked.tiles, asked.settings
        wants_tiles = options.tiles not in (None, "auto", "none") or options.budget_parameters is not None
        image = self.picture_path(asked.image)
        if self.tiles is None:
            if wants_tiles:
                raise ConfigError("cannot resume with tiles: the run has one network for the whole picture")
            recipe = recipe_settings(settings.recipe) if settings.recipe else {}
            own = Settings([vars(self.config), recipe, *settings.layers])
            if own.config.sigma == "auto":  # it was chosen when the run began
                own = own.over({"sigma": self.config.sigma})
            return dataclasses.replace(asked, image=image, settings=own, tiles=TileOptions("none"))
        if options.tiles == "none":
            raise ConfigError("cannot resume without tiles: the run has them")
        tiles = dataclasses.replace(
            options,
            tiles=options.tiles if wants_tiles else self.tiles["tile"],
            every_tile=options.every_tile or self.tiles["every_tile"],
            stored=self.tiles["stored"],
        )
        layers = [vars(self.config), *settings.layers]
        most = asked.max_pixels or self.tiles.get("max_pixels")
        return Asked(image, dataclasses.replace(settings, layers=layers), tiles, most)

    def picture_path(self, named: str | None) -> str | None:
        """Return the path of the picture to read: the one that the user named, or else the run's own.

        Raises
        ------
        ConfigError
            The user named none, and the run's own is not to be opened: it has no digest to compare it with, or
            it is on another machine, to which opening it would log in.
        """
        if named is not None or self.image is None:
            return named
        if self.picture_digest is None or re.match(r"[\\/]{2}", self.image):
            where = "is on a network" if self.picture_digest else "has no digest"
            told = (
                f"cannot resume without a picture: the one in config.json {where}; name it on the command line"
            )
            raise ConfigError(told)
        return self.image

    def check_picture(self, picture: Picture, trained_on: str | None = None) -> None:
        """Refuse another picture than `config.json` or the saved state was made from."""
        if any(digest not in (None, picture.digest) for digest in (self.picture_digest, trained_on)):
            raise ConfigError(f"cannot resume: {picture.name} is not the picture that the run was trained on")


def tiles_in(facts: Any, folder: Path) -> Mapping[str, Any] | None:
    """Return what `config.json` says of tiles; None for one network, OutputError if it cannot be that."""
    if facts is None:
        return None
    if not (isinstance(facts, dict) and all(is_good(facts.get(name)) for name, is_good in _TILE_FACTS.items())):
        raise OutputError(f"cannot resume {printable(folder)}: its tiles cannot be told from config.json")
    return facts


def finished_before(
    folder: Path, document: Mapping[str, Any], job: AnyJob, backend: Backend
) -> FitResult | None:
    """Return the result of a run of tiles that has nothing left to do; None if it goes on.

    Parameters
    ----------
    document : mapping
        That of the folder's `config.json`.

    Raises
    ------
    ConfigError
        The run is finished, and is of another picture or of other settings.
    """
    left = [(folder / name).exists() for name in ("tiles.json", "model.safetensors", "metrics.json")]
    if left != [False, True, True] or tiles_in(document.get("tiles"), folder) is None:
        return None
    now = json.loads(json.dumps(jsonable({"config": job.config.as_dict(), "tiles": job.facts})))
    for part in now:
        for name, value in now[part].items():
            if document[part].get(name) != value:
                what = "another picture" if name == "picture_digest" else f"another {name}"
                raise ConfigError(f"cannot resume with {what}: the run in {printable(folder)} is finished")
    model = load_tiled(folder / "model.safetensors", backend)
    return TiledResult(model.metrics, [], model.metrics["stopped"], model, job.picture)
