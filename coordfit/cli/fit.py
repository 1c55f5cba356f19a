"""`coordfit fit`: one picture, one network, one run folder."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._backends import Backend, get_backend
from ..config import FitConfig, make_config, read_config_file, recipe_settings
from ..files import jsonable, printable
from ..folder_lock import output_folder
from ..images import MAX_PIXELS, Picture, bundled_picture, load_picture
from ..result import FitResult
from ..run_folder import RUN_OUTPUTS, RunFolder, check_resumable
from ..training import Progress, Trainer, TrainingState
from . import EXIT_DIVERGED, EXIT_OK, tiles
from .figures import Row, held_out_figures, in_words, training_figure
from .film import Film
from .interrupts import GracefulStop, how_to_go_on
from .options import Options, UsageError
from .progress import ProgressReport, SigmaReport
from .streams import complain


def run(options: Options) -> int:
    """Fit, write the run folder, print the figures."""
    say = speaker(options)
    with contextlib.ExitStack() as held:  # the folder, until all is written
        if (tiled := tiled_fit(options, say, held)) is not None:
            return tiles.run(tiled, options, say)
        trainer, folder = _prepare(options, say, held)
        with GracefulStop() as stop:
            return _fit(trainer, folder, options, say, stop)
        saved = "the run so far is saved" if folder.checkpoint_file.exists() else "nothing was learned yet"
        message = f"interrupted; {saved}, {how_to_go_on(folder.path)}"
        return stop.report(message, say, as_json=options.json)


def _fit(
    trainer: Trainer, folder: RunFolder, options: Options, say: Callable[[str], None], stop: GracefulStop
) -> int:
    film = None if options.animate is None else Film(options.animate, [Path(options.image or "coordfit").stem])
    for note in trainer.picture.notes:
        say(f"{trainer.picture.name}: {note}")
    report = ProgressReport(shown=not (options.no_progress or options.quiet or options.json))
    with folder.history_writer(trainer) as history, report:

        def callback(progress: Progress) -> bool:
            if progress.evaluated and progress.row is not None:
                history.append(progress.row)
                if film is not None:
                    film.add([trainer.model.render()], progress.step, [f"{progress.row['psnr']:.2f} dB"])
            report(progress)
            return stop.is_asked_for()

        def checkpoint(state: TrainingState) -> None:
            history.sync()  # a checkpoint never knows of steps whose rows a power cut may take
            folder.save_checkpoint(trainer.model, state)

        result = trainer.run(callback=callback, checkpoint=checkpoint)
    if result.history:
        folder.write_result(result)
    if film is not None:
        film.save()
    _print_result(result, folder.path, options)
    if result.stopped == "interrupted":
        say(f"interrupted; the run so far is saved, {how_to_go_on(folder.path)}")
        return stop.exit_code
    return exit_code(result, say)


def tiled_fit(
    options: Options, say: Callable[[str], None], held: contextlib.ExitStack
) -> tiles.Prepared | None:
    """A fit by tiles where the picture is to be cut into them, or was; None for one network."""
    layers, recipe = setting_layers(options)
    named = options.image
    if (begun := tiles.as_begun(options, layers)) is not None:
        options, layers = begun
    elif options.resume and options.out is not None and RunFolder(options.out).read_config() is not None:
        return None
    image, most = options.image, options.max_pixels
    chosen = tiles.plan_for(options, lambda config: load_image(image, config, most), layers, recipe, say)
    if chosen is None:
        return None
    prepared = tiles.prepare(options, *chosen, make_backend(options, say), absolute_path(image), held)
    say_remembered(named, image, say)
    return prepared


def say_remembered(named: str | None, image: str | None, say: Callable[[str], None]) -> None:
    """Say which picture is read where the user named none and a run goes on."""
    if named is None and image is not None:
        say(f"the picture is {printable(image)}, as config.json has it")


def make_backend(options: Options, say: Callable[[str], None]) -> Backend:
    """The backend that was asked for; a fall-back of `auto` is said in one line."""
    try:
        backend = get_backend(
            options.device,
            fused=options.fused,
            threads=getattr(options, "threads", None),
            precision=options.precision,
        )
    except ValueError as error:
        variable = options.from_environment.get("device")
        where = f"the environment variable {variable}: " if variable else ""
        raise UsageError(f"{where}{error}") from error
    if backend.fallback_reason:
        say(f"running on the CPU: {backend.fallback_reason.split(';')[0]}")
    if backend.preparation:
        say(backend.preparation)
    return backend


def _prepare(
    options: Options, say: Callable[[str], None], held: contextlib.ExitStack
) -> tuple[Trainer, RunFolder]:
    """Settings, device, picture and folder, checked before any training."""
    if options.resume and options.out is None:
        raise UsageError("--resume needs --out DIR, the folder of the run that goes on")
    layers, recipe = setting_layers(options)
    make_config(*layers, recipe=recipe)
    backend = make_backend(options, say)
    if options.resume:
        return _prepare_to_go_on(options, layers, recipe, backend, say, held)
    config = make_config(*layers, recipe=recipe)
    picture = load_image(options.image, config, options.max_pixels)
    outputs = RUN_OUTPUTS.beside(options.animate)
    folder = RunFolder(held.enter_context(output_folder(options.out, outputs, overwrite=options.overwrite)))
    trainer = Trainer(picture, settle_sigma(picture, config, backend, say, options), backend)
    folder.drop_checkpoint()
    folder.write_config(trainer.config, absolute_path(options.image), backend, picture)
    return trainer, folder


def settle_sigma(
    picture: Picture,
    config: FitConfig,
    backend: Backend,
    say: Callable[[str], None],
    options: Options,
    known: NDArray[np.bool_] | None = None,
) -> FitConfig:
    """The settings with a number for sigma; a choice of `auto` is said in one line."""
    if config.sigma != "auto":
        return config
    from ..ensemble import Job
    from ..sigma import choose_sigma

    with SigmaReport(shown=not (options.no_progress or options.quiet or options.json)) as report:
        sigma, scores = choose_sigma(Job(picture, config, known), backend, report.show)
    others = ", ".join(f"{candidate:g}: {score:.1f}" for candidate, score in scores.items())
    say(f"sigma auto: {sigma:g}, of short runs with {{{others}}} dB")
    return config.replace(sigma=sigma)


def _prepare_to_go_on(
    options: Options,
    layers: list[dict[str, Any]],
    recipe: str | None,
    backend: Backend,
    say: Callable[[str], None],
    held: contextlib.ExitStack,
) -> tuple[Trainer, RunFolder]:
    outputs = RUN_OUTPUTS.beside(options.animate)
    taken = output_folder(options.out, outputs, overwrite=options.overwrite, resume=True)
    folder = RunFolder(held.enter_context(taken))
    begun, state = folder.read_config(), None
    if begun is None:
        say(f"no run to resume in {printable(folder.path)}: a new one begins there")
        config, image = make_config(*layers, recipe=recipe), options.image
        picture = load_image(image, config, options.max_pixels)
        config = settle_sigma(picture, config, backend, say, options)
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
        say_remembered(options.image, image, say)
    if state is not None:
        say(f"going on from step {state.step}")
    elif begun is not None:
        say(f"the run in {printable(folder.path)} had saved nothing yet: it begins again")
    trainer = Trainer(picture, config, backend, state)
    folder.write_config(config, absolute_path(image), backend, picture)
    return trainer, folder


def absolute_path(image: str | None) -> str | None:
    """A picture's path as another folder would name it; None for the bundled one."""
    return None if image is None else str(Path(image).absolute())


