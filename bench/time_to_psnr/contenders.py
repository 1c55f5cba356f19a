"""Define the contenders: a recipe with the lengths that its schedule may have, in coordfit or in PyTorch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

LEVELS = (25.0, 30.0, 35.0, 40.0, 45.0, 50.0)
"""dB."""


@dataclass(frozen=True)
class Contender:
    """A recipe in one library.

    Attributes
    ----------
    lengths : steps that its schedule takes, each a run of its own; the best for each level is reported
    stop_at : dB at which a run ends, for those that would take minutes more
    """

    library: str
    recipe: str
    lengths: tuple[int, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    stop_at: float = LEVELS[-1]


# Adam as well as we could tune it: half the paper's width, a start at the mean colour, the best rate of 0.004,
# 0.008 and 0.012. Astronaut and chelsea reach 41.8 and 46.9 dB in 1600 steps; without that start 39.2 and 43.1.
_TUNED = {
    "num_frequencies": 128,
    "sigma": 10.0,
    "depth": 4,
    "hidden_size": 128,
    "activation": "relu",
    "output_activation": "sigmoid",
    "output_start": "mean",
    "optimizer": "adam",
    "learning_rate": 8e-3,
    "batch_size": 1024,
    "schedule": "cosine",
}

_ADAM = (600, 800, 1200, 1600, 2400, 3200)
_FAST = (300, 400, 500, 600, 800, 1200, 1600)
_SHARP = (200, 300, 400, 600, 800, 1200)

CONTENDERS = {
    "torch: paper": Contender("torch", "paper", (2000,), stop_at=40.0),
    "torch: Adam, cosine": Contender("torch", "paper", _ADAM, _TUNED),
    "torch: fast (Muon)": Contender("torch", "fast", _FAST),
    "torch: sharp (Muon)": Contender("torch", "sharp", _SHARP),
    "coordfit: paper": Contender("coordfit", "paper", (2000,), stop_at=40.0),
    "coordfit: Adam, cosine": Contender("coordfit", "paper", _ADAM, _TUNED),
    "coordfit: fast (Muon)": Contender("coordfit", "fast", _FAST),
    "coordfit: sharp (Muon)": Contender("coordfit", "sharp", _SHARP),
}

GAINS = {
    "the recipe, in coordfit": ("coordfit: Adam, cosine", "coordfit: fast (Muon)"),
    "the recipe, in PyTorch": ("torch: Adam, cosine", "torch: fast (Muon)"),
    "the library, with Adam": ("torch: Adam, cosine", "coordfit: Adam, cosine"),
    "the library, with Muon": ("torch: fast (Muon)", "coordfit: fast (Muon)"),
}
"""What is compared: the slower and the faster contender of each gain."""
