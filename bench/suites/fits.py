"""Time short whole fits through the public function, beside the PSNR that they reach."""

# ruff: noqa: D102 - names tell what is timed, parameters what it is timed with

import coordfit

from .common import DEVICES, OnDevice, named

# Side of the bundled picture, and settings. Seeds are fixed: the PSNR moves only if the mathematics does.
FITS = {
    "32x32, 200 steps of 256": (32, {"steps": 200, "batch_size": 256}),
    "128x128, 50 steps of 1024": (128, {"steps": 50, "batch_size": 1024}),
    "128x128 by tiles of 8, 20 steps": (128, {"tiles": 8, "steps": 20}),
}


class Fits(OnDevice):
    """`coordfit.fit` of the bundled picture, evaluations and result included."""

    params = (tuple(FITS), DEVICES)
    param_names = ("fit", "device")

    def setup(self, fit, device):
        self.open(device)
        side, self.settings = FITS[fit]
        self.pixels = coordfit.bundled_picture(side).pixels
        self.device = device
        self.warm_up(lambda: self.fit(steps=2))

    def fit(self, **changes):
        return coordfit.fit(self.pixels, device=self.device, **(self.settings | changes))

    @named("a whole fit of the bundled picture")
    def time_fit(self, fit, device):
        self.fit()
        self.backend.synchronize()

    @named("PSNR of that fit", unit="dB")
    def track_psnr(self, fit, device):
        return self.fit().metrics["psnr"]


class Inpainting(OnDevice):
    """`coordfit.inpaint` of half of the bundled picture's pixels, as it is by default."""

    params = ((32, 128),)
    param_names = ("side",)

    def setup(self, side):
        self.open("cpu")
        self.pixels = coordfit.bundled_picture(side).pixels
        self.warm_up(self.inpaint)

    def inpaint(self):
        return coordfit.inpaint(self.pixels, missing=0.5, device="cpu")

    @named("inpainting half of the pixels")
    def time_inpaint(self, side):
        self.inpaint()

    @named("PSNR of the hidden pixels", unit="dB")
    def track_psnr_hidden(self, side):
        return self.inpaint().metrics["psnr_hidden"]


class PixelVisits(OnDevice):
    """What the default needs to get the bundled picture right, in pixel visits: no machine in it."""

    params = ((30.0, 40.0),)
    param_names = ("dB",)

    def setup(self, psnr):
        self.open("cpu")
        self.pixels = coordfit.bundled_picture(128).pixels

    @named("pixel visits to a PSNR", unit="visits")
    def track_pixel_visits(self, psnr):
        result = coordfit.fit(self.pixels, device="cpu", target_psnr=psnr)
        if result.stopped != "target_psnr":
            return None
        return result.metrics["steps"] * min(result.config.batch_size or 128**2, 128**2)
