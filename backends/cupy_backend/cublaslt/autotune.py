"""How a product is taken: on the tier that is fastest here, or the next one down where the library refuses.

All tiers compute the same. Without a timer the first that the library has is taken, by its own first choice.

| tier     | product              | what the epilogue would have done        |
|----------|----------------------|------------------------------------------|
| EPILOGUE | cublasLt             | the epilogue does it                     |
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
from .layer_products import backward_input, backward_weights, forward
from .library import CublasLtError
from .plans import Plan, Planner, RefusedError, Workspace
from .products import PRECISIONS, Epilogue, Pointers, Product, Strides


class Tier(enum.Enum):
    """Which way a product is taken, from the best down."""

    EPILOGUE = "epilogue"
    PLAIN = "plain product and separate kernels"
    LIBRARY = "library matmul"


Timer = Callable[[Callable[[], None]], float | None]
"""Milliseconds that the device needs for one run of what it is given; None where nothing can be timed now."""
_PASSES = 2  # over all candidates, of which the faster counts: a device that was idle begins slowly


class Resolved(NamedTuple):
    """What was decided for a product: the tier, the plan to run (None on LIBRARY), and why.

    `refused` has the reason why not a better tier, `milliseconds` those of each candidate by the tier, with the
    kernels that follow, or nothing where they were not timed.
    """

    tier: Tier
    plan: Plan | None
    refused: dict[Tier, str]
    candidate: int = 0
    milliseconds: dict[str, list[float | None]] = {}  # noqa: RUF012 - a tuple's field, never written

    @property
    def algorithm(self) -> bytes:
        """The library's algorithm, as it may be compared with others of the same version."""
        return b"" if self.plan is None else bytes(self.plan.candidates[self.candidate].algorithm)

    def run(self, pointers: Pointers, workspace: Workspace, stream: int) -> None:
        """Run the plan, on PLAIN without vector and mask, which are left to the kernels that follow."""
        if self.plan is None:
            raise ValueError("there is no plan to run: the array library computes this product")
        if self.tier is Tier.PLAIN:
            pointers = pointers._replace(vector=0, mask=0)
        self.plan.run(pointers, workspace, stream, self.candidate)


