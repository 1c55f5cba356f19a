"""Record many small fits to the last bit, to tell whether a change of the code changes a number.

    python -m bench.recorded_fits --save /tmp/before.npz       # before the change: 40 seconds on two cores
    python -m bench.recorded_fits --compare /tmp/before.npz    # after it; 1 where a number has changed
    python -m bench.recorded_fits --compare /tmp/before.npz --only numba

Renderings, figures, history and losses of each fit are kept, and no times. Nothing but the public interface and
the command line is used, so that this file serves for other commits too: with the path of another checkout in
PYTHONPATH, `python bench/recorded_fits.py --save FILE`. Bits are those of one machine and one set of libraries.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import coordfit
from bench.command_line import BadInputError, Parser, new_file, run_main

Arrays = dict[str, np.ndarray]
Options = dict[str, Any]
Case = tuple[str, str, Options, Options]
"""A function of coordfit, a picture, the options that name the case, and others that these stand over."""

# fmt: off
MACHINES: dict[str, Options] = {
    "numpy 1": {"device": "numpy", "threads": 1},
    "numpy 2": {"device": "numpy", "threads": 2},
    "numpy 2, generic": {"device": "numpy", "threads": 2, "fused": "never"},
    "numba 2": {"device": "numba", "threads": 2},
}
RECIPES = (
    "default", "paper", "seed-sgd", "seed-adam", "seed-sgd-32", "seed-adam-32", "fast", "sharp", "tiny",
    "interpolate",
)
SMALL: Options = {"steps": 12, "evaluate_every": 4, "hidden_size": 24, "num_frequencies": 16, "batch_size": 512}
SETTINGS: tuple[Options, ...] = (  # over SMALL, beside every choice of every option that has some
    {"warmup_steps": 5, "final_factor": 0.1}, {"batch_size": None}, {"batch_size": 100}, {"seed": 7},
    {"sigma": "auto"}, {"sigma": 2.0}, {"depth": 1}, {"depth": 6}, {"epochs": 2.5, "steps": None},
    {"target_psnr": 18.0, "steps": 200}, {"target_psnr": 18.0, "steps": None, "evaluate_every": None},
    {"optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.5},
    {"optimizer": "sgd", "momentum": 0.9, "nesterov": True},
    {"dtype": "float64", "batch_size": None, "activation": "sine"},
    {"dtype": "float64", "optimizer": "gauss-newton"},
    {"train_on": "every-second", "optimizer": "adam", "batch_size": None},
)
TILES: Options = {"hidden_size": 12, "num_frequencies": 8, "steps": 8}
TILED: tuple[Options, ...] = (  # over TILES
    {"tiles": 16}, {"tiles": 8, "target_psnr": 24.0, "steps": 60}, {"tiles": 32, "train_on": "every-second"},
    {"tiles": 8, "target_psnr": 22.0, "steps": 60, "every_tile": True},
    {"tiles": 16, "activation": "sine", "dtype": "float64"},
)
INPAINTINGS: tuple[Options, ...] = (  # over SMALL
    {"missing": 0.5}, {"block": (8, 5, 12, 9)}, {"text": "HOLES", "dtype": "float64"},
    {"scribble": True, "average": 3}, {"missing": 0.3, "average": 2, "encoding": "basic"},
    {"missing": 0.3, "tiles": 12, "batch_size": None},
)
NEEDED: dict[str, Options] = {
    "picture": {"encoding": "pyramid", "output_activation": "identity"},
}
"""Options without which a choice is refused."""
FIGURES = ("psnr", "psnr_train", "psnr_held_out", "psnr_hidden", "ssim", "loss", "steps", "parameters")
COMMANDS = {
    "fit": "fit --out one --steps 9 --size 32 --hidden-size 24 --batch-size 300",
    "resume": "fit --out one --resume --steps 18",
    "tiles": "fit --out tiles --tiles 16 --size 48 --steps 4 --stored float32",
    "render": "render one/model.safetensors --scale 2 --crop 4,6,40,9 --out one/reconstruction.png --overwrite",
}
# fmt: on


def numbers(rows: Any) -> np.ndarray:
    """Return rows by column name as an array, without seconds and words; a missing value is NaN."""
    names = [name for row in rows for name in row if "seconds" not in name]
    cells = [[row.get(name) for name in dict.fromkeys(names)] for row in rows]
    return np.array([[c if isinstance(c, int | float) else np.nan for c in row] for row in cells], float)


def arrays_of(made: Any) -> Arrays:
    """Return what is recorded of a fit, of a comparison or of a sweep."""
    if isinstance(made, coordfit.Table):
        return {"table": numbers(made)}
    if isinstance(made, coordfit.Comparison):
        return {f"{name}, {part}": a for name, r in made.results.items() for part, a in arrays_of(r).items()}
    figures = numbers([{name: made.metrics.get(name) for name in FIGURES}])
    renderings = {"rendering": made.render(), "larger": made.render(75, crop=(9, 20, 40, 30))}
    losses = np.asarray(getattr(made, "step_losses", ()))
    return {"figures": figures, "history": numbers(made.history), "losses": losses, **renderings}


def pictures() -> dict[str, np.ndarray]:
    """Return crops of the bundled picture: grey, of 16 bits and with alpha too."""
    pixels = coordfit.bundled_picture().pixels
    small = pixels[30:62, 40:80]
    deep = np.round(65535 * small).astype(np.uint16)
    alpha = np.concatenate([small, small[::-1, :, :1]], axis=2)
    return {"small": small, "large": pixels[:64, :96], "grey": small[..., 1], "16 bits": deep, "alpha": alpha}


def choices() -> Iterator[Options]:
    """Yield each choice of each option that has some, except the default, with what it needs."""
    for spec in dataclasses.fields(coordfit.FitConfig):
        for choice in spec.metadata["choices"]:
            if choice != spec.default:
                yield {spec.name: choice} | NEEDED.get(choice, {})


def cases() -> Iterator[Case]:
    """Yield all that is fitted, except by the command line."""
    for recipe in RECIPES:
        yield "fit", "small", {"recipe": recipe}, {"steps": 6, "size": 24}
    for picture in pictures():
        yield "fit", picture, {}, SMALL
    for options in (*choices(), *SETTINGS):
        yield "fit", "small", options, SMALL
    for options in TILED:
        yield "fit", "large", options, TILES
    yield "fit", "grey", {"seed": 3}, SMALL | {"callback": lambda told: told.evaluated and told.step >= 8}
    for options in INPAINTINGS:
        yield "inpaint", "small", options, SMALL
    yield "compare", "small", {}, SMALL
    yield "compare", "large", {"tiles": 16}, TILES
    yield "sweep", "small", {"sigma": [1.0, 4.0], "seed": [0, 1], "optimizer": ["muon", "sgd"]}, SMALL
    yield "sweep", "large", {"tiles": [12, 24]}, TILES


def by_command_line(machine: Options) -> Arrays:
    """Return models and pictures of commands: a run that goes on, one of tiles, and a rendering."""
    found: Arrays = {}
    more = [word for name, value in machine.items() for word in (f"--{name}", str(value))]
    environment = os.environ | {"PYTHONPATH": str(Path(coordfit.__file__).parents[1])}
    with tempfile.TemporaryDirectory() as folder:
        for name, words in COMMANDS.items():
            line = [sys.executable, "-m", "coordfit", *words.split(), *more, "--no-progress", "--quiet"]
            subprocess.run(line, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
            run = Path(folder, "tiles" if name == "tiles" else "one")
            found[f"{name}, model"] = coordfit.load(run / "model.safetensors", **machine).render()
            found[f"{name}, picture"] = coordfit.load_picture(run / "reconstruction.png").pixels
    return found


def record(only: str) -> Arrays:
    """Fit everything whose name has `only` in it; return arrays by machine, case and part."""
    found: Arrays = {}
    for machine, words in MACHINES.items():
        if reason := coordfit.available_backends()[words["device"]]:
            print(f"{machine} is left out: {reason}")
            continue
        for name, run in runs(words):
            if only in (case := f"{machine}: {name}"):
                found |= {f"{case}: {part}": array for part, array in run().items()}
    if not found:
        raise BadInputError(f"no fit has {only!r} in its name: take less of it")
    return found


def runs(machine: Options) -> Iterator[tuple[str, Callable[[], Arrays]]]:
    """Yield each case on a machine: its name, and what gives its arrays."""
    images = pictures()
    for function, picture, options, others in cases():
        name = " ".join([function, picture, *(f"{name}={value}" for name, value in options.items())])
        fit = functools.partial(getattr(coordfit, function), images[picture], **(machine | others | options))
        yield name, lambda fit=fit: arrays_of(fit())
    yield "command line", functools.partial(by_command_line, machine)


def difference(before: np.ndarray | None, after: np.ndarray | None) -> str:
    """Return what became of an array, in words; nothing if all its bits are the same."""
    if before is None or after is None:
        return "new" if before is None else "missing"
    if (before.shape, before.dtype) != (after.shape, after.dtype):
        return f"{before.dtype}{before.shape} became {after.dtype}{after.shape}"
    if before.tobytes() == after.tobytes():
        return ""
    if not np.array_equal(np.isfinite(before), np.isfinite(after)):
        return "other values are finite"
    return f"{np.nanmax(np.abs(before - after), initial=0.0):.3g}"


def case_of(name: str) -> str:
    """Return the machine and the case of an array."""
    return name.rsplit(": ", 1)[0]


def compare(before: Arrays, after: Arrays) -> bool:
    """Print a line for each fit; return whether all of them are the same bit for bit."""
    changed = 0
    for case, names in itertools.groupby(sorted(before.keys() | after.keys()), case_of):
        told = {name.rsplit(": ", 1)[1]: difference(before.get(name), after.get(name)) for name in names}
        words = ", ".join(f"{part} {word}" for part, word in told.items() if word)
        changed += bool(words)
        print(f"{case:<76} {words or 'identical'}")
    print(f"{changed} changed" if changed else "all identical, bit for bit")
    return not changed


def main() -> int:
    """Record, and save or compare; return 1 if a number has changed."""
    parser = Parser(
        prog="python -m bench.recorded_fits",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--save", metavar="FILE", type=new_file, help="an .npz file")
    way.add_argument("--compare", metavar="FILE", type=Path, help="one that --save has written")
    parser.add_argument("--only", metavar="TEXT", default="", help="of the fits with this in their names")
    args = parser.parse_args()
    print(f"coordfit in {Path(coordfit.__file__).parent}")
    if args.save is not None:
        np.savez_compressed(args.save, **record(args.only))
        return 0
    with np.load(args.compare) as file:
        before = {name: array for name, array in file.items() if args.only in case_of(name)}
    return 0 if compare(before, record(args.only)) else 1


if __name__ == "__main__":
    run_main("recorded_fits", main)
