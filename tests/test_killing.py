"""Runs killed at random moments lose nothing: `support/killing.py`, with few kills or COORDFIT_KILLS."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "support" / "killing.py"
KILLS = os.environ.get("COORDFIT_KILLS")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL"),
]


@pytest.mark.parametrize("what", ["saving", "training", "compiled", "gauss-newton", "tiles", "sweeping"])
def test_what_a_kill_leaves_is_whole_and_enough_to_go_on(what, tmp_path):
    if what == "compiled":
        pytest.importorskip("numba", reason="Numba is not installed")
    kills = KILLS or ("40" if what == "saving" else "4")
    done = subprocess.run(
        [sys.executable, SCRIPT, what, "--kills", kills],
        env=os.environ | {"PYTHONPATH": str(SCRIPT.parents[2]), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kills"] == int(kills)
