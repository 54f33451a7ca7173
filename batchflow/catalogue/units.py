"""Magnitudes and flux units, made mJy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import astropy.units as u
import numpy as np
from numpy.typing import NDArray

from batchflow.errors import UserError
from batchflow.physics.bands import AB_MINUS_VEGA

Floats = NDArray[np.float64]
AB_OF_ONE_MJY = 16.4
"""AB magnitude of 1 mJy: -2.5 log10(10^-26 erg/s/cm2/Hz) - 48.60 (Oke & Gunn 1983)."""
MAG_PER_RELATIVE_ERROR = 2.5 / np.log(10)
"""Magnitude error of a unit relative flux error, to first order."""

MJY_OF_ONE_MAGGY = 10 ** (0.4 * AB_OF_ONE_MJY)
"""Flux density of AB magnitude 0 [mJy], some 3631 Jy: one maggy (Finkbeiner et al. 2004, AJ 128, 2577)."""

_NAMES = {
    "abmag": "AB", "ab mag": "AB", "mag(ab)": "AB", "ab": "AB",
    "vegamag": "Vega", "vega mag": "Vega", "mag(vega)": "Vega", "vega": "Vega",
    "maggy": "maggies", "maggies": "maggies", "mgy": "maggies",
    "nanomaggy": "nanomaggies", "nanomaggies": "nanomaggies", "nmgy": "nanomaggies", "nmaggy": "nanomaggies",
}  # fmt: skip
"""What files call the units that astropy does not convert, in lower case."""


@dataclass(frozen=True)
class FluxUnit:
    """What the numbers of a flux column are."""

    system: Literal["flux", "AB", "Vega"]
    scale: float = 1.0
    """mJy in one unit, where the system is "flux"."""

    @property
    def is_magnitude(self) -> bool:
        """Whether the numbers are magnitudes."""
        return self.system != "flux"


STATED = {
    "mJy": FluxUnit("flux", 1.0),
    "uJy": FluxUnit("flux", 1e-3),
    "nJy": FluxUnit("flux", 1e-6),
    "Jy": FluxUnit("flux", 1e3),
    "maggies": FluxUnit("flux", MJY_OF_ONE_MAGGY),
    "nanomaggies": FluxUnit("flux", 1e-9 * MJY_OF_ONE_MAGGY),
    "erg/s/cm2/Hz": FluxUnit("flux", 1e26),
    "AB": FluxUnit("AB"),
    "Vega": FluxUnit("Vega"),
}
"""The units a job file can state."""


def flux_unit(in_file: str, stated: str, where: str) -> FluxUnit:
    """Decide the unit of a flux column: what the file says wins over what the job says.

    Parameters
    ----------
    in_file : str
        Unit that the file gives the column; empty when it gives none.
    stated : str
        Unit that the job states, a key of `STATED`.
    where : str
        File and column, for the message.

    Returns
    -------
    FluxUnit
        The unit.

    Raises
    ------
    UserError
        When the file's unit cannot be that of a flux density, or is a magnitude of an unknown system.
    """
    name = in_file.strip()
    if not name:
        return STATED[stated]
    if known := _NAMES.get(name.lower()):
        return STATED[known]
    if name.lower() == "mag":
        return _magnitude_as_stated(stated, where)
    scale = _mjy_in(name)
    if scale is None:
        raise UserError(
            f'{where} has the unit {name!r} in the file and unit = "{stated}" in the job; expected a flux '
            f"density ({', '.join(name for name in STATED if not STATED[name].is_magnitude)}) or a magnitude "
            "(mag(AB), mag(Vega)): mend the file's unit"
        )
    return FluxUnit("flux", scale)


def is_magnitude_system(in_file: str) -> bool:
    """Whether a file's unit names magnitudes of a known system, such as mag(AB)."""
    name = _NAMES.get(in_file.strip().lower())
    return name is not None and STATED[name].is_magnitude


def _mjy_in(name: str) -> float | None:
    """Size of a unit of that name in mJy; None when it is no linear unit of flux density."""
    try:
        unit = u.Unit(name)
        # dex(mJy) converts as well, but not by a factor.
        return float(unit.to(u.mJy)) if isinstance(unit, u.UnitBase) else None
    except (ValueError, TypeError, u.UnitConversionError):
        return None


def _magnitude_as_stated(stated: str, where: str) -> FluxUnit:
    if STATED[stated].is_magnitude:
        return STATED[stated]
    raise UserError(
        f"{where} has the unit 'mag' in the file and unit = \"{stated}\" in the job; "
        'say which magnitudes they are: unit = "AB" or unit = "Vega"'
    )


def vega_zero_point(own: Mapping[str, float], band: str, where: str) -> float:
    """AB magnitude of Vega in a band.

    Parameters
    ----------
    own : mapping of str to float
        AB - Vega [mag] that the job states, by band.
    band : str
        The band.
    where : str
        File and column, for the message.

    Returns
    -------
    float
        AB - Vega [mag]: the job's, or else that of `AB_MINUS_VEGA`.

    Raises
    ------
    UserError
        When neither has it.
    """
    found = own.get(band, AB_MINUS_VEGA.get(band))
    if found is None:
        raise UserError(
            f"{where} holds Vega magnitudes, but no AB - Vega is known for {band}; add it to zero_points"
        )
    return found


def flux_from_magnitude(magnitude: Floats, ab_minus_vega: float = 0.0) -> Floats:
    """Flux density of a magnitude.

    Parameters
    ----------
    magnitude : ndarray
        AB magnitude, or Vega magnitude with its zero point.
    ab_minus_vega : float
        AB magnitude of Vega in the band [mag]; zero for AB magnitudes.

    Returns
    -------
    ndarray
        Flux density [mJy]; infinite where it is too large for a number.
    """
    with np.errstate(over="ignore"):
        return np.asarray(10 ** (-0.4 * (magnitude + ab_minus_vega - AB_OF_ONE_MJY)), dtype=np.float64)


def flux_error(flux: Floats, magnitude_error: Floats) -> Floats:
    """Error of a flux density whose magnitude error is given, to first order.

    Parameters
    ----------
    flux : ndarray
        Flux density [mJy].
    magnitude_error : ndarray
        1-sigma error of its magnitude [mag].

    Returns
    -------
    ndarray
        1-sigma error [mJy].
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(flux * magnitude_error / MAG_PER_RELATIVE_ERROR, dtype=np.float64)


def converted(values: Floats, unit: str, target: str, where: str) -> Floats:
    """Convert a column whose unit the file may give.

    Parameters
    ----------
    values : ndarray
        The numbers.
    unit : str
        Unit that the file gives; empty means they are in `target` already.
    target : str
        The unit wanted, as astropy writes it.
    where : str
        File and column, for the message.

    Returns
    -------
    ndarray
        The numbers in `target`.

    Raises
    ------
    UserError
        When one cannot be had from the other.
    """
    if not unit.strip() or unit.strip() == target:
        return values
    try:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            found = u.Quantity(values, u.Unit(unit), subok=True).to_value(u.Unit(target))
        return np.asarray(found, dtype=np.float64)
    except (ValueError, TypeError, u.UnitConversionError):
        raise UserError(
            f"{where} has the unit {unit!r} in the file; expected one that gives {target}"
        ) from None
