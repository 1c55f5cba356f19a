"""Define components that the library lacks, as users would write them: a dozen lines each."""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

import coordfit


@dataclass(frozen=True)
class GELU:
    """`z Phi(z)` approximated with tanh: Hendrycks and Gimpel (2016)."""

    saves_input = True

    def _phi(self, xp, z):
        return 0.5 * (1.0 + xp.tanh(math.sqrt(2.0 / math.pi) * (z + 0.044715 * z * z * z)))

    def forward(self, xp, z):
        return z * self._phi(xp, z)

    def backward(self, xp, dy, saved):
        phi, z = self._phi(xp, saved), saved
        inner = math.sqrt(2.0 / math.pi) * (1.0 + 3.0 * 0.044715 * z * z)
        return dy * (phi + 2.0 * z * phi * (1.0 - phi) * inner)


@dataclass(frozen=True)
class Gauss:
    """`exp(-(a z)^2 / 2)`, WIRE's real part without its wave: Saragadam et al. (2023)."""

    a: float = 10.0
    saves_input = True

    def forward(self, xp, z):
        return xp.exp(-0.5 * (self.a * z) ** 2)

    def backward(self, xp, dy, saved):
        return dy * (-(self.a * self.a) * saved * xp.exp(-0.5 * (self.a * saved) ** 2))

    def inverse(self, xp, y):
        return xp.sqrt(-2.0 * xp.log(y)) / self.a


@dataclass(frozen=True)
class Finer:
    """`sin(omega (|z| + 1) z)`: Liu et al., "FINER" (CVPR 2024)."""

    omega: float = 30.0
    saves_input = True
    initializer = "sine"

    def forward(self, xp, z):
        return xp.sin(self.omega * (xp.abs(z) + 1.0) * z)

    def backward(self, xp, dy, saved):
        size = xp.abs(saved)
        return dy * (self.omega * (2.0 * size + 1.0) * xp.cos(self.omega * (size + 1.0) * saved))


@dataclass(frozen=True)
class LogCosh:
    """`log cosh r`, without overflow."""

    def value(self, xp, residual):
        size = xp.abs(residual)
        return size + xp.log1p(xp.exp(-2.0 * size)) - math.log(2.0)

    def gradient(self, xp, residual):
        return xp.tanh(residual)


@dataclass(frozen=True)
class Charbonnier:
    """`sqrt(r^2 + epsilon^2)`: Charbonnier et al. (1994)."""

    epsilon: float = 1e-3

    def value(self, xp, residual):
        return xp.sqrt(residual * residual + self.epsilon**2)

    def gradient(self, xp, residual):
        return residual / xp.sqrt(residual * residual + self.epsilon**2)


@dataclass(frozen=True)
class Lion:
    """Steps by the sign of averaged gradients: Chen et al. (2023)."""

    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.0
    state = ("momentum",)

    def update(self, xp, parameter, gradient, state, step, learning_rate):
        (m,) = state
        direction = xp.sign(self.beta1 * m + (1.0 - self.beta1) * gradient)
        m = self.beta2 * m + (1.0 - self.beta2) * gradient
        return parameter - learning_rate * (direction + self.weight_decay * parameter), (m,)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay: Loshchilov and Hutter (2019)."""

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 1e-2
    state = ("m", "v")

    def update(self, xp, parameter, gradient, state, step, learning_rate):
        m = self.beta1 * state[0] + (1.0 - self.beta1) * gradient
        v = self.beta2 * state[1] + (1.0 - self.beta2) * gradient**2
        rate = learning_rate / (1.0 - self.beta1**step)
        root = xp.sqrt(v) / (1.0 - self.beta2**step) ** 0.5
        return parameter * (1.0 - learning_rate * self.weight_decay) - rate * m / (root + self.epsilon), (m, v)


@dataclass(frozen=True)
class LogUniform(coordfit.FourierEncoding):
    """Frequencies in all directions, their lengths spread evenly on a log scale from 1 to `highest`."""

    count: int = 128
    highest: float = 32.0

    def frequencies(self, rng):
        angle = rng.uniform(0.0, 2.0 * np.pi, self.count)
        length = self.highest ** rng.uniform(size=self.count)
        return length[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)


@dataclass(frozen=True)
class Powers(coordfit.Encoding):
    """x, y, x^2, y^2, ...: features of its own that are not trained."""

    degree: int = 4

    def num_features(self, state):
        return 2 * self.degree

    def encoder(self, backend, state, dtype):
        return PowersEncoder(backend, self.degree)


class PowersEncoder(coordfit.Encoder):
    def __init__(self, backend, degree):
        super().__init__(backend)
        self.degree, self.num_features = degree, 2 * degree

    def __call__(self, coordinates, out=None):
        powers = [coordinates**k for k in range(1, self.degree + 1)]
        return self.backend.xp.concat(powers, axis=-1)


@dataclass(frozen=True)
class Learned(coordfit.Encoding):
    """Fourier features whose frequencies are trained with the network."""

    count: int = 16
    sigma: float = 4.0
    learns = True
    feature_groups = 2  # cosines, then sines

    def num_features(self, state):
        return 2 * self.count

    def parameter_shapes(self):
        return {"frequencies": (2, self.count)}

    def draw_parameters(self, rng):
        return {"frequencies": rng.normal(0.0, self.sigma, (2, self.count))}

    def encoder(self, backend, state, dtype):
        return LearnedEncoder(backend, 2 * self.count)

    @classmethod
    def settings_of_mean(cls, config, count):
        own = config.encoding
        return {"encoding": dataclasses.replace(own, count=count * own.count)}


class LearnedEncoder(coordfit.Encoder):
    learns = True

    def __init__(self, backend, num_features):
        super().__init__(backend)
        self.num_features = num_features

    @property
    def ensemble(self):
        return self.parameters["frequencies"].shape[:-2] if self.parameters else ()

    def __call__(self, coordinates, out=None):
        xp = self.backend.xp
        angle = 2.0 * math.pi * self.backend.matmul(coordinates, self.parameters["frequencies"])
        cos, sin = xp.cos(angle), xp.sin(angle)
        self.saved = coordinates, cos, sin
        return xp.concat([cos, sin], axis=-1)

    def backward(self, dx, *, accumulate=False):
        coordinates, cos, sin = self.saved
        m = self.num_features // 2
        d_angle = 2.0 * math.pi * (cos * dx[..., m:] - sin * dx[..., :m])
        gradient = self.gradients["frequencies"]
        found = self.backend.matmul(coordinates, d_angle, transpose_a=True)
        gradient[...] = gradient + found if accumulate else found


ACTIVATIONS, LOSSES, RULES = (GELU(), Gauss(2.0), Finer(3.0)), (LogCosh(), Charbonnier(0.1)), (Lion(), AdamW())
ENCODINGS = (LogUniform(6, 4.0), Learned(6, 2.0), Powers(3))
