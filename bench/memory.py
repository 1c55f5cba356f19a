"""Run a command of coordfit, then print the peak of the process's memory, in MiB, as the last line on stderr.

python -m bench.memory fit photo.png --tiles 8
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

from coordfit.cli import main


def peak_mib() -> float:
    """Return the peak memory of this process so far, in MiB; NaN if the system does not tell it."""
    try:  # not `ru_maxrss`, which a process takes over from the one that started it
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return math.nan
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), math.nan)


if __name__ == "__main__":
    code = main()
    print(peak_mib(), file=sys.stderr)
    raise SystemExit(code)
