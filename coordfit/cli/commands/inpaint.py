"""`coordfit inpaint`: learn the known pixels of a picture, fill the hidden ones, and say how well."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...config import FitConfig
from ...files import Outputs, escaped, jsonable, printable
from ...files.lock import output_folder
from ...images import save_picture
from ...images.interpolation import mean_spacing
from ...images.masks import MaskedPicture, hide
from ...tasks.average import check_average
from ...tasks.inpaint import Inpainted, Inpainter, TiledInpainter, TiledInpaintResult, inpainting_config
from ...tasks.run_folder import RUN_OUTPUTS, RunFolder
from ...training.member import HistoryRow
from ...training.state import Progress
from ..animation import AnimationCallback
from ..interrupts import GracefulStop, how_to_begin_again
from ..option_types import UsageError
from ..options import Options
from ..progress import ProgressReport
from ..result_lines import Row, in_words, training_figure
from ..session import absolute_path, load_image, make_backend, make_log, setting_layers, settle_sigma
from . import fit as fit_command
from . import fit_tiles as tiles

OUTPUTS = Outputs((*RUN_OUTPUTS.names, "mask.png", "masked.png", "filled.png"))
_WAYS = ("mask", "missing", "text", "scribble", "block")


def run(options: Options) -> int:
    """Fit the known pixels, write the run folder, print the figures."""
    log = make_log(options)
    animation = (
        None
        if options.animate is None
        else AnimationCallback(options.animate, [Path(options.image or "coordfit").stem])
    )
    with contextlib.ExitStack() as held:  # the folder, until all is written
        inpainter, folder = _prepare(options, log, held)
        with GracefulStop() as stop:
            if isinstance(inpainter, TiledInpainter):
                return _run_tiles(inpainter, folder, options, log, stop)
            return _run(inpainter, folder, animation, options, log, stop)
        saved = "nothing is saved"
        if isinstance(inpainter, Inpainter) and inpainter.trainer.history:
            inpainter.trainer.model.save(folder.path / "model.safetensors")
            saved = "the model so far is saved, and no picture"
        message = f"interrupted; {saved}, {how_to_begin_again(folder.path)}"
        return stop.report(message, log, as_json=options.json)


def _run(
    inpainter: Inpainter,
    folder: RunFolder,
    animation: AnimationCallback | None,
    options: Options,
    log: Callable[[str], None],
    stop: GracefulStop,
) -> int:
    trainer = inpainter.trainer
    report = ProgressReport(shown=not (options.no_progress or options.quiet or options.json))
    with folder.history_writer(trainer) as history, report:

        def callback(progress: Progress) -> bool:
            if progress.evaluated and progress.row is not None:
                history.append(progress.row)
                if animation is not None:
                    animation.add([trainer.model.render()], progress.step, _captions(progress.row))
            report(progress)
            return stop.is_asked_for()

        result = inpainter.run(callback)
    if result.history:
        folder.write_result(result)
        _write_filled(result, folder)
        if animation is not None:
            animation.save()
    _print_result(result, folder.path, options, log)
    if result.stopped == "interrupted":
        log(f"interrupted; the picture as filled so far is saved, {how_to_begin_again(folder.path)}")
        return stop.exit_code
    return fit_command.exit_code(result, log)


def _run_tiles(
    inpainter: TiledInpainter,
    folder: RunFolder,
    options: Options,
    log: Callable[[str], None],
    stop: GracefulStop,
) -> int:
    shown = not (options.no_progress or options.quiet or options.json)
    with ProgressReport(shown=shown) as report:

        def callback(progress: Progress) -> bool:
            report(progress)
            return stop.is_asked_for()

        result = inpainter.run(callback)
    if result.stopped == "interrupted":
        told = "interrupted before all tiles were finished; there is no filled picture"
        message = f"{told}, {how_to_begin_again(folder.path)}"
        return stop.report(message, log, as_json=options.json)
    tiles.write_result(folder.path, result)
    _write_filled(result, folder)
    _print_result(result, folder.path, options, log)
    return tiles.exit_code(result, log)


def _prepare(
    options: Options, log: Callable[[str], None], held: contextlib.ExitStack
) -> tuple[Inpainter | TiledInpainter, RunFolder]:
    """Settings, device, picture, mask and folder, checked before any training."""
    way = next((name for name in _WAYS if getattr(options, name)), "transparency")
    if options.image is None and way in ("mask", "transparency"):
        cure = "name the picture that the mask belongs to" if way == "mask" else _ways_in_words()
        raise UsageError(f"inpaint needs an IMAGE here: {cure}")
    layers, recipe = setting_layers(options)
    config = inpainting_config(*layers, recipe=recipe)
    check_average(options.average, config)
    if options.average > 1 and (options.tiles not in ("auto", "none") or options.budget_parameters is not None):
        raise UsageError("--average is of networks of the whole picture; leave it out, or add --tiles none")
    backend = make_backend(options, log)
    masked = _masked(options, config)
    spacing = mean_spacing(masked.known)
    plan = tiles.plan_for(options, lambda _: masked.picture, layers, recipe, log, spacing=spacing)
    for note in masked.picture.notes:
        log(f"{masked.picture.name}: {note}")
    log(_polarity(masked))
    outputs = OUTPUTS.beside(options.animate)
    folder = RunFolder(held.enter_context(output_folder(options.out, outputs, overwrite=options.overwrite)))
    folder.drop_checkpoint()
    _write_masked(masked, folder.path)
    inpainter: Inpainter | TiledInpainter
    if plan is None:
        config = settle_sigma(masked.picture, config, backend, log, options, masked.known)
        inpainter = Inpainter(masked, config, backend, options.average)
        config = inpainter.config
    else:
        config = plan[1].config
        inpainter = TiledInpainter(
            masked, plan[1], backend, every_tile=options.every_tile, stored=options.stored
        )
    folder.write_config(config, absolute_path(options.image), backend, masked.picture)
    return inpainter, folder


def _write_filled(result: Inpainted, folder: RunFolder) -> None:
    save_picture(folder.path / "filled.png", result.filled, bit_depth=result.picture.bit_depth)


def _ways_in_words() -> str:
    return "one with transparent pixels; or name --mask, --missing, --text, --scribble or --block"


def _masked(options: Options, config: FitConfig) -> MaskedPicture:
    return hide(
        load_image(options.image, config),
        mask=options.mask,
        invert=options.invert_mask,
        threshold=options.mask_threshold,
        truth=None if options.truth is None else load_image(options.truth, config),
        missing=options.missing,
        text=options.text,
        scribble=options.scribble,
        block=options.block,
        seed=config.seed,
    )


def _polarity(masked: MaskedPicture) -> str:
    known, number = int(np.count_nonzero(masked.known)), masked.known.size
    return f"white is known: {known} of {number} pixels, {100 * (1 - known / number):.1f} % hidden (mask.png)"


def _write_masked(masked: MaskedPicture, folder: Path) -> None:
    """`mask.png`, white known, and `masked.png`, what the network sees, with hidden pixels transparent."""
    save_picture(folder / "mask.png", masked.known[:, :, None].astype(np.float32))
    pixels, known = masked.picture.pixels, masked.known[:, :, None]
    alpha = known * pixels[:, :, -1:] if masked.picture.has_alpha else known
    colour = pixels[:, :, :-1] if masked.picture.has_alpha else pixels
    seen = np.concatenate([colour * known, alpha], axis=2, dtype=np.float32)
    save_picture(folder / "masked.png", seen, bit_depth=masked.picture.bit_depth)


def _captions(row: HistoryRow) -> list[str]:
    figures = {"known": row["psnr_train"], "hidden": row["psnr_held_out"]}
    return [f"{name} pixels {value:.1f} dB" for name, value in figures.items() if value is not None]


def _print_result(result: Inpainted, path: Path, options: Options, log: Callable[[str], None]) -> None:
    for note in result.metrics["inpainting_notes"]:
        log(note)
    if options.json:
        document = {"folder": str(path), "metrics": result.metrics, "config": result.config.as_dict()}
        print(json.dumps(jsonable(document), allow_nan=False))
        return
    for label, value in figures(result):
        print(f"{label:<12} {value}")
    print(printable(path))


def figures(result: Inpainted) -> list[tuple[str, str]]:
    """The figures of an inpainting, as people read them."""
    m = result.metrics
    hidden = f"{m['hidden_pixels']:,d} pixels, {100 * m['hidden_share']:.1f} %: {escaped(result.hiding)}"
    rows: list[Row] = [
        ("PSNR", m["psnr_hidden"], "{:.2f} dB, hidden pixels"),
        ("", m["psnr_hidden_nearest"], "{:.2f} dB, hidden pixels by their nearest known one"),
        ("", m["psnr_hidden_biharmonic"], "{:.2f} dB, hidden pixels by biharmonic inpainting"),
        ("" if result.has_truth else "PSNR", m["psnr_train"], "{:.2f} dB, known pixels"),
        ("SSIM", m["ssim_filled"], "{:.4f}, filled picture"),
        ("hidden", hidden, "{}"),
    ]
    if isinstance(result, TiledInpaintResult):
        rows += [("sigma", m["sigma"], "{:.3g} cycles per side of a tile"), tiles.tiles_figure(m)]
    else:
        rows += [
            ("sigma", m["sigma"], "{:g} cycles per longer side"),
            ("average", m["averaged"] if m["averaged"] > 1 else None, "of {:d} networks"),
            ("steps", m["steps"], "{:,d}"),
        ]
    return in_words([*rows, training_figure(m)])
