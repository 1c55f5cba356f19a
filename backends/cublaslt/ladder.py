"""What is taken where the library refuses a product: the next rung down, which computes the same.

| rung     | product              | what the epilogue would have done        |
|----------|----------------------|------------------------------------------|
| EPILOGUE | cublasLt             | the epilogue does it                     |
| PLAIN    | cublasLt             | separate kernels                         |
| LIBRARY  | array library's own  | separate kernels; cannot be captured     |
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any, NamedTuple

from ..dispatch import FUSED_MODES, FusedUnavailableError
from .layers import backward_input, backward_weights, forward
from .library import CublasLtError
from .plans import Plan, Planner, RefusedError, Workspace
from .products import PRECISIONS, Epilogue, Pointers, Product


class Rung(enum.Enum):
    """Which way a product is taken, from the best down."""

    EPILOGUE = "epilogue"
    PLAIN = "plain product and separate kernels"
    LIBRARY = "library matmul"


class Step(NamedTuple):
    """What was decided for a product: the rung, the plan to run (None on LIBRARY), and why not a better one."""

    rung: Rung
    plan: Plan | None
    refused: dict[Rung, str]

    def run(self, pointers: Pointers, workspace: Workspace, stream: int) -> None:
        """Run the plan, on PLAIN without vector and mask, which are left to the kernels that follow."""
        if self.plan is None:
            raise ValueError("there is no plan to run: the array library computes this product")
        if self.rung is Rung.PLAIN:
            pointers = pointers._replace(vector=0, mask=0)
        self.plan.run(pointers, workspace, stream)


class Ladder:
    """Finds the rung for each product, once, and remembers why.

    Parameters
    ----------
    planner : Planner or None
        None where there is no cublasLt.
    fused : {"auto", "always", "never"}
        See `Backend`. "always" does not step below cublasLt, "never" does not use it.
    why : str
        Why there is no planner.
    """

    def __init__(self, planner: Planner | None, fused: str = "auto", why: str = "") -> None:
        if fused not in FUSED_MODES:
            raise ValueError(f"fused must be one of {', '.join(FUSED_MODES)}, not {fused!r}")
        self.planner = planner
        self.fused = fused
        self.why = why or "there is no cublasLt here"
        self._steps: dict[tuple[Product, tuple[int, ...]], Step] = {}

    def take(self, product: Product, pointers: Pointers, workspace: Workspace, stream: int) -> Step:
        """Return the step for a product on pointers aligned like these: the same object at every call.

        Raises
        ------
        FusedUnavailableError
            With `fused="always"`, where nothing but the array library's product is left.
        CublasLtError
            With `fused="always"`, where the library does not refuse but fails.
        """
        key = (product, product.alignments(pointers))
        step = self._steps.get(key)
        if step is None:
            step = self._find(product, pointers, workspace, stream)
            self._steps[key] = step
        return step

    def report(self) -> list[dict[str, Any]]:
        """Return what was taken, a row for each product, as plain data for reports."""
        return [
            _describe(product) | {"alignments": list(alignments)} | _outcome(step)
            for (product, alignments), step in self._steps.items()
        ]

    def _find(self, product: Product, pointers: Pointers, workspace: Workspace, stream: int) -> Step:
        refused: dict[Rung, str] = {}
        for rung, candidate in _rungs(product):
            if self.planner is None or self.fused == "never":
                refused[rung] = "fused=never" if self.fused == "never" else self.why
                continue
            try:
                used = pointers if rung is Rung.EPILOGUE else pointers._replace(vector=0, mask=0)
                return Step(rung, self.planner.plan(candidate, used, workspace, stream), refused)
            except RefusedError as reason:
                refused[rung] = str(reason)
            except CublasLtError as error:  # not a refusal but a fault: told in the report, or loudly
                if self.fused == "always":
                    raise
                refused[rung] = str(error)
        if self.fused == "always":
            reasons = "; ".join(f"{rung.value}: {reason}" for rung, reason in refused.items())
            raise FusedUnavailableError(
                f"fused=always, but cublasLt cannot compute {product} in {product.types} ({reasons})"
            )
        return Step(Rung.LIBRARY, None, refused)


def _rungs(product: Product) -> Iterator[tuple[Rung, Product]]:
    """Yield what cublasLt is asked for, from the best down."""
    if product.epilogue != Epilogue.NONE:
        yield Rung.EPILOGUE, product
    yield Rung.PLAIN, product.plain()


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


def _outcome(step: Step) -> dict[str, Any]:
    outcome: dict[str, Any] = {
        "rung": step.rung.value,
        "refused": {rung.value: reason for rung, reason in step.refused.items()},
    }
    if step.plan is not None:
        outcome |= {
            "choice": step.plan.choice,
            "candidates": len(step.plan.candidates),
            "milliseconds": step.plan.milliseconds,
            "workspace_bytes": step.plan.workspace_bytes,
        }
    return outcome


def survey(planner: Planner, rows: int = 16384, width: int = 256) -> list[dict[str, Any]]:
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
            x_stride = 0 if shared else None
            yield forward(*sizes, precision, members=members, x_stride=x_stride), shared
            yield forward(*sizes, precision, mask=False, members=members, x_stride=x_stride), shared
            yield forward(*sizes, precision, relu=False, members=members, x_stride=x_stride), shared
            yield (
                forward(*sizes, precision, bias=False, relu=False, members=members, x_stride=x_stride),
                shared,
            )
            yield backward_weights(*sizes, precision, members=members, x_stride=x_stride), shared
            if not shared:
                yield backward_input(*sizes, precision, members=members), shared
