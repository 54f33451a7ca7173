"""Writes FITS files as PHANGS-HST releases have them: columns, units, sentinels of three eras."""

from __future__ import annotations

import numpy as np
from astropy.io import fits
from astropy.table import Table

from batchflow.catalogue.phangs_targets import known_targets

NAME = "hlsp_phangs-cat_hst_{camera}_{target}_multi_v1_{what}.fits"
MJY_OF_MAG_ZERO = 3630780.5477
"""Flux density of AB magnitude 0 [mJy] (48.60)."""


def file_name(target, what):
    camera = "acs-uvis" if any(b.startswith("acs") for b in known_targets()[target].zero_points) else "uvis"
    return NAME.format(camera=camera, target=target, what=what)


def fluxes(n, seed):
    """Flux densities [mJy] of five filters and errors of 5 %, shape (n, 5)."""
    flux = 10 ** np.random.default_rng(seed).uniform(-4, -2, (n, 5))
    return flux, 0.05 * flux


def obs(target, n=6, era="dr4", seed=1):
    """Photometry: row 1 has an upper limit in F275W, row 2 no image in F336W, row 3 no class."""
    known = known_targets()[target]
    total = "" if era != "dr3" else "_TOT"
    flux, error = fluxes(n, seed)
    table = Table()
    table["INDEX"] = np.arange(n)
    name = {"dr3": "ID_PHANGS_ALLSOURCES_V0_9", "dr4": "ID_PHANGS_CLUSTER", "dr5": "ID_PHANGS_CLUSTER"}[era]
    table[name] = np.arange(100, 100 + n)
    table["PHANGS_RA"], table["PHANGS_DEC"] = np.linspace(24.1, 24.2, n), np.linspace(15.7, 15.8, n)
    table["PHANGS_RA"].unit = table["PHANGS_DEC"].unit = "deg"
    if era == "dr3":
        table["PHANGS_CLUSTER_CLASS"] = [1, 2, 3, -999, 1, 2][:n]
    else:
        table["PHANGS_CLUSTER_CLASS_HUMAN"] = [1, 2, 3, 0, 1, 2][:n]
        table["PHANGS_CLUSTER_CLASS_ML_VGG"] = [2, 2, 2, 2, 2, 2][:n]
    for i, (band, filter_) in enumerate(known.filters.items()):
        stem = f"PHANGS_{filter_}"
        vega = -2.5 * np.log10(flux[:, i] / MJY_OF_MAG_ZERO) - known.zero_points[band]
        columns = {
            f"{stem}_VEGA{total}": vega,
            f"{stem}_VEGA{total}_ERR": 1.0857 * error[:, i] / flux[:, i],
            f"{stem}_mJy{total}": flux[:, i].copy(),
            f"{stem}_mJy{total}_ERR": error[:, i].copy(),
        }
        if filter_ == "F275W":
            columns[f"{stem}_mJy{total}_ERR"][1] *= -1
            columns[f"{stem}_VEGA{total}"][1] = columns[f"{stem}_VEGA{total}_ERR"][1] = -9999
        if filter_ == "F336W":
            for values in columns.values():
                values[2] = -9999
        for column, values in columns.items():
            table[column] = values
            table[column].unit = "mag" if "VEGA" in column else "mJy"
    if era == "dr3":
        add_fit(table, n, ("PHANGS_AGE_MINCHISQ", "PHANGS_MASS_MINCHISQ", "PHANGS_EBV_MINCHISQ"))
    if era == "dr5":
        table["PHANGS_GALAXY"] = [target] * n
        add_fit(
            table, n, ("PHANGS_DR5_THILKER25_AGE", "PHANGS_DR5_THILKER25_MASS", None), mass_unit="M_solar"
        )
    return table


def add_fit(table, n, names, mass_unit="M_sun"):
    """Published values: age 1, 10, ... Myr; row 4 none."""
    age, mass, ebv = 10.0 ** np.arange(n), 1e3 * 10.0 ** np.linspace(0, 2, n), np.linspace(0, 0.5, n)
    age[4:5] = mass[4:5] = ebv[4:5] = -999
    for name, values, unit in zip(names, (age, mass, ebv), ("Myr", "solMass", "mag"), strict=True):
        if name:
            table[name] = values
            table[name].unit = unit
    table.meta["MASSUNIT"] = mass_unit


def sed(n=6, first=100, shuffled=True):
    """Published values of a target in a file of their own, in another order."""
    table = Table()
    table["INDEX"] = np.arange(n)
    table["ID_PHANGS_CLUSTER"] = np.arange(first, first + n)
    add_fit(table, n, ("PHANGS_SED_AGE", "PHANGS_SED_MASS", "PHANGS_SED_EBV"))
    return table[::-1] if shuffled else table


def save(table, path):
    """Write a table, with the unit of masses as the survey writes it: none that astropy knows."""
    table.write(path, overwrite=True)
    for place, name in enumerate(table.colnames, start=1):
        if "MASS" in name:
            fits.setval(path, f"TUNIT{place}", value=table.meta["MASSUNIT"], ext=1)
    return path
