"""Extinction laws: A(lambda) / A(V) by name, from the package `dust_extinction`.

A further law is a line in `LAWS`. The name ``CCM89`` means what CIGALE calls so: Cardelli, Clayton &
Mathis (1989) with the optical coefficients of O'Donnell (1994). The coefficients of 1989 differ by
up to 3 % in A(lambda), that is 10 % in the flux through F336W behind E(B-V) = 1.5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchflow.errors import UserError, nearest

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Law:
    """An extinction law: a curve of R(V), or one average curve with an R(V) of its own."""

    module: str
    """Module of `dust_extinction`."""
    model: str
    """Class in it."""
    title: str
    """What it is, and the paper."""
    rv: float | None = None
    """R(V) of an average curve; None where the law takes R(V)."""


def _calzetti(wave_number: Floats) -> Floats:
    """A(lambda) / A(V) of starburst attenuation, Calzetti et al. 2000 (ApJ 533, 682), eq. 4."""
    blue = -2.156 + wave_number * (1.509 + wave_number * (-0.198 + 0.011 * wave_number))
    red = -1.857 + 1.040 * wave_number
    return np.asarray(2.659 / CALZETTI_RV * np.where(wave_number > 1 / 0.63, blue, red) + 1.0)


CALZETTI_RV = 4.05
CALZETTI_LIMITS = (1200.0, 22000.0)
"""Wavelengths [AA] for which Calzetti et al. 2000 give their curve."""


LAWS = {
    "CCM89": Law(
        "parameter_averages", "O94", "Milky Way, Cardelli, Clayton & Mathis 1989 with O'Donnell 1994"
    ),
    "CCM89_original": Law("parameter_averages", "CCM89", "Milky Way, Cardelli, Clayton & Mathis 1989"),
    "O94": Law("parameter_averages", "O94", "Milky Way, O'Donnell 1994"),
    "F99": Law("parameter_averages", "F99", "Milky Way, Fitzpatrick 1999"),
    "F04": Law("parameter_averages", "F04", "Milky Way, Fitzpatrick 2004"),
    "F19": Law("parameter_averages", "F19", "Milky Way, Fitzpatrick et al. 2019"),
    "G23": Law("parameter_averages", "G23", "Milky Way, Gordon et al. 2023"),
    "G03_SMCBar": Law("averages", "G03_SMCBar", "SMC Bar, Gordon et al. 2003", rv=2.74),
    "G03_LMCAvg": Law("averages", "G03_LMCAvg", "LMC average, Gordon et al. 2003", rv=3.41),
    "G03_LMC2": Law("averages", "G03_LMC2", "LMC 2 supershell, Gordon et al. 2003", rv=2.76),
    "C00": Law("", "C00", "starburst attenuation, Calzetti et al. 2000; E(B-V) of the stars", rv=CALZETTI_RV),
}
"""Extinction laws by name; but for ``CCM89`` (see above) the names are those of `dust_extinction`."""


@dataclass(frozen=True)
class ExtinctionCurve:
    """One law at one R(V)."""

    name: str
    """Key of `LAWS`."""
    rv: float
    """A(V) / E(B-V)."""
    limits: tuple[float, float]
    """Wavelengths [AA] between which the law is defined."""
    evaluate: Callable[[Floats], Floats]
    """A(lambda) / A(V) at wave numbers [1 / micron] within the limits."""

    def relative(self, wavelength: Floats) -> Floats:
        """A(lambda) / A(V).

        Parameters
        ----------
        wavelength : ndarray, shape (n,)
            Wavelengths in vacuum [AA].

        Returns
        -------
        ndarray, shape (n,)
            NaN outside `limits`: nothing is extrapolated.
        """
        low, high = self.limits
        inside = (wavelength >= low) & (wavelength <= high)
        found = np.full(wavelength.shape, np.nan)
        found[inside] = self.evaluate(1e4 / wavelength[inside])
        return found

    def magnitudes(self, wavelength: Floats, ebv: float | Floats) -> Floats:
        """A(lambda) [mag] of a foreground screen with the given E(B-V) [mag]; shapes broadcast."""
        return np.asarray(self.rv * ebv * self.relative(wavelength))


def known_laws() -> tuple[str, ...]:
    """Names of the extinction laws, sorted."""
    return tuple(sorted(LAWS))


def open_curve(name: str, rv: float = 3.1) -> ExtinctionCurve:
    """An extinction law at an R(V).

    Parameters
    ----------
    name : str
        One of `known_laws`.
    rv : float
        A(V) / E(B-V).

    Returns
    -------
    ExtinctionCurve
        The law.

    Raises
    ------
    UserError
        When the law is unknown or is not defined at this R(V).
    """
    if name not in LAWS:
        raise UserError(f"unknown extinction law {name!r}; {nearest(name, LAWS)}")
    law = LAWS[name]
    if name == "C00":
        return _open_calzetti(rv)
    model = _model(law)
    low, high = model.Rv_range if law.rv is None else (law.rv, law.rv)
    if not low <= rv <= high:
        expected = (
            f"R(V) from {low:g} to {high:g}" if law.rv is None else f"its own R(V): set rv = {law.rv:g}"
        )
        raise UserError(f"rv = {rv:g}: the extinction law {name} ({law.title}) takes {expected}")
    if law.rv is None:
        model = type(model)(Rv=rv)
    smallest, largest = model.x_range
    return ExtinctionCurve(name, float(rv), (1e4 / largest, 1e4 / smallest), _unitless(model))


def _open_calzetti(rv: float) -> ExtinctionCurve:
    if rv != CALZETTI_RV:
        raise UserError(
            f"rv = {rv:g}: the attenuation law C00 ({LAWS['C00'].title}) takes its own R(V): "
            f"set rv = {CALZETTI_RV}"
        )
    return ExtinctionCurve("C00", rv, CALZETTI_LIMITS, _calzetti)


def _model(law: Law) -> Any:
    module = import_module(f"dust_extinction.{law.module}")
    return getattr(module, law.model)()


def _unitless(model: Any) -> Callable[[Floats], Floats]:
    """Call a model of `dust_extinction` with plain wave numbers [1 / micron]."""
    from astropy import units

    return lambda wave_number: np.asarray(model(wave_number / units.micron), dtype=np.float64)
