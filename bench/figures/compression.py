"""Say which figures of docs/how_to/compress.md follow from which record."""

from __future__ import annotations

from functools import partial
from statistics import median

from ..codec_scores import DECIBELS, tables
from .pages import Bound, Claim, Table, Unbound
from .rows import Row, line, mean, one, rule, where

PAGE = "docs/how_to/compress.md"
DEFAULT = "python -m bench.default_fit kodim*.png --json bench/results/default_fit.json"
RESULTS = "bench/results"
SETTINGS = (
    f"python -m bench.codec_settings kodim07.png kodim15.png kodim23.png --json {RESULTS}/codec_settings.json"
)
MOSAIC = f"--json {RESULTS}/codec_mosaic.json --times"
ROWS: dict[str, list[tuple[str, int]]] = {
    "temperature from 0.3, from 0.9, in place of 0.6 | {:.3f}, {:.3f} | |": [
        ("temperatures=(0.3, 0.08)", 300),
        ("temperatures=(0.9, 0.08)", 300),
    ],
    "temperature down to 0.2 in place of 0.08 | {:.3f} | |": [("temperatures=(0.6, 0.2)", 300)],
    "in the last 25 % of the steps in place of 3 % | {:.3f} | |": [("soft_share=0.75", 300)],
    "latents' learning rate 0.1, 0.4 in place of 0.2 | {:.3f}, {:.3f} | |": [
        ("latent_rate=0.1", 300),
        ("latent_rate=0.4", 300),
    ],
    "decoder's learning rate 0.02 in place of 0.08 | {:.3f} | |": [("decoder_rate=0.02", 300)],
    "context network's learning rate 0.01 in place of 0.04 | {:.3f} | |": [("context_rate=0.01", 300)],
    "D = 0.35, 0.7 in place of 0.5 | {:.3f}, {:.3f} | |": [("step_share=0.35", 300), ("step_share=0.7", 300)],
    "decoder of 12, 40 hidden units in place of 24 | {:.3f}, {:.3f} |": [
        ("hidden=12", 300),
        ("hidden=40", 300),
    ],
    "context network of 16, 32 units in place of 24 (from random weights) | {:.3f}, {:.3f} |": [
        ("context_units=16", 300),
        ("context_units=32", 300),
    ],
    "context network of 24 units from random weights | {:.3f} | |": [("trained_start=False", 300)],
    "the same after 100 steps, with and without other pictures' weights | {:.3f}, {:.3f} | |": [
        ("defaults", 100),
        ("trained_start=False", 100),
    ],
    "Adam for all, without Muon | {:.3f} | |": [("matrix_rate=0.0", 300)],
    "the same after 900 steps, with and without Muon | {:.3f}, {:.3f} | |": [
        ("defaults", 900),
        ("matrix_rate=0.0", 900),
    ],
    "bits of all latents in each step in place of half of them | {:.3f} |": [("rate_share=1.0", 300)],
    "the same, 200 steps | {:.3f} |": [("rate_share=1.0", 200)],
    "bits of a quarter | {:.3f} |": [("rate_share=0.25", 300)],
    "seven levels in place of five | {:.3f} | |": [("channels=(1, 2, 3, 3, 3, 3, 3)", 300)],
    "at half size three channels, one channel, in place of two | {:.3f}, {:.3f} | |": [
        ("channels=(1, 3, 3, 3, 3)", 300),
        ("channels=(1, 1, 3, 3, 3)", 300),
    ],
}
"""Rows of the table of settings: the loss of each change, after a number of steps."""


def beside_others(record: Row) -> list[str]:
    """Return the table of means at equal PSNR."""
    lines = tables(where(record["rows"], budget={"steps": 1000}))
    found = ["| PSNR | coordfit | better of two JPEG | JPEG 2000 | WebP | AVIF 4:4:4 |", rule(6)]
    for decibels in DECIBELS:
        (text,) = (text for text in lines if text.startswith(f"| {decibels} | 12 | "))
        _, _, _, ours, *others, _ = text.split(" | ".strip())
        found.append(f"| {decibels} dB | **{ours.strip()}** | {' | '.join(cell.strip() for cell in others)} |")
    return found


def furthest(record: Row) -> float:
    """Return by how many dB a target was missed at most."""
    rows = where(record["rows"], budget={"steps": 1000})
    return max(abs(row["psnr"] - row["point"]["psnr"]) for row in rows)


def at_38(record: Row) -> list[float]:
    """Return bits and PSNR of the longer trainings, of the usual ones, and AVIF's bits."""
    long, usual = (
        where(record["rows"], budget={"steps": steps}, point={"psnr": 38.0}) for steps in (4000, 1000)
    )
    avif = mean([row["others"]["AVIF 4:4:4"] for row in long], "bits")
    return [
        median(row["encode_processor"] for row in long),
        *(mean(rows, name) for rows in (long, usual) for name in ("bits", "psnr")),
        avif,
    ]


def kodim15(record: Row) -> Row:
    """Return the row of kodim15 with 1000 steps to 40 dB."""
    return one(record["rows"], picture="kodim15.png", budget={"steps": 1000}, point={"psnr": 40.0})


def prices(record: Row) -> list[str]:
    """Return the table of fewer and more steps at one price of a bit."""
    others = ("JPEG 4:2:0", "JPEG 4:4:4", "JPEG 2000", "WebP", "AVIF 4:4:4")
    lines = [line("picture", "steps", "PSNR", "coordfit", "JPEG", *others[1:]), rule(9)]
    for steps in (520, 2800):
        for name in ("kodim07", "kodim15"):
            row = one(record["rows"], picture=f"{name}.png", budget={"steps": steps})
            cells = (f"{row['others'][other]['bits']:.3f}" for other in others)
            lines.append(line(name, steps, f"{row['psnr']:.2f}", f"**{row['bits']:.3f}**", *cells))
    return lines


