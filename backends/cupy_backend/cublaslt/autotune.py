"""Choose how each product is computed: on the fastest tier, or on the next one if the library refuses.

All tiers compute the same. Without a timer, the first available tier runs the library's first algorithm.

| tier     | product              | bias, activation and addend              |
|----------|----------------------|------------------------------------------|
| EPILOGUE | cublasLt             | in the product                           |
| PLAIN    | cublasLt             | separate kernels                         |
| LIBRARY  | array library's own  | separate kernels; cannot be captured     |
"""

from __future__ import annotations

import contextlib
import enum
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from ...dispatch import FUSED_MODES, FusedUnavailableError
from .autotune_cache import Choice, Choices
from .library import CublasLtError
from .plans import Plan, Planner, RefusedError, Workspace
from .products import Epilogue, Pointers, Product


class Tier(enum.Enum):
    """How a product is computed, the best first."""

    EPILOGUE = "epilogue"
    PLAIN = "plain product and separate kernels"
    LIBRARY = "library matmul"


Timer = Callable[[Callable[[], None]], float | None]
"""Returns the device's milliseconds for one run, or None if nothing can be timed now."""
_PASSES = 2  # over all candidates; the faster one counts, since an idle device starts slowly


class Resolved(NamedTuple):
    """The tier of a product, its plan (None on LIBRARY), and the reasons.

    `refused` has the reason against each better tier; `milliseconds` has, by tier, the time of each candidate
    with the kernels that follow, and is empty if nothing was timed.
    """

    tier: Tier
    plan: Plan | None
    refused: dict[Tier, str]
    candidate: int = 0
    milliseconds: dict[str, list[float | None]] = {}  # noqa: RUF012 - a tuple's field, never written

    @property
    def algorithm(self) -> bytes:
        """The library's algorithm as bytes, comparable within one version."""
        return b"" if self.plan is None else bytes(self.plan.candidates[self.candidate].algorithm)

    def run(self, pointers: Pointers, workspace: Workspace, stream: int) -> None:
        """Run the plan; on PLAIN without vector and addend, which the kernels that follow read or write."""
        if self.plan is None:
            raise ValueError("there is no plan to run: the array library computes this product")
        if self.tier is Tier.PLAIN:
            pointers = pointers.plain()
        self.plan.run(pointers, workspace, stream, self.candidate)


