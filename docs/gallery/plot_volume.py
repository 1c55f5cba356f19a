"""
Hidden voxels of a volume
=========================

Seven voxels of ten are hidden at random (grey). ``fill_array`` takes them by kriging from the known ones in all
three directions, without training. The rings come back, although one slice alone hardly shows them.
"""

import matplotlib.pyplot as plt
import numpy as np

import coordfit

z, y, x = np.mgrid[:32, :32, :32] / 31 - 0.5
radius = np.sqrt(x**2 + (y + 0.1 * np.sin(6 * z)) ** 2 + (0.7 * z) ** 2)
volume = np.cos(24 * radius) * np.exp(-4 * radius)
known = np.random.default_rng(0).random(volume.shape) < 0.3
filled = coordfit.fill_array(volume, "zyx", known=known)
rms = np.sqrt(np.mean((filled.values - volume)[~known] ** 2))
print(f"root mean square error of the hidden voxels {rms:.3f}, of values from {volume.min():.2f} to 1")

colours = plt.get_cmap("viridis").with_extremes(bad="0.7")
figure, axes = plt.subplots(3, 3, figsize=(7, 7), layout="constrained")
for column, plane in zip(axes.T, (8, 16, 24), strict=True):
    column[0].set_title(f"slice z = {plane}")
    for ax, values in zip(column, (np.where(known, volume, np.nan), filled.values, volume), strict=True):
        shown = ax.imshow(values[plane], cmap=colours, vmin=-0.6, vmax=1, interpolation="nearest")
        ax.set(xticks=[], yticks=[])
for ax, name in zip(axes[:, 0], ("known", "filled", "truth"), strict=True):
    ax.set_ylabel(name)
figure.colorbar(shown, ax=axes, label="value", shrink=0.6)
plt.show()
