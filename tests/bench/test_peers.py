"""`python -m bench.peers`: what a peer is given changes no number, and what the table says of a record."""

import functools
import importlib.util
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
cases = pytest.importorskip("bench.peers.cases")
tables = pytest.importorskip("bench.peers.tables")

SMALL = [
    cases.Case("batches", 12, 16, 6, 10),
    cases.Case("full", 16, None, 6, 10),
    cases.Case("networks", 12, 16, 6, 10, members=16),
    cases.Case("tiles", 10, None, 6, 10, members=16, tiles=True),
    cases.Case("render", 12, None, 6, 10, render=64),
]
# In a process of its own: PyTorch's and JAX's threads stand in the way of a fork.
SCRIPT = """
import itertools, json, sys
from bench.peers import cases, worker
if "torch" in sys.argv[1]:
    import torch
    torch.compiler.set_stance("force_eager")
found = {}
for case in (cases.Case(**facts) for facts in json.loads(sys.argv[2])):
    peer, losses = worker.make_peer(sys.argv[1], case), found.setdefault(case.name, [])
    offered = peer.settings(case, 2)
    for values in itertools.product(*offered.values()):
        peer.prepare(cases.Problem.make(case), dict(zip(offered, values)))
        losses.append(list(peer.run(1 if case.render else 5))[:5])
print(json.dumps(found))
"""


@functools.cache
def losses_of(peer):
    """Return five losses of each case (or the mean of a rendering) for each setting that a peer tries."""
    words = [sys.executable, "-c", SCRIPT, peer, json.dumps([vars(case) for case in SMALL])]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    answer = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    return json.loads(answer.splitlines()[-1])


@pytest.mark.very_slow
@pytest.mark.parametrize("peer", ["torch-eager", "torch-whole", "jax"])
def test_whatever_a_peer_tries_it_computes_what_we_do(peer):
    library = peer.partition("-")[0]
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    for case, theirs in losses_of(peer).items():
        (ours,) = losses_of("coordfit-numpy")[case]
        assert len(theirs) > 1
        for found in theirs:
            np.testing.assert_allclose(found, ours, rtol=2e-4, err_msg=case)


def result(case, cores, **clocks):
    return {
        "case": case,
        "cores": cores,
        "wall": {name: [value, 9.0 * value, value] for name, value in clocks.items()},
        "processor": {name: [2.0 * value] * 3 for name, value in clocks.items()},
        "settings": {name: {"threads": 2} for name in clocks},
    }


def test_the_best_peer_is_not_ours_and_one_processor_is_told_by_its_own_time():
    times = {"coordfit": 0.25, "coordfit-numpy": 0.1, "jax": 1.0, "torch-eager": 0.5}
    wall, processor = (result("32-32-128", cores, **times) for cores in (2, 1))
    assert tables.best_peer(wall) == "torch-eager"
    assert tables.seconds(wall)["jax"] == 1.0
    assert tables.seconds(processor)["jax"] == 2.0
    assert tables.ratio(wall) == 2.0


def test_the_mean_is_geometric_and_leaves_renderings_out():
    ratios = {"32-32-128": 4.0, "tiles-8-48": 1.0, "render-1024-128": 100.0}
    results = [result(case, 2, coordfit=1.0, jax=ratio) for case, ratio in ratios.items()]
    (line,) = tables.means(results)
    assert "2 steps, 2 processors, wall clock" in line
    assert "geometric mean 2.00 and is 1.00 at least" in line
    assert [line.split(" | ")[0] for line in tables.table(results)[2:]] == [f"| {case}" for case in ratios]


def test_a_peer_that_computes_something_else_is_refused():
    main = pytest.importorskip("bench.peers.__main__")
    losses = {"coordfit": [0.5, 0.4], "jax": [0.5, 0.4004]}
    main.check_agreement(SMALL[0], losses)
    with pytest.raises(SystemExit, match="batches: jax computes"):
        main.check_agreement(SMALL[0], losses | {"jax": [0.5, 0.41]})


def test_limits_are_those_of_the_best_rate_of_the_run():
    main = pytest.importorskip("bench.peers.__main__")
    case = cases.CASES[0]
    rates = [{"products": 1e9, "copies": 4e9}, {"products": 2e9, "copies": 1e9}]
    found = main.limits(case, rates)
    rows = case.batch * (case.members or 1)
    sizes = list(itertools.pairwise(case.layer_sizes))
    products = sum(6 * a * b for a, b in sizes) - 2 * sizes[0][0] * sizes[0][1]
    assert found["products"] == pytest.approx(rows * products / 2e9)
    assert found["traffic"] == pytest.approx(28 * sum(a * b + b for a, b in sizes) / 4e9)
    slower = max(found["products"], found["traffic"])
    assert tables.share_of_limit(found | result("32-32-256", 2, coordfit=2 * slower)) == pytest.approx(0.5)
