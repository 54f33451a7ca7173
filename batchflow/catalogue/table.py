"""Any table with a column for each band: FITS, VOTable, ECSV, CSV, Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from batchflow.catalogue.files import ColumnFile, open_columns
from batchflow.catalogue.normalise import RawCatalogue
from batchflow.catalogue.units import FluxUnit, converted, flux_error, flux_from_magnitude, flux_unit
from batchflow.catalogue.values import numbers, truths, words
from batchflow.config import CatalogueSettings
from batchflow.errors import UserError, nearest
from batchflow.physics.bands import AB_MINUS_VEGA
from batchflow.schema import PARAMETER_UNITS, PUBLISHED, error_column, flux_column, limit_column

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
CLASS_COLUMN = "class_"
"""Column of the visual class, where the file has one."""


def read_table(path: Path, entry: CatalogueSettings, bands: Sequence[str]) -> Iterator[RawCatalogue]:
    """Read a table.

    Parameters
    ----------
    path : Path
        The file.
    entry : CatalogueSettings
        Its columns, unit; galaxy and distance of rows without.
    bands : sequence of str
        All bands of the job; the file has them all unless the entry names its own.

    Yields
    ------
    RawCatalogue
        Rows of the file, in its order.

    Raises
    ------
    UserError
        When the file cannot be read, lacks a column, or has a unit that cannot be.
    """
    own = _own_bands(path, entry, bands)
    for file in open_columns(path, entry.file_type, entry.hdu).pieces():
        yield _piece(file, entry, own)


def _piece(file: ColumnFile, entry: CatalogueSettings, own: Sequence[str]) -> RawCatalogue:
    measured = {band: _measure(file, entry, band) for band in own}
    return RawCatalogue(
        galaxy=_galaxies(file, entry),
        object_id=words(file, _require(file, entry.columns.id, "id")),
        ra=_optional(file, entry.columns.ra, "ra", "deg"),
        dec=_optional(file, entry.columns.dec, "dec", "deg"),
        distance_mpc=_distances(file, entry),
        flux={band: found[0] for band, found in measured.items()},
        error={band: found[1] for band, found in measured.items()},
        limit={band: _limits(file, entry, band) for band in own},
        class_=_classes(file),
        published={name: _published(file, entry, name) for name in PUBLISHED},
    )


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


def _measure(file: ColumnFile, entry: CatalogueSettings, band: str) -> tuple[Floats, Floats]:
    """Flux density and error [mJy] of a band, as measured."""
    columns = entry.columns
    flux_name = _band_column(file, columns.flux.get(band, flux_column(band)), "flux", band)
    error_name = _band_column(file, columns.error.get(band, error_column(band)), "error", band)
    unit = flux_unit(file.units.get(flux_name, ""), entry.unit, file.where(flux_name))
    values, errors = numbers(file, flux_name), numbers(file, error_name)
    if band in entry.zero_points and unit.system != "Vega":
        raise UserError(f"{file.where(flux_name)}: zero_points are AB - Vega, but its unit is {unit.system}")
    if unit.is_magnitude:
        zero_point = _zero_point(entry, band, unit, file.where(flux_name))
        flux = flux_from_magnitude(values, zero_point)
        magnitude_error = converted(errors, file.units.get(error_name, ""), "mag", file.where(error_name))
        return flux, flux_error(flux, magnitude_error)
    error_unit = flux_unit(file.units.get(error_name, ""), entry.unit, file.where(error_name))
    if error_unit.is_magnitude:
        raise UserError(f"{file.where(error_name)} is in magnitudes, but {flux_name!r} is a flux density")
    return values * unit.scale, errors * error_unit.scale


def _zero_point(entry: CatalogueSettings, band: str, unit: FluxUnit, where: str) -> float:
    if unit.system == "AB":
        return 0.0
    found = entry.zero_points.get(band, AB_MINUS_VEGA.get(band))
    if found is None:
        raise UserError(
            f"{where} holds Vega magnitudes, but no AB - Vega is known for {band}; add it to zero_points"
        )
    return found


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
    found = _optional(file, entry.columns.distance_mpc, "distance_mpc", "Mpc")
    if entry.distance_mpc is not None:
        return np.where(np.isnan(found), entry.distance_mpc, found)
    if np.isnan(found).all():
        raise UserError(f"{file.path} gives no distance; add distance_mpc = ... [Mpc] to its [[catalogue]]")
    return found


def _classes(file: ColumnFile) -> NDArray[np.int16] | None:
    if CLASS_COLUMN not in file.names:
        return None
    found = np.nan_to_num(numbers(file, CLASS_COLUMN), nan=0, posinf=0, neginf=0)
    return found.clip(-1, 99).astype(np.int16)


def _published(file: ColumnFile, entry: CatalogueSettings, name: str) -> Floats:
    named = entry.columns.published.get(name)  # type: ignore[call-overload]  # PUBLISHED holds just its keys
    found = _optional(file, named, f"published_{name}", PARAMETER_UNITS[name])
    return np.where(np.isfinite(found), found, np.nan)
