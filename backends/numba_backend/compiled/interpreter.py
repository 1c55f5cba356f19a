"""The loop that executes instructions: one call from Python runs one step or several."""

from __future__ import annotations

from typing import Any

from ...protocols import Array
from . import instructions
from .addresses import jit
from .barrier import wait
from .elementwise import batch_order, count, join, sum_of, take_rows, update
from .layers import activation_backward, linear, linear_backward, loss
from .muon import muon_step


@jit
def execute(program: Array, gemm: Any, like: Array, barrier: Any) -> None:
    """Execute a program.

    Parameters
    ----------
    program : array of instructions
    gemm : (address, integer)
        A product of `find_gemm`.
    like : array, shape (1,)
        An array of the common dtype.
    barrier : (address, threads, address)
        See `Barrier.argument`; the programs of all its threads must have equally many WAITs.
    """
    for k in range(program.size):
        op = program[k]
        kind = op.kind
        if kind == instructions.WAIT:
            if not wait(barrier):
                return
        elif kind == instructions.LINEAR:
            linear(op, gemm, like)
        elif kind == instructions.LINEAR_BACKWARD:
            linear_backward(op, gemm, like)
        elif kind == instructions.ACTIVATION_BACKWARD:
            activation_backward(op, like)
        elif kind == instructions.LOSS:
            loss(op, like)
        elif kind == instructions.TAKE_ROWS:
            take_rows(op)
        elif kind == instructions.UPDATE:
            update(op)
        elif kind == instructions.MUON:
            muon_step(op, gemm, like)
        elif kind == instructions.SUM:
            sum_of(op, like)
        elif kind == instructions.JOIN:
            join(op, like)
        elif kind == instructions.BATCH_ORDER:
            batch_order(op)
        elif kind == instructions.COUNT:
            count(op)
