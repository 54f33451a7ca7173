"""Cluster catalogues of PHANGS-HST (Lee+22, ApJS 258, 10; Maschmann+24, ApJS 273, 14; Thilker+25).

Flux densities are total and corrected for the Milky Way. -9999 is outside a filter's frame; a negative
error marks the flux as an upper limit, and its size is the error. Age, mass and E(B-V) stand in the same
table or in one of their own (`sed_path`). Distances, filters and zero points of the 38 galaxies are
shipped. Each target is a survey of its own for the noise: exposures differ.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from batchflow.catalogue.columns import ColumnFile
from batchflow.catalogue.normalise import RawCatalogue
from batchflow.catalogue.phangs_columns import HUMAN, MACHINE, find, flux_names, published, vega_names
from batchflow.catalogue.phangs_rows import Rows, rows_of
from batchflow.catalogue.phangs_sed import open_sed
from batchflow.catalogue.phangs_targets import Target
from batchflow.catalogue.units import converted, flux_error, flux_from_magnitude
from batchflow.catalogue.values import numbers
from batchflow.errors import UserError
from batchflow.settings.catalogue import CatalogueSettings

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
NONE = (-9999.0, -999.0)
"""What stands where a filter has no image."""
FAINTEST = 60.0
"""No Vega magnitude is larger."""
TOLERANCE = 0.02
"""Median difference of mJy and Vega columns that is passed over [mag]."""


class Measured(NamedTuple):
    """A filter as the table has it; arrays of shape (n_rows,)."""

    flux: Floats
    """Flux densities [mJy]; NaN none; the limit's value where `limit`."""
    error: Floats
    limit: Bools


def report_unseen(entry: CatalogueSettings, joined: Mapping[tuple[str, ...], set[str]]) -> None:
    """Say which published values have no photometry in any of a catalogue's files.

    Parameters
    ----------
    entry : CatalogueSettings
        The catalogue.
    joined : mapping of tuple of str to set of str
        Ids that its files of photometry have, by the names of the id's column.
    """
    seen = set().union(*joined.values())
    for id_names in joined:
        sed = open_sed(entry, id_names)
        if unseen := sed.unseen(seen) if sed is not None else []:
            logger.warning(
                "%s: %d clusters of sed_path have no row of photometry, the first %s",
                *(entry.survey, len(unseen), unseen[0]),
            )


def understand(file: ColumnFile, entry: CatalogueSettings, bands: Sequence[str]) -> RawCatalogue:
    """Understand rows of a catalogue of PHANGS-HST.

    Parameters
    ----------
    file : ColumnFile
        The rows.
    entry : CatalogueSettings
        `sed_path`, where ages and masses are in files of their own; `classes`, `columns.class_`.
    bands : sequence of str
        All bands of the job; the entry's `bands` are those to take, default all of each target.

    Returns
    -------
    RawCatalogue
        The rows, in their order; surveys are named ``<survey>-<target>``.

    Raises
    ------
    UserError
        When a galaxy is not known, or a column that must be there is not.
    """
    if entry.foreground_ebv:
        raise UserError(
            f"{file.path}: foreground_ebv = {entry.foreground_ebv:g}, but PHANGS-HST photometry is corrected "
            'for the Milky Way; leave it out, or read an uncorrected table with format = "table"'
        )
    rows = rows_of(file, entry)
    own = _own_bands(rows, entry)
    found = {band: _measure(file, entry, rows, band) for band in own}
    values, n_without = _published(file, entry, rows)
    distance, distance_error = _distances(file, entry, rows)
    return RawCatalogue(
        galaxy=rows.galaxies,
        object_id=rows.keys,
        ra=_coordinate(file, "RA"),
        dec=_coordinate(file, "DEC"),
        distance_mpc=distance,
        distance_error_mpc=distance_error,
        flux={band: each.flux for band, each in found.items()},
        error={band: each.error for band, each in found.items()},
        limit={band: each.limit for band, each in found.items()},
        lacking={band: ~_having(rows, band) for band in own},
        survey=[f"{entry.survey}-{rows.targets[code].name}" for code in rows.codes],
        class_=_classes(file, entry),
        published=values,
        sentinels=_sentinels(file, rows, found, n_without),
        units={band: _unit(file, band) for band in own},
        zero_points=_zero_points(file, entry, rows, own),
        id_names=rows.id_names if entry.sed_path is not None else (),
    )


