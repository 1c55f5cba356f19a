"""Draw lines of one figure over another, several in one diagram, as SVG."""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

from ..files import FilePath, escaped
from .svg import GREY, new_figure, own_style, save_svg, svg_of, write_note

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Points = Sequence[tuple[float, float]]

# They differ in hue and in lightness, neighbours most.
SERIES_COLOURS = ("#222a5c", "#e0703a", "#2a8ca8", "#a0306e", "#7a9a2e", "#6a5acd", "#8a6d3b", "#4a5160")
_MARKERS = "os^Dv"  # one for each round through the colours
_FEW_POINTS = 30  # up to this many points, each gets a mark
_MANY_LINES = 9  # more names than this get two columns
_LABEL_SHARE = 0.06  # of the axis, for one number below it


def lines_svg(
    series: Mapping[str, Points],
    *,
    title: str,
    x_label: str,
    y_label: str,
    x_log: bool = False,
    dashed: Mapping[str, Points] | None = None,
) -> str:
    """Return the SVG of several lines in one diagram; equal series give equal text.

    Parameters
    ----------
    series
        Points (x, y) by name, in the order in which they are joined. A point is left out if it is not finite,
        or not positive on a logarithmic axis.
    title, x_label, y_label
        Written above and at the axes; the labels give the unit.
    x_log
        Whether the x axis is logarithmic.
    dashed
        Companions, such as figures of held-out pixels: dashed, in the colour of the line of the same name.
    """
    with own_style():
        figure = new_figure(7.6, 4.2, layout="constrained")
        axes = figure.subplots()
        axes.set(xlabel=literal(x_label), ylabel=literal(y_label))
        axes.set_title(literal(title))
        axes.tick_params(length=0, which="both")
        _draw(axes, series, dashed or {}, x_log)
        return svg_of(figure)


def save_lines(path: FilePath, series: Mapping[str, Points], **options: Any) -> None:
    """Write `lines_svg(series, **options)` to a file, atomically; OutputError if that fails."""
    save_svg(path, lines_svg(series, **options))


def _draw(axes: "Axes", series: Mapping[str, Points], dashed: Mapping[str, Points], x_log: bool) -> None:
    names = list(dict.fromkeys([*series, *dashed]))
    looks = dict(zip(names, cycle(_looks(len(names))), strict=False))
    drawn: set[float] = set()
    for lines, dash in ((series, "-"), (dashed, (0, (4, 2)))):
        for name, points in lines.items():
            known = [point for point in points if _can_stand(point, x_log)]
            if known:
                _draw_line(axes, known, name, looks[name], dash, name in series and lines is dashed)
                drawn |= {x for x, _ in known}
    if not drawn:
        write_note(axes, "no value to draw")
        return
    if x_log:
        _scale_by_logarithm(axes, sorted(drawn))
    _add_legend(axes, bool(dashed))


def _looks(number: int) -> list[tuple[str, str]]:
    """Return a colour and a mark for each line, no two alike."""
    rounds = -(-number // len(SERIES_COLOURS))
    return [(colour, mark) for mark in (_MARKERS * rounds)[: max(1, rounds)] for colour in SERIES_COLOURS]


def _can_stand(point: tuple[float, float], x_log: bool) -> bool:
    return math.isfinite(point[0]) and math.isfinite(point[1]) and (point[0] > 0 or not x_log)


def _draw_line(
    axes: "Axes",
    points: Points,
    name: str,
    look: tuple[str, str],
    dash: str | tuple[int, tuple[int, int]],
    companion: bool,
) -> None:
    colour, mark = look
    xs, ys = zip(*points, strict=True)
    axes.plot(
        xs,
        ys,
        color=colour,
        linestyle=dash,
        linewidth=1.4 if companion else 1.8,
        marker=mark if len(points) <= (_FEW_POINTS // 3 if companion else _FEW_POINTS) else "",
        markersize=4,
        label="_" + name if companion else literal(name),  # the legend omits names with an underscore
    )


def _scale_by_logarithm(axes: "Axes", values: list[float]) -> None:
    """Make an axis logarithmic, with a tick at each value if there are few."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xscale("log")
    if len(values) <= 12:
        axes.xaxis.set_major_locator(FixedLocator(_apart(values)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())


def _apart(values: list[float]) -> list[float]:
    """Return rising values above 0 without those closer than a label's width to the one before."""
    width = _LABEL_SHARE * math.log(values[-1] / values[0])
    ticks = values[:1]
    for value in values[1:]:
        if math.log(value / ticks[-1]) >= width:
            ticks.append(value)
    return ticks


def _add_legend(axes: "Axes", has_dashed: bool) -> None:
    from matplotlib.lines import Line2D

    handles, labels = axes.get_legend_handles_labels()
    if has_dashed and handles:
        handles = [*handles, Line2D([], [], color=GREY, linestyle=(0, (4, 2)), linewidth=1.4)]
        labels = [*labels, "dashed: held out"]
    if len(handles) > 1 or has_dashed:
        columns = 2 if len(handles) > _MANY_LINES else 1
        # Beside the axes, since it could cover lines.
        axes.legend(handles, labels, loc="center left", bbox_to_anchor=(1.0, 0.5), ncols=columns)


def literal(text: str) -> str:
    """Return text that Matplotlib and XML take literally, without dollar signs and control codes."""
    return escaped(text).replace("$", r"\$")
