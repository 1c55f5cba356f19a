"""Share networks of the paper's size, of the library's own parts, for which older commits had other names."""

import numpy as np

from coordfit.encoders.fourier import FourierEncoder, Gaussian
from coordfit.network.activations import make_activation
from coordfit.network.losses import make_loss
from coordfit.network.mlp import MLP, initial_parameters
from coordfit.optimizers.adam import Adam
from coordfit.optimizers.base import ElementwiseOptimizer
from coordfit.pixels.batch_order import BatchOrder
from coordfit.pixels.step_inputs import StepInputs
from coordfit.pixels.training_pixels import TrainingPixels
from coordfit.signals.grid import SampleGrid
from coordfit.training.step import TrainingStep

# The paper's network: F-256-256-256-3 on 256 frequencies.
NUM_FREQUENCIES, HIDDEN_SIZE, DEPTH, CHANNELS = 256, 256, 4, 3
LEARNING_RATE = 1e-3


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
            StepInputs(lambda step: [LEARNING_RATE], [] if self.order is None else [self.order]),
        )
        self.steps_at_once = self.training_step.steps_at_once

    def __call__(self):
        """Take as many steps as training takes at once, to their end on the device; return how many."""
        self.training_step.advance(self.step, self.steps_at_once)
        self.step += self.steps_at_once
        self.backend.synchronize()
        return self.steps_at_once
