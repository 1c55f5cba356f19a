"""Kill -9 at random moments of saving, training and sweeping, and check that everything can continue.

The tests run it with few kills. By hand, from the repository's root, with as many as wanted:

    python tests/support/killing.py saving --kills 200
    python tests/support/killing.py training --kills 20    (or: compiled, gauss-newton, tiles)
    python tests/support/killing.py sweeping --kills 20

One process imports everything and forks the victims, so that a kill costs milliseconds. Prints one JSON
document of counts; ends with an assertion's traceback if something was lost.
"""

import argparse
import contextlib
import csv
import functools
import io
import json
import math
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from coordfit.backends.numpy_backend.backend import NumpyBackend
from PIL import Image

import coordfit.report.curves
import coordfit.tiles.fit
import coordfit.tiles.trainer
from coordfit.backends import get_backend
from coordfit.cli import main
from coordfit.config import make_config
from coordfit.files import write_json
from coordfit.images import load_picture, save_picture
from coordfit.tasks.load import load as load_model
from coordfit.tiles.trainer import TileTrainer
from coordfit.training import loop
from coordfit.training.checkpoint import load_checkpoint, save_checkpoint
from coordfit.training.job import Job
from coordfit.training.trainer import Trainer

SMALL = ["--device", "numpy", "--threads", "1", "--hidden-size", "8", "--num-frequencies", "4", "--no-progress"]


@contextlib.contextmanager
def forked(work, until=None):
    """Run work in a child process that is killed at the end of the block.

    The block begins with the child, or when it first calls the method `until`, a class and a name.
    """
    there, here = os.pipe()
    child = os.fork()
    if child == 0:
        if until is not None:
            tell_of_the_first_call(*until, here)
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                work()
            os._exit(0)
        finally:
            os._exit(70)
    os.close(here)
    try:
        if until is not None:
            os.read(there, 1)
        yield
    finally:
        os.close(there)
        os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), f"the child ended with {status}"


def tell_of_the_first_call(owner, name, pipe):
    method = getattr(owner, name)

    def telling(*arguments, **options):
        setattr(owner, name, method)
        os.write(pipe, b".")
        return method(*arguments, **options)

    setattr(owner, name, telling)


def sleep_within(draw, seconds):
    time.sleep(draw.uniform(0, seconds))


def finish(work):
    """Run the work in a child process to its end."""
    child = os.fork()
    if child == 0:
        with contextlib.redirect_stdout(io.StringIO()):
            os._exit(work())
    assert os.waitpid(child, 0)[1] == 0


def litter(folder):
    return [path for path in folder.rglob(".coordfit-*") if path.name.endswith(".tmp")]


# -- saving ----------------------------------------------------------------------------------------------


class Outputs:
    """Every kind of file that a run replaces, in two versions; `check` reads them all."""

    def __init__(self, folder):
        self.folder = folder
        pixels = np.random.default_rng(0).random((24, 20, 3), np.float32)
        backend = get_backend("numpy", threads=1)
        configs = [make_config({"seed": seed, "hidden_size": 64}) for seed in (0, 1)]
        self.trainers = [Trainer([Job(load_picture(pixels), config)], backend) for config in configs]
        self.pictures = [pixels, 1.0 - pixels]

    def write(self, version):
        trainer = self.trainers[version]
        trainer.model.save(self.folder / "model.safetensors")
        save_checkpoint(self.folder / "checkpoint.safetensors", trainer.model, trainer.state())
        write_json(self.folder / "metrics.json", {"version": version, "filling": "x" * 5000})
        save_picture(self.folder / "reconstruction.png", self.pictures[version])

    def check(self):
        model = load_model(self.folder / "model.safetensors", device="numpy")
        self._one_of([t.model.mlp.parameters for t in self.trainers], model.mlp.parameters)
        _, state = load_checkpoint(self.folder / "checkpoint.safetensors")
        self._one_of([t.model.mlp.parameters for t in self.trainers], state.parameters)
        assert json.loads((self.folder / "metrics.json").read_text())["version"] in (0, 1)
        with Image.open(self.folder / "reconstruction.png") as picture:
            found = np.asarray(picture)
        self._one_of([np.rint(255 * pixels).astype(np.uint8) for pixels in self.pictures], found)

    @staticmethod
    def _one_of(versions, found):
        assert any(np.array_equal(version, found) for version in versions)


