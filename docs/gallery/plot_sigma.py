"""
Sigma: too small, right, too large
==================================

Every second row and column is trained; the other pixels are held out. ``sigma`` is the spread of the Fourier
frequencies. Too small a sigma blurs, too large a sigma fits the training pixels and leaves noise between them.
"""

import matplotlib.pyplot as plt

import coordfit

picture = coordfit.bundled_picture()
options = {"train_on": "every-second", "recipe": "default", "steps": 150, "hidden_size": 64}
sigmas = [0.2, 0.5, 1, 2, 5, 10, 20, 40]
table = coordfit.sweep(picture, sigma=sigmas, **options).sorted_by("sigma", descending=False)
best = table.sorted_by("psnr_held_out")[0]["sigma"]
three = [coordfit.fit(picture, sigma=sigma, **options) for sigma in (0.2, best, 40)]

figure, axes = plt.subplot_mosaic("abc;ddd", figsize=(7, 5.5), layout="constrained", height_ratios=(1, 1.1))
for panel, result in zip("abc", three, strict=True):
    axes[panel].imshow(result.reconstruction, interpolation="nearest")
    axes[panel].set_title(f"sigma {result.config.sigma:g}, {result.metrics['psnr_held_out']:.1f} dB")
    axes[panel].set_axis_off()
for column, label in ("psnr_train", "training pixels"), ("psnr_held_out", "held-out pixels"):
    axes["d"].semilogx(table["sigma"], table[column], marker="o", label=label)
bicubic = result.metrics["psnr_held_out_bicubic"]
axes["d"].axhline(bicubic, color="gray", linestyle="--", label="held-out pixels, bicubic")
axes["d"].set_xticks(sigmas, [f"{sigma:g}" for sigma in sigmas])
axes["d"].minorticks_off()
axes["d"].set(xlabel="sigma / cycles per side", ylabel="PSNR / dB")
axes["d"].legend(loc="lower center")
axes["d"].grid(alpha=0.3)
plt.show()
