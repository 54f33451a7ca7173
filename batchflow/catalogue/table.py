"""Any table with a column for each band: FITS, VOTable, ECSV, CSV, Parquet.

Units that the file gives are believed; `unit` of the job is for columns without. In a flux or error column, a
number of `sentinels` stands for none; an error that is `limit_error` marks the flux as an upper limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from batchflow.catalogue.columns import ColumnFile
from batchflow.catalogue.normalise import RawCatalogue
from batchflow.catalogue.sky import hubble_distance, position
from batchflow.catalogue.units import (
    FluxUnit,
    converted,
    flux_error,
    flux_from_magnitude,
    flux_unit,
    is_magnitude_system,
    vega_zero_point,
)
from batchflow.catalogue.values import numbers, truths, words
from batchflow.errors import UserError, nearest
from batchflow.schema import PARAMETER_UNITS, PUBLISHED, error_column, flux_column, limit_column
from batchflow.settings.catalogue import CatalogueSettings

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
CLASS_COLUMN = "class_"
"""Column of the visual class, where the file has one."""


def understand(file: ColumnFile, entry: CatalogueSettings, bands: Sequence[str]) -> RawCatalogue:
    """Understand rows of a table.

    Parameters
    ----------
    file : ColumnFile
        The rows.
    entry : CatalogueSettings
        Columns, unit; galaxy and distance of rows without.
    bands : sequence of str
        All bands of the job; the file has them all unless the entry names its own.

    Returns
    -------
    RawCatalogue
        The rows, in their order.

    Raises
    ------
    UserError
        When a column is missing, or has a unit that cannot be; where a redshift gives no distance.
    """
    own = _own_bands(file.path, entry, bands)
    measured = {band: _measure(file, entry, band) for band in own}
    return RawCatalogue(
        galaxy=_galaxies(file, entry),
        object_id=words(file, _require(file, entry.columns.id, "id")),
        ra=_position(file, entry.columns.ra, "ra"),
        dec=_position(file, entry.columns.dec, "dec"),
        distance_mpc=_distances(file, entry),
        flux={band: found.flux for band, found in measured.items()},
        error={band: found.error for band, found in measured.items()},
        limit={band: found.limit for band, found in measured.items()},
        class_=_classes(file, entry),
        published={name: _published(file, entry, name) for name in PUBLISHED},
        sentinels=_sentinels(entry, measured),
        distance_error_mpc=_distance_errors(file, entry),
        units={band: found.unit for band, found in measured.items()},
        zero_points={
            band: found.zero_point for band, found in measured.items() if found.zero_point is not None
        },
    )


class Measured(NamedTuple):
    """A band as measured; arrays of shape (n_rows,)."""

    flux: Floats
    """Flux densities [mJy]; NaN for sentinels; the limit's value where `limit`."""
    error: Floats
    """1-sigma errors [mJy]; NaN unknown."""
    limit: Bools
    n_sentinels: int
    """Sentinels met."""
    n_marked: int
    """Limits that their error marked."""
    unit: str
    """Of the flux column, in words."""
    zero_point: float | None
    """AB - Vega [mag]; None when the unit is not Vega magnitudes."""


def _own_bands(path: Path, entry: CatalogueSettings, bands: Sequence[str]) -> Sequence[str]:
    own = entry.bands or bands
    mapped = {*entry.columns.flux, *entry.columns.error, *entry.columns.limit}
    if stray := sorted(mapped - set(own)):
        raise UserError(f"{path}: [catalogue.columns] names {stray[0]!r}, no band of this survey")
    return own


def _require(file: ColumnFile, name: str, key: str) -> str:
    if name not in file.names:
        raise UserError(
            f"{file.path} has no column {name!r}; {nearest(name, file.names)}; "
            f'name it in [catalogue.columns]: {key} = "..."'
        )
    return name


def _band_column(file: ColumnFile, name: str, kind: str, band: str) -> str:
    if name not in file.names:
        raise UserError(
            f"{file.path} has no column {name!r} for {band}; {nearest(name, file.names)}; name it in "
            f'[catalogue.columns] {kind} = {{{band} = "..."}}, or, if this survey lacks the band, list those '
            "it has in bands = [...]"
        )
    return name