def saving(folder, kills, draw):
    """Check that each file is old or new, and that the next save removes temporaries."""
    outputs, in_the_middle = Outputs(folder), 0
    outputs.write(0)
    begin = time.perf_counter()
    outputs.write(0)
    seconds = time.perf_counter() - begin

    def write_for_ever():
        for version in range(1, 1 << 30):
            outputs.write(version % 2)

    for _ in range(kills):
        with forked(write_for_ever):
            sleep_within(draw, 2 * seconds)
        outputs.check()
        in_the_middle += bool(litter(folder))
    outputs.write(0)
    assert litter(folder) == []
    assert len(list(folder.iterdir())) == 4
    return {"kills": kills, "in the middle of a file": in_the_middle, "files lost": 0, "litter": 0}


# -- training --------------------------------------------------------------------------------------------


def checkpoint_all_the_time():
    loop.CALLBACK_SECONDS = loop.CHECKPOINT_SECONDS = 0.0
    coordfit.report.curves.save_curves = lambda path, history: None


def rows_of(run):
    with (run / "history.csv").open(newline="") as file:
        return [{**row, "seconds": ""} for row in csv.DictReader(file)]


NETWORKS = {
    "training": ["--batch-size", "50"],
    # Recorded steps on two threads that share layers and rows, with the default optimizer.
    "compiled": [
        *("--device", "numba", "--threads", "2"),
        *("--hidden-size", "48", "--num-frequencies", "40", "--batch-size", "64"),
    ],
    "gauss-newton": ["--optimizer", "gauss-newton", "--depth", "2", "--output-activation", "identity"],
}


def train_and_kill(network, folder, kills, draw):
    """Check runs resumed after kills: equal parameters bit for bit, and one row for each evaluation."""
    checkpoint_all_the_time()
    picture = folder / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 12, 3), np.uint8)).save(picture)
    steps = 12 * kills
    words = ["fit", str(picture), *SMALL, *NETWORKS[network], "--steps", str(steps), "--evaluate-every", "5"]

    def fit(name, *more):
        return main([*words, *more, "--out", str(folder / name)])

    if network == "compiled":  # here, so that nobody after it has to
        with contextlib.redirect_stdout(io.StringIO()):
            fit("warm")
    begin = time.perf_counter()
    finish(lambda: fit("whole"))
    seconds = time.perf_counter() - begin
    reached = []
    for number in range(kills):
        # One in four while it starts, the others from the first step on.
        until = None if number % 4 == 0 else (Trainer, "take_steps")
        with forked(lambda: fit("broken", "--resume"), until):
            sleep_within(draw, 2 * seconds / kills)
        with contextlib.suppress(Exception):
            reached.append(load_checkpoint(folder / "broken/checkpoint.safetensors")[1].step)
    finish(lambda: fit("broken", "--resume"))
    for file in ("checkpoint.safetensors", "model.safetensors"):
        found, wanted = (load_model(folder / run / file, device="numpy") for run in ("broken", "whole"))
        np.testing.assert_array_equal(found.mlp.parameters, wanted.mlp.parameters)
    assert rows_of(folder / "broken") == rows_of(folder / "whole")
    assert [int(row["step"]) for row in rows_of(folder / "broken")] == [*range(0, steps, 5), steps]
    assert litter(folder) == []
    stops = [step for step in reached if step < steps]
    return {"kills": kills, "in the middle of training": len(stops), "resumed from steps": sorted(set(stops))}


