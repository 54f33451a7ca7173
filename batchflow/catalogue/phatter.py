"""Star clusters of M31 and M33 by PHAT (Johnson+15, ApJ 802, 127) and PHATTER (Johnson+22, ApJ 938, 81).

Columns: `MAG275` and so on, Vega magnitudes in the aperture, with errors `SIG275`, where -99 marks the
magnitude as a limit; `APCOR`, what makes them total. Nothing is corrected for the Milky Way, and the
published A(V) holds its share. Ages, masses and A(V) come from resolved stars (Wainer+22, ApJ 928, 15;
Johnson+17, ApJ 839, 78): a measurement of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from batchflow.catalogue.columns import ColumnFile
from batchflow.catalogue.normalise import RawCatalogue
from batchflow.catalogue.units import flux_error, flux_from_magnitude, vega_zero_point
from batchflow.catalogue.values import numbers, words
from batchflow.errors import UserError
from batchflow.settings.catalogue import CatalogueSettings

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
COLUMNS: Mapping[str, str] = {
    "wfc3_f275w": "275", "wfc3_f336w": "336", "acs_f475w": "475",
    "acs_f814w": "814", "wfc3_f110w": "110", "wfc3_f160w": "160",
}  # fmt: skip
"""What ends the names of a band's columns."""
FAINTEST, BRIGHTEST = 40.0, 0.0
"""No magnitude lies beyond [mag]: what does, stands for none."""
LIMIT = -99.0
"""Error of a magnitude that is a limit."""
ROUNDED_ERROR = 0.005
"""What an error printed as 0.00 is at most [mag]: those of the brightest clusters."""
NONE = 1e19
"""Larger published values stand for none: 1e20."""
RV = 3.1
"""A(V) / E(B-V) of the published A(V)."""
PUBLISHED_COLUMNS = {"log_age": "Age_Med", "log_mass": "Mass_Med", "ebv": "AV_Med"}
"""Medians of the published posteriors: log age [yr], log mass [Msun], A(V) [mag]."""


def understand(file: ColumnFile, entry: CatalogueSettings, bands: Sequence[str]) -> RawCatalogue:
    """Understand rows of a catalogue of PHAT or PHATTER.

    Parameters
    ----------
    file : ColumnFile
        The rows.
    entry : CatalogueSettings
        Galaxy and distance, which the file does not tell; `bands` where not all that the job models.
    bands : sequence of str
        All bands of the job.

    Returns
    -------
    RawCatalogue
        The rows, in their order.

    Raises
    ------
    UserError
        When a column is missing, or galaxy or distance is not given.
    """
    own = _own_bands(file, entry, bands)
    galaxy, distance = _galaxy_and_distance(file, entry)
    found = {band: _measure(file, entry, band) for band in own}
    return RawCatalogue(
        galaxy=[galaxy] * file.n_rows,
        object_id=words(file, "ID"),
        ra=numbers(file, "RA"),
        dec=numbers(file, "DEC"),
        distance_mpc=np.full(file.n_rows, distance),
        flux={band: each[0] for band, each in found.items()},
        error={band: each[1] for band, each in found.items()},
        limit={band: each[2] for band, each in found.items()},
        published=_published(file),
        sentinels=_count_sentinels(file, own),
        units=dict.fromkeys(own, "Vega magnitudes, as PHAT and PHATTER publish them"),
        zero_points={band: vega_zero_point(entry.zero_points, band, str(file.path)) for band in own},
    )


def _own_bands(file: ColumnFile, entry: CatalogueSettings, bands: Sequence[str]) -> Sequence[str]:
    """Bands that the file has and the job models, or those that the job names."""
    if strangers := [band for band in entry.bands or () if band not in COLUMNS]:
        raise UserError(
            f'{file.path}: format = "phatter" has no {strangers[0]}; its bands: {", ".join(COLUMNS)}'
        )
    own = entry.bands or [band for band in bands if band in COLUMNS and f"MAG{COLUMNS[band]}" in file.names]
    if not own:
        raise UserError(
            f'{file.path} has no band of the job ({", ".join(bands)}); format = "phatter" has columns '
            f"MAG<n> and SIG<n>, n = {', '.join(COLUMNS.values())}, for the bands {', '.join(COLUMNS)}"
        )
    unused = [band for band, name in COLUMNS.items() if f"MAG{name}" in file.names and band not in own]
    if unused:
        logger.info("%s: %s not used: not among the job's bands", file.path, ", ".join(unused))
    return own


def _galaxy_and_distance(file: ColumnFile, entry: CatalogueSettings) -> tuple[str, float]:
    for key, example in (("galaxy", '"M33"'), ("distance_mpc", "0.87")):
        if getattr(entry, key) is None:
            raise UserError(f"{file.path} does not say its {key}; add {key} = {example} to its [[catalogue]]")
    return str(entry.galaxy), float(entry.distance_mpc or 0.0)


def _measure(file: ColumnFile, entry: CatalogueSettings, band: str) -> tuple[Floats, Floats, Bools]:
    """Flux densities and errors [mJy] of total light, and which are limits."""
    magnitude, error = (numbers(file, f"{kind}{COLUMNS[band]}") for kind in ("MAG", "SIG"))
    zero_point = vega_zero_point(entry.zero_points, band, file.where(f"MAG{COLUMNS[band]}"))
    magnitude = np.where((magnitude > BRIGHTEST) & (magnitude < FAINTEST), magnitude, np.nan)
    flux = flux_from_magnitude(magnitude + _aperture_correction(file), zero_point)
    limit = np.isfinite(flux) & (error == LIMIT)
    error = np.select([limit, error == 0], [np.nan, ROUNDED_ERROR], error)
    return flux, flux_error(flux, error), limit


def _aperture_correction(file: ColumnFile) -> Floats:
    """Magnitudes to add for the light outside the aperture; zero where the file gives none."""
    if "APCOR" not in file.names:
        return np.zeros(file.n_rows)
    return np.nan_to_num(numbers(file, "APCOR"), nan=0.0)


def _published(file: ColumnFile) -> dict[str, Floats]:
    found = {}
    for name, column in PUBLISHED_COLUMNS.items():
        if column in file.names:
            values = numbers(file, column)
            none = ~np.isfinite(values) | (values > NONE) | (values == LIMIT)
            found[name] = np.where(none, np.nan, values / RV if name == "ebv" else values)
    return found


def _count_sentinels(file: ColumnFile, bands: Sequence[str]) -> dict[str, int]:
    names = [COLUMNS[band] for band in bands]
    limits = sum(int((numbers(file, f"SIG{name}") == LIMIT).sum()) for name in names)
    rounded = sum(int((numbers(file, f"SIG{name}") == 0).sum()) for name in names)
    blank = sum(int(np.isnan(numbers(file, f"MAG{name}")).sum()) for name in names)
    counts = {"SIG -99 upper limit": limits, "SIG 0.00 taken as 0.005": rounded, "MAG not measured": blank}
    if "Age_Med" in file.names:
        counts["1e20 not fitted"] = int((numbers(file, "Age_Med") > NONE).sum())
    return {text: count for text, count in counts.items() if count}
