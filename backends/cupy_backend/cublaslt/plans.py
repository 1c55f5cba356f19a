"""Plans of products: made once and kept; each run is one call of cublasLtMatmul."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from .descriptors import ALGORITHM_FACTS, Attribute, Descriptor
from .library import ARCH_MISMATCH, NOT_SUPPORTED, SUCCESS, CublasLtError, HeuristicResult, Library
from .products import DATA_TYPES, Pointers, Product

WORKSPACE_BYTES = 32 << 20
"""Enough for Hopper's algorithms, which split a long inner axis (dW) over the whole device."""

MAX_CANDIDATES = 8
_ALIGNED = 256


class RefusedError(Exception):
    """The library has no algorithm for a product; the message is the reason."""


@dataclass(frozen=True)
class Workspace:
    """Device memory for a product while it runs; concurrent streams need one each."""

    pointer: int
    num_bytes: int = WORKSPACE_BYTES

    def __post_init__(self) -> None:
        if self.pointer % _ALIGNED:
            raise ValueError(f"a workspace lies on a multiple of {_ALIGNED} bytes, not at {self.pointer:#x}")


class Operation:
    """A product in the library's words: its descriptor and the layouts of its three matrices.

    The library's matrices are column-major (its epilogues work on no others). A row-major matrix (r, c) is,
    number for number, the column-major matrix (c, r), its transpose. So `out = left right` is computed as
    `out^T = right^T left^T`: A is the right operand, B the left one, C and D are the result; nothing is copied.
    """

    def __init__(self, library: Library, product: Product) -> None:
        types = product.types
        left, right, out = product.stored_shapes()
        strides = product.strides
        self.product = product
        self.desc = Descriptor(library, "MatmulDesc", types.compute, DATA_TYPES[types.scale])
        self.desc.set(Attribute.TRANSPOSE_A, product.transpose_right)
        self.desc.set(Attribute.TRANSPOSE_B, product.transpose_left)
        self.desc.set(Attribute.EPILOGUE, product.epilogue)
        if product.epilogue.has_vector and product.members > 1:
            self.desc.set(Attribute.VECTOR_BATCH_STRIDE, strides.vector)
        self.left = _layout(library, types.operand, left, product.members, strides.left)
        self.right = _layout(library, types.operand, right, product.members, strides.right)
        self.out = _layout(library, types.output, out, product.members, strides.out)
        self.vector = 0
        # Kept: enum lookups would cost microseconds in each run.
        self._takes_vector = product.epilogue.has_vector

    def point(self, vector: int) -> None:
        """Set the address that is no argument of a run."""
        if bool(vector) != self._takes_vector:
            takes = "takes" if self._takes_vector else "does not take"
            raise ValueError(
                f"{self.product}: the epilogue {self.product.epilogue.name} {takes} a bias or its gradient, "
                f"not address {vector:#x}"
            )
        if vector != self.vector:
            self.desc.set(Attribute.VECTOR_POINTER, vector)
        self.vector = vector

    def algorithms(
        self, handle: Descriptor, alignments: tuple[int, ...], workspace_bytes: int
    ) -> list[HeuristicResult]:
        """Return the library's algorithms, its first choice first; raise RefusedError if it has none.

        The vector must be set before: the library takes its alignment from the address.
        """
        preference = _preference(self.desc.library, alignments, workspace_bytes)
        results, count = (HeuristicResult * MAX_CANDIDATES)(), ctypes.c_int()
        layouts = (self.right.value, self.left.value, self.out.value, self.out.value)
        arguments = (handle.value, self.desc.value, *layouts, preference.value, MAX_CANDIDATES, results)
        try:
            self.desc.library.call("cublasLtMatmulAlgoGetHeuristic", *arguments, ctypes.byref(count))
        except CublasLtError as error:
            if error.status not in (NOT_SUPPORTED, ARCH_MISMATCH):
                raise
            raise RefusedError(f"the heuristic answers {error.text}") from None
        finally:
            preference.close()
        usable = [result for result in results[: count.value] if result.state == SUCCESS]
        if not usable:
            raise RefusedError("the heuristic knows no algorithm")
        return usable

    def close(self) -> None:
        """Destroy the descriptor and the layouts."""
        for descriptor in (self.desc, self.left, self.right, self.out):
            descriptor.close()


def _layout(
    library: Library, dtype: str, row_major_shape: tuple[int, int], members: int, stride: int
) -> Descriptor:
    rows, columns = row_major_shape
    # The columns of the row-major matrix are the rows of the column-major one.
    layout = Descriptor(library, "MatrixLayout", DATA_TYPES[dtype], columns, rows, columns)
    if members > 1:
        layout.set(Attribute.BATCH_COUNT, members)
        layout.set(Attribute.BATCH_STRIDE, stride)
    return layout


def _preference(library: Library, alignments: tuple[int, ...], workspace_bytes: int) -> Descriptor:
    left, right, out, _, addend = alignments
    preference = Descriptor(library, "MatmulPreference")
    preference.set(Attribute.MAX_WORKSPACE_BYTES, workspace_bytes)
    preference.set(Attribute.MIN_ALIGNMENT_A, right)
    preference.set(Attribute.MIN_ALIGNMENT_B, left)
    preference.set(Attribute.MIN_ALIGNMENT_C, min(out, addend))
    preference.set(Attribute.MIN_ALIGNMENT_D, out)
    return preference


