"""Run `coordfit FILE` as a user does, with no options: seconds to a first look and to the end, PSNR, bits.

    python -m bench.default_fit kodim01.png kodim03.png [--json bench/results/default_fit.json] [--show]

Each picture is a process of its own, timed by the wall from its start. The first look is judged by the picture
that lies in the folder when the command tells of it, against the original.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean
from typing import Any

from coordfit.images import load_picture
from coordfit.images.metrics import psnr

from .command_line import BadInputError, Parser, new_file, recorded, run_main
from .recorded_cases import Case, cases_of

ROOT = Path(__file__).parents[1]
FIGURES = {
    "first look, s": ("first_look_seconds", ".2f"),
    "first look, dB": ("first_look_psnr", ".2f"),
    "in all, s": ("seconds", ".1f"),
    "dB": ("psnr", ".2f"),
    "bits per pixel": ("bits_per_pixel", ".3f"),
    "steps": ("steps", ".0f"),
}


def measure(file: Path) -> dict[str, Any]:
    """Return the figures of one run of the command."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "run")
        words = [sys.executable, "-m", "coordfit", str(file.absolute()), "--out", str(out), "--json"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        began = time.perf_counter()
        with subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            lines = iter(process.stderr)
            told = next((line for line in lines if "a first look" in line), None)
            seconds = time.perf_counter() - began
            look = None if told is None else load_picture(out / "reconstruction.png")
            output, _ = process.communicate()
        in_all = time.perf_counter() - began
        if look is None or process.returncode:
            raise BadInputError(f"`coordfit {file}` ended with {process.returncode}, or without a first look")
    metrics = json.loads(output)["metrics"]
    return {
        "first_look_seconds": seconds,
        "first_look_psnr": psnr(look.pixels, load_picture(file).pixels),
        "seconds": in_all,
        **{name: metrics[name] for name in ("psnr", "ssim", "bits_per_pixel", "steps", "bytes")},
    }


def show(cases: list[Case]) -> None:
    """Print a table with means."""
    print(f"| picture | {' | '.join(FIGURES)} |")
    print("|---" * (1 + len(FIGURES)) + "|")
    means = {key: fmean(case[key] for case in cases) for key, _ in FIGURES.values()}
    for case in [*cases, {"picture": f"mean of {len(cases)}", **means}]:
        print(f"| {case['picture']} | {' | '.join(f'{case[key]:{form}}' for key, form in FIGURES.values())} |")


def main() -> None:
    """Run the command line."""
    parser = Parser(prog="python -m bench.default_fit", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", metavar="FILE", type=Path)
    parser.add_argument("--json", type=new_file, help="write the cases here; those of other runs stay")
    parser.add_argument("--keep", action="store_true", help="do not measure again what that file holds")
    parser.add_argument("--show", action="store_true", help="print all that this file holds, and no more")
    options = parser.parse_args()
    if not (options.files or options.show):
        raise BadInputError("name pictures, or --show with --json")
    if options.show:
        cases = recorded(options.json, "cases") if options.json else []
    else:
        files = {file.name: file for file in options.files}
        cases = cases_of(
            options, [{"picture": name} for name in files], lambda key: measure(files[key["picture"]])
        )
    if not cases:
        raise BadInputError("--show needs a file with cases: name it by --json")
    show(cases)


if __name__ == "__main__":
    run_main("default_fit", main)
