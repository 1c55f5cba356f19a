"""Time whole training steps: forward, loss, backward and optimizer, for one network and for sixteen."""

# ruff: noqa: D102 - names tell what is timed, parameters what it is timed with

import statistics
import time

from .common import DEVICES, FUSED, OnDevice, named
from .networks import Stepper

# Side of the picture, pixels of a batch (None: all), networks (None: one, without an ensemble axis).
CASES = {
    "32x32 batch 32": (32, 32, None),
    "128x128 batch 1024": (128, 1024, None),
    "128x128 full": (128, None, None),
    "32x32 batch 32, 16 networks": (32, 32, 16),
    "128x128 batch 1024, 16 networks": (128, 1024, 16),
}
_STRETCHES, _SECONDS = 5, 0.1


class TrainingSteps(OnDevice):
    """Seconds of one step, and pixels that all networks together learn from in a second.

    Both are tracked: steps that training takes at once are taken at once here.
    """

    params = (tuple(CASES), FUSED, DEVICES)
    param_names = ("case", "fused", "device")

    def setup(self, case, fused, device):
        self.open(device, fused)
        side, batch_size, members = CASES[case]
        self.step = Stepper(self.backend, side, batch_size, members)
        self.pixels = self.step.rows * (members or 1)
        self.warm_up(self.step)

    @named("a training step", unit="seconds")
    def track_step(self, case, fused, device):
        return 1.0 / self.steps_per_second()

    @named("pixels learned per second", unit="pixels/s")
    def track_pixels_per_second(self, case, fused, device):
        return self.pixels * self.steps_per_second()

    def steps_per_second(self):
        """Return the median of some stretches of steps, each long enough for the clock."""
        rates = []
        for _ in range(_STRETCHES):
            steps, start = 0, time.perf_counter()
            while steps == 0 or time.perf_counter() - start < _SECONDS:
                steps += self.step()
            rates.append(steps / (time.perf_counter() - start))
        return statistics.median(rates)
