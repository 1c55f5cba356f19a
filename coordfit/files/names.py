"""Show paths and texts of strangers without control codes."""

from __future__ import annotations

import os

FilePath = str | os.PathLike[str]


def escaped(text: str) -> str:
    r"""Return text with line breaks and control codes as escapes, such as ``\n`` and ``\x1b``."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def printable(path: FilePath) -> str:
    """Return a path as text for a message, quoted and escaped if it holds unprintable characters."""
    text = os.fspath(path)
    return text if text.isprintable() else repr(text)
