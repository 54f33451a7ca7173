"""Photometry that a caller gives in Python: arrays, quantities with units, or an astropy table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from batchflow.catalogue.normalise import clean_band
from batchflow.catalogue.units import converted, flux_error, flux_from_magnitude, flux_unit, vega_zero_point
from batchflow.errors import UserError, nearest
from batchflow.infer.clusters import Clusters, from_arrays
from batchflow.schema import error_column, flux_column, limit_column

Floats = NDArray[np.float64]
MPC = "Mpc"


class Given(NamedTuple):
    """Clusters as a caller gave them."""

    clusters: Clusters
    ids: Sequence[str]
    """Of each; their numbers where the caller gave none."""
    galaxies: Sequence[str]
    """Of each, empty where the caller gave none."""
    flags: NDArray[np.int32]
    """What the numbers call for, as in a catalogue, (n_clusters,)."""


def is_table(values: Any) -> bool:
    """Whether this is a table with named columns, such as astropy's Table and QTable."""
    return hasattr(values, "colnames")


def given_arrays(
    fluxes: Any, errors: Any, bands: Sequence[str], distance: Any, distance_error: Any = None
) -> Given:
    """Clusters of arrays or quantities.

    Parameters
    ----------
    fluxes, errors : array_like or Quantity, shape (n_clusters, n_bands) or (n_bands,)
        Flux densities and 1-sigma errors, mJy where they have no unit; AB magnitudes with errors in mag.
        NaN or masked where not measured.
    bands : sequence of str
        Of the model.
    distance, distance_error : array_like or Quantity, shape () or (n_clusters,)
        Mpc where they have no unit.

    Returns
    -------
    Given
        Of no galaxy.

    Raises
    ------
    UserError
        When shapes or units do not fit, or a single distance is not positive.
    """
    if errors is None:
        raise UserError("errors are missing; expected as many as fluxes, [mJy], or an astropy Table alone")
    flux, error = _photometry(fluxes, errors, ("", "fluxes"))
    far = _distance(distance)
    spread = None if distance_error is None else _in_mpc(distance_error, "distance_error_mpc")
    clusters = from_arrays(flux, error, far, len(bands), spread)
    return _judged(clusters, clusters.keys, [""] * len(clusters.keys))


def given_table(table: Any, bands: Sequence[str], distance: Any = None, distance_error: Any = None) -> Given:
    """Clusters of an astropy table.

    Parameters
    ----------
    table : astropy.table.Table or QTable
        Columns ``flux_<band>`` and ``error_<band>`` (a flux density, mJy where there is no unit, or a
        magnitude); ``limit_<band>``, ``object_id``, ``galaxy``, ``survey``, ``distance_mpc`` and
        ``distance_error_mpc`` where there are any. Masked values are not measured. A band of the model
        that has no column is not measured. A limit without an error stands at `schema.LIMIT_SIGMA` of it.
    bands : sequence of str
        Of the model.
    distance, distance_error : array_like or Quantity, shape () or (n_clusters,), optional
        In place of the table's.

    Returns
    -------
    Given
        A cluster with galaxy and id has the random numbers that it has in a job.

    Raises
    ------
    UserError
        When no band of the model or one of another is there, a column's unit does not fit, or there is no
        distance.
    """
    present = _bands_of(table, bands)
    shape = (len(table), len(bands))
    flux, error, limit = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, bool)
    for i, band in enumerate(bands):
        if band not in present:
            continue
        columns = (table[flux_column(band)], table[error_column(band)])
        flux[:, i], error[:, i] = _photometry(*columns, (band, f"column {flux_column(band)}"))
        if limit_column(band) in table.colnames:
            limit[:, i] = np.ma.filled(np.ma.asarray(table[limit_column(band)]), False).astype(bool)
    if distance is None and "distance_mpc" not in table.colnames:
        raise UserError(
            "no distances: the table has no column distance_mpc; add it, or give distance_mpc = ..."
        )
    far = _distance(table["distance_mpc"] if distance is None else distance)
    if distance_error is None and "distance_error_mpc" in table.colnames:
        distance_error = table["distance_error_mpc"]
    spread = None if distance_error is None else _in_mpc(distance_error, "distance_error_mpc")
    found = from_arrays(flux, error, far, len(bands), spread)
    ids, galaxies = _words(table, "object_id"), _words(table, "galaxy")
    clusters = Clusters(
        flux,
        error,
        limit,
        found.distance_mpc,
        [f"{galaxy}/{own}" for galaxy, own in zip(galaxies, ids, strict=True)] if any(galaxies) else ids,
        _words(table, "survey"),
        galaxies if any(galaxies) else found.galaxies,
        found.distance_error_mpc,
    )
    return _judged(clusters, ids, galaxies)


