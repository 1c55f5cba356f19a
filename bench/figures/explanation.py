"""Say which figures of the explanations of fast steps, and of tiles and pyramids, follow from which record."""

from __future__ import annotations

from statistics import median

from ..time_to_psnr.__main__ import best
from .enlarging import HALVED, figures
from .pages import Bound, Claim, Table, Unbound
from .rows import Row, command, line, mean, one, rule, where
from .tiles import bits_of_tiles, shape

STEPS, LARGE = "docs/explanation/fast_steps.md", "docs/explanation/tiles_and_pyramids.md"
CASES = {32: "32-32-128", 256: "32-256-128", 1024: "128-1024-128", 16384: "128-full-128"}
_PIXELS = {"one": 128 * 128, "tiles": 512 * 512, "pyramid": 768 * 512}


def ways(record: Row) -> list[str]:
    """Return the table of a step's milliseconds on two processors, by the way it is computed."""
    lines = [
        "| rows, 128 units | generic bodies | NumPy, row blocks | Numba, recorded | products alone |",
        rule(5),
    ]
    for rows, case in CASES.items():
        result = one(record["results"], case=case, cores=2)
        times = [median(result["wall"][name]) for name in ("coordfit-generic", "coordfit-numpy", "coordfit")]
        lines.append(line(str(rows), *(f"{1e3 * t:.3g}" for t in (*times, result["products"]))))
    return lines


def kernels(record: Row, case: str) -> list[float]:
    """Return the kernels of a step, their mean microseconds, and those between two of them."""
    rows = where(record["parts"]["kernels"]["rows"], table=case)
    inside, between = (one(rows, kernel=f"{name} kernels") for name in ("all", "between"))
    return [inside["launches"], inside["each"], between["each"]]


def seconds(times: Row, tiles: Row, fits: Row) -> dict[str, float]:
    """Return the seconds to 40 dB of one network, of tiles, and of a pyramid."""
    return {
        "one": best(times["runs"], "coordfit: fast (Muon)", 40, "seconds"),
        "tiles": one(tiles["rows"], picture="astronaut", target=40.0)["seconds"],
        "pyramid": mean(fits["cases"], "seconds"),
    }


def means_between(record: Row) -> list[float]:
    """Return the PSNR of functions of few bits at twice their size, and Lanczos's."""
    cases = where(record["cases"], reduction=f"{HALVED}, fitted to 40 dB")
    methods = ("function", "Lanczos, back-projected")
    return [sum(found) / len(found) for found in (figures(cases, method) for method in methods)]


_SECONDS = "time_to_psnr.json whole_pictures.json default_fit.json"
_TABLE = "../how_to/large_pictures.md#forty-decibels-of-a-photograph"
_COMPRESS = "../how_to/compress.md#what-it-comes-to"
CLAIMS: list[Bound] = [
    Table(STEPS, "peers.json", ways),
    Claim(
        STEPS,
        "a step of 1024 rows with 64 units in bf16 had {:.0f} kernels of {:.1f} microseconds in the mean, and"
        " {:.1f} microseconds lay between one and the next;",
        "gpu-h200.json",
        lambda record: kernels(record, "width 64, 1024 rows, bf16"),
    ),
    Claim(
        STEPS,
        "the step of the recipe `fast` in float32, with Muon, had {:.0f} kernels of {:.1f} microseconds,"
        " with {:.1f} between them",
        "gpu-h200.json",
        lambda record: kernels(record, "recipe fast, float32"),
    ),
    Claim(
        LARGE,
        f"| seconds at 40 dB | [{{:.2f}}](../results.md#seconds-until-a-psnr) | [{{:.2f}}]({_TABLE})"
        f" | [{{:.1f}}]({_COMPRESS}) |",
        _SECONDS,
        lambda *records: list(seconds(*records).values()),
    ),
    Claim(
        LARGE,
        "| microseconds for each pixel | {:.1f} | {:.1f} | {:.1f} |",
        _SECONDS,
        lambda *records: [1e6 * t / _PIXELS[name] for name, t in seconds(*records).items()],
    ),
    Claim(
        LARGE,
        f"| bits per pixel | [{{:.0f}}](../results.md#a-trained-grid) | [{{:.0f}}]({_TABLE})"
        f" | [{{:.3f}}]({_COMPRESS}) |",
        "commands.json whole_pictures.json default_fit.json",
        lambda commands, tiles, fits: [
            command(commands, "coordfit")["bits_per_pixel"],
            bits_of_tiles(one(tiles["rows"], picture="astronaut", target=40.0)),
            mean(fits["cases"], "bits_per_pixel"),
        ],
    ),
    Claim(
        LARGE,
        "| between pixels | [{:.2f} dB; bicubic {:.2f}](../results.md#held-out-pixels)"
        f" | [{{:.2f}} dB beside bicubic]({_TABLE})"
        " | [{:.2f} dB; Lanczos {:.2f}](../how_to/enlarge.md#beside-other-methods) |",
        "commands.json tiles.json enlarge.json",
        lambda commands, tiles, sizes: [
            (row := command(commands, "coordfit --train-on every-second --encoding gaussian"))["psnr_held_out"],
            row["psnr_held_out_bicubic"],
            shape(tiles, 8, 16, 48)["twice"],
            *means_between(sizes),
        ],
    ),
]
UNBOUND = [Unbound(STEPS, "| part of a step | count | for the default network |", "arithmetic")]
