"""`coordfit fit` of a picture that is cut into tiles."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from .._backends import Backend
from .._version import __version__
from ..config import FitConfig, make_config
from ..files import atomic_write, jsonable, new_run_folder, prepare_output_folder, printable, write_json
from ..folder_lock import locked
from ..images import Picture
from ..tiles.fit import TiledFit, TiledResult, TileProgress
from ..tiles.plan import AUTO_PIXELS, TilePlan, plan_tiles
from . import EXIT_INTERRUPTED, EXIT_OK, EXIT_TERMINATED
from .options import Options, UsageError

if TYPE_CHECKING:
    from .fit import GracefulStop

# A comparison beside a picture of more pixels would be too large to be looked at, and to be held in memory.
_MOST_COMPARED = 4_000_000
_SECONDS_BETWEEN_LINES = 5.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """A fit that is about to begin, and its folder."""

    fit: TiledFit
    folder: Path


def was_tiled(options: Options) -> bool:
    """Whether the folder of a run that goes on holds tiles."""
    return options.out is not None and (options.out / "tiles.json").exists()


def plan_for(
    options: Options,
    picture_for: Callable[[FitConfig], Picture],
    layers: list[dict[str, Any]],
    recipe: str | None,
    say: Say,
) -> tuple[Picture, TilePlan] | None:
    """The picture and its tiles; None where one network is to learn it, which is said where it may surprise."""
    asked = options.tiles != "auto" or options.budget_parameters is not None
    if options.tiles == "none" or (options.image is None and not asked):  # no need to look at the picture
        plan: TilePlan | str = "the picture is small" if options.tiles == "auto" else "none were asked for"
        if options.budget_parameters is not None:
            raise UsageError("--budget-parameters chooses among tiles; leave --tiles none out")
    else:
        config = make_config(*layers, recipe=recipe)
        picture = picture_for(config)
        settings = {name: value for layer in layers for name, value in layer.items()}
        plan = plan_tiles(picture, options.tiles, settings, recipe=recipe, budget=options.budget_parameters)
    if isinstance(plan, str):
        if options.every_tile:
            raise UsageError(f"--every-tile needs tiles, and there are none: {plan}")
        if (
            options.tiles == "auto"
            and options.image is not None
            and picture.height * picture.width > AUTO_PIXELS
        ):
            say(f"one network for the whole picture: {plan}")
        return None
    if options.animate is not None:
        raise UsageError("--animate shows one network; add --tiles none")
    if options.every_tile and plan.config.target_psnr is None:
        raise UsageError("--every-tile needs --target-psnr")
    say(f"tiles: {plan.words}")
    return picture, plan


def prepare(
    options: Options,
    picture: Picture,
    plan: TilePlan,
    backend: Backend,
    image: str | None,
    held: contextlib.ExitStack,
) -> Prepared:
    """Make the folder and the places for the tiles; the folder is locked for as long as it is `held`."""
    path = new_run_folder() if options.out is None else options.out
    folder = prepare_output_folder(path, overwrite=options.overwrite, resume=options.resume)
    held.enter_context(locked(folder))
    fit = TiledFit(
        picture,
        plan,
        backend,
        every_tile=options.every_tile,
        stored=options.stored,
        folder=folder,
        resume=options.resume,
    )
    tiles = {"tile": plan.layout.tile, "overlap": plan.layout.overlap, "every_tile": options.every_tile}
    document = {"config": plan.config.as_dict(), "image": image, "device": backend.device, "tiles": tiles}
    write_json(folder / "config.json", document | {"coordfit": __version__})
    return Prepared(fit, folder)


def run(prepared: Prepared, options: Options, say: Say, stop: GracefulStop) -> int:
    """Fit, write the folder, print the figures."""
    fit, folder = prepared.fit, prepared.folder
    for note in fit.picture.notes:
        say(f"{fit.picture.name}: {note}")
    if fit.store.done:
        say(f"going on after {fit.store.done} tiles")
    shown = not (options.no_progress or options.quiet or options.json)
    with stop, _Report(len(fit.plan.layout), shown=shown) as report:

        def callback(progress: TileProgress) -> bool:
            report(progress)
            return stop.signal is not None

        result = fit.run(callback)
    if result.stopped == "interrupted":
        say(f"interrupted; {fit.store.done} finished tiles are saved, go on with --resume --out DIR")
        return EXIT_TERMINATED if stop.signal == signal.SIGTERM else EXIT_INTERRUPTED
    write_result(folder, result)
    fit.store.remove()
    _print_result(result, folder, options)
    target = result.config.target_psnr
    if target is not None and result.stopped != "target_psnr":
        say(f"the target of {target:g} dB was not reached within the budget")
    return EXIT_OK


def write_result(folder: Path, result: TiledResult) -> None:
    """Write all that a finished run leaves; what would hurt most to lose comes first."""
    from .render import write_png

    result.save(folder / "model.safetensors")
    write_json(folder / "metrics.json", result.metrics)
    write_png(folder / "reconstruction.png", result.model, result.model.grid(), shown=False)
    if result.picture.height * result.picture.width <= _MOST_COMPARED:
        with atomic_write(folder / "comparison.png") as file:
            result.comparison().save(file, format="PNG")


def _print_result(result: TiledResult, folder: Path, options: Options) -> None:
    if options.json:
        document = {"folder": str(folder), "metrics": result.metrics, "config": result.config.as_dict()}
        print(json.dumps(jsonable(document), allow_nan=False))
        return
    for label, value in _figures(result.metrics):
        print(f"{label:<12} {value}")
    print(printable(folder))


def _figures(m: dict[str, Any]) -> list[tuple[str, str]]:
    """The figures of a tiled fit, as people read them: quality, time, and what both cost in parameters."""
    rows: list[tuple[str, Any, str]] = [
        ("PSNR", m["psnr"], "{:.2f} dB, all pixels"),
        ("", m["psnr_worst_tile"], "{:.2f} dB, the worst tile"),
        ("SSIM", m["ssim"], "{:.4f}"),
        ("tiles", m["tiles"], f"{{:,d}} networks, {m['epochs']:.1f} steps each on average"),
        ("training", m["seconds"], f"{{:.2f}} s on {m['device']} ({m['backend']})"),
        ("parameters", m["parameters"], f"{{:,d}}, {m['parameters_per_value']:.2f} for each colour value"),
        ("as float32", m["bits_per_pixel_float32"], f"{{:.1f}} bits per pixel, {m['bytes_float32']:,d} bytes"),
        ("as float16", m["bits_per_pixel_float16"], f"{{:.1f}} bits per pixel, {m['bytes_float16']:,d} bytes"),
        ("stored as", m["stored"], "{}"),
    ]
    return [(label, pattern.format(value)) for label, value, pattern in rows if value is not None]


class _Report:
    """How many tiles are finished: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, tiles: int, *, shown: bool) -> None:
        self.tiles, self.on_terminal = tiles, shown and sys.stderr.isatty()
        self.as_lines, self._last = shown and not self.on_terminal, time.perf_counter()

    def __enter__(self) -> _Report:
        self._bar = tqdm(total=self.tiles, file=sys.stderr, disable=not self.on_terminal, unit="tile")
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __call__(self, progress: TileProgress) -> None:
        """Show how far the run is."""
        known = "" if progress.psnr is None else f", {progress.psnr:.2f} dB so far"
        if self.on_terminal:
            self._bar.set_postfix_str(f"{progress.groups} groups{known}", refresh=False)
            self._bar.update(progress.done - self._bar.n)
        elif self.as_lines and time.perf_counter() - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = time.perf_counter()
            done = f"{progress.done}/{self.tiles} tiles finished"
            print(f"{done}, {progress.groups} groups on the way{known}", file=sys.stderr, flush=True)
