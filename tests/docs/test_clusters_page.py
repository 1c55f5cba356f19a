"""The programs of docs/how_to/clusters.md run, each as a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import needs

import coordfit

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how_to" / "clusters.md"
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(PROGRAMS)), ids=["processes", "Dask"])
def test_a_program_of_the_page_runs(number, tmp_path):
    if "distributed" in PROGRAMS[number]:
        needs.library("distributed", "dask")
    (tmp_path / "photos").mkdir()
    for name in ("photo.jpg", "photos/a.png", "photos/b.png"):
        coordfit.save_picture(tmp_path / name, np.random.default_rng(len(name)).random((16, 16, 3)))
    told = 'print("PSNR", table["psnr"])'
    (tmp_path / "program.py").write_text(PROGRAMS[number].rstrip() + f"\n    {told}\n", encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"}
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"PSNR \[\d", done.stdout)
    if number:
        assert (tmp_path / "all" / "a" / "model.safetensors").exists()
