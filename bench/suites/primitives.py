"""Time the primitives by themselves, at the sizes of a 1024-pixel batch of the paper's network.

On the CPU both bodies run alone and may take all threads of the BLAS.
"""

# ruff: noqa: D102 - names tell what is timed, parameters what it is timed with

import numpy as np

from coordfit.network.activations import make_activation
from coordfit.optimizers.adam import Adam

from .common import DEVICES, FUSED, OnDevice, named
from .networks import HIDDEN_SIZE, LEARNING_RATE, NUM_FREQUENCIES

ROWS = 1024


class Primitive(OnDevice):
    """Base: a body made in `prepare` and timed in `time_...`."""

    params = (DEVICES, FUSED)
    param_names = ("device", "fused")

    def setup(self, device, fused):
        self.open(device, fused)
        self.prepare()
        self.warm_up(self.body)

    def normal(self, *shape, scale=1.0):
        """Return normal numbers on the device, the same in every run."""
        numbers = np.random.default_rng(0).normal(0.0, scale, shape)
        return self.backend.asarray(numbers, "float32")

    def run(self):
        """The body, to its end on the device."""
        self.body()
        self.backend.synchronize()


class HiddenLayer(Primitive):
    """Base: the arrays of one hidden layer, y = relu(x W + b)."""

    def prepare(self):
        self.x = self.normal(ROWS, HIDDEN_SIZE)
        self.W = self.normal(HIDDEN_SIZE, HIDDEN_SIZE, scale=0.1)
        self.b = self.normal(1, HIDDEN_SIZE)
        self.out = self.backend.scratch((ROWS, HIDDEN_SIZE), "float32")
        self.activation = make_activation("relu")


class Linear(HiddenLayer):
    """The layer forward: y from x."""

    def body(self):
        self.backend.linear(self.x, self.W, self.b, self.activation, out=self.out)

    @named("a hidden layer forward")
    def time_linear(self, device, fused):
        self.run()


class LinearBackward(HiddenLayer):
    """The layer backward: dW, db and the dz of the layer below from dz."""

    def prepare(self):
        super().prepare()
        self.dz = self.normal(ROWS, HIDDEN_SIZE)
        self.saved = abs(self.x)  # as if it came from a ReLU; of ones and zeros once it was overwritten
        self.dW = self.backend.zeros(self.W.shape, "float32")
        self.db = self.backend.zeros(self.b.shape, "float32")

    def body(self):
        self.backend.linear_backward(
            self.dz,
            self.x,
            self.W,
            dW=self.dW,
            db=self.db,
            previous=(self.activation, self.saved),
            out=self.out,
        )

    @named("a hidden layer backward")
    def time_linear_backward(self, device, fused):
        self.run()


class FourierFeatures(Primitive):
    """Features [cos(2 pi B v), sin(2 pi B v)]."""

    def prepare(self):
        self.coordinates = self.normal(ROWS, 2)
        self.B = self.normal(NUM_FREQUENCIES, 2, scale=10.0)
        self.out = self.backend.scratch((ROWS, 2 * NUM_FREQUENCIES), "float32")

    def body(self):
        self.backend.fourier_features(self.coordinates, self.B, out=self.out)

    @named("Fourier features")
    def time_fourier_features(self, device, fused):
        self.run()


class AdamStep(Primitive):
    """One step of Adam on 2^18 parameters."""

    def prepare(self):
        self.parameters, self.gradient = self.normal(2**18), self.normal(2**18)
        self.moments = [self.backend.zeros((2**18,), "float32") for _ in range(2)]

    def body(self):
        self.backend.optimizer_step(
            Adam(), self.parameters, [self.gradient], self.moments, step=100, learning_rate=LEARNING_RATE
        )

    @named("a step of Adam")
    def time_adam_step(self, device, fused):
        self.run()
