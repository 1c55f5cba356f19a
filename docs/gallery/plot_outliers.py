"""
Losses under outliers
=====================

One pixel of ten is black or white by mistake. The squared error (``mse``) pulls the network towards them. The
absolute error (``mae``) and Huber's loss count them less, so the network comes nearer to the clean picture.
"""

import matplotlib.pyplot as plt
import numpy as np

import coordfit

clean = coordfit.bundled_picture().pixels
rng = np.random.default_rng(0)
noisy = clean.copy()
hit = rng.random(clean.shape[:2]) < 0.1
noisy[hit] = rng.integers(0, 2, (hit.sum(), 1))

figure, axes = plt.subplots(2, 2, figsize=(7, 7.4), layout="constrained")
axes[0, 0].imshow(noisy, interpolation="nearest")
axes[0, 0].set_title(f"given, {coordfit.psnr(noisy, clean):.1f} dB")
for ax, loss in zip(axes.flat[1:], ("mse", "mae", "huber"), strict=True):
    result = coordfit.fit(noisy, loss=loss, delta=0.05, sigma=3, hidden_size=64, steps=400)
    ax.imshow(result.reconstruction, interpolation="nearest")
    ax.set_title(f"{loss}, {coordfit.psnr(result.reconstruction, clean):.1f} dB from the clean picture")
for ax in axes.flat:
    ax.set_axis_off()
plt.show()
