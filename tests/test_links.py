"""Every relative link and anchor of the pages leads somewhere, and every test they name exists."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = [page for kind in ("*.md", "*.ipynb") for page in sorted((ROOT / "docs").rglob(kind))]
MADE = {"_build", "examples", "jupyter_execute", ".ipynb_checkpoints"}
PAGES = [*sorted(ROOT.glob("*.md")), ROOT / "bench" / "README.md", *DOCS]
PAGES = [page for page in PAGES if not MADE & {*page.relative_to(ROOT).parts}]

FOLDERS = [page.parent for page in PAGES if page.name == "index.md"]


def text_of(path):
    """The text of a page; of a notebook that of its Markdown cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
    return "\n\n".join("".join(cell["source"]) for cell in cells)


def prose(path):
    return re.sub(r"^```.*?^```", "", text_of(path), flags=re.MULTILINE | re.DOTALL)


def anchors(path):
    """The anchors that GitHub gives the headings of a page; a second one of the same name gets `-1`."""
    found = []
    for heading in re.findall(r"^#+ +(.*?) *$", prose(path), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)  # a link shows its text
        anchor = re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-")
        found.append(f"{anchor}-{found.count(anchor)}" if anchor in found else anchor)
    return found


def broken(page):
    """The relative links of a page that lead nowhere."""
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        if re.match(r"[a-z]+:", link):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_links_of_a_page_lead_somewhere(page):
    assert not [*broken(page)]


def test_the_tests_that_pages_name_are_there():
    named = {name for page in PAGES for name in re.findall(r"\btest_\w+\.py", page.read_text(encoding="utf-8"))}
    assert named
    assert named <= {path.name for path in (ROOT / "tests").rglob("test_*.py")}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(ROOT).as_posix())
def test_every_page_of_a_folder_of_docs_is_in_its_index_and_in_the_navigation(folder):
    text = (folder / "index.md").read_text(encoding="utf-8")
    pages = {page.stem for page in folder.glob("*.md")} - {"index"}
    pages |= {f"{index.parent.name}/index" for index in folder.glob("[a-z]*/index.md")}
    assert pages <= set(re.findall(r"\]\(([\w/]+)\.md\)", text))
    assert pages <= set(
        re.search(r"^```{toctree}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[1]
        .translate(str.maketrans("<>", "  "))
        .split()
    )


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# One `two`: three\n# Same\n# Same\n"
        "[a](page.md#one-two-three) [b](#same-1) ![c](page.md) [d](https://example.org/none)\n"
        "[e](missing.md) [f](#same-2) [g](page.md#four) ![h](no/picture.png)\n```\n# five\n[i](code.md)\n```\n"
    )
    assert [*broken(page)] == ["missing.md", "#same-2", "page.md#four", "no/picture.png"]


def test_a_broken_link_of_a_notebook_is_found(tmp_path):
    cells = [
        {"cell_type": "markdown", "source": ["# One\n", "[a](#one) [b](#two)\n", "[c](missing.md)"]},
        {"cell_type": "code", "source": ["x[0](y)"]},
    ]
    page = tmp_path / "page.ipynb"
    page.write_text(json.dumps({"cells": cells}))
    assert [*broken(page)] == ["#two", "missing.md"]
