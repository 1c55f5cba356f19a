"""The pixels of a training run: coordinates, targets, weights, and a table of features."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from ..backends import Array, Backend, Partition
from ..encoders.base import Encoder
from ..network.cost import item_size, table_fits
from .rows import ArrayRows, Coordinates, Rows


class TrainingPixels:
    """The pixels that training may see: coordinates (N, 2), targets and weights.

    Targets are (N, C), or (*E, N, C) if members learn different pictures. Weights (N, 1) or (*E, N, 1) have
    mean 1 over N; 0 hides a pixel.
    """

    def __init__(
        self, backend: Backend, coordinates: Array | Coordinates, target: Array, weights: Array | None = None
    ) -> None:
        self.backend = backend
        self.size = target.shape[-2]
        self.coordinates: Coordinates = (
            coordinates if hasattr(coordinates, "encoded") else ArrayRows(backend, coordinates)
        )
        self.target = ArrayRows(backend, target)
        self.weights = None if weights is None else ArrayRows(backend, weights)

    def batch(
        self, encoder: Encoder, rows: slice, index: Array | None, table: ArrayRows | None = None
    ) -> tuple[Array, Array, Array | None]:
        """Return features, targets and weights of the pixels `index`, or of `rows` in order if it is None."""

        def of(data: Rows) -> Array:
            return data.rows(rows) if index is None else data.take(index)

        x = encoder(of(self.coordinates)) if table is None else of(table)
        return x, of(self.target), None if self.weights is None else of(self.weights)

    def feature_table(self, encoder: Encoder, dtype: str) -> ArrayRows | None:
        """Return the features of all pixels if they fit; None if each step has to compute them."""
        if not encoder.is_cacheable:
            return None
        shape = (*encoder.ensemble, self.size, encoder.num_features)
        members, stored = math.prod(encoder.ensemble), encoder.feature_dtype(dtype)
        row_bytes = encoder.num_features * item_size(stored)
        if not table_fits(self.size * row_bytes, members):
            return None
        table = self.backend.zeros(shape, stored)
        row_flops = encoder.flops_of_a_feature * encoder.num_features
        partitions = self.backend.partition(self.size, members, row_bytes, row_flops)
        with self.backend.activate():
            self.backend.run_workers(
                [functools.partial(self._fill, table, encoder, partition, dtype) for partition in partitions]
            )
        return ArrayRows(self.backend, table)

    def _fill(self, table: Array, encoder: Encoder, partition: Partition, dtype: str) -> None:
        """Fill one worker's part of a table of features: some members, or some rows of all."""
        if not encoder.ensemble:
            self._fill_one(table, encoder, partition.blocks, dtype)
            return
        for member in range(*(partition.members or slice(None)).indices(table.shape[0])):
            self._fill_one(table[member, ...], encoder.alone(member), partition.blocks, dtype)

    def _fill_one(self, table: Array, encoder: Encoder, blocks: Sequence[slice], dtype: str) -> None:
        """Fill rows of one member's table (N, F); features that its encoder lacks stay 0."""
        encoded = self.coordinates.encoded_in_order(encoder, dtype)
        for rows in blocks:
            out = table[rows, :]
            features = encoded(rows, out if encoder.num_features == out.shape[-1] else None)
            if features is not out:
                out[:, : encoder.num_features] = features
