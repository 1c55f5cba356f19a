"""Run `coordfit decompress`: the picture of a compressed file, at any size."""

from __future__ import annotations

from ...tasks.compress import open_compressed
from ..options import Options
from .render import draw


def run(options: Options) -> int:
    """Draw the picture to a file and print its path."""
    return draw(open_compressed(options.file), options.file, options)
