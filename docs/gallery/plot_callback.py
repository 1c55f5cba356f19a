"""
Watch it train
==============

A callback is told of the progress, and can render the present function. This one draws at steps that grow by
factors of two: out of the noise of the first features come colours and shapes, and detail comes last.
"""

import matplotlib.pyplot as plt

import coordfit

figure, axes = plt.subplots(2, 4, figsize=(7, 4.2), layout="constrained")
panels = dict(zip([0, 2, 4, 8, 16, 32, 64, 128], axes.flat, strict=True))


def draw(progress):
    if progress.evaluated and progress.step in panels:
        ax = panels[progress.step]
        ax.imshow(progress.render(), interpolation="nearest")
        ax.set_title(f"step {progress.step}\n{progress.psnr:.1f} dB")


coordfit.fit(coordfit.bundled_picture(), steps=128, evaluate_every=2, callback=draw)
for ax in axes.flat:
    ax.set_axis_off()
plt.show()
