"""Measure the peak memory of a process; `peakmem_reference` is what the imports alone take."""

import numpy as np

import coordfit

from .common import named


class Memory:
    """On the CPU: a GPU's memory is not the process's."""

    version = "1"

    @named("peak memory: imports alone")
    def peakmem_reference(self):
        """Imports, and the threads of a backend."""
        with coordfit.get_backend("cpu").activate():
            pass

    @named("peak memory: a fit of 128x128")
    def peakmem_fit_128(self):
        """A short fit of the bundled 128x128 picture with all pixels in every step."""
        coordfit.fit(coordfit.bundled_picture().pixels, device="cpu", steps=3, batch_size=None)

    @named("peak memory: a rendering of 2048x2048 by rows")
    def peakmem_stream_2048(self):
        """A rendering of 2048x2048 taken row by row, as the command line does."""
        from coordfit.models.model import Model
        from coordfit.network.cost import layer_sizes
        from coordfit.network.parameters import ParameterLayout
        from coordfit.signals.facts import SignalFacts

        config = coordfit.make_config({"num_frequencies": 16, "hidden_size": 16, "depth": 2})
        facts = SignalFacts((128, 128), 3)
        size = ParameterLayout(layer_sizes(config, 32, 3)).size
        model = Model(coordfit.get_backend("cpu"), config, facts, {"B": np.ones((16, 2))}, np.zeros(size))
        for _ in model.render_rows(model.grid(2048, 2048)):
            pass
