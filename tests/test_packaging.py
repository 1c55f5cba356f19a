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
    if importlib.util.find_spec("hatchling") is None:
        needs.skip("packaging", "hatchling, which builds the wheel, is not installed")
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
    assert {name.partition("/")[0] for name in names} == {"coordfit", info}


def test_the_wheel_holds_every_source_file(names):
    sources = {
        f"{prefix}{path.relative_to(ROOT).as_posix()}"
        for package, prefix in ((coordfit, ""), (backends, "coordfit/"))
        for path in Path(package.__file__).parent.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources - names == {"coordfit/backends.py"}  # the folder takes its place


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
