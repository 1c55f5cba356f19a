"""Learning-rate schedules, the same for every optimizer: a linear warm-up, then a decay from 1."""

from __future__ import annotations

import math
from typing import Any

from ..config import FitConfig


def learning_rate(config: FitConfig, step: int, steps: int) -> float:
    """Return the learning rate of the step after `step` steps, in a schedule of `steps` steps."""
    return config.learning_rate * schedule_factor(
        config.schedule,
        step,
        steps,
        warmup_steps=config.warmup_steps,
        final_factor=config.final_factor,
    )


def schedule_factor(
    schedule: Any, step: int, steps: int, *, warmup_steps: int = 0, final_factor: float = 0.0
) -> float:
    """Return the factor on the learning rate for the step after `step` steps.

    Parameters
    ----------
    schedule : {"constant", "cosine", "linear", "exponential"}, or an object with `factor(progress)`
        `cosine` is half a period, from Loshchilov and Hutter, "SGDR" (2017), equation 5; `linear` a straight
        line (Defazio et al., "Optimal Linear Decay Learning Rate Schedules and Further Refinements", 2023);
        `exponential` has the same ratio at every step.
    steps : int
        The last step is `steps - 1`; after it the factor keeps its end value.
    warmup_steps : int
        Steps in which the factor rises linearly, from `1 / (warmup_steps + 1)`.
    final_factor : float
        The factor at the end; at least 1e-4 for `exponential`, which cannot reach 0.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if schedule == "constant":
        return 1.0
    progress = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
    if not isinstance(schedule, str):
        return float(schedule.factor(progress))
    if schedule == "linear":
        return final_factor + (1.0 - final_factor) * (1.0 - progress)
    if schedule == "cosine":
        return final_factor + (1.0 - final_factor) * 0.5 * (1.0 + math.cos(math.pi * progress))
    return float(max(final_factor, 1e-4) ** progress)
