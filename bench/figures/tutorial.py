"""Say which figures of docs/tutorial.ipynb follow from which record; it computes all others."""

from __future__ import annotations

from .pages import Bound, Claim, Unbound
from .rows import Row, mean, where

PAGE = "docs/tutorial.ipynb"


def course_project(record: Row) -> list[float]:
    """Return the mean PSNR in dB of the photographs, all pixels trained, at sigma 1 and at the chosen one."""
    cases = where(record["cases"], mode="all", size=128)
    return [mean([case[which] for case in cases], "psnr") for which in ("one", "auto")]


CLAIMS: list[Bound] = [
    Claim(
        PAGE,
        "Run here with all pixels trained, it reaches {:.1f} dB in the mean of four photographs, and {:.1f} dB"
        " with a chosen sigma (",
        "seed_setting.json",
        course_project,
    ),
]
UNBOUND = [
    Unbound(PAGE, "10 dB more is a mean squared error ten times smaller", "arithmetic"),
    Unbound(PAGE, "100% means that nothing of the band", "a definition"),
    Unbound(PAGE, "PSNR was 3 dB low", "a factor of 2, in tests/test_reference_defects.py"),
]
