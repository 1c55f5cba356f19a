"""What goes into the first layer: Fourier features of coordinates, of pixels by number and of grids; rows."""

from __future__ import annotations

from typing import Any

from ..dispatch import fused
from ..protocols import Array, Lattice, Tables
from .kernels import blocks_for, groups_of_rows
from .layers import Layers
from .strides import C_TYPES, ensemble_of, fault_of, member_stride, members_of


class Pixels(Layers):
    """The fused bodies of the three kinds of Fourier features, and of `take_rows`."""

    def _features_fit(self, coordinates: Array, B: Array, **_: Any) -> str:
        if coordinates.shape[-1] != 2:
            return f"takes coordinates in 2 dimensions, not {coordinates.shape[-1]}"
        return fault_of(coordinates, B)

    @fused("fourier_features", supports=_features_fit)
    def _fourier_features(self, coordinates: Array, B: Array, *, out: Array | None = None) -> Array:
        coordinates, B = self._packed(coordinates), self._packed(B)
        rows, m = coordinates.shape[-2], B.shape[-2]
        out = self._out_or_new(
            out, (*ensemble_of(coordinates, B), rows, 2 * m), out if self._is_stored(out) else B
        )
        self.launch(
            "fourier_features",
            (C_TYPES[str(B.dtype)], C_TYPES[str(out.dtype)]),
            (blocks_for(rows, groups_of_rows(m)), members_of(out.shape)),
            *(coordinates, member_stride(coordinates), B, member_stride(B), out, member_stride(out), rows, m),
        )
        return out

    def _pixels_fit(self, index: Array, lattice: Lattice, B: Array, *, dtype: str, **_: Any) -> str:
        if str(index.dtype) != "int64" or index.ndim not in (1, 2) or str(B.dtype) != dtype:
            return "takes numbers of pixels in int64, and frequencies of the coordinates' dtype"
        return fault_of(B) or ("" if index.size else "takes no empty arrays")

    @fused("pixel_fourier_features", supports=_pixels_fit)
    def _pixel_fourier_features(
        self, index: Array, lattice: Lattice, B: Array, *, dtype: str, out: Array | None = None
    ) -> Array:
        index, B = self._packed(index, core=1), self._packed(B)
        rows, m = index.shape[-1], B.shape[-2]
        ensemble = max(index.shape[:-1], B.shape[:-2])
        out = self._out_or_new(out, (*ensemble, rows, 2 * m), out if self._is_stored(out) else B)
        self.launch(
            "pixel_fourier_features",
            (C_TYPES[str(B.dtype)], C_TYPES[str(out.dtype)]),
            (blocks_for(rows, groups_of_rows(m)), members_of(out.shape)),
            *(index, member_stride(index, 1), B, member_stride(B), out, member_stride(out), rows, m, *lattice),
        )
        return out

    def _tables_fit(self, x_tables: Tables, y_tables: Tables, rows: slice, **_: Any) -> str:
        if x_tables[0].ndim != 2 or rows.stop <= rows.start:
            return "takes tables of one network, and a pixel or more"
        return fault_of(*x_tables, *y_tables)

    @fused("grid_fourier_features", supports=_tables_fit)
    def _grid_fourier_features(
        self, x_tables: Tables, y_tables: Tables, rows: slice, *, out: Array | None = None
    ) -> Array:
        tables = (*x_tables, *y_tables)
        if len({_pitch(table) for table in tables}) > 1 or _pitch(tables[0]) == 0:
            tables = tuple(self.xp.ascontiguousarray(table) for table in tables)
        width, m = tables[0].shape
        count = rows.stop - rows.start
        out = self._out_or_new(out, (count, 2 * m), out if self._is_stored(out) else tables[0])
        grid = (blocks_for(count, groups_of_rows(m)), 1)
        arguments = (_pitch(tables[0]) or m, out, rows.start, count, m, width)
        types = (C_TYPES[str(tables[0].dtype)], C_TYPES[str(out.dtype)])
        self.launch("grid_fourier_features", types, grid, *tables, *arguments)
        return out

    def _rows_fit(self, array: Array, index: Array, **_: Any) -> str:
        if str(index.dtype) != "int64" or not index.size:
            return "takes numbers of rows of int64"
        return fault_of(array, stored=self._stored)

    @fused("take_rows", supports=_rows_fit)
    def _take_rows(self, array: Array, index: Array, *, out: Array | None = None) -> Array:
        array, index = self._packed(array), self._packed(index, core=1)
        rows, width = index.shape[-1], array.shape[-1]
        ensemble = array.shape[:-2] or index.shape[:-1]
        out = self._out_or_new(out, (*ensemble, rows, width), array)
        self.launch(
            "take_rows",
            (C_TYPES[str(array.dtype)],),
            (blocks_for(rows, groups_of_rows(width)), members_of(out.shape)),
            *(array, member_stride(array), index, member_stride(index, core=1), out, member_stride(out)),
            *(rows, width),
        )
        return out


def _pitch(table: Array) -> int:
    """Elements from one row of a table to the next, 0 where its rows are not contiguous."""
    if table.shape[1] > 1 and table.strides[1] != table.itemsize:
        return 0
    return int(table.strides[0]) // int(table.itemsize) if table.shape[0] > 1 else int(table.shape[1])
