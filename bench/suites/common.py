"""Share what the suites need: the device parameter, a backend held while a benchmark runs, and networks.

Parameters are the same on every machine, so that results can be compared; what a machine lacks is skipped in
`setup`. What a benchmark times ends with `synchronize`, since a GPU returns before it is done.
"""

import contextlib

import numpy as np

import coordfit
from coordfit._backends import get_backend
from coordfit.encoders.fourier import FourierEncoder, Gaussian
from coordfit.network.activations import make_activation
from coordfit.network.losses import make_loss
from coordfit.network.mlp import MLP, initial_parameters
from coordfit.optimizers.adam import Adam
from coordfit.optimizers.base import ElementwiseOptimizer
from coordfit.pixels.batch_order import BatchOrder
from coordfit.pixels.training_pixels import TrainingPixels
from coordfit.signals.grid import SampleGrid
from coordfit.training.step import TrainingStep

try:
    from coordfit.pixels.step_inputs import StepInputs
except ImportError:  # commits before steps were recorded
    StepInputs = None

DEVICES = ("cpu", "gpu")
FUSED = ("never", "always")

# The paper's network: F-256-256-256-3 on 256 frequencies.
NUM_FREQUENCIES, HIDDEN_SIZE, DEPTH, CHANNELS = 256, 256, 4, 3
LEARNING_RATE = 1e-3


class OnDevice:
    """Base of the suites: `setup` opens a backend, `teardown` closes it."""

    # Without it asv drops a benchmark's history whenever its text changes. Raise it with what is timed.
    version = "1"
    timeout = 120

    def open(self, device, fused="auto"):
        """Hold a backend for the benchmark, or skip the benchmark if there is no such device."""
        try:
            self.backend = get_backend(device, fused=fused)
        except coordfit.DeviceUnavailableError as reason:
            raise NotImplementedError(str(reason)) from reason
        self._held = contextlib.ExitStack()
        self._held.enter_context(self.backend.activate())

    def warm_up(self, body):
        """Run the body once: buffers are made, kernels compiled, worker threads started."""
        try:
            body()
        except RuntimeError as reason:
            self.teardown()
            if self.backend.device == "cpu" or type(reason).__name__ != "FusedUnavailableError":
                raise
            raise NotImplementedError(str(reason)) from reason
        self.backend.synchronize()

    def teardown(self, *_):
        """Give threads and library settings back."""
        held = getattr(self, "_held", None)
        if held is not None:
            held.close()

    def normal(self, *shape, scale=1.0):
        """Return normal numbers on the device, the same in every run."""
        numbers = np.random.default_rng(0).normal(0.0, scale, shape)
        return self.backend.asarray(numbers, "float32")


class Stepper:
    """Training steps on a square picture of noise, without a loop round them; for one network or K.

    Parameters
    ----------
    batch_size : int or None
        None takes all pixels in every step.
    members : int or None
        K, or None for one network.
    """

    def __init__(self, backend, side, batch_size, members=None):
        self.backend, self.step = backend, 0
        rng = np.random.default_rng(0)
        B = Gaussian(NUM_FREQUENCIES, 10.0).frequencies(rng)
        encoder = FourierEncoder(backend, backend.asarray(B, "float32"))
        sizes = (encoder.num_features, *[HIDDEN_SIZE] * (DEPTH - 1), CHANNELS)
        drawn = [initial_parameters(sizes, "he", omega=30.0, rng=rng) for _ in range(members or 1)]
        parameters = backend.asarray(np.stack(drawn) if members else drawn[0], "float32")
        num_pixels = side * side
        self.rows = num_pixels if batch_size is None else batch_size
        self.order = None if batch_size is None else BatchOrder(num_pixels, batch_size, seed=0)
        grid = SampleGrid.of(side, side)
        pixels = TrainingPixels(
            backend,
            backend.asarray(grid.coordinates(np.arange(num_pixels)), "float32"),
            backend.asarray(rng.uniform(size=(num_pixels, CHANNELS)), "float32"),
        )
        self.training_step = TrainingStep(
            backend,
            encoder,
            MLP(
                backend,
                sizes,
                parameters,
                make_activation("relu"),
                make_activation("sigmoid"),
                rows=1,
                dtype="float32",
            ),
            make_loss("mse"),
            ElementwiseOptimizer(backend, parameters, Adam(), dtype="float32"),
            pixels,
            self.rows,
            *([] if StepInputs is None else [self._course()]),
        )
        self.steps_at_once = getattr(self.training_step, "steps_at_once", 1)

    def _course(self):
        return StepInputs(lambda step: [LEARNING_RATE], [] if self.order is None else [self.order])

    def __call__(self):
        """Take as many steps as training takes at once, to their end on the device; return how many."""
        if StepInputs is None:
            batch = None if self.order is None else self.backend.asarray(self.order.batch(self.step))
            self.training_step(batch, LEARNING_RATE)
        else:
            self.training_step.advance(self.step, self.steps_at_once)
        self.step += self.steps_at_once
        self.backend.synchronize()
        return self.steps_at_once
