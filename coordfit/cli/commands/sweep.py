"""Run `coordfit sweep`: every combination of options with several values, one row each."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from ...backends import Backend
from ...config import read_config_file
from ...errors import ConfigError
from ...files import printable, write_bytes, write_json
from ...files.lock import output_folder
from ...images import bundled_picture, load_picture
from ...option_checks import did_you_mean
from ...report.heatmap import heat_map_svg
from ...report.progress import Bar, ProgressReport, SigmaReport
from ...report.svg import save_svg
from ...report.table import Table
from ...tasks.folders.sweep_folder import SWEEP_OUTPUTS, SweepFolder
from ...tasks.jobs.settings import Device
from ...tasks.sweep import DIVERGED, FIGURES, Run, execute, model_of, plan_sweep, ranked, resolved
from ...tiles.plan import TILE_OPTIONS
from ..interrupts import PATIENCE, GracefulStop, how_to_go_on
from ..option_types import UsageError
from ..options import Options
from ..result_lines import shown_table
from ..session import exit_code_of_many, is_shown, make_backend, make_log
from ..streams import print_json


def run(options: Options) -> int:
    """Plan, train the missing networks, save a row of each, print the table."""
    log = make_log(options)
    if options.resume and options.out is None:
        raise UsageError("--resume needs --out DIR, the folder of the sweep to continue")
    _take_tile_options(options)
    varied = {name: values for name, values in options.settings.items() if len(values) > 1}
    columns = ["picture", *varied, *FIGURES]
    if options.sort_by not in columns:
        meant = did_you_mean(options.sort_by, columns)
        raise UsageError(f"--sort-by must be one of {', '.join(columns)}, not {options.sort_by!r}{meant}")
    runs = _plan(options, varied)
    backend = make_backend(options, log)
    device = _device(options, backend)
    with (
        output_folder(options.out, SWEEP_OUTPUTS, overwrite=options.overwrite, resume=options.resume) as path,
        SweepFolder(path, keep=options.resume) as folder,
        GracefulStop() as stop,
    ):
        if options.resume and not folder.rows:
            log(f"no rows to resume in {printable(path)}: a new sweep begins there")
        with stop.at_once(0.0 if options.jobs == 1 else PATIENCE):  # processes need time to start
            _train(runs, device, folder, options, stop, log)
        table = ranked(Table(list(folder.rows.values()), columns), options.sort_by)
        _write_table(table, path, {} if stop.is_asked_for() else varied)
        _print(table, path, options)
        if not stop.is_asked_for():
            where = "the last in the table: see the column stopped"
            return exit_code_of_many(table["stopped"].count(DIVERGED), len(table), where, log)
        log(_interrupted(folder))
        return stop.exit_code
    return stop.report(_interrupted(folder), log, as_json=options.json)


def _interrupted(folder: SweepFolder) -> str:
    rows = f"{len(folder.rows)} finished rows are kept"
    return f"interrupted; {rows}, {how_to_go_on(folder.path)} and the same options"


def _train(
    runs: list[Run],
    device: Device,
    folder: SweepFolder,
    options: Options,
    stop: GracefulStop,
    log: Callable[[str], None],
) -> None:
    """Train the missing networks and save a row of each."""
    with SigmaReport(shown=is_shown(options)) as trials:
        settled = resolved(runs, device, trials.show)
    _say_chosen(runs, settled, log)
    missing = [run for run in settled if run.key not in folder.rows]
    log(f"{len(runs)} networks, {len(runs) - len(missing)} of them done already")
    elsewhere = Bar("network", shown=is_shown(options) and options.jobs > 1)
    with (
        _executor(options.jobs, stop) as executor,
        ProgressReport(shown=is_shown(options)) as report,
        elsewhere,
    ):
        elsewhere.show(0, len(missing), "none finished yet")
        outcomes = execute(
            missing,
            device,
            executor=executor,
            callback=report,
            should_stop=stop.is_asked_for,
            with_learned=options.models,
        )
        for number, (done, outcome) in enumerate(outcomes, start=1):
            if outcome.row["stopped"] == "interrupted":
                continue  # --resume trains it again
            if options.models:
                model_of(done, outcome).save(folder.model_file(done.key))
            folder.append(done.key, outcome.row, done.job.config)
            elsewhere.show(number, len(missing), f"{outcome.row['psnr']:.2f} dB")


def _take_tile_options(options: Options) -> None:
    """Add the options of tiles to the settings, as lists of values."""
    given = {name: vars(options)[name] for name in TILE_OPTIONS if vars(options)[name]}
    options.settings |= {name: value if isinstance(value, list) else [value] for name, value in given.items()}


def _say_chosen(runs: list[Run], settled: list[Run], log: Callable[[str], None]) -> None:
    """Report the numbers that were chosen for a sigma of `auto`, each once."""
    chosen = dict.fromkeys(
        f"{after.job.config.sigma:g} for {after.job.signal.name}"
        for before, after in zip(runs, settled, strict=True)
        if before.job.config.sigma == "auto"
    )
    if chosen:
        log(f"sigma auto: {', '.join(chosen)}")


def _device(options: Options, backend: Backend) -> Device:
    """Return the device by its own name; parallel processes divide the cores among them."""
    threads = options.threads
    if threads is None and options.jobs > 1:
        threads = max(1, getattr(backend, "threads", 1) // options.jobs)
    name = backend.name if backend.device == "cpu" else backend.device
    return Device(name, threads, options.fused, backend.precision)


def _plan(options: Options, varied: dict[str, list[Any]]) -> list[Run]:
    from_file = read_config_file(options.config) if options.config else {}
    recipe = options.recipe or from_file.pop("recipe", None)
    fixed = {name: values[0] for name, values in options.settings.items() if name not in varied}
    pictures = [load_picture(image) for image in options.images] or [bundled_picture()]
    names = [picture.name for picture in pictures]
    if len(set(names)) < len(names):
        raise ConfigError("two pictures have the same name; the rows could not be told apart")
    return plan_sweep(pictures, [from_file, fixed], varied, recipe=recipe)


@contextlib.contextmanager
def _executor(jobs: int, stop: GracefulStop) -> Iterator[ProcessPoolExecutor | None]:
    if jobs == 1:
        yield None
        return
    # A forked child would inherit the threads of the BLAS in an unknown state.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_begin_worker) as pool:
        try:
            yield pool
        finally:
            if stop.is_asked_for():
                pool.shutdown(wait=False, cancel_futures=True)
                for worker in multiprocessing.active_children():
                    worker.terminate()


def _begin_worker() -> None:
    """Leave Ctrl-C to the parent, which receives it too, and end with the parent, even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _write_table(table: Table, path: Path, varied: dict[str, list[Any]]) -> None:
    write_json(path / "metrics.json", {"rows": list(table)})
    write_bytes(path / "table.md", (table.to_markdown() + "\n").encode())
    write_bytes(path / "table.csv", table.to_csv().encode())
    if len(varied) == 2 and len(table) > 1:
        x, y = varied
        figure = "psnr_held_out" if any(row["psnr_held_out"] is not None for row in table) else "psnr"
        # The cell of a diverged network stays grey: its last good state does not rate its settings.
        shown = Table([dict(row) | ({figure: None} if row["stopped"] == DIVERGED else {}) for row in table])
        pixels = "all" if figure == "psnr" else "held-out"
        drawing = heat_map_svg(shown, x, y, figure, title=f"PSNR of {pixels} pixels / dB")
        save_svg(path / "heat_map.svg", drawing)


def _print(table: Table, path: Path, options: Options) -> None:
    if options.json:
        print_json({"folder": str(path), "rows": list(table)})
        return
    print(shown_table(table))
    print(printable(path))
