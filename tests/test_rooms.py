"""The import guard of `backends`, what an import loads, and which room may import which."""

import ast
import graphlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import backends
import coordfit

ROOT = Path(coordfit.__file__).parents[1]


def python(code, *flags, cwd):
    """Run a line of code in a fresh interpreter, in a directory, with ours to be found after it."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONSAFEPATH", "PYTHONPATH")}
    return subprocess.run(
        [sys.executable, *flags, "-c", code],
        cwd=cwd,
        env=environment | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def last_line(result):
    return result.stderr.strip().splitlines()[-1]


# -- the import guard ------------------------------------------------------------------------------------


def make_package(folder, source=""):
    folder.mkdir()
    (folder / "__init__.py").write_text(source)
    return folder


DECOYS = {"empty": "", "of another project": "COORDFIT_MARKER = 'other'\nname = 'TkAgg'\n"}


@pytest.mark.parametrize("source", DECOYS.values(), ids=DECOYS)
def test_a_foreign_package_is_named_with_its_place_and_the_cure(tmp_path, source):
    decoy = make_package(tmp_path / "backends", source)
    result = python("import coordfit._backends", cwd=tmp_path)
    assert result.returncode == 1
    assert last_line(result).startswith("ImportError: another package named 'backends' (")
    assert str(decoy / "__init__.py") in last_line(result)
    assert "run from another directory, or with `python -P -m coordfit`" in last_line(result)


def test_a_foreign_module_is_named_too(tmp_path):
    (tmp_path / "backends.py").write_text("")
    result = python("import coordfit._backends", cwd=tmp_path)
    assert f"'backends' ({tmp_path / 'backends.py'})" in last_line(result)


def test_the_cure_cures(tmp_path):
    make_package(tmp_path / "backends")
    result = python("import coordfit._backends as door; print(door.get_backend)", "-P", cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_a_folder_without_init_stands_in_nobodys_way(tmp_path):
    """Python prefers a real package anywhere on the path to such a folder."""
    (tmp_path / "backends").mkdir()
    result = python("import coordfit._backends as door; print(door.get_backend)", cwd=tmp_path)
    assert result.returncode == 0, result.stderr


# Wherever ours is installed, a finder in front of all others passes over it.
HIDE_OURS = """
import os, sys
from importlib.machinery import PathFinder

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name != "backends":
            return None
        elsewhere = [e for e in sys.path if not os.path.exists(os.path.join(e, "backends", "base.py"))]
        if spec := PathFinder.find_spec(name, elsewhere):
            return spec
        raise ModuleNotFoundError("No module named 'backends'")

sys.meta_path.insert(0, Finder())
import coordfit._backends
"""


def test_a_folder_without_init_is_named_where_ours_is_missing(tmp_path):
    (tmp_path / "backends").mkdir()
    result = python(HIDE_OURS, cwd=tmp_path)
    assert last_line(result).startswith("ImportError: another package named 'backends' (")
    assert str(tmp_path / "backends") in last_line(result)


def test_a_missing_package_is_said_to_be_missing(tmp_path):
    result = python(HIDE_OURS, cwd=tmp_path)
    expected = "ImportError: coordfit's own package 'backends' cannot be imported: No module named 'backends'"
    assert last_line(result) == expected


# -- what an import loads --------------------------------------------------------------------------------

HEAVY = "('cupy', 'cupyx', 'matplotlib', 'pylab', 'torch', 'skimage', 'onnx')"
LIST_HEAVY = f"import sys; print([m for m in sys.modules if m.partition('.')[0] in {HEAVY}])"
IMPORT_ALL = """
import importlib, pkgutil, coordfit, backends
for package in (coordfit, backends):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):
        if not module.name.endswith('__main__'):
            importlib.import_module(module.name)
