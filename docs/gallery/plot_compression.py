"""
A picture in few bits
=====================

``coordfit.compress`` fits a function of few bits to one picture. Beside it are JPEGs with full and with
reduced colour resolution. The two details are from files of about the same size.
"""

import io

import matplotlib.pyplot as plt
from PIL import Image
from skimage import data

import coordfit

picture = data.coffee()[100:292, 180:372]


def jpeg(quality, subsampling):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality, subsampling=subsampling, optimize=True)
    return file.tell() / 1000, coordfit.load_picture(Image.open(file)).levels


made = [coordfit.compress(picture, lmbda=price, steps=60) for price in (2e-3, 6e-4, 2e-4)]
files = {"coordfit": [(len(one.data) / 1000, one.decompressed().levels) for one in made]}
files |= {f"JPEG {kind}": [jpeg(q, kind) for q in range(10, 91, 5)] for kind in ("4:4:4", "4:2:0")}
figure, axes = plt.subplot_mosaic("ab;cc", figsize=(7, 6.6), layout="constrained")
for panel, name in ("a", "coordfit"), ("b", "JPEG 4:2:0"):
    size, found = min(files[name], key=lambda file: abs(file[0] - len(made[0].data) / 1000))
    axes[panel].imshow(found[90:186, 10:140], interpolation="nearest")
    axes[panel].set_title(f"{name}, {size:.1f} kB, {coordfit.psnr(found, picture):.1f} dB")
    axes[panel].axis("off")
for name, points in files.items():
    bits = [8000 * size / 192**2 for size, _ in points]
    axes["c"].plot(bits, [coordfit.psnr(found, picture) for _, found in points], marker=".", label=name)
axes["c"].set(xlabel="bits per pixel", ylabel="PSNR / dB", xlim=(0, 3.2))
axes["c"].legend()
plt.show()
