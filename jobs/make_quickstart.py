"""Make `quickstart_clusters.ecsv`: simulated clusters for a first run, with their true parameters.

Run as ``python jobs/make_quickstart.py``. The clusters are made up: ages uniform in log age, masses
from a power law of index -2, reddening exponential and larger for the young; the photometry comes
from the embedded engine with photon, background and calibration noise. Some bands are missing and
some are upper limits, as in a real catalogue.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import Table, vstack

from batchflow.keys import generator
from batchflow.mocks.noise import SurveyNoise
from batchflow.physics.engine import open_engine
from batchflow.schema import LIMIT_SIGMA

BANDS = ("wfc3_f275w", "wfc3_f336w", "wfc3_f438w", "wfc3_f555w", "wfc3_f814w")
GALAXIES = {"Demo-A": (4.0, 150, 30.0), "Demo-B": (9.8, 200, 24.2), "Demo-C": (17.0, 150, 64.0)}
"""Distance [Mpc], clusters, right ascension [deg]."""
DEPTH = 4e-5  # mJy, 1 sigma
PHOTON = 6e-7  # mJy
FRACTIONAL, SYSTEMATIC = 0.03, 0.05
MIN_SIGNAL = 5.0  # in F555W


def main() -> None:
    """Write the catalogue beside this script."""
    engine = open_engine({"engine": "embedded", "bands": BANDS})
    table = vstack([make_galaxy(engine, name, *values) for name, values in GALAXIES.items()])
    table.meta["comments"] = ["SIMULATED clusters, made by make_quickstart.py; true_* are the inputs"]
    path = Path(__file__).with_name("quickstart_clusters.ecsv")
    table.write(path, format="ascii.ecsv", overwrite=True)


def make_galaxy(engine, name: str, distance: float, n: int, ra: float) -> Table:
    """Simulate n clusters of a galaxy at a distance [Mpc] that are bright enough to be found."""
    rng = generator(1, "quickstart", name)
    wanted = 60 * n
    log_age = rng.uniform(6.0, 10.1, wanted)
    log_mass = np.minimum(3.0 - np.log10(1 - rng.random(wanted)), 6.5)
    ebv = np.minimum(rng.exponential(np.where(log_age < 7.5, 0.25, 0.08)), 1.4)
    per_mass = engine.fluxes({"log_age": log_age, "ebv": ebv})
    true = per_mass * (10**log_mass * (1e-5 / distance) ** 2)[:, None]
    noise = SurveyNoise(DEPTH, PHOTON, FRACTIONAL, SYSTEMATIC)
    factor = 10 ** (0.15 * rng.standard_normal((wanted, 1)) + 0.05 * rng.standard_normal(true.shape))
    flux = true + noise.terms_from_factor(factor).variance(true) ** 0.5 * rng.standard_normal(true.shape)
    error = noise.reported_error(flux, factor)
    # An undetected band is given as a limit at three times the error of an empty aperture.
    floor = factor * DEPTH
    missing, limit = rng.random(true.shape) < 0.03, flux < LIMIT_SIGMA * floor
    flux, error = np.where(limit, LIMIT_SIGMA * floor, flux), np.where(limit, floor, error)
    missing[:, 3] = False
    found = np.flatnonzero(flux[:, 3] > MIN_SIGNAL * error[:, 3])[:n]
    table = Table({"object_id": [f"{name}-{i + 1}" for i in range(n)], "galaxy": [name] * n})
    table["ra"] = (ra + 0.02 * rng.standard_normal(n)).round(6) * u.deg
    table["dec"] = (15 + 0.02 * rng.standard_normal(n)).round(6) * u.deg
    table["distance_mpc"] = np.full(n, distance) * u.Mpc
    for i, band in enumerate(BANDS):
        value, sigma = (np.where(missing, np.nan, array)[found, i] for array in (flux, error))
        table[f"flux_{band}"], table[f"error_{band}"] = rounded(value) * u.mJy, rounded(sigma) * u.mJy
        table[f"limit_{band}"] = (limit & ~missing)[found, i]
    truths = {"log_age": log_age, "log_mass": log_mass, "ebv": ebv}
    for parameter, values in truths.items():
        table[f"true_{parameter}"] = values[found].round(4)
    return table


def rounded(values: np.ndarray) -> np.ndarray:
    """Five significant digits."""
    return np.array([float(f"{value:.5g}") for value in values])


if __name__ == "__main__":
    main()