"""


@pytest.mark.parametrize(
    "code", ["import coordfit", "import backends", IMPORT_ALL], ids=["coordfit", "backends", "all"]
)
def test_no_import_loads_cupy_or_a_plotting_library(tmp_path, code):
    result = python(f"{code}\n{LIST_HEAVY}", "-W", "error", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "[]\n"


# -- who may import whom ---------------------------------------------------------------------------------

# The rooms from the lowest up. A module imports what is in its own room and in those before it.
ROOMS = [
    "backends.user_cache",
    "backends.lowering",
    "backends.dispatch",
    "backends.protocols",
    "backends.calls",
    "backends.primitives",
    "backends.host_readback",
    "backends.base",
    "backends.registry",
    "backends",  # what the package exports
    "backends.numpy_backend",
    "backends.numba_backend.compiled",
    "backends.numba_backend",
    "backends.cupy_backend.kernels",
    "backends.cupy_backend.cublaslt",
    "backends.cupy_backend",
    "backends.cupy_backend.bodies",
    "backends.cupy_backend.backend",
    "backends.torch_backend",
    "coordfit._version",
    "coordfit._backends",
    "coordfit.errors",
    "coordfit.components",
    "coordfit.network.activations",
    "coordfit.network.losses",
    "coordfit.fit_options",
    "coordfit.option_checks",
    "coordfit.config",
    "coordfit.files",
    "coordfit.signals",
    "coordfit.images.formats",
    "coordfit.images",
    "coordfit.sources",
    "coordfit.kriging",
    "coordfit.enlarging",
    "coordfit.encoders",
    "coordfit.network",
    "coordfit.gradcheck",
    "coordfit.report",
    "coordfit.pixels",
    "coordfit.optimizers",
    "coordfit.models",
    "coordfit.training",
    "coordfit.tiles",
    "coordfit.codec",
    "coordfit.exports",
    "coordfit.tasks.compress",
    "coordfit.tasks.load",
    "coordfit.tasks.jobs",
    "coordfit.tasks.folders",
    "coordfit.tasks",
    "coordfit.experiments",
    "coordfit",  # what the package exports, when it is asked for
    "coordfit.cli",
    "coordfit.cli.commands",
    "coordfit.__main__",
]


def modules():
    """Every module of the two packages: its dotted name and its syntax tree."""
    for package in (Path(backends.__file__).parent, Path(coordfit.__file__).parent):
        for path in sorted(package.rglob("*.py")):
            parts = path.relative_to(package.parent).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            yield name, path.name == "__init__.py", ast.parse(path.read_text())


MODULES = list(modules())
NAMES = {name for name, _, _ in MODULES}


def imports(name, is_package, tree):
    """Dotted names that a module imports when it runs, `importlib.import_module("...")` included."""
    for node in running(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(name, is_package, node)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield whole if whole in NAMES else base
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant))


def running(node):
    """The nodes of a tree but for those under `if TYPE_CHECKING`, which are for annotations alone."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from running(child)


def absolute(name, is_package, node):
    if node.level == 0:
        return node.module
    parts = name.split(".")
    parts = parts[: len(parts) - node.level + is_package]
    return ".".join([*parts, *([node.module] if node.module else [])])


def room(name):
    """The room that a module is in, by its longest name in ROOMS."""
    parts = name.split(".")
    names = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next(name for name in names if name in ROOMS)


EDGES = [(name, imported) for name, package, tree in MODULES for imported in imports(name, package, tree)]


def top(name):
    return name.partition(".")[0]


def test_the_parser_sees_the_imports_it_should():
    assert ("coordfit._backends", "backends") in EDGES
    assert ("coordfit.network.mlp", "coordfit.network.parameters") in EDGES
    assert ("backends.cupy_backend.checks", "cupy") in EDGES
    assert ("backends.base", "backends.dispatch") in EDGES


SPELLINGS = {
    "import a.b": "a.b",
    "from a.b import c": "a.b",
    "def f():\n    from ..network.mlp import MLP": "coordfit.network.mlp",
    "from .. import training": "coordfit.training",
    "if TYPE_CHECKING:\n    import a\nimport b": "b",
    "from .. import fit": "coordfit",
    "from . import comparison": "coordfit.report.comparison",
    "from coordfit.network import mlp": "coordfit.network.mlp",
    "import importlib as i": "importlib",
    "i.import_module('cupy')": "cupy",
    "__import__('cupy')": "cupy",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_parser_reads_every_spelling(spelling):
    assert [*imports("coordfit.report.curves", False, ast.parse(spelling))] == [SPELLINGS[spelling]]


def test_the_parser_reads_a_package_from_inside():
    found = imports("coordfit.report", True, ast.parse("from .curves import x\nfrom ..network.mlp import MLP"))
    assert [*found] == ["coordfit.report.curves", "coordfit.network.mlp"]


def test_backends_never_imports_coordfit():
    assert not [edge for edge in EDGES if top(edge[0]) == "backends" and top(edge[1]) == "coordfit"]


def test_coordfit_imports_backends_in_one_place():
    through = {name for name, imported in EDGES if top(imported) == "backends" and top(name) != "backends"}
    assert through == {"coordfit._backends"}


def test_cupy_is_imported_in_its_own_backend_alone():
    importers = {name for name, imported in EDGES if top(imported) in ("cupy", "cupyx")}
    allowed = {"backends.cupy_backend.checks"}
    assert {name for name in importers if not name.startswith("backends.cupy_backend.kernels")} <= allowed


def test_rooms_import_only_their_own_and_those_below():
    ours = [(name, imported) for name, imported in EDGES if top(imported) in ("backends", "coordfit")]
    assert not [edge for edge in ours if ROOMS.index(room(edge[1])) > ROOMS.index(room(edge[0]))]


def test_no_modules_import_each_other_in_a_circle():
    graph = {name: {b for a, b in EDGES if a == name and b in NAMES} for name in NAMES}
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the circle


def test_no_import_hides_in_a_function_but_of_slow_libraries():
    late = {
        (name, imported)
        for name, package, tree in MODULES
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for imported in imports(name, package, function)
        if imported in NAMES
    }
    assert late == {("coordfit._backends", "backends")}


def test_every_room_is_there():
    assert {room(name) for name in NAMES} == set(ROOMS)