class Autotuner:
    """Finds the tier for each product, once, and remembers why.

    Parameters
    ----------
    planner : Planner or None
        None where there is no cublasLt.
    fused : {"auto", "always", "never"}
        See `Backend`. "always" does not step below cublasLt, "never" does not use it.
    why : str
        Why there is no planner.
    timer : Timer, optional
        Times every candidate on every tier of a new product. A product that accumulates is not timed: each
        trial would add to its result.
    choices : Choices, optional
        Where what was fastest is kept for later processes.
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
        """Return the step for a product on pointers aligned like these: the same object at every call.

        Parameters
        ----------
        finish : callable, optional
            Launches the kernels that do on PLAIN what the epilogue does: a trial there is timed with them. It
            may be called many times, and changes nothing but the product's own results.
        is_recording : bool
            Whether a step is being recorded: nothing can be asked of the library then, or timed.

        Raises
        ------
        FusedUnavailableError
            With `fused="always"`, where nothing but the array library's product is left.
        CublasLtError
            With `fused="always"`, where the library does not refuse but fails.
        RuntimeError
            For a product that is first met while a step is recorded.
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
        """Return what was taken, a row for each product, as plain data for reports."""
        return [
            _describe(product) | {"alignments": list(alignments)} | _outcome(step)
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
        """Yield the plan on each tier that has one; of the others, note the reason in `refused`."""
        for tier, candidate in _rungs(product):
            if self.planner is None or self.fused == "never":
                refused[tier] = "fused=never" if self.fused == "never" else self.why
                continue
            try:
                used = pointers if tier is Tier.EPILOGUE else pointers._replace(vector=0, mask=0)
                yield tier, self.planner.plan(candidate, used)
            except RefusedError as reason:
                refused[tier] = str(reason)
            except CublasLtError as error:  # not a refusal but a fault: told in the report, or loudly
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
        """The step that was chosen for a product before, or the fastest one now, which is kept."""
        key = f"{product!r} on {alignments}"
        if (step := self._chosen_before(key, found)) is not None:
            return step
        outcomes = self._timed(trials)
        if outcomes is None:  # nothing can be timed now: nothing is kept
            return found[0]
        milliseconds: dict[str, list[float | None]] = {}
        refused = dict(found[0].refused)
        for tier in dict.fromkeys(step.tier for step in found):
            of_rung = [outcome for step, outcome in zip(found, outcomes, strict=True) if step.tier is tier]
            milliseconds[tier.value] = [time if isinstance(time, float) else None for time in of_rung]
            if all(time is None for time in milliseconds[tier.value]):
                refused[tier] = f"no algorithm runs: {of_rung[0]}"
        found = [step._replace(refused=refused) for step in found]
        times = [(outcome, i) for i, outcome in enumerate(outcomes) if isinstance(outcome, float)]
        if not times:
            return self._without_a_plan(product, refused)
        best = found[min(times)[1]]
        choice = Choice(best.tier.value, best.algorithm, milliseconds)
        if self.choices is not None:
            with contextlib.suppress(OSError):  # then a later run times it again
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
        """Milliseconds of each trial, or its error; None where nothing can be timed."""
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
    """Take a step as it would be taken: on PLAIN with the kernels that follow."""
    step.run(pointers, workspace, stream)
    if step.tier is Tier.PLAIN and finish is not None:
        finish()


def _chosen(choice: Choice, found: list[Resolved]) -> Resolved | None:
    """The step of a choice, or None where the library does not offer its algorithm."""
    wanted = (choice.tier, choice.algorithm)
    steps = (step for step in found if (step.tier.value, step.algorithm) == wanted)
    step = next(steps, None)
    return None if step is None else step._replace(milliseconds=choice.milliseconds)


def _rungs(product: Product) -> Iterator[tuple[Tier, Product]]:
    """Yield what cublasLt is asked for, from the best down."""
    if product.epilogue != Epilogue.NONE:
        yield Tier.EPILOGUE, product
    yield Tier.PLAIN, product.plain()


def _describe(product: Product) -> dict[str, Any]:
    return {
        "product": product.name,
        "rows": product.rows,
        "columns": product.columns,
        "inner": product.inner,
        "members": product.members,
        "types": str(product.types),
        "epilogue": product.epilogue.name,
        "accumulate": product.accumulate,
    }


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


def time_candidates(planner: Planner, rows: int = 16384, width: int = 256) -> list[dict[str, Any]]:
    """Ask for every product of a hidden layer in every precision, for one network and for three.

    Returns
    -------
    table : list of dict
        Product, types, members, epilogue, whether X is shared, and the reason for a refusal (or "").
    """
    return [
        _describe(product) | {"shared": shared, "refused": planner.probe(product)}
        for product, shared in _typical_products(rows, width)
    ]


def _typical_products(rows: int, width: int) -> Iterator[tuple[Product, bool]]:
    sizes = (rows, width, width)
    for precision in PRECISIONS.values():
        for members, shared in ((1, False), (3, False), (3, True)):
            options: dict[str, Any] = {"members": members}
            if shared:  # X
                options["strides"] = Strides(0, width * width, rows * width, width)
            yield forward(sizes, precision, **options), shared
            yield forward(sizes, precision, mask=False, **options), shared
            yield forward(sizes, precision, relu=False, **options), shared
            yield forward(sizes, precision, bias=False, relu=False, **options), shared
            if not shared:
                yield backward_weights(sizes, precision, **options), shared
                yield backward_input(sizes, precision, **options), shared
                continue
            options["strides"] = Strides(0, rows * width, width * width, width)
            yield backward_weights(sizes, precision, **options), shared
