"""
Exact derivatives
=================

A small network learns noisy samples of waves, and its first and second derivatives are computed exactly. Finite
differences of the samples multiply the noise. The network has hardly learned it, and is nearer to the waves.
"""

import matplotlib.pyplot as plt
import numpy as np

import coordfit

n, k = 64, 0.25
y, x = np.mgrid[:n, :n]
r = np.hypot(x - 20, y + 10)
waves = np.sin(k * r)
noisy = waves + np.random.default_rng(0).normal(0.0, 0.05, waves.shape)
options = {"activation": "tanh", "output_activation": "identity", "hidden_size": 32, "num_frequencies": 16}
model = coordfit.fit_array(noisy, "yx", sigma=1.0, depth=3, steps=600, **options).model


def differences(values):
    along_y, along_x = np.gradient(values)
    second = np.gradient(along_y, axis=0) + np.gradient(along_x, axis=1)
    return np.hypot(along_y, along_x), second


truth = abs(k * np.cos(k * r)), k * np.cos(k * r) / r - k**2 * np.sin(k * r)
exact = [model.render_derivative(kind) for kind in ("gradient-norm", "laplacian")]
figure, axes = plt.subplots(2, 3, figsize=(7, 5), layout="constrained")
columns = {"waves": truth, "network": exact, "differences": differences(noisy)}
for column, (name, found) in enumerate(columns.items()):
    for row, kind in enumerate(["gradient", "Laplacian"]):
        limits = {"vmin": truth[row].min(), "vmax": truth[row].max()}
        axes[row, column].imshow(found[row], interpolation="nearest", **limits)
        error = np.sqrt(np.mean((found[row] - truth[row]) ** 2)) / np.std(truth[row])
        axes[row, column].set_title(f"{kind}, {name}" if name == "waves" else f"{name}, {error:.0%} off")
        axes[row, column].set(xticks=[], yticks=[])
plt.show()
