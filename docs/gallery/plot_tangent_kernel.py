"""
The tangent kernel behind sigma
===============================

Left: eigenvalues of the neural tangent kernel of a wide ReLU network on Gaussian features, in closed form
(Tancik et al., 2020, section 4). A larger sigma lifts high frequencies. Right: networks trained by SGD on a
signal of 64 frequencies learn those soonest that have :doc:`large eigenvalues </explanation/spectral_bias>`.
"""

import matplotlib.pyplot as plt
import numpy as np

import coordfit


def tangent_kernel(cosine, layers=4):
    """Return the kernel of unit inputs with this cosine between them: arc-cosine kernels, layer by layer."""
    sigma = theta = cosine
    for _ in range(layers - 1):
        angle = np.arccos(sigma.clip(-1, 1))
        theta = theta * (np.pi - angle) / np.pi
        sigma = (sigma * (np.pi - angle) + np.sin(angle)) / np.pi
        theta = theta + sigma
    return theta


x, frequency = np.arange(256) / 256, np.arange(1, 65)
signal = np.cos(2 * np.pi * (frequency[:, None] * x + np.random.default_rng(0).random((64, 1)))).sum(axis=0)
figure, axes = plt.subplots(1, 2, figsize=(7, 3.4), layout="constrained")
options = {"optimizer": "sgd", "learning_rate": 0.02, "schedule": "constant", "output_activation": "identity"}
for sigma in 1, 4, 16:
    kernel = tangent_kernel(np.exp(-2 * (np.pi * sigma * np.minimum(x, 1 - x)) ** 2))
    axes[0].semilogy(frequency, np.fft.rfft(kernel).real[1:65] / 256, label=f"sigma {sigma}")
    found = coordfit.fit_array(signal, "x", spacing=1 / 256, sigma=sigma, steps=300, average=3, **options)
    missing, whole = (abs(np.fft.rfft(v)[1:65]) for v in (signal - found.reconstruction, signal))
    axes[1].plot(frequency, 100 * (1 - missing / whole), ".", label=f"sigma {sigma}")
axes[0].set(xlabel="frequency / cycles", ylabel="eigenvalue", title="kernel")
axes[1].set(xlabel="frequency / cycles", ylabel="learned / %", title="networks after 300 steps")
axes[0].legend()
plt.show()
