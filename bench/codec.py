"""Compare `coordfit compress` with the codecs of Pillow: bits per pixel of files at the same PSNR.

    python -m bench.codec kodim07.png kodim15.png --psnr 34 36 38 40 --seconds 60
    python -m bench.codec *.png --psnr 38 40 --steps 2800 --json bench/results/codec.json --keep
    python -m bench.codec --show --json bench/results/codec.json --plot docs/images/codec.svg

Other codecs are measured at the PSNR that ours came to, between neighbouring qualities, with the effort of
`coordfit.images.other_codecs`. Seconds are of the wall, `encode_cpu` of all processors; `memory` is the peak of
the process in MiB; `macs` are multiplications per pixel of decoding: drawing, and the context network for each
latent. A mean over pictures is of those that reach the PSNR.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean
from typing import Any

import coordfit
from coordfit.codec import CompressedPicture, decode
from coordfit.images import load_picture
from coordfit.images.other_codecs import CODECS, bits_at
from coordfit.report.line_plot import save_lines

from .command_line import BadInputError, Parser, count, new_file, recorded, run_main
from .recorded_cases import Case, cases_of

DECIBELS = [34.0, 36.0, 38.0, 40.0]


def measure(key: Case, files: dict[str, Path], threads: int | None) -> Case:
    """Compress one picture to one PSNR, and find what the other codecs need for what was reached."""
    picture = load_picture(files[key["picture"]])
    budget = {name: key[name] for name in ("steps", "seconds") if name in key}
    began, began_cpu = time.perf_counter(), time.process_time()
    result = coordfit.compress(picture, psnr=key["target"], threads=threads, **budget)
    encoded, encoded_cpu = time.perf_counter(), time.process_time()
    shown = coordfit.decompress(result.data)
    decoded = time.perf_counter()
    found = coordfit.psnr(shown.pixels, picture.pixels)
    return {
        "psnr": found,
        "bits": result.report.bits_per_pixel,
        "network_share": result.report.network_bits / (8 * len(result.data)),
        "steps_taken": result.report.steps,
        "encode": encoded - began,
        "encode_cpu": encoded_cpu - began_cpu,
        "decode": decoded - encoded,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "macs": multiplications(result.data),
        "others": {name: bits_at(name, picture.levels, found) for name in CODECS},
    }


def multiplications(data: bytes) -> float:
    """Return the multiplications per pixel of decoding a file."""
    drawn = CompressedPicture(decode(data), "")
    compressed, own = drawn.compressed, drawn.picture
    latents = sum(level.size for level in compressed.latents) / (own.height * own.width)
    return drawn.multiplications_per_pixel + latents * sum(w.weights.size for w in compressed.network.layers)


def show(cases: list[Case]) -> None:
    """Print a line for each case, and the means of all pictures at each PSNR and budget."""
    names = [*CODECS]
    print(f"| picture | PSNR | coordfit | {' | '.join(names)} | steps | encode | decode |")
    print("|---" * (6 + len(names)) + "|")
    for case in cases:
        print(f"| {case['picture']} | {_line([case], names)}")
    for budget, same in _grouped(cases, lambda case: (budget_of(case), case["target"])):
        better = " ".join(f"{name} {_saved(same, name)}" for name in names)
        print(f"| **mean of {len(same)}, {budget[0]}** | {_line(same, names)}\nfewer bits than: {better}")


def _line(cases: list[Case], names: Iterable[str]) -> str:
    def mean(values: Iterable[float | None]) -> float:
        known = [value for value in values if value is not None]
        return fmean(known) if known else math.nan

    others = " | ".join(f"{mean(case['others'][name] for case in cases):.3f}" for name in names)
    own = f"{mean(case['psnr'] for case in cases):.2f} | {mean(case['bits'] for case in cases):.3f}"
    times = f"{mean(c['encode'] for c in cases):.0f} s | {mean(c['decode'] for c in cases):.2f} s |"
    return f"{own} | {others} | {mean(case['steps_taken'] for case in cases):.0f} | {times}"


def _saved(cases: list[Case], name: str) -> str:
    """Return the share of bits that is saved, of means, and on how many pictures there are fewer."""
    pairs = [(case["bits"], case["others"][name]) for case in cases if case["others"][name] is not None]
    if not pairs:
        return "-"
    ours, theirs = (fmean(values) for values in zip(*pairs, strict=True))
    fewer = sum(a < b for a, b in pairs)
    return f"{100 * (1 - ours / theirs):.0f} % ({fewer} of {len(pairs)});"


def budget_of(case: Case) -> str:
    """Return the budget in words."""
    return f"{case['seconds']:g} s" if "seconds" in case else f"{case['steps']} steps"


def _grouped(cases: list[Case], key: Any) -> list[tuple[Any, list[Case]]]:
    return [(k, [case for case in cases if key(case) == k]) for k in dict.fromkeys(map(key, cases))]


def curves(cases: list[Case]) -> dict[str, list[tuple[float, float]]]:
    """Return means over pictures as points (bits per pixel, PSNR), by codec."""
    found = {}
    for budget, same in _grouped(cases, budget_of):
        found[f"coordfit, {budget}"] = [
            (fmean(case["bits"] for case in of), fmean(case["psnr"] for case in of)) for of in _by_target(same)
        ]
    first = next(same for _, same in _grouped(cases, budget_of))
    for name in CODECS:
        reached = [of for of in _by_target(first) if all(case["others"][name] is not None for case in of)]
        found[name] = [
            (fmean(case["others"][name] for case in of), fmean(case["psnr"] for case in of)) for of in reached
        ]
    return found


def _by_target(cases: list[Case]) -> list[list[Case]]:
    return [same for _, same in sorted(_grouped(cases, lambda case: case["target"]))]


def main() -> None:
    """Run the command line."""
    parser = Parser(prog="python -m bench.codec", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", metavar="FILE", type=Path)
    parser.add_argument("--psnr", nargs="+", type=float, default=DECIBELS, metavar="DB")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--steps", type=count)
    budget.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--threads", type=count)
    parser.add_argument("--json", type=new_file, metavar="FILE", help="write the cases here; others stay")
    parser.add_argument("--keep", action="store_true", help="do not compress again what that file holds")
    parser.add_argument("--show", action="store_true", help="print all that this file holds, and no more")
    parser.add_argument("--plot", type=new_file, metavar="FILE.svg", help="draw the means of what is shown")
    options = parser.parse_args()
    if not (options.show or options.files):
        raise BadInputError("name pictures, or --show with --json")
    if options.show:
        cases = recorded(options.json, "cases") if options.json else []
    else:
        files = {file.name: file for file in options.files}
        budget_key = {"steps": options.steps} if options.steps else {"seconds": options.seconds}
        keys = [{"picture": name, "target": target, **budget_key} for name in files for target in options.psnr]
        cases = cases_of(options, keys, lambda key: measure(key, files, options.threads))
    if not cases:
        raise BadInputError("--show needs a file with cases: name it by --json")
    show(cases)
    if options.plot:
        title = f"Means of {len({case['picture'] for case in cases})} pictures"
        save_lines(
            options.plot, curves(cases), title=title, x_label="bits per pixel", y_label="PSNR (dB)", x_log=True
        )


if __name__ == "__main__":
    run_main("codec", main)