class Autotuner:
    """Finds the tier of each product, once, and keeps the reasons.

    Parameters
    ----------
    planner : Planner or None
        None without cublasLt.
    fused : {"auto", "always", "never"}
        See `Backend`. "always" refuses the tier LIBRARY, "never" takes it alone.
    why : str
        Why the planner is None.
    timer : Timer, optional
        Times every candidate on every tier of a new product, unless the product accumulates: each trial would
        add to its result.
    choices : Choices, optional
        Keeps the fastest candidates for later processes.
    """

    def __init__(
        self,
        planner: Planner | None,
        fused: str = "auto",
        why: str = "",
        timer: Timer | None = None,
        choices: Choices | None = None,
    ) -> None:
        if fused not in FUSED_MODES:
            raise ValueError(f"fused must be one of {', '.join(FUSED_MODES)}, not {fused!r}")
        self.planner = planner
        self.fused = fused
        self.why = why or "there is no cublasLt here"
        self.timer, self.choices = timer, choices
        self._steps: dict[tuple[Product, tuple[int, ...]], Resolved] = {}

    def resolve(
        self,
        product: Product,
        pointers: Pointers,
        workspace: Workspace,
        stream: int,
        *,
        finish: Callable[[], object] | None = None,
        is_recording: bool = False,
    ) -> Resolved:
        """Return the decision for a product on pointers aligned like these: the same object at every call.

        Parameters
        ----------
        finish : callable, optional
            Launches the kernels that replace the epilogue on PLAIN; trials of that tier include them. It may be
            called many times, and changes only the product's own results.
        is_recording : bool
            Whether a step is being recorded, so that nothing new can be planned or timed.

        Raises
        ------
        FusedUnavailableError
            With `fused="always"`, if only the tier LIBRARY is left.
        CublasLtError
            With `fused="always"`, if the library fails instead of refusing.
        RuntimeError
            The product is new while a step is recorded.
        """
        key = (product, product.alignments(pointers))
        step = self._steps.get(key)
        if step is None:
            if is_recording and self.planner is not None:
                raise RuntimeError(f"the recorded step has {product}, which the steps before it did not")
            step = self._find(product, pointers, workspace, stream, finish)
            self._steps[key] = step
        return step

    def report(self) -> list[dict[str, Any]]:
        """Return the decision for each product, as plain data for reports."""
        return [
            product.describe() | {"alignments": list(alignments)} | _outcome(step)
            for (product, alignments), step in self._steps.items()
        ]

    def _find(
        self,
        product: Product,
        pointers: Pointers,
        workspace: Workspace,
        stream: int,
        finish: Callable[[], object] | None,
    ) -> Resolved:
        found: list[Resolved] = []
        refused: dict[Tier, str] = {}
        is_timed = self.timer is not None and not product.accumulate
        for tier, plan in self._plans(product, pointers, refused):
            found += [Resolved(tier, plan, refused, i) for i in range(len(plan.candidates) if is_timed else 1)]
            if not is_timed:
                break
        if not found:
            return self._without_a_plan(product, refused)
        if not is_timed:
            return found[0]
        trials = [functools.partial(_try, step, pointers, workspace, stream, finish) for step in found]
        return self._fastest(product, product.alignments(pointers), found, trials)

    def _plans(
        self, product: Product, pointers: Pointers, refused: dict[Tier, str]
    ) -> Iterator[tuple[Tier, Plan]]:
        """Yield the plan on each tier that has one; put the reasons of the others into `refused`."""
        for tier, candidate in _tiers(product):
            if self.planner is None or self.fused == "never":
                refused[tier] = "fused=never" if self.fused == "never" else self.why
                continue
            try:
                used = pointers if tier is Tier.EPILOGUE else pointers.plain()
                yield tier, self.planner.plan(candidate, used)
            except RefusedError as reason:
                refused[tier] = str(reason)
            except CublasLtError as error:  # a failure, not a refusal
                if self.fused == "always":
                    raise
                refused[tier] = str(error)

    def _without_a_plan(self, product: Product, refused: dict[Tier, str]) -> Resolved:
        if self.fused == "always":
            reasons = "; ".join(f"{tier.value}: {reason}" for tier, reason in refused.items())
            raise FusedUnavailableError(
                f"fused=always, but cublasLt cannot compute {product} in {product.types} ({reasons})"
            )
        return Resolved(Tier.LIBRARY, None, refused)

    def _fastest(
        self,
        product: Product,
        alignments: tuple[int, ...],
        found: list[Resolved],
        trials: Sequence[Callable[[], None]],
    ) -> Resolved:
        """Return the kept choice for a product, or time all candidates and keep the fastest."""
        key = f"{product!r} on {alignments}"
        if (step := self._chosen_before(key, found)) is not None:
            return step
        outcomes = self._timed(trials)
        if outcomes is None:  # nothing can be timed now
            return found[0]
        milliseconds: dict[str, list[float | None]] = {}
        refused = dict(found[0].refused)
        for tier in dict.fromkeys(step.tier for step in found):
            of_tier = [outcome for step, outcome in zip(found, outcomes, strict=True) if step.tier is tier]
            milliseconds[tier.value] = [time if isinstance(time, float) else None for time in of_tier]
            if all(time is None for time in milliseconds[tier.value]):
                refused[tier] = f"no algorithm runs: {of_tier[0]}"
        found = [step._replace(refused=refused) for step in found]
        times = [(outcome, i) for i, outcome in enumerate(outcomes) if isinstance(outcome, float)]
        if not times:
            return self._without_a_plan(product, refused)
        best = found[min(times)[1]]
        choice = Choice(best.tier.value, best.algorithm, milliseconds)
        if self.choices is not None:
            with contextlib.suppress(OSError):  # a later run then times it again
                choice = self.choices.keep(key, choice)
        return _chosen(choice, found) or best._replace(milliseconds=milliseconds)

    def _chosen_before(self, key: str, found: list[Resolved]) -> Resolved | None:
        if self.choices is None:
            return None
        with contextlib.suppress(OSError):
            if (known := self.choices.find(key)) is not None:
                if (step := _chosen(known, found)) is not None:
                    return step
                self.choices.forget(key)
        return None

    def _timed(self, trials: Sequence[Callable[[], None]]) -> list[float | CublasLtError] | None:
        """Return the milliseconds of each trial, or its error; None if nothing can be timed."""
        assert self.timer is not None
        outcomes: list[float | CublasLtError] = [float("inf")] * len(trials)
        for _ in range(_PASSES):
            for i, trial in enumerate(trials):
                before = outcomes[i]
                if isinstance(before, CublasLtError):
                    continue
                try:
                    time = self.timer(trial)
                except CublasLtError as error:
                    outcomes[i] = error
                    continue
                if time is None:
                    return None
                outcomes[i] = min(before, float(time))
        return outcomes


def _try(
    step: Resolved, pointers: Pointers, workspace: Workspace, stream: int, finish: Callable[[], object] | None
) -> None:
    """Run a candidate as in a step: on PLAIN with the kernels that follow."""
    step.run(pointers, workspace, stream)
    if step.tier is Tier.PLAIN and finish is not None:
        finish()


def _chosen(choice: Choice, found: list[Resolved]) -> Resolved | None:
    """Return the candidate of a choice, or None if the library does not offer its algorithm."""
    for step in found:
        if (step.tier.value, step.algorithm) == (choice.tier, choice.algorithm):
            return step._replace(milliseconds=choice.milliseconds)
    return None


def _tiers(product: Product) -> Iterator[tuple[Tier, Product]]:
    """Yield the tiers of cublasLt, the best first, with the product on each."""
    if product.epilogue != Epilogue.NONE or product.beta:
        yield Tier.EPILOGUE, product
    yield Tier.PLAIN, product.plain()


def _outcome(step: Resolved) -> dict[str, Any]:
    outcome: dict[str, Any] = {
        "tier": step.tier.value,
        "refused": {tier.value: reason for tier, reason in step.refused.items()},
    }
    if step.plan is not None:
        outcome |= {
            "choice": step.candidate,
            "candidates": len(step.plan.candidates),
            "milliseconds": step.milliseconds,
        } | step.plan.describe(step.candidate)
    return outcome
