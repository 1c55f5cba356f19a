"""Write a report as one HTML file without scripts or links to other files; all pictures are inside.

section = Section("Encodings")
section.add_text("Which encoding fills the gaps best?")
section.add_table(table)
section.add_picture(image, "Truth and reconstructions")
save_report("report.html", "The study", ["What was tried."], [section])
"""

from __future__ import annotations

import base64
import html
import io
import math
import re
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from ..files import write_bytes
from .table import Row, Table, cell

if TYPE_CHECKING:
    from PIL import Image

# Colours of the drawings: name, and colour on a dark page.
_DRAWING_COLOURS = {
    "#ffffff": ("paper", "#191c23"),
    "#1c202a": ("ink", "#e6e8ee"),
    "#69707d": ("grey", "#9aa1af"),
    "#dadde3": ("line", "#343945"),
    "#222a5c": ("series-1", "#a9b4ff"),
    "#e0703a": ("series-2", "#f0905f"),
    "#2a8ca8": ("series-3", "#5bbcd8"),
    "#a0306e": ("series-4", "#e584ba"),
    "#7a9a2e": ("series-5", "#b0cf68"),
    "#6a5acd": ("series-6", "#c3a2ff"),
    "#8a6d3b": ("series-7", "#d3b27c"),
    "#4a5160": ("series-8", "#c2c8d6"),
}
_LIGHT = "".join(f"--{name}:{colour};" for colour, (name, _) in _DRAWING_COLOURS.items())
_DARK = "".join(f"--{name}:{dark};" for name, dark in _DRAWING_COLOURS.values())

_STYLE = f"""
:root{{color-scheme:light dark;{_LIGHT}--page:#f6f7f9;--accent:#b4511f;--wash:#fbf1ea}}
@media (prefers-color-scheme:dark){{:root{{{_DARK}--page:#111318;--accent:#f0a077;--wash:#2a211c}}}}
*{{box-sizing:border-box}}
body{{margin:0;background:var(--page);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}}
main{{max-width:78rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}}
h1{{font-size:1.9rem;line-height:1.2;margin:0 0 .6rem}}
h2{{font-size:1.35rem;line-height:1.25;margin:0 0 .5rem}}
p{{max-width:46rem;margin:.5rem 0;overflow-wrap:anywhere}}
nav{{display:flex;flex-wrap:wrap;gap:.2rem 1rem;margin:1.2rem 0 0}}nav a{{white-space:nowrap}}
a{{color:var(--accent)}}
section{{background:var(--paper);border:1px solid var(--line);border-radius:10px;
padding:1.5rem 1.5rem 1.25rem;margin:1.75rem 0 0}}
.finding{{background:var(--wash);border-left:4px solid var(--accent);padding:.6rem .9rem;margin:.9rem 0;
max-width:none;border-radius:0 6px 6px 0}}
dl{{display:flex;flex-wrap:wrap;gap:.45rem 1.6rem;margin:1.1rem 0;font-size:.9rem}}
dt{{color:var(--grey);font-size:.8rem}}dd{{margin:0;overflow-wrap:anywhere}}
.scroll{{overflow-x:auto;margin:1rem 0}}
table{{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}}
th,td{{padding:.3rem .8rem .3rem 0;text-align:left;border-bottom:1px solid var(--line);white-space:nowrap}}
th{{color:var(--grey);font-weight:500;border-bottom-color:var(--grey)}}
.number{{text-align:right}}td.best{{font-weight:700;color:var(--accent)}}
figure{{display:inline-block;vertical-align:top;max-width:100%;margin:1.25rem 1.75rem 0 0}}
figcaption{{color:var(--grey);font-size:.9rem;margin:.35rem 0 0;max-width:46rem}}
img{{display:block;max-width:100%;height:auto;border-radius:6px}}
svg{{display:block;max-width:100%;height:auto}}svg *{{stroke-linejoin:round;stroke-linecap:butt}}
pre{{overflow-x:auto;background:var(--page);border:1px solid var(--line);border-radius:6px;
padding:.6rem .8rem;font-size:.85rem;margin:.9rem 0 0}}
@media (max-width:40rem){{main{{padding:1.25rem .6rem 3rem}}section{{padding:1rem .8rem}}
figure{{margin-right:0}}
.scroll img{{max-width:none;width:56rem}}.scroll svg{{max-width:none;width:36rem}}}}
@media print{{body{{background:none}}section{{border:none;padding:0;break-inside:avoid-page}}}}
"""


