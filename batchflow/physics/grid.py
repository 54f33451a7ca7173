"""Interpolation on a regular grid of parameters: quantities whose logarithm is linear within a cell.

Along the covering fraction it is the quantity itself: gas adds its light to that of the stars, so
two nodes say all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from batchflow.errors import UserError, nearest

Floats = NDArray[np.float64]
LOG_AXES = frozenset({"metallicity"})
"""Axes along which log flux is linear in the logarithm of the parameter, not in the parameter."""
FLUX_AXES = frozenset({"covering"})
"""Axes along which the flux itself is linear; a table has one of them at most."""
CHUNK = 2048
"""Rows interpolated at once: the work arrays stay in the cache."""
ROUNDING = 1e-6
"""A value this far outside the limits is float32 rounding, and taken as the limit."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Values on the nodes of some parameters, interpolated multilinearly; see `LOG_AXES`, `FLUX_AXES`."""

    parameters: tuple[str, ...]
    """Axes in order."""
    nodes: tuple[Floats, ...]
    """Increasing nodes of each axis, in the parameter's unit."""
    values: Floats
    """log10 of positive quantities, shape (*n_nodes, n_columns)."""

    def powers(self, columns: Sequence[Floats]) -> Floats:
        """Ten to the interpolated values.

        Parameters
        ----------
        columns : sequence of ndarray, shape (n,)
            A column for each axis, within its nodes.

        Returns
        -------
        ndarray, shape (n, n_columns)
            NaN where a parameter is NaN.
        """
        found = np.empty((columns[0].size, self.values.shape[-1]))
        if self._flat_part is None:
            self._fill(columns, found)
            return found
        # A last parameter that is NaN must not be passed over.
        flat = (columns[0] >= self._flat_part.nodes[0][0]) & np.isfinite(columns[-1])
        for part, rows in ((self, np.flatnonzero(~flat)), (self._flat_part, np.flatnonzero(flat))):
            inner = np.empty((rows.size, found.shape[1]))
            part._fill([column[rows] for column in columns[: len(part.nodes)]], inner)
            found[rows] = inner
        return found

    @cached_property
    def _flat_part(self) -> Grid | None:
        """The upper end of the first axis without the last axis, where nothing depends on it.

        Old clusters have no gas: their covering fraction need not be interpolated.
        """
        if len(self.nodes) < 3:
            return None
        axes = tuple(range(1, self.values.ndim))
        depends = (self.values != self.values[..., :1, :]).any(axis=axes)
        start = int(np.flatnonzero(depends)[-1]) + 1 if depends.any() else 0
        if start > depends.size - 2:
            return None
        nodes = (self.nodes[0][start:], *self.nodes[1:-1])
        return Grid(self.parameters[:-1], nodes, self.values[start:, ..., 0, :])

    def _fill(self, columns: Sequence[Floats], found: Floats) -> None:
        for start in range(0, found.shape[0], CHUNK):
            rows = slice(start, start + CHUNK)
            self._interpolate([column[rows] for column in columns], found[rows])

    @cached_property
    def _axes(self) -> list[Floats]:
        """The coordinate in which each axis is linear."""
        pairs = zip(self.parameters, self.nodes, strict=True)
        return [np.log(axis) if name in LOG_AXES else axis for name, axis in pairs]

    @cached_property
    def _points(self) -> Floats:
        return np.ascontiguousarray(self.values).reshape(-1, self.values.shape[-1])

    @cached_property
    def _strides(self) -> tuple[int, ...]:
        sizes = [axis.size for axis in self.nodes]
        return tuple(int(np.prod(sizes[place + 1 :])) for place in range(len(sizes)))

    def _interpolate(self, columns: list[Floats], found: Floats) -> None:
        """Interpolate some rows into `found`, shape (n_rows, n_columns)."""
        # The corners of each row's cell lie side by side: one gather and one product for all.
        index = np.zeros((found.shape[0], 1), dtype=np.intp)
        weight = np.ones((found.shape[0], 1))
        share, far = None, 0
        steps = zip(self.parameters, columns, self._axes, self._strides, strict=True)
        for name, column, axis, stride in steps:
            cell, step = _locate(np.log(column) if name in LOG_AXES else column, axis)
            lower = index + (cell * stride)[:, None]
            if name in FLUX_AXES:
                index, share, far = lower, step[:, None], stride
                continue
            index = np.concatenate([lower, lower + stride], axis=1)
            weight = np.concatenate([weight * (1.0 - step)[:, None], weight * step[:, None]], axis=1)
        self._fill_powers(index, weight, found)
        if share is not None:
            other = np.empty_like(found)
            self._fill_powers(index + far, weight, other)
            found += share * (other - found)

    def _fill_powers(self, index: NDArray[np.intp], weight: Floats, found: Floats) -> None:
        """Ten to the weighted sum of some points, (n_rows, n_corners) of them, into `found`."""
        corners = np.take(self._points, index, axis=0, mode="clip")
        found[:] = np.matmul(weight[:, None, :].astype(corners.dtype), corners)[:, 0]
        found *= np.log(10.0)
        np.exp(found, out=found)


def checked_columns(
    values: Mapping[str, ArrayLike], limits: Mapping[str, tuple[float, float]]
) -> dict[str, Floats]:
    """Parameters as columns of one length, within their limits; NaN passes.

    Parameters
    ----------
    values : mapping of str to float or array, shape (n,)
        Every parameter, in its unit; scalars are broadcast.
    limits : mapping of str to (lowest, highest)
        What is expected, in order.

    Returns
    -------
    dict of str to ndarray, shape (n,)
        In the order of the limits; rounding at the limits undone.

    Raises
    ------
    UserError
        When a parameter is unknown, missing, of the wrong shape or outside its limits.
    """
    for name in values:
        if name not in limits:
            raise UserError(f"unknown parameter {name!r}; {nearest(name, limits)}")
    if missing := [name for name in limits if name not in values]:
        raise UserError(f"missing parameter {', '.join(missing)}; expected {', '.join(limits)}")
    arrays = {name: np.atleast_1d(np.asarray(values[name], dtype=np.float64)) for name in limits}
    try:
        (size,) = np.broadcast_shapes(*(array.shape for array in arrays.values()))
    except ValueError:
        shapes = {name: np.shape(values[name]) for name in limits}
        raise UserError(f"parameters have shapes {shapes}; expected scalars or one length") from None
    return {name: np.broadcast_to(_inside(name, array, limits[name]), size) for name, array in arrays.items()}


def _inside(name: str, values: Floats, limits: tuple[float, float]) -> Floats:
    """Refuse values outside the limits; NaN passes."""
    low, high = limits
    outside = (values < low - ROUNDING) | (values > high + ROUNDING)
    if outside.any():
        count = f"{int(outside.sum())} of {values.size} values"
        raise UserError(
            f"{name} = {values[outside].flat[0]:.8g} ({count}) lies outside "
            f"the model's limits, {low:.8g} to {high:.8g}; narrow the prior or leave these rows out"
        )
    return np.asarray(np.clip(values, low, high))


def _locate(column: Floats, axis: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Cell of each value and the place in it, 0 at the lower node and 1 at the upper."""
    cell = np.clip(np.searchsorted(axis, column, side="right") - 1, 0, axis.size - 2)
    return cell, (column - axis[cell]) / (axis[cell + 1] - axis[cell])
