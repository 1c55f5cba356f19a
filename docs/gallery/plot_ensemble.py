"""
Where networks disagree
=======================

Four networks of different seeds learn the same pixels as one batch; two blocks are hidden from them. The
networks agree on known pixels and disagree where none is known. Their deviation is below the error there, since
all of them miss the same border of the eye and edge of the nose.
"""

import matplotlib.pyplot as plt
import numpy as np

import coordfit

picture = coordfit.bundled_picture()
known = np.ones((128, 128), bool)
known[64:104, 72:112] = False
known[8:32, 20:44] = False
result = coordfit.fit(picture, known=known, average=4, sigma=3, hidden_size=64, steps=250)

error, deviation = (
    255 * np.sqrt(np.square(values).mean(axis=-1))
    for values in (result.reconstruction - picture.pixels, result.deviation)
)
figure, axes = plt.subplots(2, 2, figsize=(7, 6.8), layout="constrained")
axes[0, 0].imshow(np.where(known[..., None], picture.pixels, 1.0), interpolation="nearest")
axes[0, 0].set_title(f"known pixels, {known.mean():.0%}")
axes[0, 1].imshow(result.reconstruction, interpolation="nearest")
axes[0, 1].set_title(f"mean of {len(result.networks)} networks")
for ax, values, name in (axes[1, 0], deviation, "deviation"), (axes[1, 1], error, "error"):
    shown = ax.imshow(values, cmap="magma", vmin=0, vmax=60, interpolation="nearest")
    ax.set_title(f"{name}: {values[known].mean():.1f} known, {values[~known].mean():.1f} hidden")
figure.colorbar(shown, ax=axes[1], location="bottom", shrink=0.6, label="levels of 255")
for ax in axes.flat:
    ax.set_axis_off()
plt.show()
