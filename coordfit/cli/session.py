"""Set up what several commands need: backend, picture, settings, sigma, training with progress."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from ..backends import Backend
from ..config import FitConfig, read_config_file, sigma_in_words
from ..errors import ConfigError
from ..files import printable
from ..images import MAX_PIXELS, Picture, bundled_picture, load_picture
from ..images.animated import check_suffix
from ..report.progress import ProgressReport, SigmaReport
from ..signals.signal import Signal
from ..sources.reading import ArrayOptions
from ..tasks.folders.resume import Asked
from ..tasks.folders.run_folder import RunFolder
from ..tasks.jobs.plan import AnyFit, FitJob, SomeJob, settled
from ..tasks.jobs.settings import Device, Settings
from ..tiles.plan import TILE_OPTIONS, TileOptions
from ..training.member import HistoryRow
from ..training.result import FitResult
from ..training.state import Progress
from .animation import AnimationCallback
from .exit_codes import EXIT_DIVERGED, EXIT_OK
from .interrupts import GracefulStop
from .option_types import UsageError
from .options import Options
from .streams import complain

_NVIDIA_DRIVER = (
    Path("/dev/nvidiactl"),
    Path("/proc/driver/nvidia"),
    Path("/usr/lib/wsl/lib/libcuda.so.1"),
    Path(os.environ.get("SYSTEMROOT", "/"), "System32", "nvcuda.dll"),
)
"""What a driver leaves on Linux, in WSL and on Windows."""

Result = TypeVar("Result", bound=FitResult)


def device_of(options: Options) -> Device:
    """Return where a command is to run."""
    return Device(options.device, getattr(options, "threads", None), options.fused, options.precision)


def make_backend(options: Options, log: Callable[[str], None], device: Device | None = None) -> Backend:
    """Return the backend of a device, by default the one asked for; report a fallback of `auto` in one line.

    Without an NVIDIA GPU the CPU is no surprise: then a fallback is reported only if `auto` was asked for.
    """
    try:
        backend = (device or device_of(options)).make()
    except ValueError as error:
        variable = options.from_environment.get("device")
        source = f"the environment variable {variable}: " if variable else ""
        raise UsageError(f"{source}{error}") from error
    if backend.fallback_reason and (options.device_is_chosen or _seems_to_have_a_gpu()):
        log(f"running on the CPU: {backend.fallback_reason.split(';')[0]}")
    if backend.preparation:
        log(backend.preparation)
    return backend


def _seems_to_have_a_gpu() -> bool:
    """Whether there is a driver of NVIDIA, or CuPy, which is for one; neither is loaded."""
    return any(file.exists() for file in _NVIDIA_DRIVER) or find_spec("cupy") is not None


def settle_sigma(job: SomeJob, backend: Backend, log: Callable[[str], None], options: Options) -> SomeJob:
    """Return the job with a number for sigma; report a choice of `auto` in one line."""
    with SigmaReport(shown=is_shown(options)) as report:
        job, scores = settled(job, backend, report.show)
    if scores:
        others = ", ".join(f"{candidate:g}: {score:.1f}" for candidate, score in scores.items())
        chosen = sigma_in_words(job.config.resolved_sigma)
        log(f"sigma auto: {chosen}, of short runs with {{{others}}} dB")
    return job


def is_shown(options: Options) -> bool:
    """Whether progress is shown."""
    return not (options.no_progress or options.quiet or options.json)


def say_planned(job: FitJob, options: Options, log: Callable[[str], None]) -> None:
    """Report a surprising decision of a plan, and refuse --animate with tiles, or a file it cannot write."""
    if options.animate is not None:
        check_suffix(options.animate)
        if not job.can_be_animated:
            raise UsageError("--animate shows one network; add --tiles none")
    if job.words:
        log(job.words)


_TYPED = {"tiles=none": "--tiles none", "target_psnr": "--target-psnr"}
_TYPED |= {name: "--" + name.replace("_", "-") for name in TILE_OPTIONS[1:]}


@contextlib.contextmanager
def named_as_options() -> Iterator[None]:
    """Name the options of tiles in errors as they are typed."""
    try:
        yield
    except ConfigError as error:
        message = str(error)
        for name, option in _TYPED.items():
            message = re.sub(rf"(?<![\w-]){name}(?!\w)", option, message)
        raise UsageError(message) from error


def tile_options(options: Options) -> TileOptions:
    """Return the options of tiles."""
    return TileOptions(**{name: vars(options)[name] for name in TILE_OPTIONS})


def train(
    run: Callable[..., Result],
    fit: AnyFit,
    folder: RunFolder,
    options: Options,
    stop: GracefulStop,
    animation: AnimationCallback | None,
    captions: Callable[[HistoryRow], list[str]],
    view: Callable[[Progress], object] | None = None,
) -> Result:
    """Train with a progress bar, `history.csv`, a view and an animation with captions of each new row."""
    log = make_log(options)

    def first_look(file: Path, psnr: float) -> None:
        log(f"a first look, {psnr:.1f} dB, is in {printable(file)}")

    with ProgressReport(shown=is_shown(options)) as report:

        def callback(progress: Progress) -> bool:
            if progress.evaluated and progress.row is not None and animation is not None:
                animation.add([progress.render()], progress.step, captions(progress.row))
            report(progress)
            if view is not None:
                view(progress)
            return stop.is_asked_for()

        return folder.train(fit, run, callback, first_look)


def settings_of(options: Options, defaults: Mapping[str, Any] | None = None) -> Settings:
    """Return settings from the file and from the command line, and the recipe below them."""
    from_file = read_config_file(options.config) if options.config else {}
    recipe = from_file.pop("recipe", None)
    return Settings([from_file, options.settings], options.recipe or recipe, defaults or {})


def say_notes(picture: Signal, log: Callable[[str], None]) -> None:
    """Report how a picture was changed when it was read."""
    for note in picture.notes:
        log(f"{picture.name}: {note}")


def load_image(image: str | None, config: FitConfig, max_pixels: int | None = None) -> Picture:
    """Return the named picture, or the bundled one, at the size of the settings."""
    if image is not None:
        most = MAX_PIXELS if max_pixels is None else max_pixels
        return load_picture(image, size=config.size, background=config.background, max_pixels=most)
    if config.size == 32:
        return bundled_picture(32)
    return load_picture(bundled_picture(), size=config.size)


def array_options(options: Options) -> ArrayOptions | None:
    """Return how a file is read as an array; None if no option says so."""
    given = {name: getattr(options, name) for name in ("axes", "key", "spacing", "value_range")}
    return None if all(value is None for value in given.values()) else ArrayOptions(**given)


def load_signal(asked: Asked) -> Signal:
    """Return the array or the picture that is asked for, or the bundled picture."""
    if asked.image is None:
        return load_image(None, asked.settings.config)
    return asked.load(asked.image)


def exit_code_of_many(diverged: int, total: int, where: str, log: Callable[[str], None]) -> int:
    """Return the exit code of several fits: it is a failure only if all diverge."""
    if not diverged:
        return EXIT_OK
    if diverged == total:
        complain("diverged: none of the networks is left; lower --learning-rate")
        return EXIT_DIVERGED
    log(f"{diverged} of {total} networks diverged, {where}")
    return EXIT_OK


def make_log(options: Options) -> Callable[[str], None]:
    """Return the function that prints messages on stderr, or drops them with --quiet."""

    def log(message: str) -> None:
        if not options.quiet:
            complain(message)

    return log
