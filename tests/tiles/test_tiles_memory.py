"""Memory of tiles: freed as soon as it is unused, shared between shapes, and bounded for a whole picture."""

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest

from coordfit import available_backends, get_backend
from coordfit.config import make_config
from coordfit.tiles.group import TileGroup
from coordfit.tiles.layout import TileLayout
from coordfit.tiles.network import TileNetwork

ROOT = Path(__file__).parents[2]
TINY = {"num_frequencies": 4, "hidden_size": 8, "depth": 2, "output_activation": "identity"}


@pytest.mark.parametrize("device", ["numpy", "numba"])
def test_a_group_is_freed_with_its_last_name_and_not_by_the_collector(device):
    if reason := available_backends()[device]:
        pytest.skip(reason)
    config, layout = make_config(TINY, {"batch_size": None}), TileLayout((10, 10), 8, 2)
    network, backend = TileNetwork.drawn(config, 3, 2), get_backend(device, threads=1)
    rows = len(layout.grid)
    gc.disable()
    try:
        with backend.activate():
            group = TileGroup(backend, network, layout, 5)
            group.learn(np.zeros((5, network.layout.size)), np.zeros((5, rows, 3)), 3)
            known = [weakref.ref(group), weakref.ref(group.training_step), weakref.ref(group.mlp)]
            del group
        assert [reference() for reference in known] == [None] * 3
    finally:
        gc.enable()


def test_buffers_of_many_shapes_take_the_memory_of_the_largest():
    backend = get_backend("numpy", threads=1)
    host = backend.host
    with backend.activate():
        found = [host.reuse("test", (rows, 100), np.float32) for rows in (3, 50, 7, 20)]
        other = host.reuse("another", (50, 100), np.float32)
    assert [array.shape for array in found] == [(3, 100), (50, 100), (7, 100), (20, 100)]
    assert all(array.flags.c_contiguous and not array.any() for array in found)
    assert np.shares_memory(found[1], found[2])
    assert np.shares_memory(found[1], found[3])
    assert not np.shares_memory(found[1], other)
    assert host.reuse("test", (7, 100), np.float32) is found[2]


@pytest.mark.very_slow
def test_a_picture_of_three_megapixels_is_fitted_to_a_target_within_the_memory_that_is_promised(monkeypatch):
    pytest.importorskip("skimage")
    monkeypatch.syspath_prepend(str(ROOT))
    whole_pictures = pytest.importorskip("bench.whole_pictures")
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not tell the peak of a process's memory")
    fitted = whole_pictures.large("coffee", 3.0, ["--tiles", "8", "--target-psnr", "38"], "cpu")
    assert fitted["psnr"] > 37.9
    assert fitted["peak_mib"] < 500 + 8 * fitted["pixels"] / 2**20
