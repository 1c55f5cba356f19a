"""Run the study: small experiments, each with a question, a table, pictures, and one sentence from its numbers.

An experiment is a module with `run(study)`. It trains networks in few batches, whose members differ in the
settings that the question is about.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..option_checks import did_you_mean

if TYPE_CHECKING:
    from .common import Outcome, Study

NAMES = ("encodings", "losses", "optimizers", "depth-width", "fourier-features", "inpainting", "resolution")


def check_names(names: list[str]) -> tuple[str, ...]:
    """Return the given experiments, each once, in the order of `NAMES`, or all of them if none is given.

    ConfigError for an unknown name.
    """
    for name in names:
        if name not in NAMES:
            meant = did_you_mean(name, NAMES) or f"; known: {', '.join(NAMES)}"
            raise ConfigError(f"there is no experiment {name!r}{meant}")
    return tuple(name for name in NAMES if name in names or not names)


def run_experiment(name: str, study: Study) -> Outcome:
    """Run one experiment of `NAMES`, whose module is imported only now."""
    module = importlib.import_module("." + name.replace("-", "_"), __name__)
    outcome: Outcome = module.run(study)
    return outcome
