"""From what a reader understood to the one internal form: rows in = rows out, each with its flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from batchflow.physics.bands import read_curve
from batchflow.physics.foreground import deredden, foreground_coefficients
from batchflow.schema import LIMIT_SIGMA, PUBLISHED, Flag, catalogue_schema, is_measurement
from batchflow.schema import error_column as error_name
from batchflow.schema import flux_column as flux_name
from batchflow.schema import limit_column as limit_name
from batchflow.settings.catalogue import CatalogueSettings

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int32]


@dataclass(frozen=True)
class RawCatalogue:
    """A survey as its reader understood it, before any judgement; arrays have shape (n_clusters,)."""

    galaxy: Sequence[str]
    """Name of each row's galaxy."""
    object_id: Sequence[str]
    """Identifier of each row."""
    ra: Floats
    """Right ascension [deg]; NaN unknown."""
    dec: Floats
    """Declination [deg]; NaN unknown."""
    distance_mpc: Floats
    """Distance [Mpc]; NaN unknown."""
    flux: Mapping[str, Floats]
    """Flux density of each band the survey has [mJy]; NaN not measured; an upper limit's value."""
    error: Mapping[str, Floats]
    """1-sigma errors [mJy]; NaN unknown."""
    limit: Mapping[str, Bools] = field(default_factory=dict)
    """Bands, among those of `flux`, that have upper limits, and where."""
    class_: NDArray[np.int16] | None = None
    """Visual class, 0 unknown; None when the survey has none."""
    published: Mapping[str, Floats] = field(default_factory=dict)
    """Published log_age, log_mass and ebv, those there are."""
    sentinels: Mapping[str, int] = field(default_factory=dict)
    """How often each value that stands for none was met, by what it means."""
    distance_error_mpc: Floats | None = None
    """1-sigma error of the distance [Mpc], NaN unknown; None when the survey gives none."""
    foreground_ebv: Floats | None = None
    """Milky-Way E(B-V) that the reader took out of the fluxes [mag]; None when it took out nothing."""
    survey: Sequence[str] | None = None
    """Survey of each row, where a file holds several; None when all are of the entry's own."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Unit of each band's fluxes, in words, and who says so."""
    zero_points: Mapping[str, float] = field(default_factory=dict)
    """AB - Vega [mag] of the bands that were converted from Vega magnitudes."""
    id_names: tuple[str, ...] = ()
    """Names of the id, where published values are joined on it from files of their own."""
    lacking: Mapping[str, Bools] = field(default_factory=dict)
    """Rows whose survey does not have a band of `flux` at all: it is not missing there."""


class CleanBand(NamedTuple):
    """A band after judgement; arrays of shape (n_clusters,)."""

    flux: Floats
    error: Floats
    limit: Bools
    flags: Ints


def clean_band(flux: Floats, error: Floats, limit: Bools, limit_sigma: float = LIMIT_SIGMA) -> CleanBand:
    """Judge a band's measurements.

    Parameters
    ----------
    flux, error : ndarray, shape (n_clusters,)
        Flux densities and 1-sigma errors [mJy].
    limit : bool ndarray, shape (n_clusters,)
        Where the flux is the value of an upper limit.
    limit_sigma : float
        Standard deviations at which a limit is quoted that has no error of its own.

    Returns
    -------
    CleanBand
        Flux and error are NaN together; every band left out has its flag.
    """
    missing = np.isnan(flux)
    with np.errstate(invalid="ignore"):
        sound = np.isfinite(error) & (error > 0)
        error = np.where(limit & ~sound, flux / limit_sigma, error)
        bad = ~is_measurement(flux, error) | (limit & (flux <= 0))
        used = ~missing & ~bad
        negative = used & (flux < 0)
    flags = (
        missing * Flag.MISSING_BAND
        | (bad & ~missing) * Flag.BAD_ERROR
        | (used & limit) * Flag.UPPER_LIMIT
        | negative * Flag.NEGATIVE_FLUX
    )
    return CleanBand(
        np.where(used, flux, np.nan), np.where(used, error, np.nan), used & limit, flags.astype(np.int32)
    )


def complete(
    raw: RawCatalogue, entry: CatalogueSettings, curves: Mapping[str, Path] | None = None
) -> RawCatalogue:
    """Fill in what the job says of a survey, and take out the Milky Way that is left in it.

    Parameters
    ----------
    raw : RawCatalogue
        What the reader understood.
    entry : CatalogueSettings
        Its distance error, for rows without one; its `foreground_ebv`, unless the reader took it out;
        whether each galaxy is a survey.
    curves : mapping of str to Path, optional
        Files of the job's own throughput curves, by band.

    Returns
    -------
    RawCatalogue
        Fluxes, limits and errors times 10^(0.4 A) of the foreground in each band.
    """
    if entry.noise_by == "galaxy" and raw.survey is None:
        raw = replace(raw, survey=[f"{entry.survey}-{galaxy}" for galaxy in raw.galaxy])
    error = raw.distance_error_mpc
    if entry.distance_error_mpc is not None:
        own = np.full(len(raw.object_id), np.nan) if error is None else error
        raw = replace(raw, distance_error_mpc=np.where(np.isnan(own), entry.distance_error_mpc, own))
    if not entry.foreground_ebv or raw.foreground_ebv is not None:
        return raw
    ebv = entry.foreground_ebv
    screen = _foreground(tuple((band, (curves or {}).get(band)) for band in raw.flux))
    return replace(
        raw,
        flux={band: deredden(values, screen[band], ebv) for band, values in raw.flux.items()},
        error={band: deredden(values, screen[band], ebv) for band, values in raw.error.items()},
        foreground_ebv=np.full(len(raw.object_id), ebv),
    )


