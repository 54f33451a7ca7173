"""Bands against published pivots, the trapezium's own arithmetic, and bad files."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from batchflow.errors import UserError
from batchflow.physics.bands import (
    AB_MINUS_VEGA,
    PUBLISHED_AB_MINUS_VEGA,
    Band,
    known_bands,
    load_band,
    read_curve,
)

PUBLISHED_PIVOTS = {
    # WFC3 Instrument Handbook, tables 6.2 and 7.2; ACS Instrument Handbook, table 5.1 [AA].
    "wfc3_f225w": 2372.1,
    "wfc3_f275w": 2709.7,
    "wfc3_f336w": 3354.5,
    "wfc3_f390w": 3923.7,
    "wfc3_f438w": 4326.2,
    "wfc3_f475w": 4773.1,
    "wfc3_f555w": 5308.4,
    "wfc3_f606w": 5889.2,
    "wfc3_f625w": 6242.6,
    "wfc3_f775w": 7651.4,
    "wfc3_f814w": 8039.1,
    "wfc3_f105w": 10551.0,
    "wfc3_f110w": 11534.0,
    "wfc3_f125w": 12486.0,
    "wfc3_f140w": 13923.0,
    "wfc3_f160w": 15369.0,
    "acs_f435w": 4329.9,
    "acs_f475w": 4746.9,
    "acs_f555w": 5361.0,
    "acs_f606w": 5921.1,
    "acs_f625w": 6311.4,
    "acs_f775w": 7692.4,
    "acs_f814w": 8057.0,
    "acs_f850lp": 9033.1,
}
NIRCAM_PIVOTS = {
    # JWST User Documentation, NIRCam Filters, mean of modules A and B before launch [AA];
    # checked against a public copy of the table.
    "nircam_f070w": 7040,
    "nircam_f090w": 9010,
    "nircam_f115w": 11540,
    "nircam_f140m": 14040,
    "nircam_f150w": 15010,
    "nircam_f162m": 16270,
    "nircam_f182m": 18450,
    "nircam_f200w": 19900,
    "nircam_f210m": 20930,
    "nircam_f250m": 25030,
    "nircam_f277w": 27860,
    "nircam_f300m": 29960,
    "nircam_f335m": 33650,
    "nircam_f356w": 35630,
    "nircam_f360m": 36210,
    "nircam_f410m": 40920,
    "nircam_f430m": 42800,
    "nircam_f444w": 44210,
    "nircam_f460m": 46240,
    "nircam_f480m": 48340,
}
REFERENCE = {"wfc3": "hst.wfc3", "acs": "hst.wfc"}


@pytest.mark.parametrize(("name", "pivot"), PUBLISHED_PIVOTS.items())
def test_pivot_is_the_published_one(name: str, pivot: float) -> None:
    assert load_band(name).pivot == pytest.approx(pivot, rel=1.3e-3)


@pytest.mark.parametrize(("name", "pivot"), NIRCAM_PIVOTS.items())
def test_pivot_of_nircam_is_near_the_one_before_launch(name: str, pivot: float) -> None:
    # The curves are those of May 2024, measured in flight.
    assert load_band(name).pivot == pytest.approx(pivot, rel=5e-3)


def test_pivot_of_a_box_is_the_logarithmic_mean() -> None:
    low, high = 4000.0, 6000.0
    wavelength = np.linspace(low, high, 20001)
    box = Band("box", wavelength, np.ones_like(wavelength))
    exact = np.sqrt((high**2 - low**2) / 2 / np.log(high / low))
    assert box.pivot == pytest.approx(exact, rel=1e-8)


def test_pivot_does_not_depend_on_the_scale() -> None:
    band = load_band("acs_f555w")
    assert Band("x", band.wavelength, 7 * band.throughput).pivot == pytest.approx(band.pivot, rel=1e-12)


@pytest.mark.parametrize("name", ["wfc3_f275w", "wfc3_f336w", "wfc3_f555w", "wfc3_f814w", "acs_f435w"])
def test_shipped_curve_is_the_reference_curve(name: str, shared: Path) -> None:
    camera, filter_name = name.split("_")
    path = shared / "reference" / "filters" / f"{REFERENCE[camera]}.{filter_name.upper()}.dat"
    reference, ours = read_curve(path), load_band(name)
    resampled = np.interp(reference.wavelength, ours.wavelength, ours.throughput, left=0, right=0)
    # 1.2e-4: the ends are cut at 1e-4 of the peak.
    np.testing.assert_allclose(resampled, reference.throughput, rtol=0, atol=1.2e-4 * ours.throughput.max())


@pytest.mark.parametrize("name", known_bands())
def test_shipped_curves_are_trimmed_and_say_where_they_come_from(name: str) -> None:
    band = load_band(name)
    assert band.name == name
    assert band.throughput[[0, -1]].min() >= 1e-4 * band.throughput.max()
    assert 0.01 < band.throughput.max() < 0.7
    header = (
        Path(sys.modules[Band.__module__].__file__ or "").parent / "data" / "bands" / f"{name}.dat"
    ).read_text()
    assert "detector type: photon" in header
    assert "source: " in header


def test_zero_points_are_the_published_ones(shared: Path) -> None:
    with (shared / "data" / "phangs" / "vega_ab_zeropoints.csv").open() as file:
        rows = list(csv.DictReader(file))
    cameras = {"UVIS": "wfc3", "WFC": "acs"}
    published = {
        f"{cameras[row['detector']]}_{row['filter'].lower()}": float(row["svo_AB_minus_Vega"]) for row in rows
    }
    assert published == PUBLISHED_AB_MINUS_VEGA


def test_every_shipped_band_has_a_zero_point() -> None:
    assert set(AB_MINUS_VEGA) == set(known_bands())


def test_zero_points_follow_the_infrared_spectrum_of_a_star_of_9600_kelvin() -> None:
    # In the infrared Vega is near a black body (CALSPEC's own model: 9550 K), so that AB - Vega of two bands
    # differ as its f_nu does; hydrogen lines and continua move single bands by some 0.05 mag.
    bands = [load_band(name) for name in known_bands() if load_band(name).pivot > 9_500]
    residual = [AB_MINUS_VEGA[band.name] + 2.5 * np.log10(black_body(band, 9600.0)) for band in bands]
    assert len(bands) > 24
    assert np.abs(residual - np.median(residual)).max() < 0.12


def black_body(band: Band, kelvin: float) -> float:
    """Flux density f_nu of a black body in a band, but for a factor."""
    wavelength = band.wavelength
    density = wavelength**-5 / np.expm1(1.4388e8 / (wavelength * kelvin))
    photons = band.throughput * wavelength
    mean = np.trapezoid(density * photons, wavelength) / np.trapezoid(photons, wavelength)
    return float(mean * band.pivot**2 * 1e6)


def test_unknown_band_names_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown band 'wfc3_f555'; did you mean 'wfc3_f555w'"):
        load_band("wfc3_f555")


def test_a_band_name_is_no_path() -> None:
    with pytest.raises(UserError, match="unknown band"):
        load_band("../bands/wfc3_f555w")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 rows"),
        ("# only\n", "0 rows"),
        ("5000 0.1\n", "1 rows of 2 columns; expected two"),
        ("5000 0.1 1\n5001 0.1 1\n", "2 rows of 3 columns; expected two"),
        ("5000 x\n5001 0.1\n", "cannot be read"),
        ("5001 0.1\n5000 0.1\n", "positive and increasing"),
        ("5000 0.1\n5000 0.1\n", "positive and increasing"),
        ("-1 0.1\n5000 0.1\n", "positive and increasing"),
        ("5000 nan\n5001 0.1\n", "all finite"),
        ("5000 -0.1\n5001 0.1\n", "from -0.1 to 0.1; expected none negative"),
        ("5000 0\n5001 0\n", "from 0 to 0; expected none negative and some positive"),
    ],
)
def test_a_file_that_is_no_curve_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.dat"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_curve(path)
    assert "odd.dat" in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.dat"):
        read_curve(tmp_path / "none.dat")


def test_curve_is_named_after_its_file(tmp_path: Path) -> None:
    path = tmp_path / "hst.wfc3.F275W.dat"
    path.write_text("# comment\n2000 0.1\n3000 0.2\n")
    band = read_curve(path)
    assert band.name == "hst.wfc3.F275W"
    assert band.wavelength.tolist() == [2000, 3000]
    assert band.throughput.tolist() == [0.1, 0.2]


def test_listing_bands_imports_nothing_heavy() -> None:
    code = (
        "import sys; from batchflow.physics.bands import known_bands; known_bands(); "
        "heavy = {'astropy', 'pyarrow', 'torch', 'dask', 'dust_extinction'}; "
        "sys.exit(len(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


VOTABLE = """<?xml version="1.0"?>
<VOTABLE version="1.1" xmlns="http://www.ivoa.net/xml/VOTable/v1.1"><RESOURCE type="results"><TABLE>
<PARAM name="DetectorType" value="{detector}" datatype="char" arraysize="*"/>
<FIELD name="Wavelength" unit="{unit}" datatype="double"/>
<FIELD name="Transmission" unit="" datatype="double"/>
<DATA><TABLEDATA>
<TR><TD>{first}</TD><TD>0.2</TD></TR><TR><TD>{second}</TD><TD>0.6</TD></TR>
</TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>
"""


def test_a_votable_of_svo_is_read(tmp_path: Path) -> None:
    path = tmp_path / "HST.x.xml"
    path.write_text(VOTABLE.format(detector=1, unit="AA", first=4000, second=5000))
    band = read_curve(path, "mine")
    assert (band.name, band.wavelength.tolist()) == ("mine", [4000, 5000])
    assert band.throughput.tolist() == [0.2, 0.6]


def test_units_and_energy_counters_of_a_votable_are_converted(tmp_path: Path) -> None:
    path = tmp_path / "x.vot"
    path.write_text(VOTABLE.format(detector=0, unit="um", first=0.4, second=0.5))
    band = read_curve(path)
    np.testing.assert_allclose(band.wavelength, [4000, 5000])
    # Energy per photon is h c / lambda: a response per energy is one per photon over the wavelength.
    np.testing.assert_allclose(band.throughput[1] / band.throughput[0], 3 * 4000 / 5000)


def test_a_votable_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.vot"
    path.write_text(VOTABLE.format(detector=1, unit="AA", first=1, second=2).replace("Wavelength", "ra"))
    with pytest.raises(UserError, match=r"x\.vot cannot be read as a VOTable with the fields Wavelength"):
        read_curve(path)


@pytest.mark.parametrize(("kept", "rows"), [("", 0), ("<TR><TD>4000</TD><TD>0.2</TD></TR>", 1)])
def test_a_votable_without_a_curve_is_refused(kept: str, rows: int, tmp_path: Path) -> None:
    head, _, rest = VOTABLE.partition("<TR>")
    path = tmp_path / "x.vot"
    path.write_text(head.format(detector=1, unit="AA") + kept + rest.rpartition("</TR>")[2])
    with pytest.raises(UserError, match=f"{rows} rows of 2 columns; expected two"):
        read_curve(path)


@pytest.mark.sources
def test_vega_is_of_magnitude_zero() -> None:
    """The spectrum of Vega (CALSPEC, in astro-sedpy) through the curves, less the zero points."""
    import os
    import zipfile
    from io import BytesIO

    from astropy.io import fits

    folder = os.environ.get("BATCHFLOW_SOURCES")
    if not folder:
        pytest.skip("set BATCHFLOW_SOURCES to the folder with the wheel of astro-sedpy")
    with zipfile.ZipFile(next(Path(folder).glob("astro_sedpy*.whl"))) as archive:
        content = BytesIO(archive.read("sedpy/data/alpha_lyr_stis_011.fits"))
    with fits.open(content) as units:
        wavelength, flux = (np.asarray(units[1].data[name], dtype=float) for name in ("WAVELENGTH", "FLUX"))
    found = {}
    for name, zero in AB_MINUS_VEGA.items():
        band = load_band(name)
        inside = (wavelength > band.wavelength[0]) & (wavelength < band.wavelength[-1])
        points = np.union1d(wavelength[inside], band.wavelength)
        photons = np.interp(points, band.wavelength, band.throughput) * points
        spectrum = np.interp(points, wavelength, flux)
        density = np.trapezoid(spectrum * photons, points) / np.trapezoid(photons, points)
        in_hertz = density * band.pivot**2 / 2.99792458e18
        found[name] = -2.5 * np.log10(in_hertz) - 48.60 - zero
    # Measured: 0.0017 at most, of the published ones; so colours are within 0.003 of zero.
    assert set(found) == set(known_bands())
    assert max(map(abs, found.values())) < 3e-3, found
