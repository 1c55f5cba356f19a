"""Write a model as one HTML page without links, in which the graphics card evaluates the function itself."""

from __future__ import annotations

import base64
import html
import io
import json
from importlib import resources
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import FilePath, escaped, write_bytes
from ..images.formats.png import PngWriter, quantize
from ..signals.facts import SignalFacts
from .arrays import ModelArrays
from .shader import make_shader

_FILES = ("page.html", "style.css", "function.js", "renderer.js", "viewer.js")
_ZOOMS = "Drag to move, scroll or pinch to zoom."


def save_function_page(path: FilePath, arrays: ModelArrays, pixels: NDArray[np.floating]) -> None:
    """Write the page of a model; `pixels` (H, W, C) are its rendering, to compare with."""
    shader = make_shader(arrays)
    model = {
        "across": shader.across,
        "down": shader.down,
        "parts": [[part.dtype.itemsize, part.size] for part in shader.texels],
        "frequencies": shader.frequencies,
        "nodes": shader.nodes,
    }
    numbers = b"".join(part.astype(part.dtype.newbyteorder("<")).tobytes() for part in shader.texels)
    told = f"{_without_name(arrays.title, arrays.signal)}. This page computes the function itself. {_ZOOMS}"
    page = _page(arrays.signal, told, {"model": model, "picture": _address(pixels)}, numbers, shader.text)
    write_bytes(path, page)


def save_picture_page(
    path: FilePath,
    title: str,
    picture: SignalFacts,
    pixels: NDArray[np.floating],
    larger: NDArray[np.floating],
) -> None:
    """Write a page that shows a picture (H, W, C), between its pixels as in a larger one."""
    times = larger.shape[1] / picture.width
    drawn = f" Drawn in its own size, and enlarged {times:g} times." if times > 1 else ""
    facts: dict[str, Any] = {"picture": _address(pixels)}
    if times > 1:
        facts["enlarged"] = _address(larger)
    told = f"{_without_name(title, picture)}.{drawn} {_ZOOMS}"
    write_bytes(path, _page(picture, told, facts, b"", ""))


def _without_name(title: str, picture: SignalFacts) -> str:
    return title.removeprefix(f"{picture.name}, ")


def _page(picture: SignalFacts, told: str, facts: dict[str, Any], numbers: bytes, shader: str) -> bytes:
    sizes = {"width": picture.width, "height": picture.height, "channels": picture.channels}
    viewer = resources.files(__package__).joinpath("viewer")
    files = {name: viewer.joinpath(name).read_text(encoding="utf-8") for name in _FILES}
    page = Template(files["page.html"]).substitute(
        name=html.escape(escaped(picture.name)),
        told=html.escape(escaped(told)),
        caption="function" if numbers else "drawn",
        style=files["style.css"],
        # No text in a script may look like its end.
        facts=json.dumps(sizes | facts, allow_nan=False).replace("<", "\\u003c"),
        numbers=base64.b64encode(numbers).decode(),
        shader=shader,
        script="\n".join(files[name] for name in _FILES if name.endswith(".js")),
    )
    return page.encode()


def _address(pixels: NDArray[np.floating]) -> str:
    """Return a picture as an address that holds it."""
    content = io.BytesIO()
    height, width, channels = pixels.shape
    with PngWriter(content, width, height, channels) as writer:
        writer.write_rows(quantize(pixels))
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()
