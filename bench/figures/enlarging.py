"""Say which figures of docs/how_to/enlarge.md follow from which record."""

from __future__ import annotations

from .pages import Bound, Claim, Table, Unbound
from .rows import Row, line, mean, rule, where

PAGE = "docs/how_to/enlarge.md"
HALVED = "means over 2x2 pixels"


def figures(cases: list[Row], method: str) -> list[float]:
    """Return the PSNR of a method for each case."""
    return [case["methods"][method][0] for case in cases]


def by_picture(cases: list[Row], methods: dict[str, str], *, always: bool) -> list[str]:
    """Return a table of pictures and methods; bold is the best, or `always` the last one."""
    lines = [line("picture", *methods), rule(1 + len(methods))]
    pictures = [
        (case["picture"].removesuffix(".png"), [case["methods"][name][0] for name in methods.values()])
        for case in cases
    ]
    pictures = sorted(pictures)
    means = [sum(column) / len(column) for column in zip(*(row for _, row in pictures), strict=True)]
    for label, row in [*pictures, ("mean", means)]:
        texts = [f"{value:.2f}" for value in row]
        texts = [
            f"**{text}**"
            if (i == len(row) - 1 if always else texts.count(text) == 1 and row[i] == max(row))
            else text
            for i, text in enumerate(texts)
        ]
        lines.append(line(label, *texts))
    return lines


def halved(record: Row) -> list[str]:
    """Return the table of halved pictures."""
    methods = {name: name for name in ("bicubic", "Lanczos", "Lanczos, back-projected")}
    methods["**coordfit enlarge**"] = "coordfit enlarge"
    return by_picture(where(record["cases"], reduction=HALVED), methods, always=True)


def fitted(record: Row) -> list[str]:
    """Return the table of functions that were fitted to halved pictures."""
    methods = {
        "Lanczos, back-projected": "Lanczos, back-projected",
        "the function": "function",
        "**coordfit render**": "coordfit render",
    }
    return by_picture(where(record["cases"], reduction=f"{HALVED}, fitted to 40 dB"), methods, always=False)


def every_second(record: Row) -> list[str]:
    """Return the table of left out pixels."""
    lines = ["| size | bicubic | kriging, `coordfit inpaint` |", rule(3)]
    for size in (128, 256):
        cases = where(record["cases"], reduction="every second pixel", size=size)
        means = [
            sum(found) / len(found) for found in (figures(cases, "bicubic"), figures(cases, "coordfit inpaint"))
        ]
        lines.append(line(f"{size}x{size}", f"{means[0]:.2f}", f"**{means[1]:.2f}**"))
    return lines


CLAIMS: list[Bound] = [
    Table(PAGE, "enlarge.json", halved),
    Table(PAGE, "enlarge.json", fitted),
    Table(PAGE, "enlarge.json", every_second),
    Claim(
        PAGE,
        "`coordfit enlarge` takes {:.1f} s of one core for a picture.",
        "enlarge.json",
        lambda record: [
            mean(
                [
                    {"s": case["methods"]["coordfit enlarge"][1]}
                    for case in where(record["cases"], reduction=HALVED)
                ],
                "s",
            )
        ],
    ),
]
UNBOUND = [
    Unbound(PAGE, "fitted to 40 dB by the recipe `compact` (300", "a target"),
    Unbound(PAGE, "What 40 dB leave out", "a target"),
]