def setting_layers(options: Options) -> tuple[list[dict[str, Any]], str | None]:
    """Settings from the file and from the command line, and the recipe below them."""
    from_file = read_config_file(options.config) if options.config else {}
    recipe = from_file.pop("recipe", None)
    return [from_file, options.settings], options.recipe or recipe


def load_image(image: str | None, config: FitConfig, max_pixels: int | None = None) -> Picture:
    """The picture that was named, or the bundled one, at the size that is asked for."""
    if image is not None:
        most = MAX_PIXELS if max_pixels is None else max_pixels
        return load_picture(image, size=config.size, background=config.background, max_pixels=most)
    if config.size == 32:
        return bundled_picture(32)
    return load_picture(bundled_picture(), size=config.size)


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


def exit_code(result: FitResult, say: Callable[[str], None]) -> int:
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
        say(f"the target of {target:g} dB was not reached within the budget")
    return EXIT_OK


def exit_code_of_many(diverged: int, total: int, where: str, say: Callable[[str], None]) -> int:
    """Of several fits side by side: that some diverge is a finding, and that all do is a failure."""
    if not diverged:
        return EXIT_OK
    if diverged == total:
        complain("diverged: none of the networks is left; lower --learning-rate")
        return EXIT_DIVERGED
    say(f"{diverged} of {total} networks diverged, {where}")
    return EXIT_OK


def speaker(options: Options) -> Callable[[str], None]:
    """What says messages on stderr, or nothing with --quiet."""

    def say(message: str) -> None:
        if not options.quiet:
            complain(message)

    return say
