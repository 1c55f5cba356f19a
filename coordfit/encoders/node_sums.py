"""Sums of values by their nodes, with the functions of the array API standard alone."""

from __future__ import annotations

from ..backends import Array, Backend


def node_sums(backend: Backend, values: Array, nodes: Array, count: int) -> Array:
    """Return the sum of the values at each node, computed in float64 and in the same order each time.

    With values sorted by node, the sum of a node is a difference of running sums.

    Parameters
    ----------
    values : array, shape (*E, N, F)
    nodes : integer array, shape (N,) shared by the members, or (*E, N)
    count : int
        Number of nodes of a member.

    Returns
    -------
    array, shape (*E, count, F), or (K count, F) if members have their own nodes
    """
    xp = backend.xp
    if nodes.ndim > 1:
        first = xp.reshape(backend.arange(0, nodes.shape[0]) * count, (-1, 1))
        count = count * nodes.shape[0]
        nodes = xp.reshape(nodes + first, (-1,))
        values = xp.reshape(values, (-1, values.shape[-1]))
    order = xp.argsort(nodes)
    nodes, in_order = xp.take(nodes, order), xp.take(values, order, axis=-2)
    # The name in the standard, which NumPy has since 2.1, or the older one.
    running_sum = next(getattr(xp, name) for name in ("cumulative_sum", "cumsum") if hasattr(xp, name))
    sums = running_sum(xp.astype(in_order, xp.float64), axis=-2)
    zero = xp.zeros_like(sums[..., :1, :])
    before = xp.take(xp.concat([zero, sums], axis=-2), xp.searchsorted(nodes, nodes), axis=-2)
    # The last value of a node has its sum; the row of zeros is for nodes without values.
    of_values = xp.astype(xp.concat([sums - before, zero], axis=-2), values.dtype)
    ends = xp.searchsorted(nodes, backend.arange(-1, count), side="right")
    last = xp.where(ends[1:] > ends[:-1], ends[1:] - 1, nodes.shape[0])
    return xp.take(of_values, last, axis=-2)
