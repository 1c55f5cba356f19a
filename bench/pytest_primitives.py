"""A quick look at the fused bodies against the generic ones, side by side in one process.

    pytest bench/pytest_primitives.py --benchmark-enable

Not part of the tests. The history of these times is asv's business (`suites/primitives.py`).
"""

import pytest

from bench.suites.primitives import AdamStep, FourierFeatures, Linear, LinearBackward
from bench.suites.training_step import CASES, TrainingSteps


def prepared(suite, *parameters):
    """A suite after its setup; skips what this machine lacks."""
    try:
        suite.setup(*parameters)
    except NotImplementedError as reason:
        pytest.skip(str(reason))
    return suite


@pytest.mark.parametrize("fused", ["never", "always"])
@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("suite", [Linear, LinearBackward, FourierFeatures, AdamStep])
def test_primitive(benchmark, suite, device, fused):
    """Generic and fused body of one primitive, in one group."""
    benchmark.group = f"{suite.__name__} on {device}"
    primitive = prepared(suite(), device, fused)
    benchmark(primitive.run)
    primitive.teardown()


@pytest.mark.parametrize("fused", ["never", "always"])
@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("case", ["32x32 batch 32", "128x128 batch 1024"])
def test_step(benchmark, case, device, fused):
    """A whole training step with generic and with fused bodies, in one group."""
    assert case in CASES
    benchmark.group = f"training step, {case}, on {device}"
    steps = prepared(TrainingSteps(), case, fused, device)
    benchmark(steps.step)
    steps.teardown()
