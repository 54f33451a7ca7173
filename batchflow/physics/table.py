"""A table of band fluxes over the model's parameters, interpolated: some 10^6 mocks a second.

The logarithm of the flux is linear between nodes along every axis. Along E(B-V) the nodes lie so
dense that nothing is lost; along age a cluster at an age of the stellar library has that library's
flux exactly.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import ArrayLike, NDArray

from batchflow.errors import UserError, nearest
from batchflow.shards import write_bytes

Floats = NDArray[np.float64]
CHUNK = 4096
"""Rows interpolated at once: the work arrays stay in the cache."""
ROUNDING = 1e-6
"""A value this far outside the limits is float32 rounding, and taken as the limit."""
FORMAT = "batchflow flux table 1"


@dataclass(frozen=True, eq=False)
class FluxTable:
    """Band fluxes of a cluster of 1 Msun formed at 10 pc, on a grid of parameters."""

    parameters: tuple[str, ...]
    """Axes in order, for example ``("log_age", "ebv")``."""
    nodes: tuple[Floats, ...]
    """Increasing nodes of each axis, in the parameter's unit."""
    bands: tuple[str, ...]
    """Names of the bands."""
    log_flux: Floats
    """log10 of the flux density [mJy], shape (*n_nodes, n_bands)."""
    log_surviving: Floats
    """log10 of the mass of living stars and remnants over the mass formed, shape (n_ages,), on the
    nodes of ``log_age``."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """Provenance, JSON-able: what computed the table, how well it interpolates."""

    def __post_init__(self) -> None:
        sizes = tuple(axis.size for axis in self.nodes)
        if len(sizes) != len(self.parameters) or self.log_flux.shape != (*sizes, len(self.bands)):
            raise ValueError(
                f"log_flux has shape {self.log_flux.shape}; expected nodes {sizes} of "
                f"{self.parameters} and {len(self.bands)} bands"
            )
        for name, axis in zip(self.parameters, self.nodes, strict=True):
            if axis.size < 2 or not (np.diff(axis) > 0).all():
                raise ValueError(f"nodes of {name} must be two or more and increasing; found {axis}")
        if self.log_surviving.shape != self._ages.shape:
            raise ValueError(
                f"log_surviving has shape {self.log_surviving.shape}; expected {self._ages.shape}"
            )

    @cached_property
    def limits(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest node of each parameter."""
        axes = zip(self.parameters, self.nodes, strict=True)
        return {name: (float(axis[0]), float(axis[-1])) for name, axis in axes}

    @property
    def _ages(self) -> Floats:
        return self.nodes[self.parameters.index("log_age")]

    @cached_property
    def _points(self) -> Floats:
        return np.ascontiguousarray(self.log_flux).reshape(-1, len(self.bands))

    @cached_property
    def _strides(self) -> tuple[int, ...]:
        sizes = [axis.size for axis in self.nodes]
        return tuple(int(np.prod(sizes[place + 1 :])) for place in range(len(sizes)))

    def fluxes(self, values: Mapping[str, ArrayLike]) -> Floats:
        """Flux densities at given parameters.

        Parameters
        ----------
        values : mapping of str to float or array, shape (n,)
            Every parameter of the table, in its unit; scalars are broadcast.

        Returns
        -------
        ndarray, shape (n, n_bands)
            Flux densities [mJy] at 10 pc for 1 Msun formed; NaN where a parameter is NaN.

        Raises
        ------
        UserError
            When a parameter is unknown, missing, of the wrong shape or outside the limits.
        """
        columns = self._columns(values)
        fluxes = np.empty((columns[0].size, len(self.bands)))
        for start in range(0, fluxes.shape[0], CHUNK):
            rows = slice(start, start + CHUNK)
            self._interpolate([column[rows] for column in columns], fluxes[rows])
        return fluxes

    def surviving(self, log_age: ArrayLike) -> Floats:
        """Mass of living stars and remnants over the mass formed.

        Parameters
        ----------
        log_age : float or array, shape (n,)
            log10 age [yr].

        Returns
        -------
        ndarray, shape (n,)
            Fraction, between 0 and 1; NaN where the age is NaN.

        Raises
        ------
        UserError
            When an age is outside the limits.
        """
        ages = _inside("log_age", np.atleast_1d(np.asarray(log_age, dtype=np.float64)), self._ages)
        return np.asarray(10.0 ** np.interp(ages, self._ages, self.log_surviving))

    def to_tensors(self) -> dict[str, Floats]:
        """Arrays of the table, as `from_tensors` takes them."""
        axes = {f"nodes.{name}": axis for name, axis in zip(self.parameters, self.nodes, strict=True)}
        arrays = {"log_flux": self.log_flux, "log_surviving": self.log_surviving, **axes}
        return {name: np.ascontiguousarray(array) for name, array in arrays.items()}

    def metadata(self) -> dict[str, Any]:
        """What the arrays do not say; JSON-able, as `from_tensors` takes it."""
        return {
            "format": FORMAT,
            "parameters": list(self.parameters),
            "bands": list(self.bands),
            "notes": dict(self.notes),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Floats], metadata: Mapping[str, Any]) -> FluxTable:
        """Inverse of `to_tensors` and `metadata`.

        Raises
        ------
        UserError
            When they are not those of a flux table.
        """
        if metadata.get("format") != FORMAT:
            raise UserError(
                f"format is {metadata.get('format')!r}; expected {FORMAT!r}: make the table again"
            )
        try:
            parameters = tuple(metadata["parameters"])
            nodes = tuple(tensors[f"nodes.{name}"] for name in parameters)
            bands = tuple(metadata["bands"])
            notes = metadata.get("notes", {})
            return cls(parameters, nodes, bands, tensors["log_flux"], tensors["log_surviving"], notes)
        except (KeyError, ValueError) as error:
            raise UserError(f"not a whole flux table ({error}): make it again") from None

    def save(self, path: str | Path) -> None:
        """Write the table to a safetensors file, whole or not at all.

        Parameters
        ----------
        path : str or Path
            The file; replaced if it exists.
        """
        content = safetensors.numpy.save(self.to_tensors(), {"flux_table": json.dumps(self.metadata())})
        write_bytes(Path(path), content)

    @classmethod
    def load(cls, path: str | Path) -> FluxTable:
        """Read a table that `save` wrote.

        Parameters
        ----------
        path : str or Path
            The safetensors file.

        Returns
        -------
        FluxTable
            Equal to what was saved, bit for bit.

        Raises
        ------
        UserError
            When the file is absent or is no flux table.
        """
        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
                metadata = json.loads((file.metadata() or {}).get("flux_table", "{}"))
        except (OSError, ValueError, safetensors.SafetensorError) as error:
            raise UserError(f"flux table {path} cannot be read: {error}") from None
        try:
            return cls.from_tensors(tensors, metadata)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    def _columns(self, values: Mapping[str, ArrayLike]) -> list[Floats]:
        """Check the parameters; a column (n,) for each axis, within its nodes."""
        for name in values:
            if name not in self.parameters:
                raise UserError(f"unknown parameter {name!r}; {nearest(name, self.parameters)}")
        if missing := [name for name in self.parameters if name not in values]:
            raise UserError(f"missing parameter {', '.join(missing)}; expected {', '.join(self.parameters)}")
        arrays = [np.atleast_1d(np.asarray(values[name], dtype=np.float64)) for name in self.parameters]
        try:
            (size,) = np.broadcast_shapes(*(array.shape for array in arrays))
        except ValueError:
            shapes = {name: np.shape(values[name]) for name in self.parameters}
            raise UserError(f"parameters have shapes {shapes}; expected scalars or one length") from None
        columns = zip(self.parameters, arrays, self.nodes, strict=True)
        return [np.broadcast_to(_inside(name, array, axis), size) for name, array, axis in columns]

    def _interpolate(self, columns: list[Floats], fluxes: Floats) -> None:
        """Interpolate some rows into `fluxes`, shape (n_rows, n_bands)."""
        base = np.zeros(fluxes.shape[0], dtype=np.intp)
        steps = []
        for column, axis, stride in zip(columns, self.nodes, self._strides, strict=True):
            cell, step = _locate(column, axis)
            base += cell * stride
            steps.append(step)
        fluxes[:] = 0.0
        corner = np.empty_like(fluxes)
        for upper in itertools.product((False, True), repeat=len(steps)):
            weight = np.prod(
                [step if up else 1.0 - step for step, up in zip(steps, upper, strict=True)], axis=0
            )
            offset = sum(stride for stride, up in zip(self._strides, upper, strict=True) if up)
            np.take(self._points, base + offset, axis=0, out=corner, mode="clip")
            corner *= weight[:, None]
            fluxes += corner
        fluxes *= np.log(10.0)
        np.exp(fluxes, out=fluxes)


def _inside(name: str, values: Floats, axis: Floats) -> Floats:
    """Refuse values outside the nodes; NaN passes."""
    low, high = axis[0], axis[-1]
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
