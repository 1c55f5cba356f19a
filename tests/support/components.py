"""Components that the library does not have, as its users would write them: a class of a dozen lines each."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class GELU:
    """z Phi(z) by its approximation with tanh: Hendrycks and Gimpel (2016)."""

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
    """exp(-(a z)^2 / 2): WIRE's real part without its wave, Saragadam et al. (2023)."""

    a: float = 10.0
    saves_input = True

    def forward(self, xp, z):
        return xp.exp(-0.5 * (self.a * z) ** 2)

    def backward(self, xp, dy, saved):
        return dy * (-(self.a * self.a) * saved * xp.exp(-0.5 * (self.a * saved) ** 2))


@dataclass(frozen=True)
class Finer:
    """sin(omega (|z| + 1) z): Liu et al., "FINER" (CVPR 2024)."""

    omega: float = 30.0
    saves_input = True

    def forward(self, xp, z):
        return xp.sin(self.omega * (xp.abs(z) + 1.0) * z)

    def backward(self, xp, dy, saved):
        size = xp.abs(saved)
        return dy * (self.omega * (2.0 * size + 1.0) * xp.cos(self.omega * (size + 1.0) * saved))


@dataclass(frozen=True)
class LogCosh:
    """log cosh r, written so that nothing overflows."""

    def value(self, xp, residual):
        size = xp.abs(residual)
        return size + xp.log1p(xp.exp(-2.0 * size)) - math.log(2.0)

    def gradient(self, xp, residual):
        return xp.tanh(residual)


@dataclass(frozen=True)
class Charbonnier:
    """sqrt(r^2 + epsilon^2): Charbonnier et al. (1994)."""

    epsilon: float = 1e-3

    def value(self, xp, residual):
        return xp.sqrt(residual * residual + self.epsilon**2)

    def gradient(self, xp, residual):
        return residual / xp.sqrt(residual * residual + self.epsilon**2)


@dataclass(frozen=True)
class Lion:
    """Steps by the sign of a mean of gradients: Chen et al. (2023)."""

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


ACTIVATIONS, LOSSES, RULES = (GELU(), Gauss(2.0), Finer(3.0)), (LogCosh(), Charbonnier(0.1)), (Lion(), AdamW())
