"""The script that runs for hours tells growth from noise."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
soak = pytest.importorskip("bench.soak")


def samples(rss, handles=lambda n: 10, threads=lambda n: 1):
    return [soak.Sample(n / 10, n, rss(n), handles(n), threads(n), 0) for n in range(1, 301)]


def test_noise_and_a_warm_up_are_no_growth():
    draw = random.Random(0)
    found = samples(lambda n: int(200e6 + min(n, 60) * 1e6 + draw.uniform(-20e6, 20e6)), lambda n: 10 + n % 3)
    assert soak.growth(found) == []


@pytest.mark.parametrize(
    ("leak", "said"),
    [
        ({"rss": lambda n: int(200e6 + n * 100e3)}, "memory grew from"),
        ({"rss": lambda n: int(200e6), "handles": lambda n: 10 + n // 50}, "handles grew from"),
        ({"rss": lambda n: int(200e6), "threads": lambda n: 1 + n // 100}, "threads grew from"),
    ],
    ids=["memory", "handles", "threads"],
)
def test_a_leak_is_told(leak, said):
    (found,) = soak.growth(samples(**leak))
    assert found.startswith(said)
