"""Run `coordfit compare`: encodings side by side on one picture, trained as one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from ...backends import Backend
from ...codec import CompressedPicture
from ...config import FitConfig
from ...errors import ConfigError
from ...files import Outputs, atomic_write, printable, write_json
from ...files.lock import output_folder
from ...images import Picture, save_picture
from ...models.model import Model
from ...option_checks import check_setting
from ...report.progress import ProgressReport, SigmaReport
from ...tasks.compare import AUTO, Comparison, compare_jobs, jobs_for, settled_jobs
from ...tasks.jobs.plan import AnyJob
from ...tiles.model import TiledModel
from ...training.result import FitResult
from ...training.state import Progress
from ..animation import AnimationCallback
from ..interrupts import GracefulStop, how_to_begin_again
from ..options import Options
from ..result_lines import shown_table
from ..session import (
    exit_code_of_many,
    is_shown,
    load_image,
    make_backend,
    make_log,
    say_planned,
    settings_of,
    tile_options,
)
from ..streams import print_json


def run(options: Options) -> int:
    """Train, write the folder, print the table."""
    log = make_log(options)
    options.settings = dict(options.settings)
    encodings = options.settings.pop("encoding", None)
    sigmas = options.settings.pop("sigma", None)
    _check_encodings(encodings or [])
    settings = settings_of(options)
    picture = load_image(options.image, settings.config)
    jobs = jobs_for(picture, settings, tile_options(options), encodings, sigmas)
    animation = None if options.animate is None else AnimationCallback(options.animate, list(jobs))
    say_planned(next(iter(jobs.values())), options, log)
    backend = make_backend(options, log)
    outputs = _outputs(jobs).with_file(options.animate)
    with output_folder(options.out, outputs, overwrite=options.overwrite) as folder:
        latest = _LatestModels()
        with GracefulStop() as stop:
            comparison = _trained(options, backend, picture, jobs, animation, stop, latest)
            if AUTO in comparison.results:
                log(f"sigma auto: {comparison.results[AUTO].config.sigma:g}")
            if comparison.results:  # empty if the interruption came before the first was finished
                _write(comparison, folder)
            if animation is not None:
                animation.save()
            _print(comparison, folder, options)
            if not stop.is_asked_for():
                return _exit_code(comparison, log)
            log(f"interrupted; what was learned so far is saved, {how_to_begin_again(folder)}")
            return stop.exit_code
        # Only a command that was cut short comes here.
        latest.save(folder)
    saved = "the models so far are saved" if latest.models else "nothing was learned yet"
    message = f"interrupted; {saved}, {how_to_begin_again(folder)}"
    return stop.report(message, log, as_json=options.json)


def _trained(
    options: Options,
    backend: Backend,
    picture: Picture,
    jobs: dict[str, AnyJob],
    animation: AnimationCallback | None,
    stop: GracefulStop,
    latest: _LatestModels,
) -> Comparison:
    """Choose each sigma that is `auto`, and train the jobs, those of one shape together."""
    shown = is_shown(options)
    with SigmaReport(shown=shown) as trials:
        jobs = settled_jobs(jobs, backend, trials.show)
    latest.configs = {name: job.config for name, job in jobs.items()}
    with ProgressReport(list(jobs), shown=shown) as report:

        def callback(progress: Progress) -> None:
            report(progress)
            latest.see(progress)
            if animation is not None and progress.evaluated:
                animation(progress, [latest.name(member.config) for member in progress.members])

        return compare_jobs(backend, picture, jobs, callback, stop.is_asked_for, latest.finish)


class _LatestModels:
    """The latest models, to be saved after an interruption that leaves no time for figures.

    Attributes
    ----------
    configs : dict
        The settings of each network by name.
    """

    def __init__(self) -> None:
        self.configs: dict[str, FitConfig] = {}
        self.models: dict[str, Model | TiledModel | CompressedPicture] = {}

    def see(self, progress: Progress) -> None:
        """Store the models of a batch."""
        for member in progress.members:
            self.models[self.name(member.config)] = member.model

    def finish(self, name: str, result: FitResult) -> None:
        """Store a finished model."""
        self.models[name] = result.model

    def name(self, config: FitConfig) -> str:
        """Return the name of the network with these settings."""
        return next(name for name, own in self.configs.items() if own == config)

    def save(self, folder: Path) -> None:
        """Write the models."""
        for name, model in self.models.items():
            model.save(folder / _files_of(name)[0])


def _exit_code(comparison: Comparison, log: Callable[[str], None]) -> int:
    diverged = [name for name, result in comparison.results.items() if result.stopped == "diverged"]
    return exit_code_of_many(len(diverged), len(comparison.results), ", ".join(diverged), log)


def _check_encodings(encodings: list[str]) -> None:
    for name in encodings:
        check_setting(FitConfig.__dataclass_fields__["encoding"], name)
    if len(set(encodings)) < len(encodings):
        raise ConfigError("encoding has a value twice")


def _outputs(names: Iterable[str]) -> Outputs:
    own = [file for name in names for file in _files_of(name)]
    return Outputs((*own, "metrics.json", "config.json", "comparison.png", "history.json", "curves.svg"))


def _files_of(name: str) -> tuple[str, str]:
    """Return the file names of the model and the picture of one encoding."""
    stem = name.replace(" ", "-")
    return f"model-{stem}.safetensors", f"reconstruction-{stem}.png"


def _write(comparison: Comparison, folder: Path) -> None:
    for name, result in comparison.results.items():
        model, picture = _files_of(name)
        result.save(folder / model)
        save_picture(folder / picture, result.reconstruction, bit_depth=comparison.picture.bit_depth)
    metrics = {name: result.full_metrics for name, result in comparison.results.items()}
    write_json(folder / "metrics.json", metrics)
    write_json(folder / "config.json", {name: r.config.as_dict() for name, r in comparison.results.items()})
    with atomic_write(folder / "comparison.png") as file:
        comparison.picture_of_all().save(file, format="PNG")
    if any(result.has_curve for result in comparison.results.values()):
        write_json(folder / "history.json", {name: r.history for name, r in comparison.results.items()})
        comparison.save_curves(folder / "curves.svg")


def _print(comparison: Comparison, folder: Path, options: Options) -> None:
    if options.json:
        rows = {name: result.full_metrics for name, result in comparison.results.items()}
        print_json({"folder": str(folder), "results": rows})
        return
    print(shown_table(comparison.table))
    print(printable(folder))
