"""The loop that carries out instructions: one call from Python for a step, or for sixteen."""

from __future__ import annotations

from typing import Any

from ...protocols import Array
from .addresses import jit
from .barrier import wait
from .elementwise import batch_order, count, join, sum_of, take_rows, update
from .instructions import (
    ACTIVATION_BACKWARD,
    BATCH_ORDER,
    COUNT,
    JOIN,
    LINEAR,
    LINEAR_BACKWARD,
    LOSS,
    MUON,
    SUM,
    TAKE_ROWS,
    UPDATE,
    WAIT,
)
from .layers import activation_backward, linear, linear_backward, loss
from .muon import muon_step

_linear, _linear_backward = linear, linear_backward
_activation_backward, _loss = activation_backward, loss
_take_rows, _sum_of, _join = take_rows, sum_of, join
_update, _muon_step = update, muon_step
_batch_order, _count = batch_order, count


@jit
def execute(program: Array, gemm: Any, like: Array, barrier: Any) -> None:
    """Carry out a program.

    Parameters
    ----------
    program : array of instructions
    gemm : (address, integer)
        As of `Gemm.argument`.
    like : array, shape (1,)
        Of the dtype of all arrays.
    barrier : (address, threads, address)
        As of `Barrier.argument`; every thread that meets there must run a program with as many WAITs.
    """
    for k in range(program.size):
        op = program[k]
        kind = op.kind
        if kind == WAIT:
            if not wait(barrier):
                return
        elif kind == LINEAR:
            _linear(op, gemm, like)
        elif kind == LINEAR_BACKWARD:
            _linear_backward(op, gemm, like)
        elif kind == ACTIVATION_BACKWARD:
            _activation_backward(op, like)
        elif kind == LOSS:
            _loss(op, like)
        elif kind == TAKE_ROWS:
            _take_rows(op)
        elif kind == UPDATE:
            _update(op)
        elif kind == MUON:
            _muon_step(op, gemm, like)
        elif kind == SUM:
            _sum_of(op, like)
        elif kind == JOIN:
            _join(op, like)
        elif kind == BATCH_ORDER:
            _batch_order(op)
        elif kind == COUNT:
            _count(op)