def _bands_of(table: Any, bands: Sequence[str]) -> set[str]:
    """Bands that the table has, all of them the model's."""
    found = {name.removeprefix("flux_") for name in table.colnames if name.startswith("flux_")}
    if not found:
        raise UserError(
            f"the table has no column flux_<band>; expected flux_{bands[0]}, error_{bands[0]} and so on; "
            f"it has {', '.join(table.colnames)}"
        )
    if strange := sorted(found - set(bands)):
        raise UserError(
            f"column flux_{strange[0]}: the model was trained for the bands {', '.join(bands)}; "
            f"{nearest(strange[0], bands)}; leave out the columns of other bands"
        )
    for band in sorted(found):
        if error_column(band) not in table.colnames:
            raise UserError(f"column {flux_column(band)} is there, but {error_column(band)} is not; add it")
    return found


def _photometry(flux: Any, error: Any, where: tuple[str, str]) -> tuple[Floats, Floats]:
    """Flux densities and errors [mJy]; `where` is the band, empty if there are several, and a name."""
    band, name = where
    (values, unit), (sigmas, error_unit) = _bare(flux, name), _bare(error, name.replace("flux", "error"))
    known = flux_unit(unit, "mJy", name)
    if not known.is_magnitude:
        own = flux_unit(error_unit or unit, "mJy", f"the error of {name}")
        if own.is_magnitude:
            raise UserError(
                f"the error of {name} is in {error_unit}, its flux in {unit or 'mJy'}; convert one"
            )
        return values * known.scale, sigmas * own.scale
    if known.system == "Vega" and not band:
        raise UserError("fluxes are Vega magnitudes; give a table with a column a band, or AB magnitudes")
    if error_unit not in ("", "mag", unit):
        raise UserError(f"the error of {name} is in {error_unit}, its magnitude in {unit}; expected mag")
    zero = vega_zero_point({}, band, name) if known.system == "Vega" else 0.0
    found = flux_from_magnitude(values, zero)
    return found, flux_error(found, sigmas)


def _distance(values: Any) -> Floats:
    found = _in_mpc(values, "distance_mpc")
    # One distance for all is a setting; among many, a wrong one is its row's and flagged there.
    if found.ndim == 0 and not (np.isfinite(found) and found > 0):
        raise UserError(f"distance_mpc = {float(found):g}; expected a positive distance in Mpc")
    return found


def _in_mpc(values: Any, name: str) -> Floats:
    numbers, unit = _bare(values, name)
    return converted(numbers, unit, MPC, name)


def _bare(values: Any, name: str) -> tuple[Floats, str]:
    """Numbers, NaN where masked, and the unit's name; empty where there is none."""
    unit, mask = getattr(values, "unit", None), getattr(values, "mask", None)
    bare = getattr(values, "unmasked", values)
    try:
        numbers = np.array(np.ma.getdata(getattr(bare, "value", bare)), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: {error}; expected numbers, rows of equal length") from None
    if mask is not None and np.any(mask):
        numbers[np.broadcast_to(mask, numbers.shape)] = np.nan
    return numbers, "" if unit is None else str(unit)


def _words(table: Any, name: str) -> list[str]:
    """A column of words; row numbers for ids that are not there, else nothing."""
    if name in table.colnames:
        return [str(value) for value in table[name]]
    return [str(i) if name == "object_id" else "" for i in range(len(table))]


def _judged(clusters: Clusters, ids: Sequence[str], galaxies: Sequence[str]) -> Given:
    """Set aside what is no measurement, as in a catalogue."""
    found = clean_band(clusters.flux, clusters.error, clusters.limit)
    judged = replace(clusters, flux=found.flux, error=found.error, limit=found.limit)
    return Given(judged, ids, galaxies, np.bitwise_or.reduce(found.flags, axis=1))