@lru_cache(maxsize=64)
def _foreground(bands: tuple[tuple[str, Path | None], ...]) -> Mapping[str, float]:
    return foreground_coefficients(
        [name if curve is None else read_curve(curve, name) for name, curve in bands]
    )


def normalise(
    raw: RawCatalogue, survey: str, bands: Sequence[str], limit_sigma: float = LIMIT_SIGMA
) -> pa.Table:
    """Bring rows of a survey into the internal form.

    Parameters
    ----------
    raw : RawCatalogue
        What the reader understood.
    survey : str
        Its name.
    bands : sequence of str
        All bands of the job; one that the survey lacks is NaN throughout.
    limit_sigma : float
        Standard deviations at which limits without an error are quoted.

    Returns
    -------
    pyarrow.Table
        Columns of ``catalogue_schema(bands, PUBLISHED)``, as many rows as `raw` has, in its order.
        Repeated ids are not flagged yet: `flag_duplicates` sees more than a piece.
    """
    n_rows = len(raw.object_id)
    clean = {band: _clean(raw, band, limit_sigma) for band in raw.flux}
    absent = CleanBand(*(np.full(n_rows, value) for value in (np.nan, np.nan, False, 0)))
    columns = _identity(raw, survey) | {"flags": _row_flags(raw, clean)}
    for band in bands:
        found = clean.get(band, absent)
        columns |= {flux_name(band): found.flux, error_name(band): found.error, limit_name(band): found.limit}
    for name in PUBLISHED:
        columns[f"published_{name}"] = raw.published.get(name, np.full(n_rows, np.nan))
    schema = catalogue_schema(bands, PUBLISHED)
    return pa.table([pa.array(columns[item.name], item.type) for item in schema], schema=schema)


def _clean(raw: RawCatalogue, band: str, limit_sigma: float) -> CleanBand:
    flux = raw.flux[band]
    limit = raw.limit.get(band, np.zeros(flux.shape, dtype=bool))
    found = clean_band(flux, raw.error[band], limit, limit_sigma)
    lacking = raw.lacking.get(band, np.zeros(flux.shape, dtype=bool))
    return found._replace(flags=np.where(lacking, 0, found.flags).astype(np.int32))


def _identity(raw: RawCatalogue, survey: str) -> dict[str, object]:
    n_rows = len(raw.object_id)
    return {
        "galaxy": raw.galaxy,
        "survey": [survey] * n_rows if raw.survey is None else raw.survey,
        "object_id": raw.object_id,
        "ra": raw.ra,
        "dec": raw.dec,
        "distance_mpc": raw.distance_mpc,
        "distance_error_mpc": _sound_errors(raw.distance_error_mpc, n_rows),
        "foreground_ebv": np.zeros(n_rows) if raw.foreground_ebv is None else raw.foreground_ebv,
        "class_": np.zeros(n_rows, dtype=np.int16) if raw.class_ is None else raw.class_,
    }


def _sound_errors(error: Floats | None, n_rows: int) -> Floats:
    """Distance errors; NaN for what cannot be one."""
    if error is None:
        return np.full(n_rows, np.nan)
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(error) & (error >= 0), error, np.nan)


def _row_flags(raw: RawCatalogue, clean: Mapping[str, CleanBand]) -> Ints:
    flags = np.zeros(len(raw.object_id), dtype=np.int32)
    measured = np.zeros(len(raw.object_id), dtype=bool)
    for band in clean.values():
        flags |= band.flags
        measured |= np.isfinite(band.flux)
    with np.errstate(invalid="ignore"):
        distant = np.isfinite(raw.distance_mpc) & (raw.distance_mpc > 0)
    flags[~measured] |= Flag.NO_BAND
    flags[~distant] |= Flag.NO_DISTANCE
    return flags


def flag_duplicates(table: pa.Table) -> pa.Table:
    """Flag rows that share galaxy and id with another row of the table.

    Parameters
    ----------
    table : pyarrow.Table
        With columns `galaxy`, `object_id` and `flags`.

    Returns
    -------
    pyarrow.Table
        The same rows; `flags` has `Flag.DUPLICATE_ID` where it applies.
    """
    if not table.num_rows:
        return table
    keys = pc.binary_join_element_wise(table["galaxy"], table["object_id"], "\x00")
    codes = keys.combine_chunks().dictionary_encode().indices.to_numpy()
    flags = table["flags"].to_numpy() | np.where(np.bincount(codes)[codes] > 1, Flag.DUPLICATE_ID, 0)
    place = table.schema.get_field_index("flags")
    return table.set_column(place, table.schema.field(place), pa.array(flags, pa.int32()))
