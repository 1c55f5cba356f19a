"""`coordfit fit` of a picture that is cut into tiles."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..._backends import Backend
from ..._version import __version__
from ...config import STORED, FitConfig, make_config
from ...errors import ConfigError, OutputError
from ...files import atomic_write, jsonable, printable, write_json
from ...files.lock import output_folder
from ...images import Picture
from ...report.streamed_comparison import RunningComparison
from ...tasks.load import load as load_model
from ...tasks.run_folder import RUN_OUTPUTS, RunFolder
from ...tiles.fit import TiledFit, TiledJob, TiledResult
from ...tiles.model import TiledModel
from ...tiles.plan import AUTO_PIXELS, TilePlan, plan_tiles
from ...training.state import Progress
from ..exit_codes import EXIT_DIVERGED, EXIT_OK
from ..interrupts import GracefulStop, how_to_go_on
from ..option_types import UsageError
from ..options import Options
from ..progress import ProgressReport
from ..result_lines import Row, held_out_figures, in_words, training_figure
from ..streams import complain

_FACTS: dict[str, Callable[[Any], bool]] = {
    "tile": lambda value: type(value) is int,
    "overlap": lambda value: type(value) is int,
    "every_tile": lambda value: type(value) is bool,
    "stored": lambda value: value in STORED,
    "picture_digest": lambda value: type(value) is str,
    "max_pixels": lambda value: value is None or (type(value) is int and value >= 1),
}
"""What `config.json` says of tiles, and whether it can be that."""

Log = Callable[[str], None]
Layers = list[dict[str, Any]]


@dataclass(frozen=True)
class Prepared:
    """A fit that is about to begin or to go on, or what came of one that is finished; and its folder."""

    fit: TiledFit | TiledResult
    folder: Path


def as_begun(options: Options, layers: Layers) -> tuple[Options, Layers] | None:
    """Options and settings with what the run that goes on began with, where nothing else is asked for.

    None where the folder holds no run of tiles.

    Raises
    ------
    ConfigError
        Tiles are asked for, and the run has one network.
    """
    begun = RunFolder(options.out).read_config() if options.resume and options.out is not None else None
    if begun is None:
        return None
    facts = _facts_in(options.out)
    asked = options.tiles not in ("auto", "none") or options.budget_parameters is not None
    if facts is None and asked:
        raise ConfigError("cannot resume with tiles: the run has one network for the whole picture")
    if facts is None:
        return None
    if options.tiles == "none":
        raise ConfigError("cannot resume without tiles: the run has them")
    remembered = {
        "image": begun.picture_path(options.image),
        "tiles": options.tiles if asked else facts["tile"],
        "every_tile": options.every_tile or facts["every_tile"],
        "stored": facts["stored"],
        "max_pixels": options.max_pixels or facts.get("max_pixels"),
    }
    return Options(**vars(options) | remembered), [begun.config.as_dict(), *layers]


def _facts_in(folder: Path) -> dict[str, Any] | None:
    """What `config.json` says of the tiles; None where there are none."""
    facts = RunFolder(folder).config_document().get("tiles")
    if facts is not None and not (isinstance(facts, dict) and all(_FACTS[n](facts.get(n)) for n in _FACTS)):
        raise OutputError(f"cannot resume {printable(folder)}: its tiles cannot be told from config.json")
    return facts


def plan_for(
    options: Options,
    picture_for: Callable[[FitConfig], Picture],
    layers: Layers,
    recipe: str | None,
    log: Log,
    *,
    spacing: float | None = None,
) -> tuple[Picture, TilePlan] | None:
    """The picture and its tiles; None where one network is to learn it, which is said where it may surprise.

    `spacing` is that of known pixels, where a mask says which.
    """
    asked = options.tiles != "auto" or options.budget_parameters is not None
    if options.tiles == "none" or (options.image is None and not asked):  # no need to look at the picture
        plan: TilePlan | str = "the picture is small" if options.tiles == "auto" else "none were asked for"
        if options.budget_parameters is not None:
            raise UsageError("--budget-parameters chooses among tiles; leave --tiles none out")
    else:
        config = make_config(*layers, recipe=recipe)
        picture = picture_for(config)
        settings = {name: value for layer in layers for name, value in layer.items()}
        budget = options.budget_parameters
        plan = plan_tiles(picture, options.tiles, settings, recipe=recipe, budget=budget, spacing=spacing)
    if isinstance(plan, str):
        if options.every_tile:
            raise UsageError(f"--every-tile needs tiles, and there are none: {plan}")
        if (
            options.tiles == "auto"
            and options.image is not None
            and picture.height * picture.width > AUTO_PIXELS
        ):
            log(f"one network for the whole picture: {plan}")
        return None
    refuse_animation(options)
    if options.every_tile and plan.config.target_psnr is None:
        raise UsageError("--every-tile needs --target-psnr")
    log(f"tiles: {plan.words}")
    return picture, plan


def refuse_animation(options: Options) -> None:
    """Tiles are finished one group after the other: there is no picture that comes into focus."""
    if options.animate is not None:
        raise UsageError("--animate shows one network; add --tiles none")


def prepare(
    options: Options,
    picture: Picture,
    plan: TilePlan,
    backend: Backend,
    image: str | None,
    held: contextlib.ExitStack,
) -> Prepared:
    """Make the folder and the places for the tiles; the folder is locked for as long as it is `held`."""
    outputs = RUN_OUTPUTS.beside(options.animate)
    taken = output_folder(options.out, outputs, overwrite=options.overwrite, resume=options.resume)
    folder = held.enter_context(taken)
    tiles = TiledJob(picture, plan, options.every_tile, options.stored).facts
    document = {"config": plan.config.as_dict(), "image": image, "picture_digest": picture.digest}
    document |= {"device": backend.device, "tiles": tiles}
    if options.resume and _is_finished(folder):
        _check_the_same(folder, document)
        model = load_model(folder / "model.safetensors", backend=backend)
        if isinstance(model, TiledModel):
            return Prepared(TiledResult(model.metrics, [], model.metrics["stopped"], model, picture), folder)
    if not options.resume:
        RunFolder(folder).drop_checkpoint()
    elif (begun := RunFolder(folder).read_config()) is not None:
        begun.check_picture(picture)
    fit = TiledFit(
        picture,
        plan,
        backend,
        every_tile=options.every_tile,
        stored=options.stored,
        folder=folder,
        resume=options.resume,
    )
    noted = {"tiles": tiles | {"max_pixels": options.max_pixels}, "coordfit": __version__}
    write_json(folder / "config.json", document | noted)
    return Prepared(fit, folder)


def _is_finished(folder: Path) -> bool:
    """Whether all was written that a run of tiles leaves, and nothing is there to go on from."""
    left = [(folder / name).exists() for name in ("tiles.json", "model.safetensors", "metrics.json")]
    return left == [False, True, True] and _facts_in(folder) is not None


def _check_the_same(folder: Path, document: dict[str, Any]) -> None:
    """Refuse to take a finished run for one of another picture or other settings."""
    before = RunFolder(folder).config_document()
    now = json.loads(json.dumps(jsonable(document)))
    for part in ("config", "tiles"):
        for name, value in now[part].items():
            if before[part].get(name) != value:
                what = "another picture" if name == "picture_digest" else f"another {name}"
                raise ConfigError(f"cannot resume with {what}: the run in {printable(folder)} is finished")


def run(prepared: Prepared, options: Options, log: Log) -> int:
    """Fit, write the folder, print the figures."""
    fit, folder = prepared.fit, prepared.folder
    if isinstance(fit, TiledResult):
        log("all tiles were finished already")
        _print_result(fit, folder, options)
        return EXIT_OK
    for note in fit.picture.notes:
        log(f"{fit.picture.name}: {note}")
    if options.resume:
        log(_what_is_resumed(fit, folder))
    with GracefulStop() as stop:
        result = _trained(fit, options, stop)
        if result.stopped != "interrupted":
            write_result(folder, result)
            fit.store.remove()
            _print_result(result, folder, options)
            return exit_code(result, log)
    message = f"interrupted; {_learned(fit)} saved, {how_to_go_on(folder)}"
    return stop.report(message, log, as_json=options.json)


def _trained(fit: TiledFit, options: Options, stop: GracefulStop) -> TiledResult:
    shown = not (options.no_progress or options.quiet or options.json)
    with ProgressReport(shown=shown) as report:

        def callback(progress: Progress) -> bool:
            report(progress)
            return stop.is_asked_for()

        return fit.run(callback)


def _what_is_resumed(fit: TiledFit, folder: Path) -> str:
    if fit.store.learned:
        return f"going on after {fit.store.learned} of {len(fit.plan.layout)} tiles"
    return f"no tiles to resume in {printable(folder)}: a new run begins there"


def _learned(fit: TiledFit) -> str:
    tiles = len(fit.plan.layout)
    return f"all {tiles} tiles are" if fit.store.done == tiles else f"{fit.store.learned} of {tiles} tiles are"


def exit_code(result: TiledResult, log: Log) -> int:
    """What a finished fit ends the process with; what went wrong is said in one line."""
    if result.stopped == "diverged":
        complain("diverged: tiles are no longer finite; they keep what they had before; lower --learning-rate")
        return EXIT_DIVERGED
    target = result.config.target_psnr
    if target is not None and result.stopped != "target_psnr":
        log(f"the target of {target:g} dB was not reached within the budget")
    return EXIT_OK


def write_result(folder: Path, result: TiledResult) -> None:
    """Write all that a finished run leaves; what would hurt most to lose comes first."""
    from ..png_output import write_png

    result.save(folder / "model.safetensors")
    write_json(folder / "metrics.json", result.metrics)
    seen = RunningComparison(result.picture.colours)
    write_png(folder / "reconstruction.png", result.model, result.model.grid(), shown=False, see=seen.add)
    with atomic_write(folder / "comparison.png") as file:
        result.comparison(seen).save(file, format="PNG")


def _print_result(result: TiledResult, folder: Path, options: Options) -> None:
    if options.json:
        document = {"folder": str(folder), "metrics": result.metrics, "config": result.config.as_dict()}
        print(json.dumps(jsonable(document), allow_nan=False))
        return
    for label, value in _figures(result.metrics):
        print(f"{label:<12} {value}")
    print(printable(folder))


def tiles_figure(m: dict[str, Any]) -> Row:
    """How many networks there are, and how long they were trained."""
    return "tiles", m["tiles"], f"{{:,d}} networks, {m['epochs']:.1f} steps each on average"


def _figures(m: dict[str, Any]) -> list[tuple[str, str]]:
    """The figures of a tiled fit, as people read them: quality, time, and what both cost in parameters."""
    rows: list[Row] = [
        ("PSNR", m["psnr"], "{:.2f} dB, all pixels"),
        *held_out_figures(m),
        ("", m["psnr_worst_tile"], "{:.2f} dB, the worst tile"),
        ("SSIM", m["ssim"], "{:.4f}"),
        tiles_figure(m),
        training_figure(m),
        ("parameters", m["parameters"], f"{{:,d}}, {m['parameters_per_value']:.2f} for each colour value"),
        ("as float32", m["bits_per_pixel_float32"], f"{{:.1f}} bits per pixel, {m['bytes_float32']:,d} bytes"),
        ("as float16", m["bits_per_pixel_float16"], f"{{:.1f}} bits per pixel, {m['bytes_float16']:,d} bytes"),
        ("stored as", m["stored"], "{}"),
    ]
    return in_words(rows)