def _unit(file: ColumnFile, band: str) -> str:
    """What a band's fluxes are taken from, in words."""
    filter_ = band.partition("_")[2].upper()
    in_mjy = all(find(file, *names) for names in flux_names(filter_))
    return "mJy, of columns ..._mJy" if in_mjy else "Vega magnitudes, of columns ..._VEGA"


def _zero_points(
    file: ColumnFile, entry: CatalogueSettings, rows: Rows, bands: Sequence[str]
) -> dict[str, float]:
    """AB - Vega [mag] of the bands that come as Vega magnitudes; the median of the targets."""
    shipped = {
        band: float(np.median([t.zero_points[band] for t in rows.targets if band in t.zero_points]))
        for band in bands
        if _unit(file, band).startswith("Vega")
    }
    return {band: entry.zero_points.get(band, value) for band, value in shipped.items()}


def _own_bands(rows: Rows, entry: CatalogueSettings) -> list[str]:
    have = sorted({band for target in rows.targets for band in target.zero_points})
    return have if entry.bands is None else [band for band in have if band in entry.bands]


def _having(rows: Rows, band: str) -> Bools:
    """Rows whose target has a band, shape (n_rows,)."""
    return np.array([band in target.zero_points for target in rows.targets])[rows.codes]


def _measure(file: ColumnFile, entry: CatalogueSettings, rows: Rows, band: str) -> Measured:
    """A band of every target that has it; NaN elsewhere."""
    empty = np.full(file.n_rows, np.nan)
    found = Measured(empty, empty, np.zeros(file.n_rows, dtype=bool))
    for code, target in enumerate(rows.targets):
        if band in target.zero_points:
            of_target = rows.codes == code
            each = _of_target(file, entry, target, band, of_target)
            found = Measured(*(np.where(of_target, a, b) for a, b in zip(each, found, strict=True)))
    return found


def _of_target(
    file: ColumnFile, entry: CatalogueSettings, target: Target, band: str, of_target: Bools
) -> Measured:
    """A band with a target's zero point, from mJy columns or else Vega magnitudes; in all rows."""
    filter_ = target.filters[band]
    zero_point = entry.zero_points.get(band, target.zero_points[band])
    flux_name, error_name = (find(file, *names) for names in flux_names(filter_))
    vega_name, vega_error_name = (find(file, *names) for names in vega_names(filter_))
    from_vega = _from_vega(file, vega_name, vega_error_name, zero_point)
    if flux_name is None or error_name is None:
        if from_vega is None:
            stem = f"PHANGS_{filter_}"
            raise UserError(
                f"{file.path} has neither the columns {stem}_mJy and {stem}_mJy_ERR nor {stem}_VEGA and "
                f"{stem}_VEGA_ERR: the {band} of {target.name}"
            )
        return from_vega
    found = _in_mjy(file, flux_name, error_name)
    if from_vega is not None:
        _check_magnitudes(file.where(flux_name), target, of_target & ~found.limit, found.flux, from_vega.flux)
    return found


def _in_mjy(file: ColumnFile, flux_name: str, error_name: str) -> Measured:
    flux, error = (
        converted(_numbers(file, name), file.units.get(name, ""), "mJy", file.where(name))
        for name in (flux_name, error_name)
    )
    with np.errstate(invalid="ignore"):
        limit = np.isfinite(flux) & (error < 0)
    return Measured(flux, np.abs(error), limit)


