"""
A model in plain NumPy
======================

A fitted network leaves coordfit as a few arrays. A few lines of NumPy draw it, here a detail at eight times
the size, and agree with the library to the rounding of float32.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import coordfit

model = coordfit.fit(coordfit.bundled_picture(), sigma=3, steps=300).model
with tempfile.TemporaryDirectory() as folder:
    coordfit.export(model, Path(folder) / "model.npz")
    arrays = dict(np.load(Path(folder) / "model.npz"))
print({name: array.shape for name, array in arrays.items() if name != "README"})

place = (np.arange(192) + 0.5) / 192 * 24 / 128  # of 24 pixels
points = np.stack(np.meshgrid(0.2 + place, 0.29 + place), axis=-1).astype(np.float32)
phase = 2 * np.pi * points @ arrays["B"].T
x = np.concatenate([np.cos(phase), np.sin(phase)], axis=-1)
for layer in range(3):
    x = np.maximum(x @ arrays[f"W{layer}"] + arrays[f"b{layer}"], 0)
x = 1 / (1 + np.exp(-(x @ arrays["W3"] + arrays["b3"])))
difference = np.abs(x - model(points))

figure, axes = plt.subplots(1, 3, figsize=(7, 2.8), layout="constrained")
panels = {"coordfit": model(points), "NumPy": x, "difference": difference.max(axis=-1)}
for ax, (name, values) in zip(axes, panels.items(), strict=True):
    shown = ax.imshow(values.clip(0, 1), cmap="magma", interpolation="nearest")
    ax.set_title(name)
    ax.set_axis_off()
figure.colorbar(shown, ax=axes[2], label="of white = 1")
plt.show()
