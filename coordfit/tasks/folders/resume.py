"""How a run goes on: what `config.json` says of it, and what may be asked of it now."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from ...backends import Backend
from ...config import STORED, FitConfig, recipe_settings
from ...errors import ConfigError, OutputError, PictureError
from ...files import jsonable, printable, read_history, read_json
from ...images import MAX_PIXELS, load_picture
from ...signals.arrays import ArraySignal
from ...signals.signal import Signal
from ...sources.reading import (
    ArrayOptions,
    deep_picture,
    is_array_file,
)
from ...tiles.fit import TiledResult
from ...tiles.plan import MEMORISE, TileOptions
from ...training.result import FitResult
from ..jobs.compact import COMPACT, COMPACT_CHECKPOINT, COMPACT_MODEL, SETTINGS, finished_result
from ..jobs.plan import FitJob
from ..jobs.settings import Settings
from ..load import load_networks, load_tiled, networks_in

_LIMIT: dict[str, Callable[[Any], bool]] = {
    "max_pixels": lambda value: value is None or (type(value) is int and value >= 1)
}
_COMMON_FACTS = {"picture_digest": lambda value: type(value) is str, **_LIMIT}
_FACTS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "compact": _COMMON_FACTS,
    "network": {"average": lambda value: type(value) is int and value > 1, **_LIMIT},
    "tiles": {
        "tile": lambda value: type(value) is int,
        "overlap": lambda value: type(value) is int,
        "every_tile": lambda value: type(value) is bool,
        "stored": lambda value: value in STORED,
        **_COMMON_FACTS,
    },
}
"""What `config.json` says of a kind of job, and whether it can be that."""
_UNFINISHED_AND_MODEL: dict[str, tuple[str | None, str]] = {
    "network": (None, "model.safetensors"),
    "tiles": ("tiles.json", "model.safetensors"),
    "compact": (COMPACT_CHECKPOINT, COMPACT_MODEL),
}
_KINDS = {"network": "one network", "tiles": "tiles", "compact": "a function of few bits"}


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
    average: int | None = None
    array: ArrayOptions | None = None
    """How the file is read as an array; None for a picture, unless its name tells that it is one."""

    def load(self, image: Any) -> Signal:
        """Return what is fitted: a signal as it is, the array of a file, or a picture at the size asked for."""
        if isinstance(image, ArraySignal):
            return image
        is_path = isinstance(image, str | PathLike)
        if is_path and (self.array is not None or is_array_file(image)):
            return (self.array or ArrayOptions()).read(image)
        limit = MAX_PIXELS if self.max_pixels is None else self.max_pixels
        if is_path and (deep := deep_picture(image, limit)) is not None:
            return deep
        config = self.settings.config
        try:
            return load_picture(image, size=config.size, background=config.background, max_pixels=limit)
        except PictureError as error:
            deep = deep_picture(image, limit, error) if is_path else None
            if deep is None:
                raise
            return deep


@dataclass(frozen=True)
class Begun:
    """What `config.json` says of a run that goes on; nothing in it is trusted to choose a file.

    Attributes
    ----------
    image : str or None
        The picture's path; None for the bundled one.
    picture_digest : str or None
        `Picture.digest` of the picture that the run began with.
    kind : str
        `network`, `tiles` or `compact`.
    facts : mapping
        What the kind of job is known by beside its settings.
    """

    config: FitConfig
    image: str | None
    picture_digest: str | None
    kind: str = "network"
    facts: Mapping[str, Any] = field(default_factory=dict)
    array: ArrayOptions | None = None

    def going_on(self, asked: Asked) -> Asked:
        """Return what is asked, with what the run began with wherever nothing else is asked for.

        Raises
        ------
        ConfigError
            Another kind of function is asked for: of tiles, of one network, of few bits.
        """
        asked = dataclasses.replace(
            asked,
            image=self.picture_path(asked.image),
            max_pixels=asked.max_pixels or self.facts.get("max_pixels"),
            array=asked.array or self.array,
        )
        recipe = asked.settings.recipe or ""
        if {COMPACT: "compact", MEMORISE: "tiles"}.get(recipe, self.kind) != self.kind:
            raise ConfigError(f"cannot resume with the recipe {recipe!r}: the run has {_KINDS[self.kind]}")
        going_on = {"network": self._network, "tiles": self._tiles, "compact": self._compact}
        return going_on[self.kind](asked, asked.tiles, asked.settings)

    def _network(self, asked: Asked, options: TileOptions, settings: Settings) -> Asked:
        if _wants_tiles(options):
            raise ConfigError("cannot resume with tiles: the run has one network for the whole picture")
        recipe = recipe_settings(settings.recipe) if settings.recipe else {}
        average = self.facts.get("average", 1)
        if asked.average not in (None, average):
            raise ConfigError(f"cannot resume with average {asked.average}: the run has {average}")
        own = Settings([vars(self.config), recipe, *settings.layers])
        if own.config.sigma == "auto":  # it was chosen when the run began
            own = own.over({"sigma": self.config.sigma})
        return dataclasses.replace(asked, settings=own, tiles=TileOptions("none"), average=average)

    def _tiles(self, asked: Asked, options: TileOptions, settings: Settings) -> Asked:
        if options.tiles == "none":
            raise ConfigError("cannot resume without tiles: the run has them")
        tiles = dataclasses.replace(
            options,
            tiles=options.tiles if _wants_tiles(options) else self.facts["tile"],
            every_tile=options.every_tile or self.facts["every_tile"],
            stored=self.facts["stored"],
        )
        own = dataclasses.replace(settings, layers=[vars(self.config), *settings.layers])
        return dataclasses.replace(asked, settings=own, tiles=tiles)

    def _compact(self, asked: Asked, options: TileOptions, settings: Settings) -> Asked:
        if options != TileOptions():
            raise ConfigError(f"cannot resume with options of tiles: the run has {_KINDS[self.kind]}")
        own = {name: value for name, value in vars(self.config).items() if name in SETTINGS}
        if {"steps", "seconds"} & settings.asked.keys():
            own |= {"steps": None, "seconds": None}
        return dataclasses.replace(asked, settings=Settings([own, *settings.layers], COMPACT))

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

    def check_picture(self, picture: Signal, trained_on: str | None = None) -> None:
        """Refuse another picture than `config.json` or the saved state was made from."""
        if any(digest not in (None, picture.digest) for digest in (self.picture_digest, trained_on)):
            raise ConfigError(f"cannot resume: {picture.name} is not the picture that the run was trained on")


def _is_interrupted(folder: Path) -> bool:
    """Whether a run of networks was ended early."""
    document = read_json(folder / "metrics.json")
    return not isinstance(document, dict) or document.get("stopped") == "interrupted"


def _wants_tiles(options: TileOptions) -> bool:
    return options.tiles not in (None, "auto", "none") or options.budget_parameters is not None


def kind_in(document: Mapping[str, Any], folder: Path) -> tuple[str, Mapping[str, Any]]:
    """Return the kind of job that `config.json` is of, and its facts; OutputError if they cannot be that."""
    for kind, facts in _FACTS.items():
        told = document.get(kind)
        if told is None:
            continue
        if isinstance(told, dict) and all(is_good(told.get(name)) for name, is_good in facts.items()):
            return kind, told
        raise OutputError(f"cannot resume {printable(folder)}: its {kind} cannot be told from config.json")
    return "network", {}


def finished_before(
    folder: Path, document: Mapping[str, Any], job: FitJob, backend: Backend, *, with_networks: bool = False
) -> FitResult | None:
    """Return the result of a run that has nothing left to do; None if it goes on, as one network always may.

    A result that is read again has no state.

    Parameters
    ----------
    document : mapping
        That of the folder's `config.json`.
    with_networks : bool
        Whether a run of one network with this job's budgets is finished too, if it came to its end.

    Raises
    ------
    ConfigError
        The run is finished, and is of another picture or of other settings.
    """
    kind, facts = kind_in(document, folder)
    before = {"config": document["config"], kind: facts}
    now = json.loads(json.dumps(jsonable({"config": job.settings, kind: job.facts})))
    is_one = kind == "network" and not facts
    if is_one and not (with_networks and before["config"] == now["config"]):
        return None
    unfinished, model = _UNFINISHED_AND_MODEL[kind]
    left = [unfinished is not None and (folder / unfinished).exists()]
    left += [(folder / name).exists() for name in (model, "metrics.json")]
    if left != [False, True, True] or (kind == "network" and _is_interrupted(folder)):
        return None
    for part in now:
        for name, value in now[part].items():
            if before[part].get(name) != value:
                what = "another picture" if name == "picture_digest" else f"another {name}"
                raise ConfigError(f"cannot resume with {what}: the run in {printable(folder)} is finished")
    if kind == "compact":
        return finished_result(folder, job)
    if kind == "network":
        mean = load_networks(folder / model, backend)
        history = read_history(folder / "history.csv")
        networks = networks_in(folder, backend)
        stopped = mean.metrics["stopped"]
        return FitResult(mean.metrics, history, stopped, mean, job.signal, known=job.known, networks=networks)
    tiled = load_tiled(folder / model, backend)
    return TiledResult(tiled.metrics, [], tiled.metrics["stopped"], tiled, job.signal, known=job.known)