def _from_vega(
    file: ColumnFile, name: str | None, error_name: str | None, zero_point: float
) -> Measured | None:
    """Flux densities of Vega magnitudes; None when the file has none."""
    if name is None or error_name is None:
        return None
    magnitude = _numbers(file, name)
    with np.errstate(invalid="ignore"):
        flux = flux_from_magnitude(np.where(magnitude < FAINTEST, magnitude, np.nan), zero_point)
    return Measured(flux, flux_error(flux, _numbers(file, error_name)), np.zeros(file.n_rows, dtype=bool))


def _numbers(file: ColumnFile, name: str) -> Floats:
    """A column of flux or magnitude; NaN where the filter has no image."""
    values = numbers(file, name)
    return np.where(np.isin(values, NONE), np.nan, values)


def _check_magnitudes(where: str, target: Target, rows: Bools, flux: Floats, from_vega: Floats) -> None:
    """Warn when the flux densities are not those of the Vega magnitudes beside them."""
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = -2.5 * np.log10((flux / from_vega)[rows & (flux > 0) & (from_vega > 0)])
    if difference.size and abs(middle := float(np.median(difference))) > TOLERANCE:
        logger.warning(
            "%s: %d rows of %s differ from their Vega magnitudes by %+.3f mag in the median; mJy is used: is "
            "a column corrected for something that the other is not?",
            *(where, difference.size, target.name, middle),
        )


def _distances(file: ColumnFile, entry: CatalogueSettings, rows: Rows) -> tuple[Floats, Floats]:
    """Distances and their errors [Mpc]: the job's, or those shipped."""
    galaxies = sorted(set(rows.galaxies))
    if entry.distance_mpc is not None and len(galaxies) > 1:
        raise UserError(
            f"{file.path} holds {len(galaxies)} galaxies ({', '.join(galaxies[:3])}, ...), but the job gives "
            "one distance_mpc; leave it out: their distances are known"
        )
    distance = np.array([entry.distance_mpc or target.distance_mpc for target in rows.targets])
    error = np.array([_distance_error(entry, target) for target in rows.targets])
    return distance[rows.codes], error[rows.codes]


def _distance_error(entry: CatalogueSettings, target: Target) -> float:
    """Error [Mpc] of the distance that is used; NaN where the job replaces the distance alone."""
    if entry.distance_error_mpc is not None:
        return entry.distance_error_mpc
    return target.distance_error_mpc if entry.distance_mpc is None else float("nan")


def _coordinate(file: ColumnFile, name: str) -> Floats:
    column = find(file, f"PHANGS_{name}")
    return np.full(file.n_rows, np.nan) if column is None else numbers(file, column)


def _classes(file: ColumnFile, entry: CatalogueSettings) -> NDArray[np.int16] | None:
    """Visual classes: of the column that the job names; else by eye, or the machine's in its own file."""
    by_machine = "machine" in file.path.name.lower()
    names = (*MACHINE, *HUMAN) if by_machine else (*HUMAN, *MACHINE)
    column = entry.columns.class_ or find(file, *names)
    if column is None:
        return None
    logger.info("%s: classes of %s", file.path, column)
    return np.nan_to_num(numbers(file, column), nan=0, posinf=0, neginf=0).clip(-1, 99).astype(np.int16)


def _published(file: ColumnFile, entry: CatalogueSettings, rows: Rows) -> tuple[dict[str, Floats], int]:
    """Published values, of the files of `sed_path` or else of the table itself; and rows without."""
    sed = open_sed(entry, rows.id_names)
    return (published(file), 0) if sed is None else sed.match(rows.keys)


def _sentinels(file: ColumnFile, rows: Rows, found: dict[str, Measured], n_without: int) -> dict[str, int]:
    outside = sum(int((np.isnan(each.flux) & _having(rows, band)).sum()) for band, each in found.items())
    counts = {
        "-9999 or none: no coverage": outside,
        "negative error: upper limit": sum(int(each.limit.sum()) for each in found.values()),
        "row without a row in sed_path": n_without,
    }
    return {text: count for text, count in counts.items() if count}
