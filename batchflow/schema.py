"""Column names, units and flags: what every file of a run is made of.

Shapes named once: ``n_clusters`` (rows), ``n_bands``, ``n_parameters``, ``n_draws``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntFlag

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchflow import columns

PARAMETER_UNITS = columns.UNITS
"""Unit of each parameter, in the notation of astropy.units. `log_mass` is mass FORMED."""

QUANTILES = {"q02": 0.025, "q16": 0.16, "q50": 0.50, "q84": 0.84, "q97": 0.975}
"""Column suffix and probability of each stored quantile: the median, the central 68 % and 95 %."""

MAX_MODES = 4
"""Modes of a cluster at most, the heaviest: `n_modes` counts no more."""

LIMIT_SIGMA = 3.0
"""An upper limit is quoted at this many standard deviations where a catalogue does not say."""

LEAST_ERROR, LARGEST_FLUX = 1e-12, 1e8
"""Smallest error and largest flux or error [mJy] of a measurement. Beyond (AB magnitudes of 46 and -3.6) lie
sentinels that nobody declared, such as a magnitude of 99 or an error of 1e20, and wrong units."""


class Flag(IntFlag):
    """What a reader should know of a row; bits of the column `flags`."""

    MISSING_BAND = 1
    """At least one band of this survey was not measured."""
    UPPER_LIMIT = 2
    """At least one band is an upper limit."""
    BAD_ERROR = 4
    """A band was set aside: flux above 1e8 mJy, error not in 1e-12 to 1e8 mJy, or limit not above zero."""
    NEGATIVE_FLUX = 8
    """A measured flux is negative; it is used as it stands."""
    DUPLICATE_ID = 16
    """Another row of the same galaxy has the same id."""
    NO_BAND = 32
    """No usable band, not even an upper limit: not inferred."""
    NO_DISTANCE = 64
    """No finite, positive distance: not inferred."""
    PRIOR_EDGE = 128
    """More than 5 % of the posterior lies in the outer 1 % of a parameter's prior range."""
    LOW_EFFICIENCY = 256
    """Importance sampling kept fewer effective draws than asked for: see `efficiency`."""
    OUTSIDE_TRAINING = 512
    """Signal-to-noise or errors outside what the network was trained on."""
    NOT_INFERRED = 1024
    """No posterior: the summary columns are NaN; another flag says why."""
    POOR_FIT = 2048
    """No model fits: posterior predictive p-value below 0.001."""
    OUT_OF_DISTRIBUTION = 4096
    """Colours or errors unlike those of the training mocks: `ood_pvalue` below 0.001."""
    MORE_DRAWS = 8192
    """The flow's draws were too few: each one kept is chosen among several, its summary made from all."""
    GRID_POSTERIOR = 16384
    """The draws come from the exact posterior on a grid, not from the flow."""
    FEW_BANDS = 32768
    """Too few usable bands for a classical fit's reduced chi2 (with one, for the fit itself): NaN there."""
    SAMPLED_SUMMARY = 65536
    """No exact grid here: mean, deviation and quantiles come from weighted draws, and err as those do."""


def flux_column(band: str) -> str:
    """Name of the column holding a band's flux density [mJy]."""
    return f"flux_{band}"


def error_column(band: str) -> str:
    """Name of the column holding the 1-sigma error of a band's flux density [mJy]."""
    return f"error_{band}"


def limit_column(band: str) -> str:
    """Name of the column telling whether the band's flux is an upper limit."""
    return f"limit_{band}"