def _measure(file: ColumnFile, entry: CatalogueSettings, band: str) -> Measured:
    columns = entry.columns
    flux_name = _band_column(file, columns.flux.get(band, flux_column(band)), "flux", band)
    error_name = _band_column(file, columns.error.get(band, error_column(band)), "error", band)
    values, errors = numbers(file, flux_name), numbers(file, error_name)
    none = _is_sentinel(entry, values)
    errors, marked = _marked_limits(entry, errors)
    no_error = _is_sentinel(entry, errors)
    where, in_file = file.where(flux_name), file.units.get(flux_name, "")
    unit = flux_unit(in_file, entry.unit, where)
    if band in entry.zero_points and unit.system != "Vega":
        raise UserError(f"{where}: zero_points are AB - Vega, but its unit is {unit.system}")
    zero_point = vega_zero_point(entry.zero_points, band, where) if unit.system == "Vega" else None
    flux, error = _in_mjy(
        file,
        entry,
        (unit, zero_point or 0.0),
        (flux_name, np.where(none, np.nan, values)),
        (error_name, np.where(no_error, np.nan, errors)),
    )
    marked &= np.isfinite(flux)
    limit = marked | _limits(file, entry, band)
    n_sentinels = int(none.sum() + no_error.sum())
    said = _unit_in_words(in_file, entry)
    return Measured(flux, error, limit, n_sentinels, int(marked.sum()), said, zero_point)


def _unit_in_words(in_file: str, entry: CatalogueSettings) -> str:
    """Unit of a column, and whether the file or the job says so."""
    if in_file.strip().lower() == "mag":
        return f"mag, as the file says, of the system {entry.unit}, as unit says"
    return f"{in_file.strip()}, as the file says" if in_file.strip() else f"{entry.unit}, as unit says"


def _is_sentinel(entry: CatalogueSettings, values: Floats) -> Bools:
    """Where numbers stand for none; to the precision of 4-byte floats, as 99.999 in a FITS file."""
    found = np.zeros(values.shape, dtype=bool)
    for sentinel in entry.sentinels:
        found |= np.isclose(values, sentinel, rtol=1e-6, atol=0)
    return found


def _marked_limits(entry: CatalogueSettings, errors: Floats) -> tuple[Floats, Bools]:
    """Errors without the marks of limits, and where those were."""
    if entry.limit_error is None:
        return errors, np.zeros(errors.shape, dtype=bool)
    if entry.limit_error == "negative":
        with np.errstate(invalid="ignore"):
            marked = (errors < 0) & ~_is_sentinel(entry, errors)
        return np.where(marked, -errors, errors), marked
    marked = np.isclose(errors, entry.limit_error, rtol=1e-6, atol=0)
    return np.where(marked, np.nan, errors), marked


def _in_mjy(
    file: ColumnFile,
    entry: CatalogueSettings,
    scale: tuple[FluxUnit, float],
    flux: tuple[str, Floats],
    error: tuple[str, Floats],
) -> tuple[Floats, Floats]:
    """Flux densities and errors [mJy] of the columns (name, numbers), in a unit with its AB - Vega."""
    unit, zero_point = scale
    error_where = file.where(error[0])
    in_file, error_in_file = file.units.get(flux[0], ""), file.units.get(error[0], "")
    if unit.is_magnitude:
        flux_mjy = flux_from_magnitude(flux[1], zero_point)
        return flux_mjy, flux_error(flux_mjy, _magnitude_error(error[1], error_in_file, error_where))
    # An error column without a unit shares that of the flux it belongs to.
    error_unit = flux_unit(error_in_file or in_file, entry.unit, error_where)
    if error_unit.is_magnitude:
        raise UserError(f"{error_where} is in magnitudes, but {flux[0]!r} is a flux density")
    return flux[1] * unit.scale, error[1] * error_unit.scale


def _magnitude_error(errors: Floats, in_file: str, where: str) -> Floats:
    """Errors in magnitudes; a file may call their unit that of the magnitudes, mag(AB)."""
    plain = "" if is_magnitude_system(in_file) else in_file
    return converted(errors, plain, "mag", where)


