"""Hold the figures that README.md and docs/ tell against the records in bench/results/."""

from __future__ import annotations

from importlib import import_module

from .pages import ROOT, Bound, Claim, Fault, Table, Unbound, faults_of

_FILES = (
    *("readme", "results", "tiles", "recipes", "compression", "enlarging", "arrays", "tutorial", "others"),
    "explanation",
)


_IN_PART = ("bench/README.md", "docs/how_to/several_pictures.md")
"""Pages on other matters: not every figure of theirs needs a claim."""


def claims() -> list[Bound]:
    """Return what follows from records, of all pages."""
    return [claim for file in _FILES for claim in import_module(f".{file}", __name__).CLAIMS]


def listed() -> list[Unbound]:
    """Return what has no record, of all pages."""
    return [part for file in _FILES for part in getattr(import_module(f".{file}", __name__), "UNBOUND", [])]


def pending() -> list[Claim]:
    """Return the claims with a figure that its record does not have yet."""
    return [claim for claim in claims() if isinstance(claim, Claim) and claim.lacks_figures()]


def faults_in() -> list[Fault]:
    """Return all that is wrong with the pages that have claims."""
    bound, without = claims(), listed()
    pages = dict.fromkeys(part.page for part in (*bound, *without))
    return [
        fault
        for page in pages
        for fault in faults_of(
            page, (ROOT / page).read_text(encoding="utf-8"), bound, without, is_whole=page not in _IN_PART
        )
    ]


__all__ = ["Bound", "Claim", "Fault", "Table", "Unbound", "claims", "faults_in", "listed", "pending"]
