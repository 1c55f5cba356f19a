"""The state of tiles in training between two groups: what is saved, and where a later run goes on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass
class Round:
    """One round of training: its tiles, their groups, and which groups have been trained."""

    number: int
    before: float
    """The sum of the errors of its tiles at its start."""
    steps_before: int
    """Steps of all tiles together in earlier rounds."""
    group: NDArray[np.int32]
    """(n,), the number of each tile's group; -1 for tiles that the round does not train."""
    trained: NDArray[np.bool_]
    """(G,), for each group."""

    @property
    def chosen(self) -> NDArray[np.int64]:
        """Numbers of the tiles that the round trains."""
        return np.flatnonzero(self.group >= 0)

    @property
    def tiles_trained(self) -> int:
        """Number of tiles in groups that have been trained."""
        return int(np.count_nonzero(self.trained[self.group[self.chosen]]))


@dataclass(frozen=True)
class UnfinishedTiles:
    """The state of some tiles between two groups; from here they go on bit for bit as without a break."""

    parameters: NDArray[np.floating]
    """(n, P), as in `ScaledTiles`."""
    error: NDArray[np.floating]
    """(n,)"""
    round: Round
    diverged: int

    @property
    def tiles_trained(self) -> int:
        """Number of tiles that have been trained in at least one round."""
        round_ = self.round
        return round_.tiles_trained if round_.number == 0 else len(round_.group)