def _sentinels(entry: CatalogueSettings, measured: Mapping[str, Measured]) -> dict[str, int]:
    numbers_met = ", ".join(f"{value:g}" for value in entry.sentinels)
    counts = {
        f"{numbers_met} no measurement": sum(found.n_sentinels for found in measured.values()),
        f"{entry.limit_error} error of an upper limit": sum(found.n_marked for found in measured.values()),
    }
    return {text: count for text, count in counts.items() if count}


def _limits(file: ColumnFile, entry: CatalogueSettings, band: str) -> Bools:
    if band in entry.columns.limit:
        return truths(file, _require(file, entry.columns.limit[band], f"limit.{band}"))
    name = limit_column(band)
    return truths(file, name) if name in file.names else np.zeros(file.n_rows, dtype=bool)


def _optional(file: ColumnFile, named: str | None, default: str, unit: str) -> Floats:
    """A column of numbers that may be absent, unless the job names it; NaN throughout if so."""
    if named is None and default not in file.names:
        return np.full(file.n_rows, np.nan)
    name = _require(file, named or default, default)
    return converted(numbers(file, name), file.units.get(name, ""), unit, file.where(name))


def _position(file: ColumnFile, named: str | None, default: str) -> Floats:
    """Coordinates [deg]; NaN throughout where the file has none and the job names none."""
    if named is None and default not in file.names:
        return np.full(file.n_rows, np.nan)
    return position(file, _require(file, named or default, default), hours=default == "ra")


def _galaxies(file: ColumnFile, entry: CatalogueSettings) -> list[str]:
    named = entry.columns.galaxy
    if named is None and "galaxy" not in file.names:
        found = [""] * file.n_rows
    else:
        found = words(file, _require(file, named or "galaxy", "galaxy"))
    default = (entry.galaxy or "").strip()
    if not default and "" in found:
        raise UserError(
            f'{file.path}: {file.row(found.index(""))} has no galaxy; add galaxy = "..." to its '
            "[[catalogue]], for rows without one of their own"
        )
    return [name or default for name in found]


def _distances(file: ColumnFile, entry: CatalogueSettings) -> Floats:
    """Distances [Mpc]: the row's own, else of its redshift, else the job's."""
    found = _optional(file, entry.columns.distance_mpc, "distance_mpc", "Mpc")
    if entry.columns.redshift is not None:
        name = _require(file, entry.columns.redshift, "redshift")
        found = np.where(np.isnan(found), hubble_distance(file, name, wanted=np.isnan(found)), found)
    if entry.distance_mpc is not None:
        return np.where(np.isnan(found), entry.distance_mpc, found)
    columns = (entry.columns.distance_mpc, entry.columns.redshift)
    if not any(columns) and "distance_mpc" not in file.names:
        raise UserError(f"{file.path} gives no distance; add distance_mpc = ... [Mpc] to its [[catalogue]]")
    return found


def _distance_errors(file: ColumnFile, entry: CatalogueSettings) -> Floats | None:
    """1-sigma errors of the distances [Mpc]; None where the file has none."""
    named, default = entry.columns.distance_error_mpc, "distance_error_mpc"
    return _optional(file, named, default, "Mpc") if named or default in file.names else None


def _classes(file: ColumnFile, entry: CatalogueSettings) -> NDArray[np.int16] | None:
    name = entry.columns.class_
    if name is None and CLASS_COLUMN not in file.names:
        return None
    found = numbers(file, _require(file, name or CLASS_COLUMN, "class_"))
    return np.nan_to_num(found, nan=0, posinf=0, neginf=0).clip(-1, 99).astype(np.int16)


def _published(file: ColumnFile, entry: CatalogueSettings, name: str) -> Floats:
    named = entry.columns.published.get(name)  # type: ignore[call-overload]  # PUBLISHED holds just its keys
    found = _optional(file, named, f"published_{name}", PARAMETER_UNITS[name])
    return np.where(np.isfinite(found), found, np.nan)
