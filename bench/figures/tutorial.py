"""Say which figures of docs/tutorial.md follow from which record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .pages import Bound, Claim, Table, Unbound
from .results import COMMANDS
from .rows import Row, command, line, one, rule

PAGE = "docs/tutorial.md"
SWEEP = "coordfit sweep --train-on every-second --sigma 0.5,1,2,3,5,10,20,40"
EVERY_SECOND = "coordfit --train-on every-second --encoding gaussian"
KNOBS = {
    "the default: Muon, MSE, 4 layers of 128": "coordfit",
    "two layers, 32 units": "coordfit --depth 2 --hidden-size 32",
    "Adam in place of Muon": "coordfit --optimizer adam",
    "mean absolute error": "coordfit --loss mae",
    "`sharp`: sines in place of ReLU, twice the steps": "coordfit --recipe sharp",
    "a small network for each tile of 8x8": "coordfit --tiles 8 --target-psnr 40",
}
WORDS = {
    0.5: "too small: blurred everywhere",
    3: "the default",
    40: "too large: perfect on its pixels, noise between them",
}


def of(words: str, *names: str) -> Callable[[Row], list[Any]]:
    """Return a function from the record to figures of a command."""
    return lambda record: [command(record, words)[name] for name in names]


def sigmas(record: Row) -> list[str]:
    """Return the table of the sweep over sigma."""
    rows = command(record, SWEEP)["rows"]
    most = max(row["psnr_held_out"] for row in rows)
    lines = ["| sigma | training pixels | held-out pixels | |", rule(4)]
    for sigma in (0.5, 1, 2, 3, 5, 10, 20, 40):
        row = one(rows, sigma=sigma)
        held = f"{row['psnr_held_out']:.2f} dB"
        cells = (f"{row['psnr_train']:.2f} dB", f"**{held}**" if row["psnr_held_out"] == most else held)
        lines.append(line(f"{sigma:g}", *cells, WORDS.get(sigma, "")))
    return lines


CLAIMS: list[Bound] = [
    Claim(
        PAGE,
        "PSNR {:.2f} dB, all pixels SSIM {:.4f} loss {:.3e} MSE steps {:d} training {:.2f} s on cpu (numba)"
        " parameters {:,d}, {:.1f} bits per pixel other files plain {:d} bits per pixel; at this PSNR"
        " JPEG {:.2f}, AVIF {:.2f}",
        "commands.json",
        lambda record: [
            *of("coordfit", "psnr", "ssim", "loss", "steps", "seconds", "parameters", "bits_per_pixel")(record),
            *(command(record, "coordfit")["other_bits_per_pixel"][name] for name in ("plain", "JPEG", "AVIF")),
        ],
        COMMANDS,
    ),
    Claim(
        PAGE,
        "PSNR {:.2f} dB, all pixels SSIM {:.4f} ``` Same network, same steps, {:.0f} dB less",
        "commands.json",
        lambda record: [
            (row := command(record, "coordfit --encoding none"))["psnr"],
            row["ssim"],
            command(record, "coordfit")["psnr"] - row["psnr"],
        ],
    ),
    Claim(
        PAGE,
        "PSNR {:.2f} dB, all pixels {:.2f} dB, training pixels {:.2f} dB, held-out pixels {:.2f} dB,"
        " held-out pixels by"
        " bilinear interpolation {:.2f} dB, held-out pixels by bicubic interpolation",
        "commands.json",
        of(
            EVERY_SECOND,
            "psnr",
            "psnr_train",
            "psnr_held_out",
            "psnr_held_out_bilinear",
            "psnr_held_out_bicubic",
        ),
    ),
    Table(PAGE, "commands.json", sigmas),
    Claim(
        PAGE,
        "chooses one by short trials with small networks: {:.2f} dB here.",
        "commands.json",
        of("coordfit --train-on every-second --sigma auto", "psnr_held_out"),
    ),
    Claim(
        PAGE,
        "PSNR {:.2f} dB, hidden pixels {:.2f} dB, hidden pixels by their nearest known one {:.2f} dB,"
        " hidden pixels by"
        " biharmonic inpainting deviation {:.1f} of 255 in the mean, {:.0f} at most {:.0f}% of hidden"
        " pixels are within"
        " one, {:.0f}% within two",
        "commands.json",
        lambda record: [
            *(
                (row := command(record, "coordfit inpaint --missing 0.5"))[name]
                for name in ("psnr_hidden", "psnr_hidden_nearest", "psnr_hidden_biharmonic")
            ),
            *(255 * row[name] for name in ("deviation_mean", "deviation_largest")),
            *(100 * row[name] for name in ("within_1", "within_2")),
        ],
    ),
    Claim(
        PAGE,
        "(`--scribble`) they have {:.2f} dB, and kriging has {:.2f}. A network fills with `--method"
        " network`: it has"
        " {:.2f} dB with half of the pixels hidden, and {:.2f} dB on the scribble.",
        "commands.json",
        lambda record: [
            (row := command(record, "coordfit inpaint --scribble"))["psnr_hidden_biharmonic"],
            row["psnr_hidden"],
            command(record, "coordfit inpaint --missing 0.5 --method network")["psnr_hidden"],
            command(record, "coordfit inpaint --scribble --method network")["psnr_hidden"],
        ],
    ),
    Claim(
        PAGE,
        "one of `coordfit --recipe interpolate --sigma 3`, which has {:.1f} dB on the pixels instead of"
        " {:.1f}.",
        "commands.json",
        lambda record: [
            command(record, words)["psnr"] for words in ("coordfit --recipe interpolate --sigma 3", "coordfit")
        ],
    ),
    *(
        Claim(
            PAGE,
            f"| {label} | {{:.2f}} dB | {{:,d}} | {{:.0f}} | {{:.1f}} s |",
            "commands.json",
            of(words, "psnr", "parameters", "bits_per_pixel", "seconds"),
            COMMANDS,
        )
        for label, words in KNOBS.items()
    ),
]
UNBOUND = [
    Unbound(PAGE, "47 dB is a mean error of less than one level of 255", "arithmetic"),
    Unbound(PAGE, "Tiles are the fastest way to 40 dB", "a target"),
    Unbound(PAGE, "a function of 40 dB in one or two bits per pixel", "a target"),
]
