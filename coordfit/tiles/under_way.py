"""Where the training of some tiles stands between groups: what is saved, and gone on from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass
class Round:
    """One round of training: which tiles it trains, in which groups, and which groups have been trained."""

    number: int
    before: float
    """The sum of the errors of its tiles when it began."""
    steps_before: int
    """Steps of all tiles together in the rounds before."""
    group: NDArray[np.int32]
    """(n,), the number of each tile's group; -1 for tiles that the round leaves as they are."""
    trained: NDArray[np.bool_]
    """(G,), for each group."""

    @property
    def chosen(self) -> NDArray[np.int64]:
        """Numbers of the tiles that the round trains."""
        return np.flatnonzero(self.group >= 0)

    @property
    def tiles_trained(self) -> int:
        """How many tiles are in groups that have been trained."""
        return int(np.count_nonzero(self.trained[self.group[self.chosen]]))


@dataclass(frozen=True)
class UnderWay:
    """Where the training of some tiles stands between groups.

    Tiles that go on from here become what they would have become without a break, bit for bit.
    """

    parameters: NDArray[np.floating]
    """(n, P), as of `Tiles`."""
    error: NDArray[np.floating]
    """(n,)"""
    round: Round
    diverged: int

    @property
    def tiles_trained(self) -> int:
        """How many tiles have been trained in one round at least."""
        round_ = self.round
        return round_.tiles_trained if round_.number == 0 else len(round_.group)
