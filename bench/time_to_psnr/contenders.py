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


# Adam as well as we could tune it: half the paper's width, and a rate that comes to 38.2 dB in 600 steps on two
# of the pictures; 0.004 comes to 36.9.
_TUNED = {
    "num_frequencies": 128,
    "sigma": 10.0,
    "depth": 4,
    "hidden_size": 128,
    "activation": "relu",
    "output_activation": "sigmoid",
    "optimizer": "adam",
    "learning_rate": 8e-3,
    "batch_size": 1024,
    "schedule": "cosine",
}

CONTENDERS = {
    "torch: paper": Contender("torch", "paper", (2000,), stop_at=40.0),
    "torch: tuned Adam, cosine": Contender("torch", "paper", (800, 1600, 3200), _TUNED),
    "coordfit: paper": Contender("coordfit", "paper", (2000,), stop_at=40.0),
    "coordfit: Adam, cosine": Contender("coordfit", "paper", (800, 1600, 3200), _TUNED),
    "coordfit: fast": Contender("coordfit", "fast", (400, 800, 1600)),
    "coordfit: sharp": Contender("coordfit", "sharp", (400, 800, 1200)),
}
