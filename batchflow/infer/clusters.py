"""Clusters to be inferred, as arrays; from a catalogue part or from a caller's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from batchflow.errors import UserError
from batchflow.schema import Flag, error_column, flux_column, is_measurement, limit_column

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
PARSECS_10_IN_MPC = 1e-5


@dataclass(frozen=True)
class Clusters:
    """Photometry of clusters; arrays of shape (n_clusters, n_bands) or (n_clusters,)."""

    flux: Floats
    """Flux densities [mJy], as observed; the limit's value where `limit`."""
    error: Floats
    """1-sigma errors [mJy]."""
    limit: Mask
    """Where the flux is an upper limit."""
    distance_mpc: Floats
    """Distance [Mpc]."""
    keys: Sequence[str]
    """What each cluster's random numbers are keyed by."""
    surveys: Sequence[str]
    """Survey of each cluster, for its noise; one that the model does not know is taken at its errors."""
    galaxies: Sequence[str] = ()
    """Galaxy of each cluster, for distances with errors: those of one galaxy are equally far."""
    distance_error_mpc: Floats | None = None
    """1-sigma error of the distance [Mpc]; NaN or 0 where none is known, None where none is for any."""

    @property
    def measured(self) -> Mask:
        """Bands with a flux and an error that can be, (n_clusters, n_bands)."""
        return is_measurement(self.flux, self.error)

    @property
    def usable(self) -> Mask:
        """Clusters that can be inferred, (n_clusters,)."""
        near = np.isfinite(self.distance_mpc) & (self.distance_mpc > 0)
        return near & self.measured.any(axis=1)

    @property
    def flags(self) -> NDArray[np.int32]:
        """Flags that the numbers themselves call for, (n_clusters,)."""
        near = np.isfinite(self.distance_mpc) & (self.distance_mpc > 0)
        unmeasured = ~self.measured.any(axis=1)
        bits = Flag.NO_DISTANCE * ~near + Flag.NO_BAND * unmeasured + Flag.NOT_INFERRED * ~self.usable
        return (bits + Flag.UPPER_LIMIT * (self.limit & self.measured).any(axis=1)).astype(np.int32)

    @property
    def log_mass_shift(self) -> Floats:
        """log10 of (distance / 10 pc)^2: from the mass seen at 10 pc to the mass, (n_clusters,)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return log_mass_shift(self.distance_mpc)

    def rows(self, index: NDArray[Any]) -> Clusters:
        """Some of the clusters."""
        return Clusters(
            self.flux[index],
            self.error[index],
            self.limit[index],
            self.distance_mpc[index],
            [self.keys[i] for i in index],
            [self.surveys[i] for i in index],
            [self.galaxies[i] for i in index] if self.galaxies else (),
            None if self.distance_error_mpc is None else self.distance_error_mpc[index],
        )


def log_mass_shift(distance_mpc: Floats) -> Floats:
    """log10 of (distance / 10 pc)^2: from the mass seen at 10 pc to the mass, of the distances' shape."""
    return np.asarray(2 * np.log10(distance_mpc / PARSECS_10_IN_MPC))


def from_catalogue(table: pa.Table, bands: Sequence[str]) -> Clusters:
    """Clusters of a catalogue part.

    Parameters
    ----------
    table : pyarrow.Table
        Columns of `schema.catalogue_schema`.
    bands : sequence of str
        Bands of the model.

    Returns
    -------
    Clusters
        Rows in the table's order.
    """
    keys = [
        f"{galaxy}/{name}"
        for galaxy, name in zip(_list(table, "galaxy"), _list(table, "object_id"), strict=True)
    ]
    return Clusters(
        _matrix(table, [flux_column(band) for band in bands]),
        _matrix(table, [error_column(band) for band in bands]),
        _matrix(table, [limit_column(band) for band in bands]).astype(bool),
        np.asarray(table["distance_mpc"].to_numpy(), dtype=np.float64),
        keys,
        _list(table, "survey"),
        _list(table, "galaxy"),
        np.asarray(table["distance_error_mpc"].to_numpy(), dtype=np.float64),
    )


def from_arrays(
    fluxes: ArrayLike,
    errors: ArrayLike,
    distance_mpc: ArrayLike,
    n_bands: int,
    distance_error_mpc: ArrayLike | None = None,
) -> Clusters:
    """Clusters of a caller's own arrays.

    Parameters
    ----------
    fluxes, errors : array_like, shape (n_clusters, n_bands) or (n_bands,)
        Flux densities and 1-sigma errors [mJy]; NaN where not measured.
    distance_mpc : array_like, shape () or (n_clusters,)
        Distances [Mpc].
    n_bands : int
        Bands of the model.
    distance_error_mpc : array_like, shape () or (n_clusters,), optional
        1-sigma errors of the distances [Mpc]; NaN or 0 where none is known.

    Returns
    -------
    Clusters
        Without upper limits, of no known survey; those of one distance and error are of one galaxy.

    Raises
    ------
    UserError
        When the shapes do not fit the model, or an error of a distance is negative.
    """
    flux, error = (np.atleast_2d(np.asarray(values, dtype=np.float64)) for values in (fluxes, errors))
    if flux.shape != error.shape or flux.ndim != 2 or flux.shape[1] != n_bands:
        raise UserError(
            f"fluxes have shape {flux.shape} and errors {error.shape}; expected (n_clusters, {n_bands})"
        )
    n = len(flux)
    distance = _column("distance_mpc", distance_mpc, n)
    spread = _column("distance_error_mpc", np.nan if distance_error_mpc is None else distance_error_mpc, n)
    if (wrong := spread[(spread < 0) | np.isinf(spread)]).size:
        raise UserError(f"distance_error_mpc = {wrong[0]:g}; expected 0 or more, NaN where it is not known")
    galaxies = [f"{far!r} {sigma!r}" for far, sigma in zip(distance.tolist(), spread.tolist(), strict=True)]
    limit = np.zeros(flux.shape, bool)
    return Clusters(flux, error, limit, distance, [str(i) for i in range(n)], [""] * n, galaxies, spread)


def _column(name: str, values: ArrayLike, n: int) -> Floats:
    try:
        return np.broadcast_to(np.asarray(values, dtype=np.float64), (n,)).copy()
    except ValueError:
        raise UserError(f"{name} has shape {np.shape(values)}; expected () or ({n},)") from None


def _list(table: pa.Table, name: str) -> list[str]:
    found: list[str] = table[name].to_pylist()
    return found


def _matrix(table: pa.Table, names: Sequence[str]) -> Floats:
    columns = [table[name].to_numpy(zero_copy_only=False) for name in names]
    return np.stack(columns, axis=1).astype(np.float64)
