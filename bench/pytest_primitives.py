"""Compare fused bodies with the generic ones, side by side in one process.

    pytest bench/pytest_primitives.py --benchmark-enable

This is not part of the tests. asv keeps the history of these times (`suites/primitives.py`).
"""

import pytest

from bench.suites.primitives import AdamStep, FourierFeatures, Linear, LinearBackward
from bench.suites.training_step import CASES, TrainingSteps


def prepared(suite, *parameters):
    """Return a suite after its setup; skip if this machine lacks something."""
    try:
        suite.setup(*parameters)
    except NotImplementedError as reason:
        pytest.skip(str(reason))
    return suite


@pytest.mark.parametrize("fused", ["never", "always"])
@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("suite", [Linear, LinearBackward, FourierFeatures, AdamStep])
def test_primitive(benchmark, suite, device, fused):
    """Time the generic and the fused body of one primitive, in one group."""
    benchmark.group = f"{suite.__name__} on {device}"
    primitive = prepared(suite(), device, fused)
    benchmark(primitive.run)
    primitive.teardown()


@pytest.mark.parametrize("fused", ["never", "always"])
@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("case", ["32x32 batch 32", "128x128 batch 1024"])
def test_step(benchmark, case, device, fused):
    """Time a whole training step with generic and with fused bodies, in one group."""
    assert case in CASES
    benchmark.group = f"training step, {case}, on {device}"
    steps = prepared(TrainingSteps(), case, fused, device)
    benchmark(steps.step)
    steps.teardown()
