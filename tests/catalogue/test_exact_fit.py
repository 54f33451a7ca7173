"""Units, zero points and distances, checked together: an exact fit of real clusters.

A brute-force grid, independent of everything that infers, against the ages, masses and E(B-V) that LEGUS
published. A unit, a zero point or a distance that is wrong shows as tenths of a dex.
"""

from __future__ import annotations

import numpy as np
import pytest

from batchflow.catalogue.legus_fields import FIELDS
from batchflow.catalogue.read import read_with_summary
from batchflow.physics.engine import open_engine
from batchflow.settings.catalogue import CatalogueSettings

ACS = ("wfc3_f275w", "wfc3_f336w", "acs_f435w", "acs_f555w", "acs_f814w")
BANDS = (*ACS, "wfc3_f438w", "wfc3_f555w", "wfc3_f814w")
SYSTEMATIC = 0.05
PUBLISHED = ("log_age", "log_mass", "ebv")


def read(shared, field, **others):
    (path,) = (shared / "data/legus/tab").glob(f"*_{field}_*.tab")
    entry = CatalogueSettings(path=path, format="legus", name=field, classes=(1, 2), **others)
    table, summary = read_with_summary(entry, BANDS)
    five = np.all([np.isfinite(table[f"flux_{band}"].to_numpy()) for band in summary.bands], axis=0)
    taken = table.filter(five & np.isfinite(table["published_log_age"].to_numpy()))
    return taken, tuple(summary.bands)


def chi_squares(table, bands):
    """chi2 and log mass of each cluster at each node of the grid, the mass being the best; and the nodes."""
    nodes = np.stack(np.meshgrid(np.arange(6, 10.14, 0.02), np.arange(0, 1.5, 0.02), indexing="ij"), -1)
    log_age, ebv = nodes.reshape(-1, 2).T
    at_ten_parsec = open_engine({"bands": bands}).fluxes({"log_age": log_age, "ebv": ebv})
    (distance,) = set(table["distance_mpc"].to_pylist())
    model = at_ten_parsec / (distance * 1e5) ** 2
    flux, error = (
        np.stack([table[f"{kind}_{band}"] for band in bands], axis=1) for kind in ("flux", "error")
    )
    weight = 1 / (error**2 + (SYSTEMATIC * flux) ** 2)
    scale = (weight * flux) @ model.T / (weight @ (model**2).T)
    chi2 = (weight * flux**2).sum(axis=1)[:, None] - scale**2 * (weight @ (model**2).T)
    return chi2, np.log10(scale), log_age, ebv


def best_fit(shared, field, **others):
    """Best fit minus published value by parameter, and the least chi2, of each cluster."""
    table, bands = read(shared, field, **others)
    chi2, log_mass, log_age, ebv = chi_squares(table, bands)
    best = chi2.argmin(axis=1)
    rows = np.arange(len(best))
    found = {"log_age": log_age[best], "log_mass": log_mass[rows, best], "ebv": ebv[best]}
    return {name: found[name] - table[f"published_{name}"].to_numpy() for name in PUBLISHED}, chi2[rows, best]


def scatter(values):
    return 1.48 * np.median(np.abs(values - np.median(values)))


@pytest.mark.parametrize(
    ("field", "n_clusters", "log_age", "log_mass", "ebv"),
    [
        ("ngc628-c", 679, (0.10, 0.16, 0.80), (0.09, 0.10), (-0.02, 0.06)),
        ("ngc3344", 236, (0.08, 0.15, 0.79), (0.10, 0.13), (0.0, 0.08)),
    ],
)
def test_exact_fit_reaches_the_published_values(shared, field, n_clusters, log_age, log_mass, ebv):
    """The figures are those of an earlier, independent fit with a grid of its own."""
    offset, chi2 = best_fit(shared, field)
    assert len(chi2) == n_clusters
    assert np.median(chi2 / 2) == pytest.approx(1.0, abs=0.25)
    assert np.median(offset["log_age"]) == pytest.approx(log_age[0], abs=0.05)
    assert scatter(offset["log_age"]) == pytest.approx(log_age[1], abs=0.04)
    assert np.mean(np.abs(offset["log_age"]) < 0.3) == pytest.approx(log_age[2], abs=0.07)
    assert np.mean(np.abs(offset["log_age"]) > 1.0) < 0.06
    assert np.median(offset["log_mass"]) == pytest.approx(log_mass[0], abs=0.04)
    assert scatter(offset["log_mass"]) == pytest.approx(log_mass[1], abs=0.04)
    assert np.median(offset["ebv"]) == pytest.approx(ebv[0], abs=0.03)
    assert scatter(offset["ebv"]) == pytest.approx(ebv[1], abs=0.03)


def test_wrong_zero_points_would_show(shared):
    """F336W taken as an AB magnitude is 1.2 mag off: the check above can fail."""
    _, chi2 = best_fit(shared, "ngc3344", zero_points={"wfc3_f336w": 0.0})
    assert np.median(chi2 / 2) > 3


@pytest.mark.parametrize("field", ["ngc1313-e", "ngc1313-w"])
def test_optical_bands_of_ngc1313_are_those_of_acs(shared, field):
    """The release does not say; most clusters fit better with ACS, as the footprint has it."""
    assert FIELDS[field].optical == ACS[2:]
    _, acs = best_fit(shared, field, bands=ACS)
    _, uvis = best_fit(shared, field, bands=(*ACS[:2], "wfc3_f438w", "wfc3_f555w", "wfc3_f814w"))
    assert np.mean(acs < uvis) > 0.6
