"""
Fill a scribble
===============

Lines are drawn over the picture, and the hidden pixels are filled from the known ones. Kriging follows the
edges of the picture; the nearest known pixel makes steps. Kriging also tells how far it may be off.
"""

import matplotlib.pyplot as plt
import numpy as np

import coordfit

result = coordfit.inpaint(coordfit.bundled_picture(), scribble=True)
truth, known = result.picture.pixels, result.mask

nearest, places = truth.copy(), np.argwhere(known)
for y, x in np.argwhere(~known):
    row, column = places[np.square(places - (y, x)).sum(axis=1).argmin()]
    nearest[y, x] = truth[row, column]

figure, axes = plt.subplots(2, 2, figsize=(7, 7.6), layout="constrained")
shown = axes[1, 1].imshow(255 * result.deviation, cmap="magma", interpolation="nearest")
figure.colorbar(shown, ax=axes[1], location="bottom", shrink=0.6, label="levels of 255")
panels = [np.where(known[..., None], truth, 1.0), nearest, result.filled]
titles = [f"{np.mean(~known):.0%} of the pixels are hidden"]
titles += [f"nearest known pixel, {coordfit.psnr(nearest, truth, where=~known):.1f} dB"]
titles += [f"kriging, {result.metrics['psnr_hidden']:.1f} dB", "kriging's own standard deviation"]
for ax, panel in zip(axes.flat, panels, strict=False):
    ax.imshow(panel, interpolation="nearest")
for ax, title in zip(axes.flat, titles, strict=True):
    ax.set_title(title)
    ax.set_axis_off()
plt.show()
