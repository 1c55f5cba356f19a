"""`plan`: one network or tiles, decided once; and what every job can do."""

import re
from pathlib import Path

import numpy as np
import pytest

import coordfit
from coordfit.errors import ConfigError
from coordfit.tasks.jobs.network import NetworkJob
from coordfit.tasks.jobs.plan import key_of, plan, settled, trained
from coordfit.tasks.jobs.settings import Keywords, Settings
from coordfit.tasks.jobs.tiles import TiledJob
from coordfit.tiles.plan import TileOptions

TINY = {"steps": 2, "hidden_size": 8, "num_frequencies": 4}
WAYS = [TileOptions("none"), TileOptions(8)]


def picture_of(height=24, width=40):
    levels = np.arange(height * width * 3) % 251
    return coordfit.load_picture(levels.reshape(height, width, 3).astype(np.uint8))


def cpu():
    return coordfit.get_backend("numpy", threads=1)


@pytest.mark.parametrize(
    ("size", "settings", "tiles", "kind"),
    [
        ((24, 40), {}, "auto", NetworkJob),
        ((300, 300), {}, "auto", TiledJob),
        ((300, 300), {}, None, NetworkJob),
        ((300, 300), {"depth": 3}, "auto", NetworkJob),
        ((24, 40), {}, 8, TiledJob),
    ],
    ids=str,
)
def test_one_network_or_tiles(size, settings, tiles, kind):
    job = plan(picture_of(*size), Settings([settings]), TileOptions(tiles))
    assert type(job) is kind
    surprising = size == (300, 300) and tiles == "auto"
    assert bool(job.words) == (surprising or kind is TiledJob)


def test_weights_go_along_with_the_tiles_of_a_large_picture():
    job = plan(picture_of(300, 300), Settings(), TileOptions("auto"), weights=np.ones((300, 300)))
    assert type(job) is TiledJob
    assert job.begin(cpu()).weights is job.weights is not None


def test_jobs_of_both_kinds_are_trained_one_after_the_other_with_results_of_one_type():
    picture = picture_of()
    jobs = [plan(picture, Settings([TINY | {"seed": k}]), tiles) for k, tiles in enumerate([*WAYS, *WAYS])]
    results = dict(trained(jobs, cpu()))
    assert sorted(results) == [0, 1, 2, 3]
    for number, result in results.items():
        assert isinstance(result, coordfit.FitResult)
        assert result.stopped == "steps"
        assert result.model.config.seed == number
        again = jobs[number].model_of(result.learned, {})
        np.testing.assert_allclose(again.render(), result.reconstruction, atol=1e-6)
    assert [results[k].metrics["networks"] for k in (0, 2)] == [2, 2]
    assert (results[0].state is None, results[1].state is None) == (False, True)


@pytest.mark.parametrize("tiles", WAYS, ids=["one network", "tiles"])
def test_a_job_that_is_stopped_says_so(tiles):
    job = plan(picture_of(), Settings([TINY]), tiles)
    assert job.run(cpu(), should_stop=lambda: True).stopped == "interrupted"
    assert job.run(cpu(), lambda progress: True).stopped == "interrupted"


def test_sigma_auto_is_settled_once():
    job = plan(picture_of(), Settings([TINY | {"sigma": "auto"}]))
    chosen, scores = settled(job, cpu())
    assert len(scores) == 7
    assert settled(chosen, cpu()) == (chosen, {})


def test_the_keys_of_a_sweep_stay_so_that_it_goes_on():
    picture = coordfit.load_picture(np.arange(360, dtype=np.uint8).reshape(12, 10, 3))
    settings = Settings([{"steps": 3, "sigma": 1.0}])
    keys = [key_of(plan(picture, settings, TileOptions(tiles))) for tiles in ("none", 4)]
    assert keys == ["aca62faefb48b7f4", "d4ae21f5decc4474"]
    weighted = plan(picture, settings, weights=np.arange(120.0).reshape(12, 10))
    assert key_of(weighted) not in keys


def test_keywords_are_sorted_by_what_they_are_for():
    keywords = Keywords.split({"threads": 2, "tiles": 8, "depth": 3, "devise": "cpu"}, tiles="auto")
    assert (keywords.device.threads, keywords.device.device) == (2, "auto")
    assert (keywords.tiles.tiles, keywords.settings) == (8, {"depth": 3, "devise": "cpu"})
    with pytest.raises(ConfigError, match="devise"):
        coordfit.fit(picture_of(), devise="cpu")


def test_whether_there_are_tiles_is_asked_in_plan_alone():
    root = Path(coordfit.__file__).parent
    asks = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if re.search(r"isinstance\([^)]*(Tile|Network(Job|Fit))", path.read_text())
    }
    assert asks == {"tiles/plan.py"}
