"""Writes the models and run folders beside it, with what coordfit 0.1 made of them.

They stand for the files that people have: a later coordfit has to load them and to draw the same. So they are
made by the commit 962cb72, once, and never by a later one:

    git worktree add ../old 962cb72
    PYTHONPATH=../old python tests/data/models_0_1/make.py

`expected.npz` has of each model NAME its rendering at its own size (`NAME`), and a larger one (`NAME-larger`,
see `LARGER`); of each run folder NAME those of the model that the run leaves after `--resume --steps 12`
(`unfinished/NAME`). Everything is computed by NumPy on one thread.
"""

import contextlib
import io
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import coordfit
from coordfit.cli import main

HERE = Path(__file__).parent
NUMPY = {"device": "numpy", "threads": 1}
LARGER = {"height": 37, "crop": (3, 5, 20, 17)}  # the width follows
SMALL = {"num_frequencies": 6, "hidden_size": 8, "depth": 3, "steps": 30, "batch_size": 64, "sigma": 3.0}

MODELS = {
    "none-relu": {"encoding": "none"},
    "basic-tanh": {"encoding": "basic", "activation": "tanh"},
    "positional-sigmoid": {"encoding": "positional", "activation": "sigmoid", "optimizer": "adam"},
    "gaussian-sine": {
        "activation": "sine",
        "omega": 5.0,
        "output_activation": "identity",
        "learning_rate": 5e-3,
    },
    "grey": {"output_activation": "sine", "omega": 2.0},
    "alpha": {"output_activation": "relu", "output_start": "mean"},
    "float64": {"dtype": "float64", "activation": "identity", "output_activation": "tanh"},
    "every-second": {"train_on": "every-second", "polish": "ridge"},
    "depth-1": {"depth": 1, "loss": "huber", "optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.5},
}
RUNS = {
    "adam": ["--optimizer", "adam"],
    "muon": ["--optimizer", "muon", "--activation", "sine", "--omega", "5"],
    "sgd": ["--optimizer", "sgd", "--momentum", "0.9", "--loss", "huber", "--learning-rate", "0.5"],
    "float64": ["--dtype", "float64", "--train-on", "every-second"],
    "gauss-newton": ["--optimizer", "gauss-newton", "--output-activation", "identity"],
}
SMALL_WORDS = shlex.split("--size 16 --num-frequencies 6 --hidden-size 8 --depth 3 --sigma 3 --batch-size 64")
TILES_WORDS = shlex.split("--tiles 5 --hidden-size 6 --num-frequencies 4 --steps 10")
MACHINE_WORDS = shlex.split("--device numpy --threads 1 --no-progress --quiet")
KEPT = ("config.json", "history.csv", "checkpoint.safetensors")


def pictures():
    """Pictures of 14x10 pixels: the one under `""` is for every model without one of its own name."""
    y, x = np.mgrid[:10, :14] / 14
    waves = [np.sin(9 * x + 5 * y), np.cos(4 * x - 11 * y), np.sin(25 * x * y), 2 * (x > y) - 1]
    levels = np.round(127.5 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)
    return {"": levels[..., :3], "grey": levels[..., 0].astype(np.uint16) * 257, "alpha": levels}


def write(name, result, expected):
    """Keep a model, and what it draws."""
    file = HERE / f"{name}.safetensors"
    result.save(file)
    model = coordfit.load(file, **NUMPY)
    expected[name] = model.render()
    expected[f"{name}-larger"] = model.render(**LARGER)


def run(*words):
    """A command line of coordfit; it has to succeed."""
    with contextlib.redirect_stdout(io.StringIO()):
        code = main([*words, *MACHINE_WORDS])
    if code:
        raise SystemExit(f"coordfit {' '.join(words)} ends with {code}")


def write_run(name, words, expected):
    """Keep the folder of a run of 6 steps, and what it draws after 12."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / name
        run("fit", "--out", str(folder), "--steps", "6", *SMALL_WORDS, *words)
        kept = HERE / "unfinished" / name
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        for file in KEPT:
            shutil.copy(folder / file, kept)
        run("fit", "--out", str(folder), "--resume", "--steps", "12")
        expected[f"unfinished/{name}"] = coordfit.load(folder / "model.safetensors", **NUMPY).render()


def write_tiled(name, image, stored, expected):
    """Keep the model of tiles as the command line writes it."""
    with tempfile.TemporaryDirectory() as scratch:
        picture, folder = Path(scratch) / "picture.png", Path(scratch) / "run"
        Image.fromarray(image).save(picture)
        run("fit", str(picture), "--out", str(folder), "--stored", stored, *TILES_WORDS)
        write(name, coordfit.load(folder / "model.safetensors", **NUMPY), expected)


def make():
    """Write everything."""
    if Path(coordfit.__file__).is_relative_to(HERE.parents[2]):
        raise SystemExit(
            "set PYTHONPATH to a worktree of the commit 962cb72: these are the files of coordfit 0.1"
        )
    expected, images = {}, pictures()
    for name, settings in MODELS.items():
        image = images.get(name, images[""])
        write(name, coordfit.fit(image, **(SMALL | settings), **NUMPY), expected)
    small = SMALL | {"hidden_size": 5, "num_frequencies": 4}
    write("averaged", coordfit.inpaint(images[""], missing=0.3, average=3, **small, **NUMPY), expected)
    for name, words in RUNS.items():
        write_run(name, words, expected)
    for stored in ("float16", "float32"):
        write_tiled(f"tiled-{stored}", images[""], stored, expected)
    np.savez_compressed(HERE / "expected.npz", **expected)


if __name__ == "__main__":
    sys.exit(make())
