"""Positions in degrees or sexagesimal; distances of the Hubble flow."""

from __future__ import annotations

import logging

import astropy.units as u
import numpy as np
import pyarrow as pa
from astropy.coordinates import Angle
from numpy.typing import NDArray

from batchflow.catalogue.columns import ColumnFile
from batchflow.catalogue.units import converted
from batchflow.catalogue.values import numbers, words
from batchflow.errors import UserError

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
COSMOLOGY = {"H0": 67.66, "Om0": 0.30966}
"""Cosmology of distances from redshifts, flat: Planck 2018 (A&A 641, A6, table 2, last column)."""
NEAREST_REDSHIFT = 0.003
"""Below, peculiar velocities of some 300 km/s make a distance from the redshift wrong by a third."""
FARTHEST_REDSHIFT = 0.02
"""Above, the bands' shift matters, which the model does not know."""


def position(file: ColumnFile, name: str, hours: bool) -> Floats:
    """Read a column of coordinates.

    Parameters
    ----------
    file : ColumnFile
        The file.
    name : str
        The column: numbers, in degrees unless the file gives another unit, or text such as
        ``12:34:56.7``, ``12h34m56.7s`` or ``-0d30m``.
    hours : bool
        Whether sexagesimal text without letters counts hours, as right ascensions do.

    Returns
    -------
    ndarray, shape (n_rows,)
        [deg]; NaN where blank.

    Raises
    ------
    UserError
        When a text is no coordinate; the message names the row.
    """
    if not _is_sexagesimal(file, name):
        return converted(numbers(file, name), file.units.get(name, ""), "deg", file.where(name))
    unit = u.hourangle if hours else u.deg
    texts = words(file, name)
    filled = [index for index, text in enumerate(texts) if text]
    found = np.full(file.n_rows, np.nan)
    try:
        found[filled] = Angle([texts[index] for index in filled], unit=unit).deg
    except (ValueError, u.UnitsError):
        raise UserError(_first_bad_angle(file, name, texts, unit)) from None
    return found


def _is_sexagesimal(file: ColumnFile, name: str) -> bool:
    column = file.column(name)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return False
    return any(mark in text for text in words(file, name) if text for mark in (":", "h", "d", " "))


def _first_bad_angle(file: ColumnFile, name: str, texts: list[str], unit: u.UnitBase) -> str:
    for index, text in enumerate(texts):
        try:
            Angle(text or "0", unit=unit)
        except (ValueError, u.UnitsError):
            return (
                f"{file.where(name)}, {file.row(index)}: found {text!r}; expected degrees, or an angle such "
                "as 12:34:56.7 or 12h34m56.7s"
            )
    return f"{file.where(name)} cannot be read as angles"


def hubble_distance(file: ColumnFile, name: str, wanted: Bools) -> Floats:
    """Luminosity distances of a column of redshifts, in `COSMOLOGY`.

    Parameters
    ----------
    file : ColumnFile
        The file.
    name : str
        Column of redshifts of the Hubble flow (corrected for the motion of the Sun).
    wanted : bool ndarray, shape (n_rows,)
        Rows without a distance of their own; others are not read.

    Returns
    -------
    ndarray, shape (n_rows,)
        [Mpc]; NaN where not wanted, or blank.

    Raises
    ------
    UserError
        When a redshift wanted is below `NEAREST_REDSHIFT`, zero or negative: it tells no distance.
    """
    redshift = np.where(wanted, numbers(file, name), np.nan)
    known = np.isfinite(redshift)
    if (bad := np.flatnonzero(known & ~(redshift >= NEAREST_REDSHIFT))).size:
        raise UserError(
            f"{file.where(name)}, {file.row(int(bad[0]))}: redshift {redshift[bad[0]]:g} tells no distance, "
            f"as peculiar velocities rule below {NEAREST_REDSHIFT:g} ({bad.size} such rows); give those rows "
            'a distance in a column named by [catalogue.columns] distance_mpc = "..."'
        )
    if far := int((redshift[known] > FARTHEST_REDSHIFT).sum()):
        logger.warning(
            "%s: %d redshifts above %g; the model's bands are not shifted",
            file.where(name),
            far,
            FARTHEST_REDSHIFT,
        )
    found = np.full(redshift.shape, np.nan)
    if known.any():
        # Slow to import, and few catalogues need it.
        from astropy.cosmology import FlatLambdaCDM

        found[known] = FlatLambdaCDM(**COSMOLOGY).luminosity_distance(redshift[known]).to_value(u.Mpc)
    return found
