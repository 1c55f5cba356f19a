"""The wheel that users install, and what pages and messages tell them to type.

`COORDFIT_REQUIRE=packaging` turns the skip where the build backend is missing into a failure.
"""

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from support import needs

import coordfit
from coordfit import backends
from coordfit.cli.parser import make_parser
from coordfit.config import RECIPES

pytestmark = pytest.mark.slow

ROOT = Path(coordfit.__file__).parents[1]


@pytest.fixture(scope="module")
def project():
    path = ROOT / "pyproject.toml"
    if not path.exists():
        needs.skip("packaging", "coordfit is not installed from its repository")
    return tomllib.loads(path.read_text(encoding="utf-8"))


# -- the wheel -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(project, tmp_path_factory):
    """The wheel of this tree, built without a network."""
    if None in map(importlib.util.find_spec, ("hatchling", "hatch_fancy_pypi_readme")):
        needs.skip("packaging", "hatchling or hatch-fancy-pypi-readme, which build the wheel, is missing")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, ROOT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_is_for_every_system(wheel):
    assert wheel.name == f"coordfit-{coordfit.__version__}-py3-none-any.whl"


def test_the_wheel_installs_one_package_and_nothing_else(names):
    info = f"coordfit-{coordfit.__version__}.dist-info"
    data = f"coordfit-{coordfit.__version__}.data"
    assert {name.partition("/")[0] for name in names} == {"coordfit", info, data}


def test_the_wheel_holds_every_source_file(names):
    sources = {
        f"{prefix}{path.relative_to(ROOT).as_posix()}"
        for package, prefix in ((coordfit, ""), (backends, "coordfit/"))
        for path in Path(package.__file__).parent.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    # A folder takes the place of the one, and the other is among the metadata.
    assert sources - names == {"coordfit/backends.py", "coordfit/data/LICENSE.md"}


def test_the_wheel_holds_recipes_pictures_types_and_licences(names):
    expected = {f"coordfit/recipes/{recipe}.toml" for recipe in RECIPES}
    expected |= {"coordfit/data/chelsea-128.png", "coordfit/data/chelsea-32.png", "coordfit/py.typed"}
    licences = f"coordfit-{coordfit.__version__}.dist-info/licenses"
    expected |= {f"{licences}/LICENSE", f"{licences}/coordfit/data/LICENSE.md"}
    assert expected <= names


def test_the_wheel_runs_from_another_directory(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    place = tmp_path / "elsewhere"
    place.mkdir()
    script = f"""
import runpy, sys
import coordfit.backends
assert coordfit.backends.__file__.startswith({str(tmp_path / "site" / "coordfit" / "backends")!r})
runpy.run_module("coordfit", run_name="__main__")
"""
    small = ["--hidden-size", "8", "--depth", "2", "--steps", "2", "--size", "16", "--device", "cpu"]
    for words in (["--help"], small):
        done = subprocess.run(
            [sys.executable, "-c", script, *words],
            cwd=place,
            env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert (place / "runs" / "001" / "model.safetensors").exists()


# -- what users are told to type -------------------------------------------------------------------------


def texts():
    """Everything that users read: messages in the sources, and the Markdown files."""
    for package in (coordfit, backends):
        yield from Path(package.__file__).parent.rglob("*.py")
    yield from ROOT.glob("*.md")
    yield from (ROOT / "docs").rglob("*.md")


def test_every_extra_that_is_named_exists(project):
    extras = set(project["project"]["optional-dependencies"])
    named = {
        (extra.strip(), path.name)
        for path in texts()
        for group in re.findall(r"(?:coordfit|'\.)\[([\w, -]+)\]", path.read_text(encoding="utf-8"))
        for extra in group.split(",")
    }
    assert {extra for extra, _ in named} >= {"cuda12", "cuda13"}
    assert not {(extra, file) for extra, file in named if extra not in extras}


def test_every_dependency_group_that_is_named_exists(project):
    named = {
        group
        for path in texts()
        for group in re.findall(r"--group[ =]([a-z]+)", path.read_text(encoding="utf-8"))
    }
    assert named <= set(project["dependency-groups"])


# -- a release -------------------------------------------------------------------------------------------


def checked(program, *words):
    if importlib.util.find_spec(program) is None:
        needs.skip("packaging", f"{program.replace('_', '-')} is not installed")
    command = [sys.executable, "-m", program, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_package_index_would_take_the_wheel(wheel):
    checked("twine", "check", "--strict", wheel)
    checked("check_wheel_contents", wheel)


def test_the_readme_of_the_wheel_has_no_relative_link(wheel, project):
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"coordfit-{coordfit.__version__}.dist-info/METADATA").decode()
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", prose)
    base = project["project"]["urls"]["Repository"]
    assert f"{base}/raw/main/docs/figures/comparison.png" in links
    assert f"{base}/blob/main/CONTRIBUTING.md" in links
    assert all(link.startswith("https://") for link in links)


def test_the_version_is_the_same_everywhere():
    version = coordfit.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert (
        re.findall(r"^## \[(\d\S*)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[0]
        == version
    )
    assert f"coordfit {version}" in MAN_PAGE.read_text(encoding="utf-8").splitlines()[0]


MAN_PAGE = ROOT / "docs" / "reference" / "coordfit.1"


def test_the_man_page_has_every_command_and_option(names):
    assert f"coordfit-{coordfit.__version__}.data/data/share/man/man1/coordfit.1" in names
    page = MAN_PAGE.read_text(encoding="utf-8").replace("\\-", "-")
    parts = dict(re.findall(r"^\.SS \\fBcoordfit (\w+)\\fR\n(.*?)(?=^\.SS|\Z)", page, re.MULTILINE | re.DOTALL))
    commands = make_parser().commands
    assert list(parts) == list(commands)
    for name, command in commands.items():
        flags = {flag for action in command._actions for flag in action.option_strings} - {"-h", "--help"}
        assert flags <= set(re.findall(r"\\fB(-[\w-]+)\\fR", parts[name])), name


def test_the_tested_versions_are_of_all_that_is_asked_for(project):
    requirements = pytest.importorskip("packaging.requirements")
    lines = (ROOT / "tested-versions.txt").read_text(encoding="utf-8").splitlines()
    versions = {
        canonical(name): version for name, _, version in (line.partition("==") for line in lines) if version
    }
    extras = project["project"]["optional-dependencies"]
    asked = [*project["project"]["dependencies"], *(extras[name][0] for name in ("fast", "study", "export"))]
    asked += [need for need in project["dependency-groups"]["test"] if isinstance(need, str)]
    for need in map(requirements.Requirement, asked):
        assert need.specifier.contains(versions[canonical(need.name)]), need


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()
