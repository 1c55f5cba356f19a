"""Draw the curves of a fit, PSNR and loss over steps, as one SVG file."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..files import FilePath
from .svg import new_figure, own_style, save_svg, svg_of, write_note

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, float | None]
Point = tuple[float, float]  # step, value

# Column of the history, label, colour, line width. The colours differ in lightness too.
_PSNR_CURVES = (
    ("psnr", "full picture", "#222a5c", 2.0),
    ("psnr_train", "training pixels", "#2a8ca8", 1.5),
    ("psnr_held_out", "held-out pixels", "#e0703a", 1.5),
)
_LOSS_COLOUR = "#222a5c"
_FEW_POINTS = 30  # up to this many evaluations, each gets a dot


def save_curves(path: FilePath, history: Sequence[Row]) -> None:
    """Draw PSNR and loss over steps into an SVG file, atomically; equal histories give equal bytes.

    OutputError if the file cannot be written.

    Parameters
    ----------
    path
        The file to write; an existing one is replaced.
    history
        One row for each evaluation, in the order of steps, with the keys ``step``, ``loss``, ``psnr_train``,
        ``psnr_held_out`` and ``psnr`` (the full picture); PSNR in dB. Points with None or a missing value are
        left out; infinite PSNR is marked at the upper edge. Other keys are ignored.
    """
    with own_style():
        figure = new_figure(10, 3.9)
        # Fixed margins hold the widest possible tick labels; fitting them would double the time.
        figure.subplots_adjust(left=0.075, right=0.98, bottom=0.15, top=0.88, wspace=0.3)
        left, right = figure.subplots(1, 2)
        _draw_psnr(left, history)
        _draw_loss(right, history)
        svg = svg_of(figure)
    save_svg(path, svg)


def _draw_psnr(axes: "Axes", history: Sequence[Row]) -> None:
    _prepare(axes, "Quality", "PSNR (dB)")
    curves = {key: _points(history, key) for key, *_ in _PSNR_CURVES}
    # Without held-out pixels the training pixels are the full picture: one line with both names.
    same = curves["psnr_train"] == curves["psnr"] and not curves["psnr_held_out"]
    drawn: list[Point] = []
    for key, label, colour, width in _PSNR_CURVES:
        if same and key == "psnr_train":
            continue
        label = "full picture = training pixels" if same else label
        points = curves[key]
        _draw_line(axes, [point for point in points if math.isfinite(point[1])], label, colour, width)
        _draw_exact(axes, [step for step, value in points if value == math.inf], label, colour)
        drawn += points
    _finish(axes, drawn, bool(history))
    if drawn:
        axes.legend(loc="best")
        if not any(math.isfinite(value) for _, value in drawn):
            axes.set_yticks([])


def _draw_loss(axes: "Axes", history: Sequence[Row]) -> None:
    _prepare(axes, "Training loss", "loss (log scale)")
    # A logarithmic axis cannot show zero, and no axis infinity.
    points = [(step, value) for step, value in _points(history, "loss") if 0 < value < math.inf]
    if points:
        axes.set_yscale("log")
    _draw_line(axes, points, "loss", _LOSS_COLOUR, 1.5)
    _finish(axes, points, bool(history))


def _points(history: Sequence[Row], key: str) -> list[Point]:
    """Return the steps and values of one column, without rows that lack it."""
    pairs = [(row.get("step"), row.get(key)) for row in history]
    known = [(step, value) for step, value in pairs if step is not None and value is not None]
    return [point for point in known if point[1] > -math.inf]  # false for NaN too


def _prepare(axes: "Axes", title: str, unit: str) -> None:
    axes.set_title(title)
    axes.set_xlabel("step")
    axes.set_ylabel(unit)
    axes.tick_params(length=0, which="both")


def _draw_line(axes: "Axes", points: list[Point], label: str, colour: str, width: float) -> None:
    """Draw one curve, with a dot for each point if they are few."""
    if points:
        marker = "o" if len(points) <= _FEW_POINTS else ""
        steps, values = zip(*points, strict=True)
        axes.plot(steps, values, color=colour, linewidth=width, label=label, marker=marker)


def _draw_exact(axes: "Axes", steps: list[float], label: str, colour: str) -> None:
    """Mark infinite PSNR at the upper edge, independent of the axis' scale."""
    if steps:
        axes.plot(
            steps,
            [1.0] * len(steps),
            "^",
            color=colour,
            label=f"{label}: exact",
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )


def _finish(axes: "Axes", drawn: list[Point], evaluated: bool) -> None:
    """Scale the axis of steps, or write a note that there is nothing to draw."""
    from matplotlib.ticker import MaxNLocator

    steps = {step for step, _ in drawn}
    if len(steps) > 1:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    elif steps:
        (step,) = steps
        axes.set(xlim=(step - 1, step + 1), xticks=[step])
    else:
        note = "no value to draw" if evaluated else "no evaluation yet"
        write_note(axes, note)
