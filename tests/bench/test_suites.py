"""The benchmarks of asv have names and units that its pages can show."""

import importlib
import inspect
import pkgutil

import pytest

suites = pytest.importorskip("bench.suites", reason="bench is no part of an installed coordfit")
KINDS = ("time_", "timeraw_", "track_", "peakmem_")


def benchmarks():
    for info in pkgutil.iter_modules(suites.__path__, "bench.suites."):
        module = importlib.import_module(info.name)
        own = [value for value in vars(module).values() if getattr(value, "__module__", "") == info.name]
        for owner in [module, *filter(inspect.isclass, own)]:
            yield from (value for name, value in vars(owner).items() if name.startswith(KINDS))


def test_every_benchmark_has_a_name_and_every_figure_a_unit():
    found = list(benchmarks())
    names = [benchmark.pretty_name for benchmark in found]
    assert len(set(names)) == len(names) > 15
    assert all(benchmark.unit for benchmark in found if benchmark.__name__.startswith("track_"))
