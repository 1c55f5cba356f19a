"""Turn links of pages to files outside of docs/ into links to the repository on the web.

The pages, Markdown and notebooks, have relative links, which work in a clone and on GitHub. Links of an
included page are made relative to the page that includes it, and links to the folder gallery/ and its programs
lead to the pages that are made of them.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from sphinx.application import Sphinx

_CODE = re.compile(r"(^```.*?^```[ ]*$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()([^)\s:#]+)(#[^)\s]*)?(?=\))")


def _mended(app: Sphinx, text: str, base: Path, page: Path) -> str:
    """Return a page's text with links that hold in the site; `base` is the folder they are relative to."""
    docs = Path(app.srcdir)

    def target_of(match: re.Match[str]) -> str:
        file, anchor = match[1], match[2] or ""
        target = Path(os.path.normpath(base / file))
        if target == docs / "gallery":
            return "/examples/index.rst"
        if target.parent == docs / "gallery":
            return f"/examples/{target.stem}.rst"
        if target.is_relative_to(docs):
            return Path(os.path.relpath(target, page.parent)).as_posix() + anchor
        kind = "tree" if file.endswith("/") else "blob"
        path = target.relative_to(docs.parent).as_posix()
        return f"{app.config.repository_url}/{kind}/{app.config.repository_branch}/{path}{anchor}"

    return "".join(part if part.startswith("```") else _LINK.sub(target_of, part) for part in _CODE.split(text))


def _on_source(app: Sphinx, docname: str, source: list[str]) -> None:
    page = Path(app.env.doc2path(docname))
    if page.suffix == ".md":
        source[0] = _mended(app, source[0], page.parent, page)
    elif page.suffix == ".ipynb":
        notebook = json.loads(source[0])
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = _mended(app, "".join(cell["source"]), page.parent, page)
        source[0] = json.dumps(notebook)


def _on_include(app: Sphinx, relative: Path, parent: str, source: list[str]) -> None:
    page = Path(app.env.doc2path(parent))
    included = Path(os.path.normpath(Path(app.srcdir) / relative))
    if included.suffix == ".md":
        source[0] = _mended(app, source[0], included.parent, page)


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the configuration values and the events."""
    app.add_config_value("repository_url", "", "env", str)
    app.add_config_value("repository_branch", "main", "env", str)
    app.connect("source-read", _on_source, priority=600)
    app.connect("include-read", _on_include)
    return {"parallel_read_safe": True}
