"""Show words in single backticks of docstrings as code, and those that name a public object as links to it."""

from __future__ import annotations

import dataclasses
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

import coordfit


def _target_of(name: str) -> dict[str, str] | None:
    """Return where a name leads, as attributes of a reference; None for a word that is no public name."""
    first, _, member = name.removeprefix("coordfit.").partition(".")
    if first not in coordfit.__all__ or first.startswith("_"):
        return None
    if first == "FitConfig" and member in {spec.name for spec in dataclasses.fields(coordfit.FitConfig)}:
        return {"refdomain": "std", "reftype": "confval", "reftarget": member}
    found = getattr(getattr(coordfit, first), member, None) if member else coordfit
    if found is None or not (found is coordfit or callable(found) or isinstance(found, property)):
        return None
    return {"refdomain": "py", "reftype": "obj", "reftarget": f"coordfit.{name.removeprefix('coordfit.')}"}


def _code_or_link(
    role: str, rawtext: str, text: str, line: int, inliner: Any, options: Any = None, content: Any = ()
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """Return the nodes of a word in backticks."""
    code = nodes.literal(rawtext, nodes.unescape(text))
    target = _target_of(text.removesuffix("()"))
    if target is None:
        return [code], []
    docname = inliner.document.settings.env.docname
    return [addnodes.pending_xref(rawtext, code, refdoc=docname, **target)], []


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the role, which conf.py makes the default one."""
    app.add_role("code-or-link", _code_or_link)
    return {"parallel_read_safe": True}