def losses(record: Row, changes: list[tuple[str, int]]) -> list[float | None]:
    """Return the loss of each change after a number of steps."""
    found = [where(record["rows"], change=change, steps=steps) for change, steps in changes]
    return [rows[0]["loss"] if rows else None for rows in found]


def share_of_bits(record: Row, times: int) -> list[float | None]:
    """Return by how many per cent the bits of one large picture are more or fewer, without the sign."""
    rows = where(record["rows"], times=times)
    return [abs(rows[0]["share_of_bits"]) if rows else None]


CLAIMS: list[Bound] = [
    Table(PAGE, "codec_prices.json", prices),
    *(
        Claim(PAGE, text, "codec_settings.json", partial(losses, changes=changes), SETTINGS)
        for text, changes in ROWS.items()
    ),
    Claim(
        PAGE,
        "| none | {:.3f} |",
        "codec_settings.json",
        partial(losses, changes=[("defaults", 300)]),
        SETTINGS,
    ),
    Claim(
        PAGE,
        "take {:.1f} % fewer bits at equal quality than alone",
        "codec_mosaic.json",
        partial(share_of_bits, times=9),
        f"python -m bench.codec_mosaic kodim15.png {MOSAIC} 9",
    ),
    Claim(
        PAGE,
        "take {:.1f} % more, as they share two networks",
        "codec_mosaic.json",
        partial(share_of_bits, times=2),
        f"python -m bench.codec_mosaic kodim01.png kodim03.png ... {MOSAIC} 2",
    ),
    Table(PAGE, "codec.json", beside_others),
    Claim(
        PAGE,
        "A picture takes {:.0f} s of the processor with all that comes after the last step (the median),"
        " and {:.0f} MiB",
        "codec.json",
        lambda record: [
            median(row["encode_processor"] for row in where(record["rows"], budget={"steps": 1000})),
            max(row["encode_peak_mib"] for row in where(record["rows"], budget={"steps": 1000})),
        ],
    ),
    Claim(
        PAGE,
        "The twelve targets of each row were met within {:.2f} dB. Decoding takes {:.0f} multiplications"
        " a pixel, four"
        " fifths of which are the context network's: {:.1f} s for one of these pictures",
        "codec.json",
        lambda record: [
            furthest(record),
            round(median(row["macs_per_pixel"] for row in record["rows"]), -2),
            median(row["decode_processor"] for row in record["rows"]),
        ],
    ),
    Claim(
        PAGE,
        "with no options, runs for {:.1f} s on two quiet cores: {:.2f} dB in the mean of the twelve"
        " ({:.2f} to {:.2f})"
        " at {:.3f} bits per pixel (at most {:.3f}), with {:.0f} steps. A first look of {:.1f} dB is"
        " there after {:.2f} s",
        "default_fit.json",
        lambda record: [
            mean(record["cases"], "seconds"),
            mean(record["cases"], "psnr"),
            *(bound(case["psnr"] for case in record["cases"]) for bound in (min, max)),
            mean(record["cases"], "bits_per_pixel"),
            max(case["bits_per_pixel"] for case in record["cases"]),
            mean(record["cases"], "steps"),
            mean(record["cases"], "first_look_psnr"),
            mean(record["cases"], "first_look_seconds"),
        ],
    ),
    Claim(
        PAGE,
        "with 1000 steps {:.3f} at {:.2f} (`python -m bench.codec kodim15.png --psnr 40 --seconds 60`)",
        "codec.json",
        lambda record: [kodim15(record)["bits"], kodim15(record)["psnr"]],
    ),
    Claim(
        PAGE,
        "Four times the steps, 4000 in {:.0f} s of the processor, take {:.3f} bits per pixel at {:.2f} dB"
        " in the mean of"
        " the twelve, where 1000 steps take {:.3f} at {:.2f}, and AVIF {:.3f}",
        "codec.json",
        at_38,
    ),
    Claim(
        PAGE,
        "12 megapixels (coffee, enlarged and given detail) take {:.0f} s with no options: {:.0f} steps,"
        " {:.2f} dB at"
        " {:.3f} bits per pixel, with {:.0f} MiB at the peak; a window of 512x512 pixels is drawn in"
        " {:.0f} s and {:.0f} MiB",
        "large_compact.json",
        lambda record: [
            record["rows"][0][name]
            for name in (
                "seconds_in_all",
                "epochs",
                "psnr",
                "bits_per_pixel",
                "peak_mib",
                "crop_seconds",
                "crop_peak_mib",
            )
        ],
    ),
]
UNBOUND = [
    *(
        Unbound(PAGE, text, "processor seconds, no record yet:", SETTINGS)
        for text in ("2.7 to 3.1 s", "| 2.4, 3.1 s |", "| 2.2, 3.3 s |", "| 4.1 s |", "| 2.9 s |", "| 2.0 s |")
    ),
    Unbound(PAGE, "meets its target within 0.1 dB, or within 2 % of the bits", "a bound, which tests hold"),
    Unbound(PAGE, "its last 3 % round", "a setting"),
    Unbound(
        PAGE,
        "With `--seconds 60` on two quiet cores kodim15 had 991 steps, and 1.039 bits per pixel at 40.01 dB",
        "no record yet:",
        "python -m bench.codec kodim15.png --psnr 40 --seconds 60 --json bench/results/codec.json",
    ),
    Unbound(
        PAGE,
        "The networks are 0.03 of the bits per pixel of a 768x512 picture.",
        "no record:",
        "coordfit info photo.cfc",
    ),
]
