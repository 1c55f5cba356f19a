"""Draw PSNR over steps as a small SVG, in the colours of the page around it."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

Point = tuple[float, float]

_WIDTH, _HEIGHT = 400, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 26, 28, 38
_COLOURS = ("#2f7fc1", "#c9631c")
"""With a contrast of 3 and more on white and on a dark page."""
_NICE = (1.0, 2.0, 2.5, 5.0, 10.0)


class Axis(NamedTuple):
    """The range of an axis, and its ticks."""

    low: float
    high: float
    ticks: Sequence[float]

    @classmethod
    def over(cls, values: Sequence[float], count: int = 5) -> Axis:
        """Return an axis whose ticks are multiples of 1, 2, 2.5 or 5 times a power of ten."""
        low, high = min(values), max(values)
        if high <= low:
            low, high = low - 0.5, high + 0.5
        rough = (high - low) / count
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(nice * power for nice in _NICE if nice * power >= rough * (1 - 1e-9))
        first, last = math.floor(low / step), math.ceil(high / step)
        return cls(first * step, last * step, [k * step for k in range(first, last + 1)])

    def place(self, value: float, start: float, end: float) -> float:
        """Return where a value is drawn between two ends."""
        return start + (end - start) * (value - self.low) / (self.high - self.low)


def curve_svg(lines: Mapping[str, Sequence[Point]], x_label: str) -> str:
    """Return curves of PSNR in dB, the second one dashed; nothing before there are two points of one."""
    drawn = {name: points for name, points in lines.items() if len(points) > 1}
    if not drawn:
        return ""
    xs = Axis.over([x for points in drawn.values() for x, _ in points] + [0.0])
    ys = Axis.over([y for points in drawn.values() for _, y in points])
    last = ", ".join(f"{name} {points[-1][1]:.2f} dB" for name, points in drawn.items())
    told = html.escape(f"PSNR over {x_label}s: {last}", quote=True)
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{told}" '
        'style="width:100%;max-width:40rem;font:13px sans-serif" fill="currentColor">',
        *(_x_tick(xs, tick) for tick in xs.ticks),
        *(_y_tick(ys, tick) for tick in ys.ticks),
        *(_line(points, xs, ys, number) for number, points in enumerate(drawn.values())),
        *(_name(name, number) for number, name in enumerate(drawn)),
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 4}" text-anchor="end">{x_label}</text>',
        "</svg>",
    ]
    return "".join(parts)


def _x(axis: Axis, value: float) -> float:
    return axis.place(value, _LEFT, _WIDTH - _RIGHT)


def _y(axis: Axis, value: float) -> float:
    return axis.place(value, _HEIGHT - _BOTTOM, _TOP)


def _x_tick(axis: Axis, tick: float) -> str:
    x = f"{_x(axis, tick):.1f}"
    return f'<text x="{x}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{tick:,g}</text>'


def _y_tick(axis: Axis, tick: float) -> str:
    y = _y(axis, tick)
    return (
        f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="currentColor" stroke-opacity="0.2"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
    )


def _line(points: Sequence[Point], xs: Axis, ys: Axis, number: int) -> str:
    path = "L".join(f"{_x(xs, x):.1f} {_y(ys, y):.1f}" for x, y in points)
    dashes = ' stroke-dasharray="5 4"' if number else ""
    return f'<path d="M{path}" fill="none" stroke="{_COLOURS[number]}" stroke-width="2"{dashes}/>'


def _name(name: str, number: int) -> str:
    x, colour = _LEFT + 190 * number, _COLOURS[number]
    dashes = ' stroke-dasharray="5 4"' if number else ""
    return (
        f'<path d="M{x} 10h22" stroke="{colour}" stroke-width="2"{dashes}/>'
        f'<text x="{x + 28}" y="14">{html.escape(name)}, dB</text>'
    )
