"""`coordfit compare`: encodings side by side on one picture, trained as one batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..comparison import AUTO, Comparison, compare_on, configs_for
from ..config import make_config
from ..encoders import ENCODINGS
from ..errors import ConfigError
from ..files import atomic_write, jsonable, printable, write_json
from ..folder_lock import output_folder
from ..images import save_picture
from . import EXIT_DIVERGED, EXIT_INTERRUPTED, EXIT_OK, EXIT_TERMINATED
from .film import Film
from .fit import GracefulStop, load_image, make_backend, setting_layers, speaker
from .options import Options
from .progress import EnsembleReport


def run(options: Options) -> int:
    """Train, write the folder, print the table."""
    say = speaker(options)
    settings = dict(options.settings)
    encodings = settings.pop("encoding", list(ENCODINGS))
    sigmas = settings.pop("sigma", None)
    _check_encodings(encodings)
    options.settings = settings
    layers, recipe = setting_layers(options)
    base = make_config(*layers, recipe=recipe)
    configs = configs_for(base, encodings, sigmas)
    film = None if options.animate is None else Film(options.animate, list(configs))
    backend = make_backend(options, say)
    picture = load_image(options.image, base)
    report = EnsembleReport(list(configs), shown=not (options.no_progress or options.quiet or options.json))
    with output_folder(options.out, overwrite=options.overwrite) as folder:
        with GracefulStop() as stop:

            def callback(progress: Any) -> None:
                report(progress)
                if film is not None:
                    film(progress)

            comparison = compare_on(backend, picture, configs, callback, stop.is_asked_for)
        if AUTO in comparison.results:
            say(f"sigma auto: {comparison.results[AUTO].config.sigma:g}")
        _write(comparison, folder)
    if film is not None:
        film.save()
    _print(comparison, folder, options)
    if stop.signal is not None:
        say("interrupted; what was learned so far is saved")
        return EXIT_TERMINATED if stop.was_terminated else EXIT_INTERRUPTED
    diverged = [name for name, result in comparison.results.items() if result.stopped == "diverged"]
    if diverged:
        say(f"diverged: {', '.join(diverged)}; lower --learning-rate")
        return EXIT_DIVERGED
    return EXIT_OK


def _check_encodings(encodings: list[str]) -> None:
    for name in encodings:
        if name not in ENCODINGS:
            raise ConfigError(f"encoding must be of {', '.join(ENCODINGS)}, not {name!r}")
    if len(set(encodings)) < len(encodings):
        raise ConfigError("encoding has a value twice")


def _write(comparison: Comparison, folder: Path) -> None:
    for name, result in comparison.results.items():
        stem = name.replace(" ", "-")
        result.save(folder / f"model-{stem}.safetensors")
        path = folder / f"reconstruction-{stem}.png"
        save_picture(path, result.reconstruction, bit_depth=comparison.picture.bit_depth)
    metrics = {name: result.metrics for name, result in comparison.results.items()}
    write_json(folder / "metrics.json", metrics)
    write_json(folder / "config.json", {name: r.config.as_dict() for name, r in comparison.results.items()})
    write_json(folder / "history.json", {name: r.history for name, r in comparison.results.items()})
    with atomic_write(folder / "comparison.png") as file:
        comparison.picture_of_all().save(file, format="PNG")
    comparison.save_curves(folder / "curves.svg")


def _print(comparison: Comparison, folder: Path, options: Options) -> None:
    if options.json:
        rows = {name: result.metrics for name, result in comparison.results.items()}
        print(json.dumps(jsonable({"folder": str(folder), "results": rows}), allow_nan=False))
        return
    print(comparison.table)
    print(printable(folder))
