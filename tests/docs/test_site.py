"""The site of the documentation, built without running anything: whole, without warnings, on its own host."""

import argparse
import dataclasses
import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from support import needs

import coordfit
from coordfit.cli.parser import make_parser

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NEEDED = ("sphinx", "pydata_sphinx_theme", "myst_nb", "sphinx_gallery", "sphinx_copybutton", "sphinx_design")
MADE = ("_build", "examples", "api", "__pycache__", "sg_execution_times.rst")
REQUESTS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src"}


class Page(HTMLParser):
    """The anchors, links and requests of a page, and the pictures that have no text in their place."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links, self.requests, self.silent, self.words = set(), [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors |= {found["id"]} if "id" in found else set()
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag == "link" and not {"canonical", "search", "index", "next", "prev"} & set(found["rel"].split()):
            self.requests.append(found["href"])
        if found.get(REQUESTS.get(tag)):
            self.requests.append(found[REQUESTS[tag]])
        is_beside_its_title = found.get("alt") == "" and str(found.get("src")).endswith("_thumb.png")
        if tag == "img" and not (found.get("alt") or is_beside_its_title):
            self.silent.append(found.get("src"))

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of the site, and what Sphinx said."""
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            needs.skip("docs", f"{name} is not installed: pip install --group docs")
    if not (ROOT / "docs" / "conf.py").exists():
        needs.skip("docs", "the pages are not in this copy of the sources")
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns(*MADE))
    for file in (*ROOT.glob("*.md"), ROOT / "pyproject.toml"):
        shutil.copy(file, folder)
    environment = {name: value for name, value in os.environ.items() if name != "COORDFIT_DOCS_VERSION"}
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", "html"],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT), "COORDFIT_DOCS_RUN": "0"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return folder / "html", done


@pytest.fixture(scope="module")
def pages(built):
    site, _ = built
    return {
        path: Page(path.read_text(encoding="utf-8"))
        for path in site.rglob("*.html")
        if "_static" not in path.parts
    }


def test_it_is_built_without_a_warning(built):
    _, done = built
    assert (done.returncode, done.stderr) == (0, "")


def test_every_public_name_has_a_page(built):
    site, _ = built
    module = importlib.import_module("coordfit.errors")
    errors = {name for name, value in vars(module).items() if isinstance(value, type)}
    names = {f"coordfit.{name}" for name in coordfit.__all__ if name != "__version__"}
    names |= {f"coordfit.errors.{name}" for name in errors - set(coordfit.__all__)}
    assert names == {path.stem for path in (site / "reference" / "api").glob("*.html")}


def test_every_option_of_every_command_is_told(built):
    site, _ = built
    page = Page((site / "reference" / "command_line.html").read_text(encoding="utf-8"))
    fit = make_parser().commands["fit"]
    for name, command in make_parser().commands.items():
        told = {anchor.partition(f"coordfit-{name}-")[2] for anchor in page.anchors}
        of_fit = {option for action in fit._actions for option in action.option_strings}
        for action in command._actions:
            options = [option.lstrip("-") for option in action.option_strings if option.startswith("--")]
            if action.help != argparse.SUPPRESS and not set(options) <= {t.lstrip("-") for t in told}:
                assert set(action.option_strings) <= of_fit, (name, options)
    text = "".join(page.words)
    assert {f"coordfit {name}" for name in make_parser().commands} <= set(re.findall(r"coordfit [a-z]+", text))


def test_every_setting_is_told(built):
    site, _ = built
    page = Page((site / "reference" / "configuration.html").read_text(encoding="utf-8"))
    settings = {spec.name for spec in dataclasses.fields(coordfit.FitConfig)}
    assert {f"confval-{name.replace('_', '-')}" for name in settings} <= page.anchors | {
        anchor.replace("_", "-") for anchor in page.anchors
    }


def test_every_link_and_anchor_within_the_site_leads_somewhere(built, pages):
    site, _ = built
    broken = set()
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            anchors = pages[target].anchors if target in pages else set()
            if not target.exists() or (parts.fragment and unquote(parts.fragment) not in {*anchors, "top"}):
                broken.add((path.relative_to(site).as_posix(), link))
    assert broken == set()


def test_every_page_is_three_clicks_from_the_first_at_most(built, pages):
    site, _ = built
    reached = {site / "index.html"}
    for _ in range(3):
        links = [
            (path.parent / urlsplit(link).path).resolve() for path in reached for link in pages[path].links
        ]
        reached |= {link for link in links if link in pages}
    assert {path.relative_to(site).as_posix() for path in set(pages) - reached} <= {"search.html"}


def test_no_page_asks_another_host_for_anything(built, pages):
    site, _ = built
    requests = [urlsplit(link) for page in pages.values() for link in page.requests]
    assert requests
    assert [link.geturl() for link in requests if link.netloc] == []
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//[^)\s]*", styles) == []


def test_every_picture_has_a_text_in_its_place(pages):
    assert {link for page in pages.values() for link in page.silent} == set()


def test_files_of_the_repository_are_links_to_the_web(pages):
    links = {link for page in pages.values() for link in page.links if "/bench/results/" in link}
    assert links
    assert all(link.startswith("https://github.com/coordfit/coordfit/") for link in links)


def test_a_published_site_lists_its_versions(tmp_path):
    program = ROOT / ".ci" / "publish_site.py"
    if not program.exists():
        needs.skip("docs", "the workflow's programs are not in this copy of the sources")
    built, published = tmp_path / "built", tmp_path / "published"
    (built / ".doctrees").mkdir(parents=True)
    (built / "index.html").write_text("new")
    published.mkdir()
    for version in ("dev", "0.9", "0.10", "0.9"):
        command = [program, built, published, version, "https://example.org/c/"]
        subprocess.run([sys.executable, *command], check=True, timeout=60)
    listed = json.loads((published / "switcher.json").read_text())
    assert [part["version"] for part in listed] == ["0.10", "0.9", "dev"]
    assert listed[0]["url"] == "https://example.org/c/0.10/"
    assert "url=0.10/" in (published / "index.html").read_text()
    assert [path.name for path in (published / "dev").iterdir()] == ["index.html"]
