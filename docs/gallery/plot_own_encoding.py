"""
Frequencies by a law of your own
================================

Fourier features of other frequencies need one method. Here their lengths are even on a log scale, so that
low ones are always there: a highest frequency that is far too large does less harm than with Gaussian ones.
"""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np

import coordfit


@dataclass(frozen=True)
class LogUniform(coordfit.FourierEncoding):
    highest: float

    def frequencies(self, rng):
        angle, length = rng.uniform(0.0, 2.0 * np.pi, 128), self.highest ** rng.uniform(size=128)
        return length[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)


picture, highest = coordfit.bundled_picture(), [8.0, 16.0, 32.0, 64.0, 128.0]
options = {"train_on": "every-second", "recipe": "default", "steps": 150, "hidden_size": 64}
gaussian = [coordfit.fit(picture, sigma=top / 3, **options) for top in highest]
own = [coordfit.fit(picture, encoding=LogUniform(top), **options) for top in highest]

figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.4), layout="constrained")
for results, label in (gaussian, "Gaussian, 3 sigma"), (own, "log-uniform"):
    left.scatter(*results[2].state.encoder_state["B"].T, s=8)
    right.semilogx(highest, [result.metrics["psnr_held_out"] for result in results], "o-", label=label)
left.set(xlabel="cycles along x", ylabel="cycles along y", title="frequencies up to 32", aspect="equal")
right.set(xlabel="highest frequency / cycles per side", ylabel="PSNR / dB", title="held-out pixels")
right.set_xticks(highest, [f"{top:g}" for top in highest])
right.minorticks_off()
right.legend()
plt.show()
