"""Time renderings of a model: to an array, and row by row into a PNG file."""

# ruff: noqa: D102 - names tell what is timed, parameters what it is timed with

import io

import coordfit

from .common import DEVICES, OnDevice, named


class Rendering(OnDevice):
    """A model of the default network, at 256x256 and at 512x512."""

    params = ((256, 512), DEVICES)
    param_names = ("side", "device")

    def setup(self, side, device):
        self.open(device)
        result = coordfit.fit(coordfit.bundled_picture(32).pixels, steps=1, device=device)
        self.model = result.model
        self.warm_up(lambda: self.model.render(32, 32))

    @named("a rendering of the default network")
    def time_render(self, side, device):
        self.model.render(side, side)
        self.backend.synchronize()


class Png:
    """Writing alone: filters and compression."""

    def setup(self):
        from coordfit.images.formats.png import PngWriter, quantize
        from coordfit.signals.grid import SampleGrid

        self.writer = PngWriter
        grid = SampleGrid.of(512, 512)
        x, y = grid.coordinates(range(512 * 512)).reshape(512, 512, 2).transpose(2, 0, 1)
        self.levels = quantize((x * y)[..., None].repeat(3, axis=-1).astype("float32"))

    @named("writing a PNG of 512x512")
    def time_write_png(self):
        writer = self.writer(io.BytesIO(), 512, 512, 3, 8)
        writer.write_rows(self.levels)
        writer.close()