class Plan:
    """One product with its algorithms, ready to run; made by `Planner.plan`.

    A plan is for one thread at a time: a run may set the address of the vector on it.
    """

    def __init__(self, handle: Descriptor, operation: Operation, candidates: list[HeuristicResult]) -> None:
        self.product = operation.product
        self.candidates = candidates
        self._operation = operation
        self._handle = handle
        self._library = operation.desc.library
        number = ctypes.c_double if self.product.types.scale == "float64" else ctypes.c_float
        alpha, beta = number(self.product.alpha), number(self.product.beta or float(self.product.accumulate))
        # Constant arguments are made once, to spare the host in each run.
        self._matmul = self._library.functions.cublasLtMatmul
        self._start = (handle.value, operation.desc.value, ctypes.byref(alpha))
        self._left, self._right, self._out = (
            layout.value for layout in (operation.left, operation.right, operation.out)
        )
        self._beta = ctypes.byref(beta)
        self._algorithms = [ctypes.byref(candidate.algorithm) for candidate in candidates]

    def run(self, pointers: Pointers, workspace: Workspace, stream: int, candidate: int = 0) -> None:
        """Launch the product on a stream, which may be recorded.

        Parameters
        ----------
        pointers : Pointers
            Aligned at least as those of `Planner.plan`.
        workspace : Workspace
            Not in use on another stream at the same time.
        stream : int
            Address of the CUDA stream; 0 is the default one.
        candidate : int
            Index into `candidates`; 0 is the library's first choice.

        Raises
        ------
        CublasLtError
            The library fails; the message has its words.
        """
        left, right, out, vector, addend = pointers
        if bool(addend) != bool(self.product.beta):
            raise ValueError(f"{self.product} has an addend exactly if its beta is not 0")
        if vector != self._operation.vector:
            self._operation.point(vector)
        status = self._matmul(
            *self._start,
            right,
            self._right,
            left,
            self._left,
            self._beta,
            addend or out,
            self._out,
            out,
            self._out,
            self._algorithms[candidate],
            workspace.pointer,
            workspace.num_bytes,
            stream,
        )
        if status:
            about = f" for {self.product} in {self.product.types}"
            raise self._library.error("cublasLtMatmul", status, about)

    def describe(self, candidate: int) -> dict[str, int | None]:
        """Return the workspace of a candidate, and its algorithm, tile, splits and cluster as numbers."""
        facts = {name: self._fact(candidate, *fact) for name, fact in ALGORITHM_FACTS.items()}
        return {"workspace_bytes": self.candidates[candidate].workspace_bytes} | facts

    def _fact(self, candidate: int, number: int, ctype: Any) -> int | None:
        value, written = ctype(), ctypes.c_size_t()
        places = (ctypes.byref(value), ctypes.sizeof(value), ctypes.byref(written))
        call = self._library.functions.cublasLtMatmulAlgoConfigGetAttribute
        # Not every version knows every attribute.
        return None if call(self._algorithms[candidate], number, *places) else int(value.value)

    def close(self) -> None:
        """Destroy the library's objects of this plan."""
        self._operation.close()


class Planner:
    """Makes and keeps the plans, and refusals, of the device that is current when it is made.

    Parameters
    ----------
    library : Library
    workspace_bytes : int
        Size of the smallest workspace.
    """

    def __init__(self, library: Library, workspace_bytes: int = WORKSPACE_BYTES) -> None:
        self.library = library
        self.workspace_bytes = workspace_bytes
        self._handle = Descriptor(library, "")
        self._known: dict[tuple[Product, tuple[int, ...]], Plan | str] = {}

    def plan(self, product: Product, pointers: Pointers) -> Plan:
        """Return the plan for a product on pointers aligned like these: the same object at every call.

        Raises
        ------
        RefusedError
            The library has no algorithm. It is asked once; later calls raise again.
        """
        key = (product, product.alignments(pointers))
        known = self._known.get(key)
        if known is None:
            try:
                known = self._new_plan(product, key[1], pointers)
            except RefusedError as reason:
                known = str(reason)
            self._known[key] = known
        if isinstance(known, str):
            raise RefusedError(known)
        return known

    def probe(self, product: Product) -> str:
        """Return why the library refuses a product, or fails, on aligned memory; else an empty string.

        Nothing runs, nothing is kept, and no memory is needed.
        """
        nowhere = Pointers(_ALIGNED, _ALIGNED, _ALIGNED, _ALIGNED * product.epilogue.has_vector, _ALIGNED)
        try:
            self._new_plan(product, product.alignments(nowhere), nowhere).close()
        except (RefusedError, CublasLtError) as reason:
            return str(reason)
        return ""

    def close(self) -> None:
        """Destroy all plans and the handle."""
        for known in self._known.values():
            if isinstance(known, Plan):
                known.close()
        self._known.clear()
        self._handle.close()

    def _new_plan(self, product: Product, alignments: tuple[int, ...], pointers: Pointers) -> Plan:
        operation = Operation(self.library, product)
        operation.point(pointers.vector)
        candidates = operation.algorithms(self._handle, alignments, self.workspace_bytes)
        return Plan(self._handle, operation, candidates)
