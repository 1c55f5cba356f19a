"""Draw a figure over two settings as an SVG heat map, with the values in its cells."""

import math
from typing import TYPE_CHECKING, Any

from .line_plot import literal
from .svg import new_figure, own_style, svg_of
from .table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DARK, _LIGHT, _NOTHING = "#14171f", "#fdfdfd", "#dfe2e8"


def heat_map_svg(table: Table, x: str, y: str, value: str, *, title: str) -> str:
    """Return the SVG of one column of a table over two others.

    Parameters
    ----------
    table
        One row for each pair of `x` and `y`; of several, the last finite value counts.
    x, y
        The columns that name the cells' columns and rows, in the order of their first appearance; numbers
        are sorted, y upwards.
    value
        The column of numbers to show, high values light. A value that is not finite leaves its cell grey.
    title
        Written above.
    """
    xs, ys = _settings(table, x), _settings(table, y)
    known = [row for row in table if _is_finite(row[value])]
    values = {(_plain(row[x]), _plain(row[y])): row[value] for row in known}
    width, height = max(4.0, 1.6 + 0.85 * len(xs)), max(2.4, 1.3 + 0.5 * len(ys))
    with own_style({"axes.grid": False}):
        figure = new_figure(width, height, layout="constrained")
        axes = figure.subplots()
        axes.set_title(literal(title))
        axes.set(xlabel=literal(x.replace("_", " ")), ylabel=literal(y.replace("_", " ")))
        _name_the_cells(axes, xs, ys)
        _draw_cells(axes, xs, ys, values)
        return svg_of(figure)


def _settings(table: Table, column: str) -> list[Any]:
    found = list(dict.fromkeys(_plain(setting) for setting in table[column]))
    numeric = all(isinstance(setting, int | float) for setting in found)
    return sorted(found) if numeric else found


def _plain(setting: Any) -> Any:
    """Return a setting as a dictionary key, since a size may be a list."""
    return tuple(setting) if isinstance(setting, list) else setting


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _name_the_cells(axes: "Axes", xs: list[Any], ys: list[Any]) -> None:
    def name(setting: Any) -> str:
        return f"{setting:g}" if isinstance(setting, float) else literal(str(setting))

    axes.set_xticks(range(len(xs)), [name(setting) for setting in xs])
    axes.set_yticks(range(len(ys)), [name(setting) for setting in ys])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlim=(-0.5, len(xs) - 0.5), ylim=(-0.5, len(ys) - 0.5))


def _draw_cells(axes: "Axes", xs: list[Any], ys: list[Any], values: dict[tuple[Any, Any], float]) -> None:
    """Colour each cell and write its value in it, the best one in bold."""
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    colours = colormaps["viridis"]
    decimals = 2 if max(map(abs, values.values()), default=0.0) >= 2.0 else 4
    low, high = _colour_range(list(values.values()))
    for i, setting_x in enumerate(xs):
        for j, setting_y in enumerate(ys):
            value = values.get((setting_x, setting_y))
            share = None if value is None else max(0.0, value - low) / (high - low or 1.0)
            colour = _NOTHING if share is None else colours(share)
            axes.add_patch(Rectangle((i - 0.48, j - 0.48), 0.96, 0.96, facecolor=colour, linewidth=0))
            ink = _LIGHT if share is not None and share < 0.6 else _DARK
            weight = "bold" if value == high and value is not None else "normal"
            text = "-" if value is None else f"{value:.{decimals}f}"
            axes.text(i, j, text, color=ink, weight=weight, ha="center", va="center")


def _colour_range(values: list[float]) -> tuple[float, float]:
    """Return the values of the darkest and the lightest colour, ignoring outliers below."""
    if not values:
        return 0.0, 1.0
    ordered = sorted(values)
    lower, upper = ordered[len(ordered) // 4], ordered[(3 * len(ordered)) // 4]
    return max(ordered[0], lower - 1.5 * (upper - lower)), ordered[-1]  # Tukey's fence
