"""Tables in every unit and format; sentinels, limits, redshifts and positions of theirs."""

from __future__ import annotations

import logging

import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from batchflow.catalogue.read import read_catalogue, read_with_summary
from batchflow.errors import UserError
from batchflow.physics.bands import AB_MINUS_VEGA
from batchflow.schema import Flag
from batchflow.settings.catalogue import CatalogueSettings

BAND = "wfc3_f275w"
FLUX, ERROR = np.array([1e-3, 2e-3, 4e-3]), np.array([1e-4, 1e-4, 3e-4])
SCALES = {
    "mJy": 1.0, "uJy": 1e3, "nJy": 1e6, "Jy": 1e-3, "erg/s/cm2/Hz": 1e-26,
    "maggies": 1 / 3630780.5, "nanomaggies": 1e9 / 3630780.5,
}  # fmt: skip
"""Numbers for 1 mJy; AB magnitude 0 is 48.60, 3630.78 Jy (Oke & Gunn 1983)."""
IN_FILES = {"uJy": "uJy", "Jy": "Jy", "erg/s/cm2/Hz": "erg / (s cm2 Hz)", "AB": "mag(AB)"}
SUFFIXES = ("fits", "vot", "ecsv", "csv", "parquet")


def columns(unit):
    """Flux and error of the clusters in a unit of the job file."""
    if unit in SCALES:
        return FLUX * SCALES[unit], ERROR * SCALES[unit]
    ab = (FLUX * u.mJy).to_value(u.ABmag)
    return ab - (AB_MINUS_VEGA[BAND] if unit == "Vega" else 0.0), 2.5 / np.log(10) * ERROR / FLUX


def clusters(flux, error, in_file="", **others):
    table = Table({"object_id": ["a", "b", "c"], "galaxy": ["x"] * 3, "distance_mpc": [5.0] * 3})
    table[f"flux_{BAND}"], table[f"error_{BAND}"] = flux, error
    if in_file:
        table[f"flux_{BAND}"].unit = in_file
        table[f"error_{BAND}"].unit = "mag" if in_file == "mag(AB)" else in_file
    for name, values in others.items():
        table[name] = values
    return table


def save(table, path):
    if path.suffix != ".parquet":
        formats = {".fits": "fits", ".vot": "votable", ".ecsv": "ascii.ecsv", ".csv": "ascii.csv"}
        table.write(path, format=formats[path.suffix], overwrite=True)
        return path
    fields = [
        pa.field(name, pa.array(table[name].tolist()).type, metadata={"unit": str(table[name].unit or "")})
        for name in table.colnames
    ]
    arrays = [pa.array(table[name].tolist()) for name in table.colnames]
    pq.write_table(pa.table(arrays, schema=pa.schema(fields)), path)
    return path


def read(path, **settings):
    return read_catalogue(CatalogueSettings(path=path, name="s", **settings), (BAND,))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("unit", [*SCALES, "AB", "Vega"])
def test_every_unit_in_every_format(tmp_path, suffix, unit):
    table = read(save(clusters(*columns(unit)), tmp_path / f"c.{suffix}"), unit=unit)
    assert table[f"flux_{BAND}"].to_numpy() == pytest.approx(FLUX, rel=1e-6)
    assert table[f"error_{BAND}"].to_numpy() == pytest.approx(ERROR, rel=1e-6)


@pytest.mark.filterwarnings("ignore:The unit .erg. has been deprecated")
@pytest.mark.parametrize("suffix", ["fits", "vot", "ecsv", "parquet"])
@pytest.mark.parametrize("unit", ["uJy", "Jy", "erg/s/cm2/Hz"])
def test_the_unit_of_the_file_is_believed(tmp_path, suffix, unit):
    path = save(clusters(*columns(unit), IN_FILES[unit]), tmp_path / f"c.{suffix}")
    assert read(path, unit="nJy")[f"flux_{BAND}"].to_numpy() == pytest.approx(FLUX)


@pytest.mark.parametrize("suffix", ["ecsv", "parquet"])
def test_magnitudes_that_the_file_names(tmp_path, suffix):
    path = save(clusters(*columns("AB"), "mag(AB)"), tmp_path / f"c.{suffix}")
    found = read(path, unit="mJy")
    assert found[f"flux_{BAND}"].to_numpy() == pytest.approx(FLUX, rel=1e-6)
    assert found[f"error_{BAND}"].to_numpy() == pytest.approx(ERROR, rel=1e-6)


def test_an_error_without_a_unit_shares_that_of_its_flux(tmp_path):
    table = clusters(*columns("uJy"), "uJy")
    table[f"error_{BAND}"].unit = None
    found = read(save(table, tmp_path / "c.fits"), unit="mJy")
    assert found[f"error_{BAND}"].to_numpy() == pytest.approx(ERROR)


