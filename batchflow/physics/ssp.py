"""Spectra of simple stellar populations: the table that ships with the package.

BC03 in its 2016 version (Bruzual & Charlot 2003, MNRAS 344, 1000) with the MILES library and the
Kroupa initial mass function, averaged in wavelength bins.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Spectra = NDArray[np.float32] | NDArray[np.float64]
SSP_FILE = Path(__file__).parent / "data" / "bc03_miles_kroupa.parquet"


@dataclass(frozen=True, eq=False)
class SSPLibrary:
    """Spectra of simple stellar populations of 1 Msun formed."""

    edges: Floats
    """Edges of the wavelength bins in vacuum [AA], shape (n_bins + 1,)."""
    metallicities: Floats
    """Metal mass fractions, increasing, shape (n_metallicities,)."""
    ages: Floats
    """Ages [yr], increasing, the first zero, shape (n_ages,)."""
    spectra: Spectra
    """Luminosity [Lsun / AA] averaged over each bin, shape (n_metallicities, n_ages, n_bins)."""
    surviving: Floats
    """Mass of living stars and remnants over the mass formed, shape (n_metallicities, n_ages)."""
    provenance: Mapping[str, Any]
    """Source, version, units: what the file says of itself."""

    @property
    def wavelength(self) -> Floats:
        """Centres of the bins [AA], shape (n_bins,)."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])


@lru_cache(maxsize=1)
def load_ssp(path: Path = SSP_FILE) -> SSPLibrary:
    """Load the stellar library.

    Parameters
    ----------
    path : Path
        The Parquet file that `batchflow.physics.make_tables` made: one row a metallicity and age.

    Returns
    -------
    SSPLibrary
        Arrays that are not to be changed: they are shared.
    """
    table = pq.read_table(path)
    provenance = json.loads(table.schema.metadata[b"ssp"])
    metallicities, ages = (np.unique(table[name].to_numpy()) for name in ("metallicity", "age"))
    shape = (metallicities.size, ages.size)
    spectra = table["flux"].combine_chunks().flatten().to_numpy().reshape(*shape, -1)
    surviving = table["surviving"].to_numpy().reshape(shape)
    edges = bin_edges(provenance["segments"])
    return SSPLibrary(edges, metallicities, ages, spectra, surviving, provenance)


def bin_edges(segments: Sequence[tuple[float, float, float]]) -> Floats:
    """Edges of wavelength bins.

    Parameters
    ----------
    segments : sequence of (lower, upper, width)
        Adjoining ranges and the width of the bins in each [AA].

    Returns
    -------
    ndarray, shape (n_bins + 1,)
        Edges [AA].
    """
    lower = [np.arange(low, high, width, dtype=np.float64) for low, high, width in segments]
    return np.concatenate([*lower, [segments[-1][1]]])
