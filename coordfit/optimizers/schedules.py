"""Learning-rate schedules: the factor on the learning rate at a step, from 1 at the start to its end value.

The same function serves every optimizer; warm-up comes before it and is linear.
"""

from __future__ import annotations

import math
from typing import Any

SCHEDULES = ("constant", "cosine", "linear", "exponential")


def schedule_factor(
    schedule: Any, step: int, steps: int, *, warmup_steps: int = 0, final_factor: float = 0.0
) -> float:
    """The factor on the learning rate for the step that is about to be taken.

    Parameters
    ----------
    schedule : {"constant", "cosine", "linear", "exponential"}, or an object with `factor(progress)`
        `cosine` follows Loshchilov and Hutter, "SGDR" (2017), equation 5, once from 1 to `final_factor`;
        `linear` goes there in a straight line (Defazio et al., "Optimal Linear Decay Learning Rate Schedules
        and Further Refinements", 2023), `exponential` by the same ratio at every step.
    step : int
        Counts from 0.
    steps : int
        The budget; the last step is `steps - 1`. Past it the factor stays at its end value.
    warmup_steps : int
        Steps in which the factor rises linearly, 1 / (warmup_steps + 1) at step 0.
    final_factor : float
        The factor at the end; `exponential` takes 1e-4 for anything less, since it cannot reach 0.
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