def test_vega_to_ab_to_mjy_against_published_numbers(tmp_path):
    """Vega in F275W is 927.75 Jy at magnitude 0 (SVO Filter Profile Service), AB 1.4815."""
    vega = read(save(clusters([0.0, 20.0, 25.0], [0.1] * 3), tmp_path / "c.csv"), unit="Vega")
    expected = 927.75e3 * 10 ** (-0.4 * np.array([0.0, 20.0, 25.0]))
    assert vega[f"flux_{BAND}"].to_numpy() == pytest.approx(expected, rel=1e-3)
    ab = read(save(clusters([1.4815, 21.4815, 26.4815], [0.1] * 3), tmp_path / "c.csv"), unit="AB")
    assert ab[f"flux_{BAND}"].to_numpy() == pytest.approx(vega[f"flux_{BAND}"].to_numpy(), rel=1e-12)
    own = read(tmp_path / "c.csv", unit="Vega", zero_points={BAND: 0.0})
    assert own[f"flux_{BAND}"].to_numpy() == pytest.approx(ab[f"flux_{BAND}"].to_numpy(), rel=1e-12)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_sentinels_stand_for_none(tmp_path, kind):
    flux, error = np.array([99.999, 20.0, 21.0], kind), np.array([0.1, 99.999, 0.1], kind)
    path = save(clusters(flux, error), tmp_path / "c.fits")
    entry = CatalogueSettings(path=path, name="s", unit="AB", sentinels=(99.999, -99.0))
    table, summary = read_with_summary(entry, (BAND,))
    assert np.isnan(table[f"flux_{BAND}"].to_numpy()).tolist() == [True, True, False]
    found = [Flag(flag) & (Flag.MISSING_BAND | Flag.BAD_ERROR) for flag in table["flags"].to_pylist()]
    assert found == [Flag.MISSING_BAND, Flag.BAD_ERROR, Flag(0)]
    assert summary.sentinels == {"99.999, -99 no measurement": 2}


def test_negative_errors_are_limits_with_that_error(tmp_path):
    path = save(clusters(FLUX, ERROR * [1, -1, 1]), tmp_path / "c.csv")
    found = read(path, limit_error="negative")
    assert found[f"limit_{BAND}"].to_pylist() == [False, True, False]
    assert found[f"error_{BAND}"].to_numpy() == pytest.approx(ERROR)
    assert Flag.BAD_ERROR in Flag(read(path)["flags"][1].as_py())


def test_a_number_marks_limits_quoted_at_so_many_sigma(tmp_path):
    path = save(clusters([20.0, 24.0, 21.0], [0.1, -99.0, 0.1]), tmp_path / "c.csv")
    found = read(path, unit="AB", limit_error=-99, limit_sigma=5.0)
    assert found[f"limit_{BAND}"].to_pylist() == [False, True, False]
    assert found[f"flux_{BAND}"][1].as_py() == pytest.approx(3630.78e3 * 10 ** (-0.4 * 24), rel=1e-5)
    assert found[f"error_{BAND}"][1].as_py() == pytest.approx(found[f"flux_{BAND}"][1].as_py() / 5)


def test_class_and_distance_error_of_any_name(tmp_path):
    path = save(clusters(FLUX, ERROR, kind=[1, 2, 4], ed=[0.1, np.nan, 0.3]), tmp_path / "c.fits")
    names = {"class_": "kind", "distance_error_mpc": "ed"}
    found = read(path, columns=names, classes=(1, 2), distance_error_mpc=0.7)
    assert found["class_"].to_pylist() == [1, 2]
    assert found["distance_error_mpc"].to_pylist() == [0.1, 0.7]


def test_distance_of_a_redshift(tmp_path):
    """Planck 2018, H0 = 67.66: cz/H0 (1 + (1 - q0) z/2) with q0 = 1.5 x 0.3097 - 1."""
    table = clusters(FLUX, ERROR, z=[0.005, 0.01, np.nan])
    table["distance_mpc"] = [np.nan, np.nan, 7.0]
    found = read(save(table, tmp_path / "c.fits"), columns={"redshift": "z"})["distance_mpc"].to_numpy()
    z = np.array([0.005, 0.01])
    hubble = 299792.458 * z / 67.66 * (1 + 0.5 * (2 - 1.5 * 0.30966) * z)
    assert found == pytest.approx([*hubble, 7.0], rel=1e-4)


@pytest.mark.parametrize("z", [0.0, -0.001, 0.001])
def test_redshift_that_tells_no_distance(tmp_path, z):
    table = clusters(FLUX, ERROR, z=[0.01, z, 0.01])
    table.remove_column("distance_mpc")
    path = save(table, tmp_path / "c.csv")
    with pytest.raises(UserError, match=rf"'z', line 3: redshift {z:g} tells no distance.*distance_mpc"):
        read(path, columns={"redshift": "z"})


def test_redshifts_that_shift_the_bands_are_told(tmp_path, caplog):
    table = clusters(FLUX, ERROR, z=[0.05] * 3)
    table.remove_column("distance_mpc")
    with caplog.at_level(logging.WARNING):
        read(save(table, tmp_path / "c.csv"), columns={"redshift": "z"})
    assert "3 redshifts above 0.02; the model's bands are not shifted" in caplog.text


@pytest.mark.parametrize("suffix", ["csv", "fits", "ecsv", "parquet"])
def test_sexagesimal_positions(tmp_path, suffix):
    table = clusters(FLUX, ERROR, ra=["01:36:41.7", "1h36m41.7s", ""], dec=["15:47:00", "-0d30m", ""])
    found = read(save(table, tmp_path / f"c.{suffix}"))
    assert found["ra"].to_numpy() == pytest.approx([24.17375, 24.17375, np.nan], nan_ok=True)
    assert found["dec"].to_numpy() == pytest.approx([15 + 47 / 60, -0.5, np.nan], nan_ok=True)


def test_a_text_that_is_no_position(tmp_path):
    table = clusters(FLUX, ERROR, ra=["01:36:41.7", "01:99:xx", "1:2:3"])
    with pytest.raises(UserError, match=r"'ra', line 3: found '01:99:xx'; expected degrees"):
        read(save(table, tmp_path / "c.csv"))


def test_positions_in_another_unit(tmp_path):
    table = clusters(FLUX, ERROR, ra=[1.6, 2.0, 3.0])
    table["ra"].unit = "hourangle"
    assert read(save(table, tmp_path / "c.ecsv"))["ra"].to_numpy() == pytest.approx([24.0, 30.0, 45.0])
