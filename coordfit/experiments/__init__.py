"""Run the study: small experiments, each a question, a table, pictures, and one sentence from its numbers.

An experiment is a module with `TITLE` and `run(study)`; it trains its networks as few batches, whose members
differ in what the question is about.
"""

from __future__ import annotations

import importlib

from ..config import did_you_mean
from ..errors import ConfigError
from .common import InterruptedStudyError, Outcome, Study

__all__ = ["NAMES", "InterruptedStudyError", "Outcome", "Study", "check_names", "run_experiment"]

NAMES = (
    "encodings",
    "losses",
    "optimizers",
    "depth-width",
    "fourier-features",
    "inpainting",
    "resolution",
)


def check_names(names: list[str]) -> tuple[str, ...]:
    """Return the experiments that were named, each once, in the order of `NAMES`; all if none was.

    Raises
    ------
    ConfigError
        A name is not that of an experiment.
    """
    for name in names:
        if name not in NAMES:
            meant = did_you_mean(name, NAMES) or f"; known: {', '.join(NAMES)}"
            raise ConfigError(f"there is no experiment {name!r}{meant}")
    return tuple(name for name in NAMES if name in names or not names)


def run_experiment(name: str, study: Study) -> Outcome:
    """Run one experiment of `NAMES`.

    Raises
    ------
    InterruptedStudyError
        The study was asked to stop before the experiment was done.
    """
    module = importlib.import_module("." + name.replace("-", "_"), __name__)
    outcome: Outcome = module.run(study)
    return outcome
