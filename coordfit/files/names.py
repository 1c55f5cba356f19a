"""How a path or a foreign text is told to a user."""

from __future__ import annotations

import os

FilePath = str | os.PathLike[str]


def escaped(text: str) -> str:
    r"""Text with line breaks and all that could steer a terminal as escapes: ``\n``, ``\x1b``."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def printable(path: FilePath) -> str:
    """Path as text for a message, quoted and escaped where it holds line breaks or other unprintables."""
    text = os.fspath(path)
    return text if text.isprintable() else repr(text)