class Section:
    """One chapter of a report: parts in the order in which they are added, with all texts escaped."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._parts: list[str] = []

    def add_text(self, text: str) -> Section:
        """Add a paragraph."""
        return self._add(f"<p>{_escape(text)}</p>")

    def add_finding(self, text: str) -> Section:
        """Add the one sentence that sums up the section."""
        return self._add(f'<p class="finding">{_escape(text)}</p>')

    def add_settings(self, settings: Mapping[str, Any]) -> Section:
        """Add names with their values."""
        pairs = (
            f"<div><dt>{_escape(name)}</dt><dd>{_escape(_text(value))}</dd></div>"
            for name, value in settings.items()
        )
        return self._add(f"<dl>{''.join(pairs)}</dl>")

    def add_table(self, table: Table, *, best: Sequence[str] = (), within: str = "") -> Section:
        """Add a table; the highest number of each `best` column is marked, for each value of `within`."""
        return self._add(f'<div class="scroll" tabindex="0">{_table(table, best, within)}</div>')

    def add_picture(self, picture: Image.Image | str, caption: str = "") -> Section:
        """Add a Pillow picture, or an SVG of this package, with a caption."""
        if isinstance(picture, str):
            label = f' role="img" aria-label="{_escape(caption)}"'
            inside = _inline(picture).replace("<svg", f"<svg{label}", 1)
        else:
            inside = f'<img src="{_data_address(picture)}" alt="{_escape(caption)}" '
            inside += f'width="{picture.width}" height="{picture.height}">'
        note = f"<figcaption>{_escape(caption)}</figcaption>" if caption else ""
        return self._add(f'<figure><div class="scroll" tabindex="0">{inside}</div>{note}</figure>')

    def add_command(self, command: str) -> Section:
        """Add a command line."""
        return self._add(f'<pre tabindex="0"><code>{_escape(command)}</code></pre>')

    def _add(self, part: str) -> Section:
        self._parts.append(part)
        return self

    def to_html(self, number: int) -> str:
        """Return the section as HTML; its number makes the ids of its drawings unique."""
        parts = [_with_own_ids(part, f"s{number}p{place}-") for place, part in enumerate(self._parts)]
        head = f'<section id="section-{number}"><h2>{_escape(self.title)}</h2>\n'
        return head + "\n".join(parts) + "\n</section>"


def report_html(title: str, introduction: Sequence[str], sections: Sequence[Section]) -> str:
    """Return a whole report as HTML, with links to its sections if there are two or more.

    `title` is that of the page; `introduction` are paragraphs before the first section.
    """
    links = "".join(
        f'<a href="#section-{number}">{_escape(section.title)}</a> ' for number, section in enumerate(sections)
    )
    contents = f'<nav aria-label="Sections">{links}</nav>' if len(sections) > 1 else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n<header>"
        f"<h1>{_escape(title)}</h1>\n"
        + "\n".join(f"<p>{_escape(text)}</p>" for text in introduction)
        + f"{contents}</header>\n"
        + "\n".join(section.to_html(number) for number, section in enumerate(sections))
        + "\n</main>\n</body>\n</html>\n"
    )


def save_report(
    path: str | PathLike[str], title: str, introduction: Sequence[str], sections: Sequence[Section]
) -> None:
    """Write a report as one HTML file, atomically; OutputError if that fails.

    Raises
    ------
    coordfit.errors.OutputError
        If the file cannot be written.
    """
    text = report_html(title, introduction, sections)
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def _escape(text: str) -> str:
    return html.escape(str(text))


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)


def _table(table: Table, best: Sequence[str], within: str) -> str:
    def is_best(row: Row, name: str) -> bool:
        rivals = [other[name] for other in table if not within or other[within] == row[within]]
        return name in best and row[name] == max(filter(_is_number, rivals), default=math.nan)

    numeric = {
        name: any(_is_number(v) for v in table[name]) and all(_is_number(v) or v is None for v in table[name])
        for name in table.columns
    }
    head = "".join(
        f"<th{_classes(numeric[name], False)}>{_escape(_words(name))}</th>" for name in table.columns
    )
    texts = {name: _column_texts(table[name]) for name in table.columns}
    lines = []
    for number, row in enumerate(table):
        cells = (
            f"<td{_classes(numeric[name], is_best(row, name))}>{_escape(texts[name][number])}</td>"
            for name in table.columns
        )
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _column_texts(values: Sequence[Any]) -> list[str]:
    """Return the values of a column as text: settings as given, figures with equal decimals."""
    floats = [v for v in values if isinstance(v, float) and math.isfinite(v)]
    if all(float(f"{v:.3g}") == v for v in floats):
        return [f"{v:g}" if isinstance(v, float) else cell(v) for v in values]
    decimals = 2 if max(map(abs, floats)) >= 2.0 else 4
    return [f"{v:.{decimals}f}" if v in floats else cell(v) for v in values]


def _words(column: str) -> str:
    """Return a column's name in words, with the unit of PSNR."""
    words = column.replace("_", " ")
    for name in ("psnr", "ssim", "mae"):
        words = words.replace(name, name.upper())
    return f"{words} / dB" if words.startswith("PSNR") else words


def _classes(number: bool, best: bool) -> str:
    names = [name for name, given in (("number", number), ("best", best)) if given]
    return f' class="{" ".join(names)}"' if names else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # not NaN


def _data_address(picture: Image.Image) -> str:
    content = io.BytesIO()
    picture.save(content, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def _inline(svg: str) -> str:
    """Make a drawing part of a page, with colours that follow the light or dark theme."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)

    def themed(colour: re.Match[str]) -> str:
        known = _DRAWING_COLOURS.get(colour[0])
        return f"var(--{known[0]})" if known else colour[0]

    return re.sub("#[0-9a-f]{6}", themed, svg)


def _with_own_ids(part: str, prefix: str) -> str:
    """Put a prefix before the ids of a drawing, which may repeat on a page."""
    if "<svg" not in part:  # escaped texts cannot hold this
        return part
    part = re.sub(r'\b(id="|href="#)', rf"\g<1>{prefix}", part)
    return part.replace("url(#", f"url(#{prefix}")
