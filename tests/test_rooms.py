"""The name of `backends`, what an import loads, and which room may import which."""

import ast
import graphlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import coordfit
from coordfit import backends

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


@pytest.mark.parametrize("source", ["", "name = 'TkAgg'\n"], ids=["empty", "of another project"])
@pytest.mark.parametrize("name", ["backends/__init__.py", "backends.py"])
def test_a_users_own_backends_stand_beside_ours(tmp_path, name, source):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(source)
    code = "import backends, coordfit; print(backends.__file__, coordfit.get_backend('numpy').name)"
    result = python(code, cwd=tmp_path)
    assert result.stdout == f"{file} numpy\n", result.stderr


# -- what an import loads --------------------------------------------------------------------------------

HEAVY = "('cupy', 'cupyx', 'matplotlib', 'pylab', 'torch', 'skimage', 'onnx')"
LIST_HEAVY = f"import sys; print([m for m in sys.modules if m.partition('.')[0] in {HEAVY}])"
IMPORT_ALL = """
import importlib, pkgutil, coordfit.backends
for package in (coordfit, coordfit.backends):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):
        if not module.name.endswith('__main__'):
            importlib.import_module(module.name)
"""


@pytest.mark.parametrize(
    "code", ["import coordfit", "import coordfit.backends", IMPORT_ALL], ids=["coordfit", "backends", "all"]
)
def test_no_import_loads_cupy_or_a_plotting_library(tmp_path, code):
    result = python(f"{code}\n{LIST_HEAVY}", "-W", "error", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "[]\n"


# -- who may import whom ---------------------------------------------------------------------------------

# The rooms from the lowest up. A module imports what is in its own room and in those before it.
ROOMS = [
    "coordfit.backends.user_cache",
    "coordfit.backends.lowering",
    "coordfit.backends.dispatch",
    "coordfit.backends.protocols",
    "coordfit.backends.calls",
    "coordfit.backends.primitives",
    "coordfit.backends.host_readback",
    "coordfit.backends.base",
    "coordfit.backends.registry",
    "coordfit.backends",  # what the package exports
    "coordfit.backends.numpy_backend",
    "coordfit.backends.numba_backend.compiled",
    "coordfit.backends.numba_backend",
    "coordfit.backends.cupy_backend.kernels",
    "coordfit.backends.cupy_backend.cublaslt",
    "coordfit.backends.cupy_backend",
    "coordfit.backends.cupy_backend.bodies",
    "coordfit.backends.cupy_backend.backend",
    "coordfit.backends.torch_backend",
    "coordfit._version",
    "coordfit.errors",
    "coordfit.executors",
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
    "coordfit.callbacks",
    "coordfit.live",
    "coordfit.tiles",
    "coordfit.codec",
    "coordfit.exports",
    "coordfit.tasks.compress",
    "coordfit.tasks.load",
    "coordfit.tasks.jobs",
    "coordfit.tasks.folders",
    "coordfit.tasks",
    "coordfit.live.demo",
    "coordfit.experiments",
    "coordfit",  # what the package exports, when it is asked for
    "coordfit.cli",
    "coordfit.cli.commands",
    "coordfit.__main__",
]


def modules():
    """Every module of the two packages: its dotted name and its syntax tree."""
    for package, prefix in (
        (Path(backends.__file__).parent, "coordfit."),
        (Path(coordfit.__file__).parent, ""),
    ):
        for path in sorted(package.rglob("*.py")):
            parts = path.relative_to(package.parent).with_suffix("").parts
            name = prefix + ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if path == Path(coordfit.__file__).with_name("backends.py"):
                continue  # stands for the other package
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
    assert ("coordfit.gradcheck", "coordfit.backends") in EDGES
    assert ("coordfit.network.mlp", "coordfit.network.parameters") in EDGES
    assert ("coordfit.backends.cupy_backend.checks", "cupy") in EDGES
    assert ("coordfit.backends.base", "coordfit.backends.dispatch") in EDGES


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


def is_backend(name):
    return f"{name}.".startswith("coordfit.backends.")


def test_backends_never_imports_coordfit():
    assert not [(a, b) for a, b in EDGES if is_backend(a) and top(b) == "coordfit" and not is_backend(b)]


def test_coordfit_imports_only_what_backends_exports():
    assert {b for a, b in EDGES if is_backend(b) and not is_backend(a)} == {"coordfit.backends"}


def test_cupy_is_imported_in_its_own_backend_alone():
    importers = {name for name, imported in EDGES if top(imported) in ("cupy", "cupyx")}
    kernels = {name for name in importers if name.startswith("coordfit.backends.cupy_backend.kernels")}
    assert importers - kernels == {"coordfit.backends.cupy_backend.checks"}


def test_rooms_import_only_their_own_and_those_below():
    ours = [(name, imported) for name, imported in EDGES if top(imported) == "coordfit"]
    assert not [edge for edge in ours if ROOMS.index(room(edge[1])) > ROOMS.index(room(edge[0]))]


def test_no_modules_import_each_other_in_a_circle():
    graph = {name: {b for a, b in EDGES if a == name and b in NAMES} for name in NAMES}
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the circle


def test_no_import_hides_in_a_function_but_of_slow_libraries():
    late = [
        (name, imported)
        for name, package, tree in MODULES
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for imported in imports(name, package, function)
        if imported in NAMES
    ]
    assert not late


def test_every_room_is_there():
    assert {room(name) for name in NAMES} == set(ROOMS)