def is_measurement(flux: NDArray[np.float64], error: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether a flux with its error can be a measurement.

    Parameters
    ----------
    flux, error : ndarray, of one shape
        Flux densities and 1-sigma errors [mJy].

    Returns
    -------
    bool ndarray, of that shape
        True where both are numbers, the error is not below `LEAST_ERROR`, and neither exceeds `LARGEST_FLUX`
        in size.
    """
    return (np.abs(flux) <= LARGEST_FLUX) & (error >= LEAST_ERROR) & (error <= LARGEST_FLUX)


def unit_of(column: str) -> str:
    """Unit of a column, in the notation of astropy.units; empty when it has none.

    Parameters
    ----------
    column : str
        A column name of this schema.

    Returns
    -------
    str
        The unit.
    """
    return columns.describe(column).unit


def field(name: str, type_: pa.DataType) -> pa.Field:
    """An Arrow field that carries its unit, UCD and description in the metadata."""
    return columns.describe(name).field(name, type_)


def mocks_schema(parameters: Sequence[str], bands: Sequence[str]) -> pa.Schema:
    """Columns of a mock shard: parameters, then noise-free fluxes at 10 pc for the row's mass."""
    names = [*parameters, *map(flux_column, bands)]
    return pa.schema([field(name, pa.float32()) for name in names])


def catalogue_schema(bands: Sequence[str], published: Iterable[str] = ()) -> pa.Schema:
    """Columns of a normalised catalogue partition.

    Parameters
    ----------
    bands : sequence of str
        All bands of the job; one that a survey lacks is NaN throughout.
    published : iterable of str
        Names of published quantities, without the prefix ``published_``.

    Returns
    -------
    pyarrow.Schema
        The columns; `flags` holds bits of `Flag`, `class_` the visual class (0 unknown),
        `foreground_ebv` the Milky Way's E(B-V) that was taken out here (0: the survey did, or none).
    """
    fields = [
        field("galaxy", pa.string()),
        field("survey", pa.string()),
        field("object_id", pa.string()),
        field("ra", pa.float64()),
        field("dec", pa.float64()),
        field("distance_mpc", pa.float64()),
        field("distance_error_mpc", pa.float64()),
        field("foreground_ebv", pa.float64()),
        field("class_", pa.int16()),
        field("flags", pa.int32()),
    ]
    fields += [field(flux_column(band), pa.float64()) for band in bands]
    fields += [field(error_column(band), pa.float64()) for band in bands]
    fields += [field(limit_column(band), pa.bool_()) for band in bands]
    fields += [field(f"published_{name}", pa.float64()) for name in published]
    return pa.schema(fields)


PUBLISHED = ("log_age", "log_mass", "ebv")
"""Published quantities that every catalogue partition has a (possibly NaN) column for."""


def summary_names(parameter: str) -> list[str]:
    """Names of a parameter's summary columns, in order."""
    return [f"{parameter}_{suffix}" for suffix in ("mean", "std", *QUANTILES, "map")]


TRUST = (
    *("efficiency", "log_evidence", "log_evidence_error", "member_spread"),
    *("ppc_chi2", "ppc_pvalue", "ood_pvalue"),
)
"""Columns that say how far a posterior can be trusted."""

NETWORK_ONLY = ("member_spread", "ood_pvalue")
"""Those of them that say something of the network."""


def posterior_schema(parameters: Sequence[str]) -> pa.Schema:
    """Columns of the posterior table: one row a cluster."""
    fields = [
        field("galaxy", pa.string()),
        field("survey", pa.string()),
        field("object_id", pa.string()),
        field("ra", pa.float64()),
        field("dec", pa.float64()),
        field("distance_mpc", pa.float64()),
        field("class_", pa.int16()),
        field("n_bands", pa.int16()),
    ]
    for parameter in parameters:
        fields += [field(name, pa.float32()) for name in summary_names(parameter)]
    fields += [field(f"log_mass_current_{q}", pa.float32()) for q in ("q16", "q50", "q84")]
    fields.append(field("n_modes", pa.int16()))
    fields.append(field("mode_weight", pa.list_(pa.float32())))
    fields += [field(f"mode_{parameter}", pa.list_(pa.float32())) for parameter in parameters]
    fields += [field(f"mode_{parameter}_std", pa.list_(pa.float32())) for parameter in parameters]
    fields += [field(name, pa.float32()) for name in TRUST]
    fields.append(field("flags", pa.int32()))
    fields += [field(f"published_{name}", pa.float64()) for name in PUBLISHED]
    return pa.schema(fields)


CHI2 = ("best_chi2", "best_reduced_chi2")
"""Of the classical best fit: over all bands that it uses, `best_n_bands`, and by degree of freedom."""


def fit_schema(parameters: Sequence[str]) -> pa.Schema:
    """Columns of the classical fit: one row a cluster.

    Parameters
    ----------
    parameters : sequence of str
        Those of the job.

    Returns
    -------
    pyarrow.Schema
        Those of the posterior table, here of the exact posterior on the grid, without what only draws
        from a network have; and for each parameter `best_<p>`, that of the model with the least chi2, and
        `bayes_<p>`, `bayes_<p>_std`, the likelihood-weighted mean and deviation over the grid's models, as
        CIGALE's `pdf_analysis` has them.
    """
    fields = [item for item in posterior_schema(parameters) if item.name not in NETWORK_ONLY]
    at = next(i for i, item in enumerate(fields) if item.name == "n_modes")
    names = [name for each in parameters for name in (f"best_{each}", f"bayes_{each}", f"bayes_{each}_std")]
    classical = [field(name, pa.float32()) for name in [*names, *CHI2]]
    return pa.schema([*fields[:at], *classical, field("best_n_bands", pa.int16()), *fields[at:]])


def draws_schema(parameters: Sequence[str]) -> pa.Schema:
    """Columns of the draws table: one row a cluster, lists of draws."""
    fields = [field("galaxy", pa.string()), field("object_id", pa.string())]
    fields += [field(parameter, pa.list_(pa.float32())) for parameter in parameters]
    fields.append(field("log_weight", pa.list_(pa.float32())))
    return pa.schema(fields)
