"""Setup that several commands share: the backend, the picture, layers of settings, sigma."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._backends import Backend, get_backend
from ..config import FitConfig, read_config_file
from ..images import MAX_PIXELS, Picture, bundled_picture, load_picture
from .exit_codes import EXIT_DIVERGED, EXIT_OK
from .option_types import UsageError
from .options import Options
from .progress import SigmaReport
from .streams import complain


def make_backend(options: Options, log: Callable[[str], None]) -> Backend:
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
        log(f"running on the CPU: {backend.fallback_reason.split(';')[0]}")
    if backend.preparation:
        log(backend.preparation)
    return backend


def settle_sigma(
    picture: Picture,
    config: FitConfig,
    backend: Backend,
    log: Callable[[str], None],
    options: Options,
    known: NDArray[np.bool_] | None = None,
) -> FitConfig:
    """The settings with a number for sigma; a choice of `auto` is said in one line."""
    if config.sigma != "auto":
        return config
    from ..tasks.sigma import choose_sigma
    from ..training.job import Job

    with SigmaReport(shown=not (options.no_progress or options.quiet or options.json)) as report:
        sigma, scores = choose_sigma(Job(picture, config, known), backend, report.show)
    others = ", ".join(f"{candidate:g}: {score:.1f}" for candidate, score in scores.items())
    log(f"sigma auto: {sigma:g}, of short runs with {{{others}}} dB")
    return config.replace(sigma=sigma)


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


def exit_code_of_many(diverged: int, total: int, where: str, log: Callable[[str], None]) -> int:
    """Of several fits side by side: that some diverge is a finding, and that all do is a failure."""
    if not diverged:
        return EXIT_OK
    if diverged == total:
        complain("diverged: none of the networks is left; lower --learning-rate")
        return EXIT_DIVERGED
    log(f"{diverged} of {total} networks diverged, {where}")
    return EXIT_OK


def make_log(options: Options) -> Callable[[str], None]:
    """What says messages on stderr, or nothing with --quiet."""

    def log(message: str) -> None:
        if not options.quiet:
            complain(message)

    return log
