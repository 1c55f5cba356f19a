"""`coordfit fit`: one picture, one network, one run folder."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..._backends import Backend
from ...config import make_config, recipe_settings
from ...files import jsonable, printable
from ...files.lock import output_folder
from ...tasks.run_folder import RUN_OUTPUTS, RunFolder, check_resumable
from ...training.job import Job
from ...training.result import FitResult
from ...training.state import Progress, TrainingState
from ...training.trainer import Trainer
from ..animation import AnimationCallback
from ..exit_codes import EXIT_DIVERGED, EXIT_OK
from ..interrupts import GracefulStop, how_to_go_on
from ..option_types import UsageError
from ..options import Options
from ..progress import ProgressReport
from ..result_lines import Row, held_out_figures, in_words, training_figure
from ..session import absolute_path, load_image, make_backend, make_log, setting_layers, settle_sigma
from ..streams import complain
from . import fit_tiles as tiles


def run(options: Options) -> int:
    """Fit, write the run folder, print the figures."""
    log = make_log(options)
    with contextlib.ExitStack() as held:  # the folder, until all is written
        if (tiled := tiled_fit(options, log, held)) is not None:
            return tiles.run(tiled, options, log)
        trainer, folder = _prepare(options, log, held)
        with GracefulStop() as stop:
            return _fit(trainer, folder, options, log, stop)
        saved = "the run so far is saved" if folder.checkpoint_file.exists() else "nothing was learned yet"
        message = f"interrupted; {saved}, {how_to_go_on(folder.path)}"
        return stop.report(message, log, as_json=options.json)


def _fit(
    trainer: Trainer, folder: RunFolder, options: Options, log: Callable[[str], None], stop: GracefulStop
) -> int:
    animation = (
        None
        if options.animate is None
        else AnimationCallback(options.animate, [Path(options.image or "coordfit").stem])
    )
    picture = trainer.member.picture
    for note in picture.notes:
        log(f"{picture.name}: {note}")
    report = ProgressReport(shown=not (options.no_progress or options.quiet or options.json))
    with folder.history_writer(trainer) as history, report:

        def callback(progress: Progress) -> bool:
            if progress.evaluated and progress.row is not None:
                history.append(progress.row)
                if animation is not None:
                    animation.add([trainer.model.render()], progress.step, [f"{progress.row['psnr']:.2f} dB"])
            report(progress)
            return stop.is_asked_for()

        def checkpoint(state: TrainingState) -> None:
            history.sync()  # a checkpoint never knows of steps whose rows a power cut may take
            folder.save_checkpoint(trainer.model, state)

        [result] = trainer.run(callback, checkpoint=checkpoint)
    if result.history:
        folder.write_result(result)
    if animation is not None:
        animation.save()
    _print_result(result, folder.path, options)
    if result.stopped == "interrupted":
        log(f"interrupted; the run so far is saved, {how_to_go_on(folder.path)}")
        return stop.exit_code
    return exit_code(result, log)


def tiled_fit(
    options: Options, log: Callable[[str], None], held: contextlib.ExitStack
) -> tiles.Prepared | None:
    """A fit by tiles where the picture is to be cut into them, or was; None for one network."""
    layers, recipe = setting_layers(options)
    named = options.image
    if (begun := tiles.as_begun(options, layers)) is not None:
        options, layers = begun
    elif options.resume and options.out is not None and RunFolder(options.out).read_config() is not None:
        return None
    image, most = options.image, options.max_pixels
    chosen = tiles.plan_for(options, lambda config: load_image(image, config, most), layers, recipe, log)
    if chosen is None:
        return None
    prepared = tiles.prepare(options, *chosen, make_backend(options, log), absolute_path(image), held)
    say_remembered(named, image, log)
    return prepared


def say_remembered(named: str | None, image: str | None, log: Callable[[str], None]) -> None:
    """Say which picture is read where the user named none and a run goes on."""
    if named is None and image is not None:
        log(f"the picture is {printable(image)}, as config.json has it")


def _prepare(
    options: Options, log: Callable[[str], None], held: contextlib.ExitStack
) -> tuple[Trainer, RunFolder]:
    """Settings, device, picture and folder, checked before any training."""
    if options.resume and options.out is None:
        raise UsageError("--resume needs --out DIR, the folder of the run that goes on")
    layers, recipe = setting_layers(options)
    make_config(*layers, recipe=recipe)
    backend = make_backend(options, log)
    if options.resume:
        return _prepare_to_go_on(options, layers, recipe, backend, log, held)
    config = make_config(*layers, recipe=recipe)
    picture = load_image(options.image, config, options.max_pixels)
    outputs = RUN_OUTPUTS.beside(options.animate)
    folder = RunFolder(held.enter_context(output_folder(options.out, outputs, overwrite=options.overwrite)))
    trainer = Trainer([Job(picture, settle_sigma(picture, config, backend, log, options))], backend)
    folder.drop_checkpoint()
    folder.write_config(trainer.config, absolute_path(options.image), backend, picture)
    return trainer, folder


def _prepare_to_go_on(
    options: Options,
    layers: list[dict[str, Any]],
    recipe: str | None,
    backend: Backend,
    log: Callable[[str], None],
    held: contextlib.ExitStack,
) -> tuple[Trainer, RunFolder]:
    outputs = RUN_OUTPUTS.beside(options.animate)
    taken = output_folder(options.out, outputs, overwrite=options.overwrite, resume=True)
    folder = RunFolder(held.enter_context(taken))
    begun, state = folder.read_config(), None
    if begun is None:
        log(f"no run to resume in {printable(folder.path)}: a new one begins there")
        config, image = make_config(*layers, recipe=recipe), options.image
        picture = load_image(image, config, options.max_pixels)
        config = settle_sigma(picture, config, backend, log, options)
    else:
        before = begun.config
        asked = recipe_settings(options.recipe) if options.recipe else {}
        config = make_config(before.as_dict(), asked, *layers)
        if config.sigma == "auto":  # it was chosen when the run began
            config = config.replace(sigma=before.sigma)
        image = begun.picture_path(options.image)
        picture = load_image(image, config, options.max_pixels)
        saved = folder.load_state()
        if saved is not None:  # None where the run was killed before its first checkpoint
            before, state = saved
        check_resumable(before, config)
        begun.check_picture(picture, None if state is None else state.picture_digest)
        say_remembered(options.image, image, log)
    if state is not None:
        log(f"going on from step {state.step}")
    elif begun is not None:
        log(f"the run in {printable(folder.path)} had saved nothing yet: it begins again")
    trainer = Trainer([Job(picture, config)], backend, state)
    folder.write_config(config, absolute_path(image), backend, picture)
    return trainer, folder


def _print_result(result: FitResult, path: Path, options: Options) -> None:
    if options.json:
        document = {"folder": str(path), "metrics": result.metrics, "config": result.config.as_dict()}
        print(json.dumps(jsonable(document), allow_nan=False))
        return
    for label, value in figures(result):
        print(f"{label:<12} {value}")
    print(printable(path))


def figures(result: FitResult) -> list[tuple[str, str]]:
    """The figures of a fit, as people read them."""
    m = result.metrics
    rows: list[Row] = [
        ("PSNR", m["psnr"], "{:.2f} dB, all pixels"),
        *held_out_figures(m),
        ("SSIM", m["ssim"], "{:.4f}"),
        ("loss", m["loss"], "{:.3e} " + m["loss_name"].upper()),
        ("steps", m["steps"], "{:,d}"),
        training_figure(m),
        ("parameters", m["parameters"], f"{{:,d}}, {m['bits_per_pixel']:.1f} bits per pixel"),
    ]
    return in_words(rows)


def exit_code(result: FitResult, log: Callable[[str], None]) -> int:
    """What a finished fit ends the process with; what went wrong is said in one line."""
    if not result.history:
        complain("diverged: the network is not finite even before training; lower --omega or --sigma")
        return EXIT_DIVERGED
    if result.stopped == "diverged":
        complain(
            f"diverged: the loss is no longer finite; step {result.metrics['steps']} was the last good state "
            "and is what was saved; lower --learning-rate"
        )
        return EXIT_DIVERGED
    target = result.config.target_psnr
    if target is not None and result.stopped != "target_psnr":
        log(f"the target of {target:g} dB was not reached within the budget")
    return EXIT_OK
