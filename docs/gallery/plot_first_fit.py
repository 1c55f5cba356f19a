"""
A first fit
===========

A network with the default settings learns the bundled picture as a function of position. Original and
reconstruction look the same. The error is a fine grain over the whole picture, and largest around the eyes.
"""

import matplotlib.pyplot as plt
import numpy as np

import coordfit

picture = coordfit.bundled_picture()
result = coordfit.fit(picture)
error = 255 * np.abs(result.reconstruction - picture.pixels).mean(axis=-1)
print(f"{result.metrics['steps']} steps, {result.metrics['parameters']:,} parameters")

figure, axes = plt.subplots(1, 3, figsize=(7, 2.5), layout="constrained")
axes[0].imshow(picture.pixels, interpolation="nearest")
axes[0].set_title("original, 128x128")
axes[1].imshow(result.reconstruction, interpolation="nearest")
axes[1].set_title(f"network, {result.metrics['psnr']:.1f} dB")
shown = axes[2].imshow(error, cmap="magma", interpolation="nearest")
axes[2].set_title(f"error, mean {error.mean():.2f}")
figure.colorbar(shown, ax=axes[2], label="levels of 255")
for ax in axes:
    ax.set_axis_off()
plt.show()
