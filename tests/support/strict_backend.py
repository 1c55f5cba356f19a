"""Run the generic bodies on `array_api_strict`, which proves that they use only the array API standard.

Arrays live on the library's fake second device, whose `__array__` raises: code that mixes host and device
arrays fails here on any machine, and not only on a GPU.
"""

import array_api_strict
import numpy as np

from coordfit.backends import Backend

DEVICE = array_api_strict.Device("device1")
HOST = array_api_strict.Device("CPU_DEVICE")


class StrictBackend(Backend):
    """The standard alone, on a device that is not the host."""

    name = "strict"
    device = "device1"
    xp = array_api_strict

    def asarray(self, array, dtype=None):
        return self.xp.asarray(array, dtype=self.dtype(dtype), device=DEVICE)

    def to_numpy(self, array):
        return np.array(array.to_device(HOST))

    def arange(self, start, stop):
        return self.xp.arange(start, stop, dtype=self.xp.int64, device=DEVICE)

    def zeros(self, shape, dtype):
        return self.xp.zeros(shape, dtype=self.dtype(dtype), device=DEVICE)
