"""A table of band fluxes over the model's parameters, interpolated: some 10^6 mocks a second.

The logarithm of the flux is linear between nodes along every axis but the covering fraction, along
which the flux is (`grid.FLUX_AXES`). Along E(B-V) the nodes lie so
dense that nothing is lost; along age a cluster at an age of the stellar library has that library's
flux exactly; along metallicity the logarithm of the parameter counts (`grid.LOG_AXES`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import ArrayLike, NDArray

from batchflow.errors import UserError
from batchflow.physics.grid import Grid, checked_columns
from batchflow.shards import write_bytes

Floats = NDArray[np.float64]
FORMAT = "batchflow flux table 2"
TABLE_FILE = "flux_table.safetensors"
"""Its name, in a model folder and wherever a stage keeps one."""


class Flagged(NamedTuple):
    """Fluxes, and which rows have none."""

    fluxes: Floats
    """Flux densities [mJy] at 10 pc for 1 Msun formed, shape (n, n_bands)."""
    bad: NDArray[np.bool_]
    """Rows with a parameter, or a flux, that is NaN; shape (n,)."""


class Flagging:
    """What every engine can do beside `fluxes`."""

    def fluxes(self, parameters: Mapping[str, ArrayLike]) -> Floats:
        """Flux densities [mJy] at 10 pc for 1 Msun formed, shape (n, n_bands); NaN where a parameter is."""
        raise NotImplementedError

    def flagged_fluxes(self, parameters: Mapping[str, ArrayLike]) -> Flagged:
        """The fluxes, and a flag on the rows that have none.

        Parameters
        ----------
        parameters : mapping of str to float or array, shape (n,)
            As `fluxes` takes them; NaN where a value is not known.

        Returns
        -------
        Flagged
            ``fluxes``, NaN in the bad rows, and ``bad``, true there.

        Raises
        ------
        UserError
            As `fluxes` does: a value outside the limits is an error, never a flag.
        """
        fluxes = self.fluxes(parameters)
        return Flagged(fluxes, np.asarray(np.isnan(fluxes).any(axis=1)))


@dataclass(frozen=True, eq=False)
class FluxTable(Flagging):
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
    """log10 of the mass of living stars and remnants over the mass formed, on the nodes of
    `surviving_parameters`: shape (n_ages,), or (n_ages, n_metallicities)."""
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
        expected = tuple(self._nodes_of(name).size for name in self.surviving_parameters)
        if self.log_surviving.shape != expected:
            raise ValueError(f"log_surviving has shape {self.log_surviving.shape}; expected {expected}")

    @cached_property
    def limits(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest node of each parameter."""
        axes = zip(self.parameters, self.nodes, strict=True)
        return {name: (float(axis[0]), float(axis[-1])) for name, axis in axes}

    @property
    def surviving_parameters(self) -> tuple[str, ...]:
        """Parameters that the surviving mass depends on."""
        return tuple(name for name in ("log_age", "metallicity") if name in self.parameters)

    @cached_property
    def _grid(self) -> Grid:
        return Grid(self.parameters, self.nodes, self.log_flux)

    @cached_property
    def _surviving_grid(self) -> Grid:
        names = self.surviving_parameters
        nodes = tuple(self._nodes_of(name) for name in names)
        return Grid(names, nodes, self.log_surviving[..., None])

    def _nodes_of(self, name: str) -> Floats:
        return self.nodes[self.parameters.index(name)]

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
        return self._grid.powers([*checked_columns(values, self.limits).values()])

    def surviving(self, log_age: ArrayLike, metallicity: ArrayLike | None = None) -> Floats:
        """Mass of living stars and remnants over the mass formed.

        Parameters
        ----------
        log_age : float or array, shape (n,)
            log10 age [yr].
        metallicity : float or array, shape (n,), optional
            Metal mass fraction; for a table that has this axis, and only then.

        Returns
        -------
        ndarray, shape (n,)
            Fraction, between 0 and 1; NaN where a parameter is NaN.

        Raises
        ------
        UserError
            When a value is outside the limits, or the metallicity is missing or not called for.
        """
        values = {"log_age": log_age} | ({} if metallicity is None else {"metallicity": metallicity})
        limits = {name: self.limits[name] for name in self.surviving_parameters}
        return self._surviving_grid.powers([*checked_columns(values, limits).values()])[:, 0]

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
