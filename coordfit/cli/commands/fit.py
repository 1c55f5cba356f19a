"""Run `coordfit fit`: one picture, one run folder; see `fit_pictures` for several."""

from __future__ import annotations

import contextlib
import dataclasses
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path

from ...files import printable
from ...images.collecting import is_several
from ...live.server import LiveView
from ...tasks.folders.folder_fit import FolderFit, Planned, opened
from ...tasks.folders.resume import Asked, Begun
from ...tasks.folders.run_folder import RunFolder
from ...tasks.jobs.compact import COMPACT
from ...tasks.jobs.plan import plan_fit
from ...tiles.plan import MEMORISE
from ...training.member import HistoryRow
from ..animation import AnimationCallback
from ..exit_codes import EXIT_OK
from ..interrupts import GracefulStop, how_to_go_on
from ..option_types import UsageError
from ..options import Options
from ..result_lines import exit_code, print_result
from ..session import (
    array_options,
    device_of,
    load_signal,
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
from . import fit_pictures

Log = Callable[[str], None]
_BROWSER_SECONDS = 3.0
"""How long the training waits for the browser that shows it."""


def run(options: Options) -> int:
    """Fit, write the run folder, print the figures."""
    log = make_log(options)
    is_video = (
        array_options(options) is not None and len(options.images) == 1 and Path(options.images[0]).is_dir()
    )
    if len(options.images) > 1 or (any(map(is_several, options.images)) and not is_video):
        if options.live:
            raise UsageError("--live shows one picture; leave it out, or fit one")
        return fit_pictures.run(options)
    options.image = options.images[0] if options.images else None
    if options.resume and options.out is None:
        raise UsageError("--resume needs --out DIR, the folder of the run to continue")
    begun = RunFolder(options.out).read_config() if options.resume else None
    asked = _asked(options, begun)
    picture = load_signal(asked)
    device = device_of(options)
    with named_as_options():
        job = plan_fit(picture, asked.settings, asked.tiles, device, average=asked.average or 1)
    say_planned(job, options, log)
    backend = make_backend(options, log, job.device(device))
    how = {"overwrite": options.overwrite, "resume": options.resume, "file": options.animate}
    with opened(options.out, Planned(asked, begun, job), backend, **how) as fitting:
        if options.image is None and asked.image is not None:
            log(f"the picture is {printable(asked.image)}, as config.json has it")
        if fitting.result is not None:
            log("the run was finished already")
            print_result(fitting.result, fitting.folder.path, options)
            return EXIT_OK
        fitting.begin(settle_sigma(job, backend, log, options))
        say_notes(picture, log)
        if options.resume:
            log(fitting.fit.resumed)
        with GracefulStop() as stop:
            return _fit(fitting, options, log, stop)
        # Only a command that was cut short comes here.
        return _cut_short(fitting, options, log, stop)


def _asked(options: Options, begun: Begun | None) -> Asked:
    """Return what is asked for, completed by the settings of a run that is resumed."""
    tiles = tile_options(options)
    limits = options.max_pixels, options.average
    asked = Asked(options.image, settings_of(options), tiles, *limits, array_options(options))
    if begun is not None:
        asked = begun.going_on(asked)
    tiles = asked.tiles
    named = asked.settings.recipe in (COMPACT, MEMORISE) or tiles.budget_parameters is not None
    if asked.image is None and not named and tiles.tiles in (None, "auto"):
        return dataclasses.replace(asked, tiles=dataclasses.replace(tiles, tiles="none"))
    return asked


def _fit(fitting: FolderFit, options: Options, log: Log, stop: GracefulStop) -> int:
    animation, folder = AnimationCallback.of_one(options), fitting.folder
    with _live_view(options, log) as view:
        result = train(fitting.fit.run, fitting.fit, folder, options, stop, animation, _captions, view)
        if view is not None:
            view.end(result)
    if not result.metrics:
        return _cut_short(fitting, options, log, stop)
    fitting.write(result)
    if animation is not None:
        animation.save()
    print_result(result, folder.path, options)
    if result.stopped == "interrupted":
        log(f"interrupted; the run so far is saved, {how_to_go_on(folder.path)}")
        return stop.exit_code
    return exit_code(result, log)


@contextlib.contextmanager
def _live_view(options: Options, log: Log) -> Iterator[LiveView | None]:
    """Serve the page of `--live` and open it."""
    if not options.live:
        yield None
        return
    with LiveView() as view:
        log(f"live view: {view.url}")
        if not options.no_browser and webbrowser.open(view.url):
            view.wait(_BROWSER_SECONDS)
        yield view


def _captions(row: HistoryRow) -> list[str]:
    return [f"{row['psnr']:.2f} dB"]


def _cut_short(fitting: FolderFit, options: Options, log: Log, stop: GracefulStop) -> int:
    """Report what is saved of an interrupted run."""
    message = f"interrupted; {fitting.fit.saved}, {how_to_go_on(fitting.folder.path)}"
    return stop.report(message, log, as_json=options.json)
