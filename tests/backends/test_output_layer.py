"""The output layer with its loss, and features by pixel number, as kernels inside a whole training step."""

from collections import Counter

import numpy as np
import pytest
from coordfit.backends.numpy_backend.backend import NumpyBackend
from support.trainers import SETTINGS, make_trainer, train

from coordfit.config import make_config
from coordfit.images import load_picture
from coordfit.network.activations import make_activation
from coordfit.network.losses import make_loss
from coordfit.training.job import Job
from coordfit.training.trainer import Trainer

fake_cupy = pytest.importorskip("support.fake_cupy")
pytestmark = [
    pytest.mark.usefixtures("machine"),
    pytest.mark.skipif(bool(fake_cupy.why_unavailable()), reason=fake_cupy.why_unavailable() or "-"),
]


def picture_of(channels):
    shape = (8, 8) if channels == 1 else (8, 8, channels)
    return load_picture(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def gradient_of_one_step(backend, picture, **options):
    trainer = make_trainer(picture, backend, dtype="float64", **options)
    train(trainer, 1)
    losses = trainer.training_step.new_losses(wait=True)
    return backend.to_numpy(trainer.training_step.gradient), losses


CASES = {
    "one channel": (1, {}),
    "four channels": (4, {"loss": "huber", "delta": 0.2}),
    "an output that is a sine": (3, {"output_activation": "sine", "omega": 2.0}),
    "an output that is a ReLU": (3, {"output_activation": "relu", "loss": "mae"}),
    "a hidden layer that is no ReLU": (3, {"activation": "tanh"}),
    "a hidden layer that saves its input": (3, {"activation": "sine", "omega": 3.0}),
    "a wide layer": (3, {"hidden_size": 70}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("batch_size", [None, 33])
def test_the_kernel_gives_what_the_formulas_give(machine, case, batch_size):
    channels, options = CASES[case]
    options = options | {"batch_size": batch_size}
    expected, loss = gradient_of_one_step(
        NumpyBackend(fused="never", threads=1), picture_of(channels), **options
    )
    backend = fake_cupy.CupyOnHost("always")
    found, found_loss = gradient_of_one_step(backend, picture_of(channels), **options)
    np.testing.assert_allclose(found, expected, atol=1e-13 * np.abs(expected).max())
    np.testing.assert_allclose(found_loss, loss, rtol=1e-13)
    assert machine.counts["head_step"] == 1
    assert machine.counts["loss_and_gradient"] == 0
    assert backend.routes()["output_step"] == {"fused": 1}


OTHER_WAYS = {
    "no hidden layer": {"depth": 1},
    "more channels than the kernel has": {},
}


@pytest.mark.parametrize("case", OTHER_WAYS)
def test_where_the_kernel_does_not_fit_its_parts_are_taken(machine, case, monkeypatch):
    if not OTHER_WAYS[case]:
        monkeypatch.setattr("coordfit.backends.cupy_backend.bodies.losses._MAX_CHANNELS", 2)
    expected, _ = gradient_of_one_step(
        NumpyBackend(fused="never", threads=1), picture_of(3), **OTHER_WAYS[case]
    )
    backend = fake_cupy.CupyOnHost("always")
    found, _ = gradient_of_one_step(backend, picture_of(3), **OTHER_WAYS[case])
    np.testing.assert_allclose(found, expected, atol=1e-13 * np.abs(expected).max())
    assert machine.counts["head_step"] == 0
    assert "output_step" not in backend.routes()


def test_gradients_that_lie_elsewhere_are_refused_by_the_kernel(machine):
    """The kernel writes dW and db as neighbours; into separate arrays it would write past the end."""
    backend = fake_cupy.CupyOnHost()
    rng = np.random.default_rng(0)
    h, W, b, t = (backend.asarray(rng.random(s)) for s in ((9, 5), (5, 3), (1, 3), (9, 3)))
    dW, db = backend.zeros((5, 3), "float64"), backend.zeros((1, 3), "float64")
    relu, sigmoid = make_activation("relu"), make_activation("sigmoid")
    arguments = {"divisor": 27, "dW": dW, "db": db, "previous": (relu, h)}
    backend.output_step(make_loss("mse"), h, W, b, sigmoid, t, **arguments)
    assert machine.counts["head_step"] == 0
    assert np.isfinite(backend.to_numpy(dW)).all()


def trained(jobs, backend, steps):
    trainer = Trainer(jobs, backend)
    with backend.activate():
        while trainer.step < steps:
            trainer.take_steps(steps - trainer.step)
        return backend.to_numpy(trainer.mlp.parameters)


def jobs_of(options):
    return [
        Job(picture_of(3), make_config(SETTINGS | options | {"seed": k, "dtype": "float64"})) for k in range(3)
    ]


@pytest.mark.parametrize("options", [{}, {"batch_size": None}], ids=str)
@pytest.mark.parametrize("sigma", ["shared", "own"])
def test_features_of_a_picture_too_large_for_a_table(machine, monkeypatch, options, sigma):
    monkeypatch.setattr("coordfit.network.cost.FEATURE_TABLE_BYTES", 0)
    jobs = jobs_of(options)
    if sigma == "own":
        jobs = [Job(job.signal, job.config.replace(sigma=1.0 + k)) for k, job in enumerate(jobs)]
    expected = trained(jobs, NumpyBackend(fused="never", threads=1), 4)
    found = trained(jobs, fake_cupy.CupyOnHost("always"), 4)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)
    assert machine.counts["pixel_fourier_features"] > 0
    assert machine.counts["fourier_features"] == 0


def test_what_one_step_launches(machine, monkeypatch):
    """No more launches than the design has: each node of a graph costs a microsecond."""
    monkeypatch.setattr("coordfit.network.cost.FEATURE_TABLE_BYTES", 0)
    backend = fake_cupy.CupyOnHost("always", precision="bf16")
    trainer = make_trainer(picture_of(3), backend, depth=4, optimizer="adam")
    with backend.activate():
        train(trainer, 3)  # warm-up, and one recording
        graph = trainer.training_step._recorded._runs[16].graph
        assert graph is None
        machine.counts.clear()
        trainer.take_steps(16)
    graph = trainer.training_step._recorded._runs[16].graph
    recorded = Counter({name: count / 16 for name, count in machine.counts.items() if name in KERNELS})
    assert recorded == KERNELS
    # Six products: three forward, two dX, three dW; two rows to gather; and the kernels above.
    assert len(graph.nodes) / 16 == sum(KERNELS.values()) + 3 + 2 + 3


def test_what_a_step_of_the_default_recipe_launches(machine):
    """Twelve nodes are Muon's, one is Adam's; docs/explanation/fast_steps.md has the sum."""
    backend = fake_cupy.CupyOnHost("always", precision="bf16")
    few = {"hidden_size": 8, "num_frequencies": 4, "batch_size": 20}
    trainer = Trainer([Job(picture_of(3), make_config(few, recipe="fast"))], backend)
    with backend.activate():
        for steps in (3, 16, 16):
            trainer.take_steps(steps)
    assert len(trainer.training_step._recorded._runs[16].graph.nodes) / 16 == 30


KERNELS = Counter(
    batch_order=1,
    advance=1,
    pixel_fourier_features=1,
    take_rows=1,  # the target's
    head_step=1,
    activation_backward=2,
    sum_partials=2,  # of the output layer with the loss, and of the first layer
    optimizer_step=1,
)
