"""Say which figures of docs/how_to/sounds_and_volumes.md follow from which record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .pages import Bound, Claim, Unbound
from .rows import Row, one

PAGE = "docs/how_to/sounds_and_volumes.md"


def of(case: str, *names: str) -> Callable[[Row], list[Any]]:
    """Return a function from the record to figures of a case."""
    return lambda record: [one(record["cases"], case=case)[name] for name in names]


BOTH = ("psnr", "seconds", "psnr_biharmonic", "seconds_biharmonic")
CLAIMS: list[Bound] = [
    Claim(
        PAGE,
        "| a second of sound at 16 kHz, like a voice | {:.1f} dB of signal to noise in {:.1f} s, one"
        " network of {}"
        " parameters |",
        "signals.json",
        lambda record: [
            (row := one(record["cases"], case="sound"))["snr"],
            row["seconds"],
            f"{row['parameters']:,}".replace(",", " "),
        ],
    ),
    Claim(
        PAGE,
        "moving photograph | {:.1f} dB in {:.1f} s, 768 tiles |",
        "signals.json",
        of("video", "psnr", "seconds"),
    ),
    Claim(
        PAGE,
        "with fine detail | {:.1f} dB in {:.1f} s, 4096 tiles, {:.0f} MiB at the peak |",
        "signals.json",
        of("volume", "psnr", "seconds", "megabytes"),
    ),
    Claim(
        PAGE,
        "| half of 48^3 voxels hidden | {:.1f} dB in {:.1f} s; biharmonic equations (scikit-image) {:.1f}"
        " dB in {:.1f} s |",
        "signals.json",
        of("filling-48", *BOTH),
    ),
    *(
        Claim(
            PAGE,
            f"| half of {side}^3 | {{:.1f}} dB in {{:.1f}} s; {{:.1f}} dB in {{:.1f}} s |",
            "signals.json",
            of(f"filling-{side}", *BOTH),
        )
        for side in (32, 24)
    ),
    Claim(
        PAGE,
        "| half of 128^3 | {:.1f} dB in {:.1f} s, {:.0f} MiB at the peak |",
        "signals.json",
        of("filling-128", "psnr", "seconds", "megabytes"),
    ),
    Claim(
        PAGE,
        "| half of 256^3 | {:.1f} dB in {:.0f} s, {:.0f} MiB at the peak;",
        "signals.json",
        of("filling-256", "psnr", "seconds", "megabytes"),
    ),
]
UNBOUND: list[Unbound] = []
