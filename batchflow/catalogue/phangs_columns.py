"""Column names of the PHANGS-HST cluster catalogues: internal base catalogues (DR3 era), DR4/CR2, DR5.

What a later release renamed stands before its older names; names are compared without regard to case.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from batchflow.catalogue.columns import ColumnFile
from batchflow.catalogue.units import converted
from batchflow.catalogue.values import numbers

Floats = NDArray[np.float64]

IDS = (
    ("ID_PHANGS_CLUSTER",),
    ("ID_PHANGS_CANDIDATE", "ID_PHANGS_CLUSTERS_v1p2"),
    ("ID_PHANGS_ALLSOURCES", "ID_PHANGS_ALLSOURCES_v1p2", "ID_PHANGS_ALLSOURCES_V0_9"),
    ("INDEX",),
)
"""Identifiers within a target, the best first; each with its older names."""
FITS = (
    ("PHANGS_SED_AGE", "PHANGS_SED_MASS", "PHANGS_SED_EBV"),
    ("SEDfix_age", "SEDfix_mass", "SEDfix_ebv"),
    ("PHANGS_DR5_THILKER25_AGE", "PHANGS_DR5_THILKER25_MASS", "PHANGS_DR5_THILKER25_EBV"),
    ("PHANGS_AGE_MINCHISQ", "PHANGS_MASS_MINCHISQ", "PHANGS_EBV_MINCHISQ"),
)
"""Published age [Myr], mass [Msun] and E(B-V) [mag], the best first."""
HUMAN = ("PHANGS_CLUSTER_CLASS_HUMAN", "PHANGS_CLUSTER_CLASS")
"""Classes by eye."""
MACHINE = ("PHANGS_CLUSTER_CLASS_ML_VGG",)
"""Classes by the neural network."""


def find(file: ColumnFile, *wanted: str) -> str | None:
    """Name of the first column there is, as the file writes it.

    Parameters
    ----------
    file : ColumnFile
        The file.
    *wanted : str
        Names, the best first.

    Returns
    -------
    str or None
        None when there is none of them.
    """
    known = {name.lower(): name for name in reversed(file.names)}
    return next((known[name.lower()] for name in wanted if name.lower() in known), None)


def flux_names(filter_: str) -> tuple[tuple[str, str], ...]:
    """Names of a filter's columns of flux density [mJy] and its error."""
    stem = f"PHANGS_{filter_}_mJy"
    return (stem, f"{stem}_TOT"), (f"{stem}_ERR", f"{stem}_TOT_ERR")


def vega_names(filter_: str) -> tuple[tuple[str, str], ...]:
    """Names of a filter's columns of Vega magnitude and its error."""
    stem = f"PHANGS_{filter_}_VEGA"
    return (stem, f"{stem}_TOT"), (f"{stem}_ERR", f"{stem}_TOT_ERR")


def published(file: ColumnFile) -> dict[str, Floats]:
    """Published values of a table.

    Parameters
    ----------
    file : ColumnFile
        Any table of the survey.

    Returns
    -------
    dict of str to ndarray
        `log_age` [log10 yr], `log_mass` [log10 Msun] and `ebv` [mag], those there are, of one kind of
        fit; NaN where none: the survey writes NaN, -999 or -9999. Empty when the table has none.

    Raises
    ------
    UserError
        When a column has a unit that cannot be its own, or words.
    """
    kind = next((names for names in FITS if find(file, names[0])), None)
    if kind is None:
        return {}
    units = ("Myr", "solMass", "mag")
    columns = {
        name: _in_unit(file, found, unit)
        for name, wanted, unit in zip(("log_age", "log_mass", "ebv"), kind, units, strict=True)
        if (found := find(file, wanted))
    }
    with np.errstate(divide="ignore", invalid="ignore"):
        made = {
            "log_age": lambda age: np.where(age > 0, np.log10(age) + 6, np.nan),
            "log_mass": lambda mass: np.where(mass > 0, np.log10(mass), np.nan),
            "ebv": lambda ebv: np.where(ebv >= 0, ebv, np.nan),
        }
        return {name: made[name](values) for name, values in columns.items()}


def _in_unit(file: ColumnFile, name: str, unit: str) -> Floats:
    stated = file.units.get(name, "")
    # As the survey writes it, which no standard knows.
    plain = "" if stated.lower() in ("m_solar", "m_sun", "msun") else stated
    return converted(numbers(file, name), plain, unit, file.where(name))
