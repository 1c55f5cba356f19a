"""A training step as a list of instructions for compiled code.

Small networks spend more time between their products than in them: in the interpreter, and where two threads
wait for its lock. Here a primitive is a record of addresses and shapes (`instructions.py`), which one compiled
loop carries out (`interpreter.py`). A step is recorded once as such a list for each worker thread
(`..recording`) and from there on runs without Python's interpreter; workers that must wait for each other spin
at a barrier for less than a microsecond (`barrier.py`), so that even one layer can be shared by columns.
"""

from .addresses import address_of, is_plain
from .barrier import Barrier
from .blas import find_gemm
from .cache import has_code
from .instructions import (
    ACTIVATION_BACKWARD,
    JOIN,
    LINEAR,
    LINEAR_BACKWARD,
    LOSS,
    MUON,
    SUM,
    TAKE_ROWS,
    UPDATE,
    Program,
    at,
    instruction,
    shared_out,
)
from .interpreter import execute
from .kernels import backward_kernel, forward_kernel, loss_kernel, update_kernel

__all__ = [
    "ACTIVATION_BACKWARD",
    "JOIN",
    "LINEAR",
    "LINEAR_BACKWARD",
    "LOSS",
    "MUON",
    "SUM",
    "TAKE_ROWS",
    "UPDATE",
    "Barrier",
    "Program",
    "address_of",
    "at",
    "backward_kernel",
    "execute",
    "find_gemm",
    "forward_kernel",
    "has_code",
    "instruction",
    "is_plain",
    "loss_kernel",
    "shared_out",
    "update_kernel",
]
