"""
Spectral bias
=============

The same network with the same steps, fed by four encodings. From x and y alone (``none``) a ReLU network learns
a blur, since it learns low frequencies first. Sines and cosines of the position let it learn fine detail.
:doc:`/explanation/spectral_bias` says why.
"""

import matplotlib.pyplot as plt

import coordfit

picture = coordfit.bundled_picture()
comparison = coordfit.compare(
    picture, encodings=["none", "basic", "positional", "gaussian"], sigmas=[10], steps=200, evaluate_every=20
)

figure, axes = plt.subplot_mosaic("abcd;eeee", figsize=(7, 5), layout="constrained", height_ratios=(3, 4))
for panel, (name, result) in zip("abcd", comparison.results.items(), strict=True):
    axes[panel].imshow(result.reconstruction, interpolation="nearest")
    axes[panel].set_title(f"{name}\n{result.metrics['psnr']:.1f} dB")
    axes[panel].set_axis_off()
    steps = [row["step"] for row in result.history]
    axes["e"].plot(steps, [row["psnr"] for row in result.history], marker=".", label=name)
axes["e"].set(xlabel="step", ylabel="PSNR / dB", title="PSNR while the networks learn")
axes["e"].legend(ncols=4, loc="lower right")
axes["e"].grid(alpha=0.3)
plt.show()