def tiles(folder, kills, draw):
    """Check that finished tiles are not trained again, and that the model equals an uninterrupted one."""
    coordfit.tiles.fit.CHUNK_TILES, coordfit.tiles.fit.CHECKPOINT_SECONDS = 6, 0.0
    coordfit.tiles.trainer.CALLBACK_SECONDS, NumpyBackend.group_bytes = 0.0, 1  # groups of four tiles
    side = 8 * max(4, math.isqrt(4 * kills))
    picture = folder / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)).save(picture)
    words = ["fit", str(picture), "--device", "numpy", "--threads", "2", "--tiles", "8", "--steps", "2"]

    def fit(name, *more):
        return main([*words, "--no-progress", *more, "--out", str(folder / name)])

    finish(lambda: fit("whole"))
    seconds, reached = json.loads((folder / "whole/metrics.json").read_text())["seconds"], [0]
    for _ in range(kills):
        with forked(lambda: fit("broken", "--resume"), (TileTrainer, "fit")):
            sleep_within(draw, 3 * seconds / kills)
        saved = folder / "broken/tiles.json"
        if not saved.exists():
            break  # it came to the end
        reached.append(json.loads(saved.read_text())["done"])
        assert reached[-1] >= reached[-2], "finished tiles were lost"
    finish(lambda: fit("broken", "--resume"))
    found, wanted = (
        load_model(folder / run / "model.safetensors", device="numpy") for run in ("broken", "whole")
    )
    np.testing.assert_array_equal(found.parameters, wanted.parameters)
    assert litter(folder) == []
    assert not list(folder.rglob("tiles.*"))
    return {"kills": kills, "tiles": len(wanted.layout), "finished after each": reached[1:]}


# -- sweeping --------------------------------------------------------------------------------------------


def rows_on_disk(sweep):
    file = sweep / "rows.jsonl"
    if not file.exists():
        return {}
    lines = file.read_text().split("\n")[:-1]  # what follows the last line's end was cut short
    rows = [json.loads(line) for line in lines]
    assert len({row["key"] for row in rows}) == len(rows), "a row is there twice"
    return {row["key"]: {**row["row"], "batch_seconds": None} for row in rows}


def sweeping(folder, kills, draw):
    """Check that finished rows are not trained again, that no lock remains, and that all rows are right."""
    checkpoint_all_the_time()
    words = ["sweep", "--size", "16", *SMALL, "--steps", "30", "--depth", "2,3", "--hidden-size", "6,8,10"]

    def sweep(name):
        return main([*words, "--resume", "--out", str(folder / name)])

    begin = time.perf_counter()
    finish(lambda: sweep("whole"))
    seconds, saved, counts = time.perf_counter() - begin, {}, []
    for _ in range(kills):
        with forked(lambda: sweep("broken"), (Trainer, "run")):
            sleep_within(draw, 2 * seconds / kills)
        rows = rows_on_disk(folder / "broken")
        assert saved.items() <= rows.items(), "a finished row was lost or changed"
        saved = rows
        counts.append(len(rows))
    finish(lambda: sweep("broken"))
    assert rows_on_disk(folder / "broken") == rows_on_disk(folder / "whole")
    assert len(rows_on_disk(folder / "whole")) == 6
    return {"kills": kills, "rows kept after each": counts}


def run():
    parser = argparse.ArgumentParser(description="Kill -9 at random moments; what is left must be whole.")
    ways = {"saving": saving, "sweeping": sweeping, "tiles": tiles}
    ways |= {network: functools.partial(train_and_kill, network) for network in NETWORKS}
    parser.add_argument("what", choices=ways)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--seed", type=int, default=None, help="of the moments; drawn anew by default")
    given = parser.parse_args()
    seed = int.from_bytes(os.urandom(4)) if given.seed is None else given.seed
    with tempfile.TemporaryDirectory() as folder:
        counts = ways[given.what](Path(folder), given.kills, random.Random(seed))
    json.dump({"seed": seed} | counts, sys.stdout)
    print()


if __name__ == "__main__":
    run()
