"""Run `coordfit fit` on several pictures: a folder and a row for each."""

from __future__ import annotations

from pathlib import Path

from ...backends import Backend
from ...files import printable
from ...images.collecting import picture_files
from ...report.progress import ProgressReport
from ...report.table import cell, cell_width
from ...tasks.fit_many import ManyFits, Told
from ...tasks.fitted_pictures import FittedPictures
from ...tasks.folders.many_folder import ManyFolder
from ...tasks.folders.resume import Asked
from ...tasks.jobs.plan import FitJob
from ...tasks.jobs.settings import Device
from ...training.result import FitResult
from ...training.state import Progress
from ..exit_codes import EXIT_FAILED
from ..interrupts import GracefulStop, how_to_go_on
from ..option_types import UsageError
from ..options import Options
from ..session import (
    array_options,
    device_of,
    exit_code_of_many,
    is_shown,
    make_backend,
    make_log,
    say_notes,
    settings_of,
    tile_options,
)
from ..streams import complain, print_json

_SHOWN = ("name", "size", "psnr", "ssim", "seconds", "file")


def run(options: Options) -> int:
    """Fit all pictures, print a row of each as it is finished, and write a table."""
    log = make_log(options)
    if options.animate is not None:
        raise UsageError("--animate shows one picture; name one, or leave it out")
    if options.resume and options.out is None:
        raise UsageError("--resume needs --out DIR, the folder of the fits to continue")
    files = picture_files(options.images)
    settings = settings_of(options)
    settings.config  # noqa: B018, raises what is wrong for all
    limits = options.max_pixels, options.average
    asked = Asked(None, settings, tile_options(options), *limits, array_options(options))
    how = {"overwrite": options.overwrite, "resume": options.resume}
    with ManyFolder.opened(options.out, **how) as folder:
        names = folder.names([str(file.absolute()) for file in files], resume=options.resume)
        rows = _Rows(options, names, folder.path)
        with GracefulStop() as stop:
            with ProgressReport(shown=is_shown(options)) as report:
                fits = _fits(dict(zip(names, files, strict=True)), asked, folder, options, rows, report, stop)
            folder.write_table(fits.table, fits.failed)
            return _end(fits, folder, options, stop)
        return stop.report(_interrupted(folder), log, as_json=options.json)


def _interrupted(folder: ManyFolder) -> str:
    return f"interrupted; what is finished is kept, {how_to_go_on(folder.path)} and the same words"


class _Rows:
    """Prints a row for each picture, in columns of fixed width."""

    def __init__(self, options: Options, names: list[str], folder: Path) -> None:
        self.options, self.count = options, 0
        files = [str(folder / name) for name in names]
        self.widths = dict(zip(_SHOWN, (max(map(cell_width, ["name", *names])), 11, 6, 6, 7, 0), strict=True))
        self.widths["file"] = max(map(cell_width, files))

    def add(self, row: dict[str, object]) -> None:
        """Print a row, the first one below the names of the columns."""
        self.count += 1
        if self.options.json:
            return
        if self.count == 1:
            self._print({name: name for name in _SHOWN})
        self._print({name: cell(row[name]) for name in _SHOWN})

    def _print(self, cells: dict[str, str]) -> None:
        padded = [text + " " * (self.widths[name] - cell_width(text)) for name, text in cells.items()]
        print("  ".join(padded).rstrip(), flush=True)


def _fits(
    pictures: dict[str, Path],
    asked: Asked,
    folder: ManyFolder,
    options: Options,
    rows: _Rows,
    report: ProgressReport,
    stop: GracefulStop,
) -> FittedPictures:
    log = make_log(options)

    def callback(progress: Progress) -> bool:
        report(progress)
        return stop.is_asked_for()

    def on_begin(name: str, job: FitJob) -> None:
        if job.words:
            log(f"{name}: {job.words}")

    def on_result(name: str, result: FitResult) -> None:
        report.close()
        say_notes(result.signal, log)
        rows.add(many.fits.row(name))
        if result.missed_target:
            log(f"{name}: the target of {result.config.target_psnr:g} dB was not reached within the budget")

    def on_failure(name: str, reason: str) -> None:
        report.close()
        complain(f"{name}: {reason}")

    def make(device: Device) -> Backend:
        return make_backend(options, log, device)

    told = Told(callback, on_result, on_failure, on_begin)
    how = {"overwrite": options.overwrite, "resume": options.resume}
    many = ManyFits(pictures, asked, device_of(options), folder.path, told, make=make, **how)
    return many.run()


def _end(fits: FittedPictures, folder: ManyFolder, options: Options, stop: GracefulStop) -> int:
    """Print the folder, or all rows as JSON, and return the exit code."""
    log = make_log(options)
    if options.json:
        print_json({"folder": str(folder.path), "rows": list(fits.table), "failed": fits.failed})
    else:
        print(printable(folder.path))
    if stop.is_asked_for():
        log(_interrupted(folder))
        return stop.exit_code
    if fits.failed:
        complain(f"{len(fits.failed)} of {len(fits.names)} pictures failed: {', '.join(fits.failed)}")
        return EXIT_FAILED
    stopped = fits.table["stopped"]
    return exit_code_of_many(stopped.count("diverged"), len(stopped), "see table.md", log)
