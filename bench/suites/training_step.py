"""Whole training steps: forward, loss, backward and optimizer, for one network and for sixteen at once."""

# ruff: noqa: D102 - names tell what is timed, parameters what it is timed with

import time

from .common import DEVICES, FUSED, OnDevice, Stepper

# Side of the picture, pixels of a batch (None: all), networks (None: one, without an ensemble axis).
CASES = {
    "32x32 batch 32": (32, 32, None),
    "128x128 batch 1024": (128, 1024, None),
    "128x128 full": (128, None, None),
    "32x32 batch 32, 16 networks": (32, 32, 16),
    "128x128 batch 1024, 16 networks": (128, 1024, 16),
}
_SECONDS = 0.3


class TrainingSteps(OnDevice):
    """Time of one step, and pixels that all networks together learn from in a second."""

    params = (tuple(CASES), FUSED, DEVICES)
    param_names = ("case", "fused", "device")

    def setup(self, case, fused, device):
        self.open(device, fused)
        side, batch_size, members = CASES[case]
        self.step = Stepper(self.backend, side, batch_size, members)
        self.pixels = self.step.rows * (members or 1)
        self.warm_up(self.step)

    def time_step(self, case, fused, device):
        self.step()

    def track_pixels_per_second(self, case, fused, device):
        steps, start = 0, time.perf_counter()
        while steps == 0 or time.perf_counter() - start < _SECONDS:
            self.step()
            steps += 1
        return steps * self.pixels / (time.perf_counter() - start)

    track_pixels_per_second.unit = "pixels/s"
