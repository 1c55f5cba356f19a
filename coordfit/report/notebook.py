"""Show an object in a notebook: a plain table and a picture, in HTML that dark pages can show."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable

from ..files import escaped

_CELL = "text-align:left;padding:2px 12px 2px 0"


def html_of(title: str, rows: Iterable[tuple[str, str]], png: bytes | None = None) -> str:
    """Return a title, pairs of a label and a value, and a picture, with all text escaped.

    There are no colours: the page's own are readable on it.
    """
    title = escaped(title)
    told = [(html.escape(label), html.escape(escaped(value))) for label, value in rows]
    body = "".join(
        f'<tr><th style="{_CELL}">{label}</th><td style="{_CELL}">{value}</td></tr>' for label, value in told
    )
    picture = ""
    if png is not None:
        data = base64.b64encode(png).decode("ascii")
        alt = html.escape(title, quote=True)
        picture = f'<img src="data:image/png;base64,{data}" alt="{alt}" style="max-width:100%">'
    return f"<div><div>{html.escape(title)}</div><table>{body}</table>{picture}</div>"
