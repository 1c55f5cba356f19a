"""Run `coordfit inpaint`: fill the hidden pixels of a picture, by kriging or by a network, and score them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..._version import __version__
from ...config import STORED, FitConfig
from ...errors import ConfigError, OutputError
from ...files import Outputs, escaped, printable, write_bytes, write_json
from ...files.lock import output_folder
from ...images import Picture, png_bytes, save_picture
from ...images.masks import WAYS, MaskedPicture
from ...report.progress import Bar
from ...sources.reading import ArrayOptions, is_array_file
from ...tasks.filling.kriging import KrigingResult, fill_by_kriging
from ...tasks.filling.network import DEFAULTS, Inpainter, InpaintResult, inpainting_config, plan_inpainting
from ...tasks.folders.run_folder import RUN_OUTPUTS, RunFolder
from ...tasks.inpaint import OF_ANY_METHOD, HidingOptions, chosen_method, hidden
from ...tasks.jobs.average import check_average
from ...training.member import HistoryRow
from ...training.state import Callback, Checkpoint
from ..animation import AnimationCallback
from ..exit_codes import EXIT_OK
from ..interrupts import GracefulStop, how_to_begin_again
from ..option_types import UsageError
from ..options import Options
from ..result_lines import (
    Row,
    deviation_figures,
    exit_code,
    in_words,
    known_line,
    print_result,
    tiles_figure,
    training_figure,
)
from ..session import (
    array_options,
    is_shown,
    load_image,
    make_backend,
    make_log,
    named_as_options,
    say_notes,
    say_planned,
    settings_of,
    settle_sigma,
    tile_options,
    train,
)
from ..streams import print_json
from . import inpaint_array

_PICTURES = ("mask.png", "masked.png", "filled.png")
OUTPUTS = Outputs((*RUN_OUTPUTS.names, *_PICTURES))
KRIGING_OUTPUTS = Outputs((*_PICTURES, "deviation.png", "comparison.png", "config.json", "metrics.json"))


def run(options: Options) -> int:
    """Fill the hidden pixels, write the folder, print the figures."""
    array = array_options(options)
    if array is not None or (options.image is not None and is_array_file(options.image)):
        return inpaint_array.run(options, array or ArrayOptions())
    log, stop = make_log(options), GracefulStop()
    _check_image(options)
    given = _of_network(options)
    try:
        method = chosen_method(options.method, given)
    except ConfigError as error:
        raise UsageError(str(error)) from error
    if method == "kriging":
        return _run_kriging(options, log, stop)
    animation = AnimationCallback.of_one(options)
    with contextlib.ExitStack() as lock:
        inpainter, folder = _prepare(options, log, lock)
        if options.method is None:
            log(f"filled by a network, as {given[0]} is of one; kriging is faster, and better in most pictures")
        with stop:
            return _run(inpainter, folder, animation, options, log, stop)
        # Only a command that was cut short comes here.
        saved, model = "nothing is saved", inpainter.fit.model_so_far
        if model is not None:
            model.save(folder.path / "model.safetensors")
            saved = "the model so far is saved, and no picture"
        message = f"interrupted; {saved}, {how_to_begin_again(folder.path)}"
        return stop.report(message, log, as_json=options.json)


def _of_network(options: Options) -> list[str]:
    """Return the options that are given and belong to a network, as they are typed."""
    others = {
        "recipe": options.recipe,
        "config": options.config,
        "average": options.average > 1,
        "tiles": options.tiles != "auto",
        "every_tile": options.every_tile,
        "budget_parameters": options.budget_parameters,
        "stored": options.stored != STORED[0],
        "animate": options.animate,
        "device": options.device.split(":")[0] not in ("auto", "cpu", "numpy", "numba"),
    }
    given = [name for name in options.settings if name not in OF_ANY_METHOD]
    given += [name for name, is_given in others.items() if is_given]
    return ["--" + name.replace("_", "-") for name in given]


def _run_kriging(options: Options, log: Callable[[str], None], stop: GracefulStop) -> int:
    config = inpainting_config(options.settings)
    masked = _masked(options, config)
    say_notes(masked.picture, log)
    log(known_line(masked, options))
    with output_folder(options.out, KRIGING_OUTPUTS, overwrite=options.overwrite) as folder:
        _drop(folder, set(OUTPUTS.names) - set(KRIGING_OUTPUTS.names))
        _write_masked(masked, folder)
        with stop, Bar("pixel", shown=is_shown(options), time_limited=True) as bar:
            total = int(np.count_nonzero(~masked.known))

            def callback(done: float) -> bool:
                bar.show(round(done * total), total)
                return stop.is_asked_for()

            result = fill_by_kriging(masked, options.threads, callback)
            if result is not None:
                _write_kriging(result, folder, options)
                return _print_kriging(result, folder, options, log)
        reason = "interrupted; there is no filled picture"
        return stop.report(f"{reason}, {how_to_begin_again(folder)}", log, as_json=options.json)


def _write_kriging(result: KrigingResult, folder: Path, options: Options) -> None:
    image = None if options.image is None else str(Path(options.image).absolute())
    document = {
        "method": "kriging",
        "hiding": result.masked.hiding,
        "image": image,
        "seed": options.settings.get("seed", 0),
    }
    write_json(folder / "config.json", document | {"coordfit": __version__})
    write_json(folder / "metrics.json", result.metrics)
    save_picture(folder / "filled.png", result.filled, bit_depth=result.picture.bit_depth)
    save_picture(folder / "deviation.png", result.deviation_picture)
    write_bytes(folder / "comparison.png", png_bytes(result.comparison()))


def _print_kriging(result: KrigingResult, folder: Path, options: Options, log: Callable[[str], None]) -> int:
    m = result.metrics
    for note in m["inpainting_notes"]:
        log(note)
    if options.json:
        print_json({"folder": str(folder), "metrics": m})
        return EXIT_OK
    rows: list[Row] = [
        *_scores(m),
        *deviation_figures(m, "hidden pixels"),
        ("method", m["seconds"], "kriging, {:.2f} s"),
    ]
    for label, words in in_words(rows):
        print(f"{label:<12} {words}")
    print(printable(folder))
    return EXIT_OK


def _run(
    inpainter: Inpainter,
    folder: RunFolder,
    animation: AnimationCallback | None,
    options: Options,
    log: Callable[[str], None],
    stop: GracefulStop,
) -> int:
    def train_network(callback: Callback, checkpoint: Checkpoint) -> InpaintResult:
        return inpainter.run(callback)

    result = train(train_network, inpainter.fit, folder, options, stop, animation, _captions)
    if not result.metrics:
        reason = "interrupted before all tiles were finished; there is no filled picture"
        return stop.report(f"{reason}, {how_to_begin_again(folder.path)}", log, as_json=options.json)
    if result.has_model:
        folder.write_result(result, inpainter.fit)
        save_picture(folder.path / "filled.png", result.filled, bit_depth=result.picture.bit_depth)
        if animation is not None:
            animation.save()
    for note in result.metrics["inpainting_notes"]:
        log(note)
    print_result(result, folder.path, options, figures)
    if result.stopped == "interrupted":
        log(f"interrupted; the picture as filled so far is saved, {how_to_begin_again(folder.path)}")
        return stop.exit_code
    return exit_code(result, log)


def _prepare(
    options: Options, log: Callable[[str], None], lock: contextlib.ExitStack
) -> tuple[Inpainter, RunFolder]:
    """Check settings, device, picture, mask and folder before any training."""
    settings, tiles = settings_of(options, DEFAULTS), tile_options(options)
    config = inpainting_config(*settings.layers, recipe=settings.recipe)
    check_average(options.average, config)
    if options.average > 1 and (options.tiles not in ("auto", "none") or options.budget_parameters is not None):
        raise UsageError("--average is of networks of the whole picture; leave it out, or add --tiles none")
    backend = make_backend(options, log)
    masked = _masked(options, config)
    with named_as_options():
        job = plan_inpainting(masked, settings, tiles, options.average)
    say_planned(job, options, log)
    say_notes(masked.picture, log)
    log(known_line(masked, options))
    outputs = OUTPUTS.with_file(options.animate)
    folder = RunFolder(lock.enter_context(output_folder(options.out, outputs, overwrite=options.overwrite)))
    folder.drop_checkpoint()
    _drop(folder.path, {"deviation.png"})
    _write_masked(masked, folder.path)
    inpainter = Inpainter(masked, settle_sigma(job, backend, log, options), backend)
    folder.write_config(inpainter.job, options.image, backend)
    return inpainter, folder


def _check_image(options: Options) -> None:
    """Refuse to hide pixels of no picture."""
    way = next((name for name in WAYS if getattr(options, name)), "transparency")
    if options.image is None and way in ("mask", "transparency"):
        cure = "one with transparent pixels; or name --mask, --missing, --text, --scribble or --block"
        if way == "mask":
            cure = "name the picture that the mask belongs to"
        raise UsageError(f"inpaint needs an IMAGE here: {cure}")


def _masked(options: Options, config: FitConfig) -> MaskedPicture:
    hiding = {name: vars(options)[name] for name in HidingOptions.__annotations__}
    return hidden(options.image, options.mask, config, hiding, load=_load)


def _load(image: str | None, **settings: Any) -> Picture:
    return load_image(image, FitConfig(**settings))


def _drop(folder: Path, names: Iterable[str]) -> None:
    """Remove what the other method left in a folder that is replaced."""
    for file in (folder / name for name in names):
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"cannot replace {printable(file)}: {error.strerror}") from error


def _write_masked(masked: MaskedPicture, folder: Path) -> None:
    """Write `mask.png`, white known, and `masked.png`, with hidden pixels transparent."""
    save_picture(folder / "mask.png", masked.known[:, :, None].astype(np.float32))
    pixels, known = masked.picture.pixels, masked.known[:, :, None]
    alpha = known * pixels[:, :, -1:] if masked.picture.has_alpha else known
    colour = pixels[:, :, :-1] if masked.picture.has_alpha else pixels
    seen = np.concatenate([colour * known, alpha], axis=2, dtype=np.float32)
    save_picture(folder / "masked.png", seen, bit_depth=masked.picture.bit_depth)


def _captions(row: HistoryRow) -> list[str]:
    figures = {"known": row["psnr_train"], "hidden": row["psnr_held_out"]}
    return [f"{name} pixels {value:.1f} dB" for name, value in figures.items() if value is not None]


def figures(result: InpaintResult) -> list[tuple[str, str]]:
    """Return the figures of an inpainting by networks in words."""
    m = result.metrics
    rows = _scores(m)
    if "tiles" in m:
        rows += [("sigma", m["sigma"], "{:.3g} cycles per side of a tile"), tiles_figure(m)]
    else:
        rows += [
            ("sigma", m["sigma"], "{:g} cycles per longer side"),
            ("average", m["averaged"] if m["averaged"] > 1 else None, "of {:d} networks"),
            *deviation_figures(m, "hidden pixels"),
            ("steps", m["steps"], "{:,d}"),
        ]
    return in_words([*rows, training_figure(m)])


def _scores(m: dict[str, Any]) -> list[Row]:
    """Return the rows that all fillings have."""
    hidden = f"{m['hidden_pixels']:,d} pixels, {100 * m['hidden_share']:.1f} %: {escaped(m['hiding'])}"
    return [
        ("PSNR", m["psnr_hidden"], "{:.2f} dB, hidden pixels"),
        ("", m["psnr_hidden_nearest"], "{:.2f} dB, hidden pixels by their nearest known one"),
        ("", m["psnr_hidden_biharmonic"], "{:.2f} dB, hidden pixels by biharmonic inpainting"),
        ("PSNR" if m["psnr_hidden"] is None else "", m.get("psnr_train"), "{:.2f} dB, known pixels"),
        ("SSIM", m["ssim_filled"], "{:.4f}, filled picture"),
        ("hidden", hidden, "{}"),
    ]
