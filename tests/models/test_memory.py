"""What does not fit is refused before it is asked for, with the estimate and the option that lowers it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from coordfit.backends.numpy_backend import host_memory
from coordfit.backends.numpy_backend.backend import NumpyBackend

import coordfit
from coordfit.config import make_config
from coordfit.errors import NotEnoughMemoryError
from coordfit.images import bundled_picture, load_picture
from coordfit.models import memory
from coordfit.training.job import Job
from coordfit.training.trainer import Trainer

ROOT = Path(coordfit.__file__).parents[1]


class Cramped(NumpyBackend):
    """A backend on a machine with 100 MB."""

    def free_memory(self):
        return 100_000_000


LARGE = {
    "a wide network": ({"hidden_size": 4096}, "lower --hidden-size or --depth"),
    "a deep network": ({"hidden_size": 512, "depth": 64}, "lower --hidden-size or --depth"),
    "a large batch": ({"batch_size": None, "hidden_size": 1024, "size": 512}, "lower --batch-size"),
    "a large picture": ({"size": 3000}, "lower --size"),
}


@pytest.mark.parametrize(("settings", "cure"), LARGE.values(), ids=LARGE)
def test_a_run_that_does_not_fit_is_refused_with_the_cure(settings, cure):
    config = make_config(settings)
    side = config.size or 32
    picture = load_picture(np.zeros((side, side, 1), np.float32))
    backend = Cramped(fused="never" if "batch" in cure else "auto", threads=1)
    with pytest.raises(
        NotEnoughMemoryError, match=r"needs about [0-9.,]+ [GM]B of memory and 100.0 MB are free"
    ) as e:
        Trainer([Job(picture, config)], backend)
    assert str(e.value).endswith(cure)


def test_what_fits_is_not_refused():
    Trainer([Job(bundled_picture(128), make_config({"steps": 1}))], Cramped(threads=2))


def test_a_batch_of_networks_is_refused_where_one_is_not():
    jobs = [Job(bundled_picture(32), make_config({"seed": seed, "hidden_size": 512})) for seed in range(16)]
    Trainer(jobs[:1], Cramped(threads=1))
    with pytest.raises(NotEnoughMemoryError, match="this batch of 16 networks needs about"):
        Trainer(jobs, Cramped(threads=1))


def test_a_rendering_that_does_not_fit_is_refused():
    model = Trainer([Job(bundled_picture(32), make_config({"steps": 0}))], Cramped(threads=1)).model
    with pytest.raises(NotEnoughMemoryError, match=r"this rendering needs about 1\.2 GB"):
        model.render(10_000, 10_000)
    tiled = coordfit.fit(bundled_picture(32).pixels, tiles=16, steps=1, device="numpy").model
    tiled.backend = Cramped(threads=1)
    with pytest.raises(NotEnoughMemoryError, match=r"this rendering needs about 1\.2 GB"):
        tiled.render(10_000, 10_000)


MEASURE = """
import json, re, sys
from pathlib import Path
from coordfit import load_picture
from coordfit.backends import get_backend
from coordfit.models import memory
from coordfit.config import make_config
import coordfit.training.result
from coordfit.training.checkpoint import save_checkpoint
from coordfit.training.job import Job
from coordfit.training.trainer import Trainer
settings, side, fused = json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
backend, config = get_backend("numpy", threads=2, fused=fused), make_config(settings)
picture = load_picture(coordfit.images.bundled_picture(), size=side)

def peak():  # of this program alone: `ru_maxrss` begins with that of the process that started it
    return 1024 * int(re.search("VmHWM:\\s+([0-9]+) kB", Path("/proc/self/status").read_text())[1])

before = peak()
trainer = Trainer([Job(picture, config)], backend)
trainer.run(checkpoint=lambda state: save_checkpoint("c.safetensors", trainer.model, state))
print(memory.need_of_training(config, picture, backend).total / (peak() - before))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts kilobytes as Linux does")
@pytest.mark.parametrize(
    ("settings", "side", "fused"),
    [
        ('{"hidden_size": 1536, "steps": 1, "batch_size": 64}', 32, "auto"),
        ('{"hidden_size": 64, "steps": 1, "batch_size": null, "num_frequencies": 64}', 300, "never"),
    ],
    ids=["network", "rows"],
)
def test_the_estimate_is_near_what_a_run_takes(tmp_path, settings, side, fused):
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, settings, str(side), fused],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert 0.5 < float(done.stdout) < 2.0


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_a_limit_of_the_process_is_told_and_kept(tmp_path):
    import resource

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))

    command = [sys.executable, "-m", "coordfit", "--hidden-size", "8192", "--depth", "9", "--device", "cpu"]
    done = subprocess.run(
        [*command, "--threads", "1"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        cwd=tmp_path,
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "this run needs about 3" in line
    assert "GB are free; lower --hidden-size or --depth" in line
    assert list(tmp_path.iterdir()) == []


# -- what is free ----------------------------------------------------------------------------------------


def machine(folder, **files):
    """A root folder with these files; `__` stands for a slash."""
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("DOT", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


MEMINFO = "MemTotal:  16 kB\nMemAvailable:   9000 kB\n"


def test_what_linux_says_is_available_is_free(tmp_path):
    assert host_memory.free_bytes(machine(tmp_path, proc__meminfo=MEMINFO)) == 9000 * 1024


def test_a_silent_system_is_asked_nothing(tmp_path):
    assert host_memory.free_bytes(tmp_path) is None


def test_the_limit_of_a_group_above_counts(tmp_path):
    root = machine(
        tmp_path,
        proc__meminfo=MEMINFO,
        proc__self__cgroup="0::/a/b\n",
        sys__fs__cgroup__a__b__memoryDOTmax="max\n",
        sys__fs__cgroup__a__b__memoryDOTcurrent="10\n",
        sys__fs__cgroup__a__memoryDOTmax="5000\n",
        sys__fs__cgroup__a__memoryDOTcurrent="3000\n",
        sys__fs__cgroup__a__memoryDOTstat="anon 7\ninactive_file 500\n",
    )
    assert host_memory.free_bytes(root) == 2500


def test_groups_of_the_first_version_count_too(tmp_path):
    root = machine(
        tmp_path,
        proc__meminfo=MEMINFO,
        proc__self__cgroup="3:cpu:/x\n4:memory:/docker/1\n",
        sys__fs__cgroup__memory__memoryDOTlimit_in_bytes="4000\n",
        sys__fs__cgroup__memory__memoryDOTusage_in_bytes="1000\n",
        sys__fs__cgroup__memory__docker__1__memoryDOTlimit_in_bytes="9223372036854771712\n",
        sys__fs__cgroup__memory__docker__1__memoryDOTusage_in_bytes="1\n",
    )
    assert host_memory.free_bytes(root) == 3000


def test_a_full_group_leaves_nothing(tmp_path):
    root = machine(
        tmp_path,
        proc__self__cgroup="0::/\n",
        sys__fs__cgroup__memoryDOTmax="10\n",
        sys__fs__cgroup__memoryDOTcurrent="30\n",
    )
    assert host_memory.free_bytes(root) == 0


@pytest.mark.parametrize(("size", "text"), [(999, "1.0 kB"), (2_500_000, "2.5 MB"), (3.2e13, "32,000.0 GB")])
def test_sizes_are_told_in_words(size, text):
    assert memory.in_words(size) == text
