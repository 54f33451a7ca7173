"""A flux table on a torch device: multilinear interpolation, vectorised over rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from batchflow.physics.grid import FLUX_AXES, LOG_AXES
from batchflow.physics.table import FluxTable

Floats = NDArray[np.float64]
NOTHING: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True)
class TorchFluxTable:
    """A `FluxTable` on a torch device, interpolated as there."""

    parameters: tuple[str, ...]
    nodes: tuple[Tensor, ...]
    """Nodes of each axis; their natural logarithm for those of `LOG_AXES`."""
    log_flux: Tensor
    """Natural logarithm of the flux density [mJy at 10 pc, 1 Msun formed], (n_nodes, n_bands)."""

    @classmethod
    def from_table(
        cls,
        table: FluxTable,
        device: torch.device,
        last: Sequence[str] = (),
        at: Mapping[str, float] = NOTHING,
    ) -> TorchFluxTable:
        """Move a table to a device, in single precision.

        Parameters
        ----------
        table : FluxTable
            The table.
        device : torch.device
            Where to.
        last : sequence of str
            Parameters to be the last axes: those that `local` leaves.
        at : mapping of str to float
            Values of parameters whose axes are interpolated away.
        """
        axes = {
            name: _coordinate(name, axis) for name, axis in zip(table.parameters, table.nodes, strict=True)
        }
        values = table.log_flux * math.log(10.0)
        for name, value in at.items():
            place = list(axes).index(name)
            values = _along(values, place, (name, axes.pop(name)), float(_coordinate(name, value)))
        order = (*(name for name in axes if name not in last), *last)
        values = values.transpose(*(list(axes).index(name) for name in order), -1)
        nodes = tuple(torch.as_tensor(axes[name], dtype=torch.float32, device=device) for name in order)
        tensor = torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float32, device=device)
        return cls(order, nodes, tensor.reshape(-1, values.shape[-1]))

    def __call__(self, values: dict[str, Tensor]) -> Tensor:
        """Interpolate.

        Parameters
        ----------
        values : dict of str to Tensor, shape (n,)
            The engine's parameters, inside the table.

        Returns
        -------
        Tensor, shape (n, n_bands)
            Natural logarithm of the flux density [mJy at 10 pc, 1 Msun formed].
        """
        axes = Axes(self.parameters, self.nodes)
        return _interpolate(axes, self._columns(self.parameters, values), self.log_flux)

    def local(self, values: dict[str, Tensor], kept: int) -> LocalTable:
        """Interpolate along all axes but the last ones: a small table for each row.

        Parameters
        ----------
        values : dict of str to Tensor, shape (n,)
            The other parameters, inside the table.
        kept : int
            Number of axes to keep.

        Returns
        -------
        LocalTable
            Of n rows.
        """
        outer = len(self.parameters) - kept
        columns = self._columns(self.parameters[:outer], values)
        inner = math.prod(len(axis) for axis in self.nodes[outer:])
        axes = Axes(self.parameters[:outer], self.nodes[:outer])
        found = _interpolate(axes, columns, self.log_flux.reshape(-1, inner * self.n_bands))
        return LocalTable(self.parameters[outer:], self.nodes[outer:], found.reshape(-1, self.n_bands))

    @property
    def n_bands(self) -> int:
        """Number of bands."""
        return self.log_flux.shape[-1]

    @staticmethod
    def _columns(names: Sequence[str], values: dict[str, Tensor]) -> list[Tensor]:
        return [values[name].log() if name in LOG_AXES else values[name] for name in names]


class LocalTable(NamedTuple):
    """What is left of a table when most parameters are given, row by row."""

    parameters: tuple[str, ...]
    nodes: tuple[Tensor, ...]
    log_flux: Tensor
    """Rows of `TorchFluxTable.log_flux` for every row, (n * n_nodes, n_bands)."""

    def __call__(self, values: dict[str, Tensor]) -> Tensor:
        """Interpolate, each row in its own table; arguments and result as of `TorchFluxTable`."""
        if not self.parameters:
            return self.log_flux
        columns = TorchFluxTable._columns(self.parameters, values)
        inner = math.prod(len(axis) for axis in self.nodes)
        start = torch.arange(len(columns[0]), device=self.log_flux.device) * inner
        return _interpolate(Axes(self.parameters, self.nodes), columns, self.log_flux, start)


class Axes(NamedTuple):
    """Axes of a flattened table, in order."""

    names: Sequence[str]
    nodes: Sequence[Tensor]
    """Nodes of each, in the coordinate that counts."""


class _Place(NamedTuple):
    """Where each element lies along an axis; tensors of shape (n,)."""

    low: Tensor
    """Lower node of its cell."""
    share: Tensor
    """Part of the way to the upper node."""


def _interpolate(axes: Axes, columns: Sequence[Tensor], values: Tensor, start: Tensor | int = 0) -> Tensor:
    """Multilinear interpolation in a flattened table, (n, n_values).

    Parameters
    ----------
    axes : Axes
        Of the table.
    columns : sequence of Tensor, shape (n,)
        Coordinates along each.
    values : Tensor, shape (n_nodes, n_values)
        The table: natural logarithms of fluxes.
    start : Tensor of int, shape (n,), or 0
        Row of `values` at which each element's table starts.
    """
    places = [_place(axis, column) for axis, column in zip(axes.nodes, columns, strict=True)]
    mixed = next((i for i, name in enumerate(axes.names) if name in FLUX_AXES), None)
    if mixed is None:
        return _corners(axes, places, values, start, [(0, 1)] * len(places))
    sides = [(0, 1)] * len(places)
    near, far = (
        _corners(axes, places, values, start, [*sides[:mixed], (side,), *sides[mixed + 1 :]])
        for side in (0, 1)
    )
    return _mixed(near, far, places[mixed].share[:, None])


def _corners(
    axes: Axes, places: list[_Place], values: Tensor, start: Tensor | int, sides: list[tuple[int, ...]]
) -> Tensor:
    """Sum over the corners of each element's cell; along an axis of one side, that side's values."""
    total: Tensor | None = None
    for corner in product(*sides):
        index, weight = torch.zeros_like(places[0].low), torch.ones_like(places[0].share)
        for place, side, axis, both in zip(places, corner, axes.nodes, sides, strict=True):
            index = index * len(axis) + place.low + side
            if len(both) > 1:
                weight = weight * (place.share if side else 1 - place.share)
        term = weight[:, None] * values[index + start]
        total = term if total is None else total.add_(term)
    if total is None:
        raise ValueError("a flux table needs at least one axis")
    return total


def _mixed(near: Any, far: Any, share: Any) -> Any:
    """Logarithm of the flux part of the way between two, whose logarithms are given."""
    xp = torch if isinstance(near, Tensor) else np
    return near + xp.log1p(share * xp.expm1(far - near))


def _coordinate(name: str, values: ArrayLike) -> Floats:
    """What log flux is linear in along an axis."""
    found = np.asarray(values, dtype=np.float64)
    return np.log(found) if name in LOG_AXES else found


def _along(values: Floats, place: int, axis: tuple[str, Floats], at: float) -> Floats:
    """Interpolate an axis, a name and its nodes, away."""
    name, nodes = axis
    low = int(np.clip(np.searchsorted(nodes, at, side="right") - 1, 0, len(nodes) - 2))
    step = (at - nodes[low]) / (nodes[low + 1] - nodes[low])
    near, far = values.take(low, place), values.take(low + 1, place)
    return np.asarray(_mixed(near, far, step) if name in FLUX_AXES else near + step * (far - near))


def _place(axis: Tensor, values: Tensor) -> _Place:
    """Lower node and fraction of the cell that each value lies in."""
    low = (torch.bucketize(values.contiguous(), axis, right=True) - 1).clamp_(0, len(axis) - 2)
    return _Place(low, (values - axis[low]) / (axis[low + 1] - axis[low]))
