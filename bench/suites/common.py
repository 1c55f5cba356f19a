"""Share what the suites need: the device parameter, and a backend held while a benchmark runs.

Parameters are the same on every machine, so that results can be compared; what a machine lacks is skipped in
`setup`. What a benchmark times ends with `synchronize`, since a GPU returns before it is done. This module and
the suites of fits, renderings, memory and starts take public names alone, so that they measure old commits too.
"""

import contextlib

import coordfit

DEVICES = ("cpu", "gpu")
FUSED = ("always", "never")  # the generic bodies last: few use them


def named(name, unit=None):
    """Give a benchmark the name, and a tracked one the unit, that the pages of asv show."""

    def give(benchmark):
        benchmark.pretty_name = name
        if unit is not None:
            benchmark.unit = unit
        return benchmark

    return give


class OnDevice:
    """Base of the suites: `setup` opens a backend, `teardown` closes it."""

    # Without it asv drops a benchmark's history whenever its text changes. Raise it with what is timed.
    version = "1"
    timeout = 120

    def open(self, device, fused="auto"):
        """Hold a backend for the benchmark, or skip the benchmark if there is no such device."""
        try:
            self.backend = coordfit.get_backend(device, fused=fused)
        except coordfit.DeviceUnavailableError as reason:
            raise NotImplementedError(str(reason)) from reason
        self._held = contextlib.ExitStack()
        self._held.enter_context(self.backend.activate())

    def warm_up(self, body):
        """Run the body once: buffers are made, kernels compiled, worker threads started."""
        try:
            body()
        except RuntimeError as reason:
            self.teardown()
            if self.backend.device == "cpu" or type(reason).__name__ != "FusedUnavailableError":
                raise
            raise NotImplementedError(str(reason)) from reason
        self.backend.synchronize()

    def teardown(self, *_):
        """Give threads and library settings back."""
        held = getattr(self, "_held", None)
        if held is not None:
            held.close()
