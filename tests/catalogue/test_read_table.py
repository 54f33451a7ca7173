"""Tables in five formats and as many units; and files that are broken."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import MaskedColumn, Table

from batchflow.catalogue.read import read_catalogue, read_with_summary
from batchflow.errors import UserError
from batchflow.physics.bands import AB_MINUS_VEGA
from batchflow.schema import Flag
from batchflow.settings.catalogue import CatalogueSettings

BANDS = ("wfc3_f275w", "acs_f435w")
FLUX = {"wfc3_f275w": [1e-3, 2e-3, -1e-4], "acs_f435w": [2e-3, 3e-3, 4e-3]}
ERROR = {"wfc3_f275w": [1e-4, 1e-4, 1e-4], "acs_f435w": [1e-4, 2e-4, 3e-4]}
WRITERS = {"fits": "fits", "ecsv": "ascii.ecsv", "vot": "votable", "csv": "ascii.csv", "parquet": None}


def columns(scale=1.0, unit=""):
    """The columns that `table.understand` expects when the job names none."""
    table = Table()
    table["object_id"] = ["001", "002", "003"]
    table["galaxy"] = ["ngc628", "ngc628", "NGC 1313"]
    table["ra"] = [24.1, 24.2, 49.5]
    table["distance_mpc"] = [9.9, 9.9, 4.4]
    for band in BANDS:
        table[f"flux_{band}"] = np.array(FLUX[band]) * scale
        table[f"error_{band}"] = np.array(ERROR[band]) * scale
        if unit:
            table[f"flux_{band}"].unit = table[f"error_{band}"].unit = unit
    return table


def save(table, path):
    writer = WRITERS[path.suffix[1:]]
    if writer:
        table.write(path, format=writer)
    else:
        pq.write_table(pa.table({name: np.asarray(table[name]).tolist() for name in table.colnames}), path)
    return path


def entry(path, **others):
    return CatalogueSettings(path=path, name="survey", **others)


@pytest.fixture
def folder(tmp_path):
    return tmp_path


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize(("unit", "scale"), [("mJy", 1.0), ("uJy", 1e3), ("Jy", 1e-3)])
def test_formats_and_units_agree(folder, suffix, unit, scale):
    path = save(columns(scale), folder / f"clusters.{suffix}")
    table = read_catalogue(entry(path, unit=unit), BANDS)
    assert table["object_id"].to_pylist() == ["001", "002", "003"]
    assert table["galaxy"].to_pylist() == ["ngc628", "ngc628", "NGC 1313"]
    assert table["distance_mpc"].to_pylist() == [9.9, 9.9, 4.4]
    assert np.isnan(table["dec"].to_numpy()).all()
    for band in BANDS:
        assert table[f"flux_{band}"].to_numpy() == pytest.approx(np.array(FLUX[band]))
        assert table[f"error_{band}"].to_numpy() == pytest.approx(np.array(ERROR[band]))
    assert table["flags"].to_pylist() == [0, 0, Flag.NEGATIVE_FLUX]


@pytest.mark.parametrize(("unit", "zero_point"), [("AB", 0.0), ("Vega", 1.0)])
def test_magnitudes_agree_with_fluxes(folder, unit, zero_point):
    table = columns()[:2]
    for band in BANDS:
        flux, error = np.array(FLUX[band][:2]), np.array(ERROR[band][:2])
        ab = (flux * u.mJy).to_value(u.ABmag)
        table[f"flux_{band}"] = ab - zero_point * AB_MINUS_VEGA[band]
        table[f"error_{band}"] = 2.5 / np.log(10) * error / flux
    found = read_catalogue(entry(save(table, folder / "m.csv"), unit=unit), BANDS)
    for band in BANDS:
        assert found[f"flux_{band}"].to_numpy() == pytest.approx(FLUX[band][:2], rel=1e-6)
        assert found[f"error_{band}"].to_numpy() == pytest.approx(ERROR[band][:2], rel=1e-6)


@pytest.mark.parametrize("suffix", ["fits", "ecsv", "vot"])
def test_unit_in_the_file_wins(folder, suffix):
    path = save(columns(1e3, "uJy"), folder / f"clusters.{suffix}")
    table = read_catalogue(entry(path, unit="Jy"), BANDS)
    assert table["flux_acs_f435w"].to_numpy() == pytest.approx(FLUX["acs_f435w"])


def test_unit_that_is_no_flux(folder):
    path = save(columns(unit="km/s"), folder / "clusters.ecsv")
    with pytest.raises(UserError, match=r"clusters\.ecsv: column 'flux_wfc3_f275w'.*km.*mJy"):
        read_catalogue(entry(path), BANDS)


def test_flux_with_an_error_in_magnitudes(folder):
    table = columns(unit="mJy")
    table["error_acs_f435w"].unit = "mag(AB)"
    with pytest.raises(UserError, match=r"error_acs_f435w.*is in magnitudes"):
        read_catalogue(entry(save(table, folder / "clusters.ecsv")), BANDS)


def test_columns_of_any_name(folder):
    table = columns()
    for old, new in [
        ("object_id", "ID"),
        ("flux_acs_f435w", "B"),
        ("error_acs_f435w", "eB"),
        ("galaxy", "host"),
    ]:
        table.rename_column(old, new)
    table["age"] = [6.5, np.nan, 8.0]
    mapping = {
        "id": "ID", "galaxy": "host", "flux": {"acs_f435w": "B"}, "error": {"acs_f435w": "eB"},
        "published": {"log_age": "age"},
    }  # fmt: skip
    found = read_catalogue(entry(save(table, folder / "c.fits"), columns=mapping), BANDS)
    assert found["flux_acs_f435w"].to_numpy() == pytest.approx(FLUX["acs_f435w"])
    assert found["published_log_age"].to_numpy() == pytest.approx([6.5, np.nan, 8.0], nan_ok=True)


@pytest.mark.parametrize("suffix", ["fits", "ecsv", "vot", "csv"])
def test_masked_values_are_missing_bands(folder, suffix):
    table = columns()
    table["flux_acs_f435w"] = MaskedColumn(FLUX["acs_f435w"], mask=[False, True, False])
    found = read_catalogue(entry(save(table, folder / f"c.{suffix}")), BANDS)
    assert np.isnan(found["flux_acs_f435w"].to_numpy()).tolist() == [False, True, False]
    assert Flag(found["flags"][1].as_py()) == Flag.MISSING_BAND


@pytest.mark.parametrize("suffix", WRITERS)
def test_limits(folder, suffix):
    table = columns()
    table["limit_acs_f435w"] = [False, True, False]
    found = read_catalogue(entry(save(table, folder / f"c.{suffix}")), BANDS)
    assert found["limit_acs_f435w"].to_pylist() == [False, True, False]
    assert Flag(found["flags"][1].as_py()) == Flag.UPPER_LIMIT


def test_integer_ids_and_unicode_galaxies(folder):
    table = columns()
    table["object_id"] = [2**53 + 1, 5, 5]
    table["galaxy"] = ["../x", "Malin 1 β", "Malin 1 β"]
    found = read_catalogue(entry(save(table, folder / "c.ecsv")), BANDS)
    assert found["object_id"].to_pylist() == [str(2**53 + 1), "5", "5"]
    assert found["galaxy"].to_pylist() == ["../x", "Malin 1 β", "Malin 1 β"]
    assert [Flag.DUPLICATE_ID in Flag(flags) for flags in found["flags"].to_pylist()] == [False, True, True]


def test_byte_order_does_not_matter(folder):
    table = columns()
    table["flux_acs_f435w"] = np.array(FLUX["acs_f435w"], dtype=">f4")
    table["error_acs_f435w"] = np.array(ERROR["acs_f435w"], dtype="<f8")
    found = read_catalogue(entry(save(table, folder / "c.fits")), BANDS)
    assert found["flux_acs_f435w"].to_numpy() == pytest.approx(FLUX["acs_f435w"], rel=1e-6)


def test_galaxy_and_distance_from_the_job(folder):
    table = columns()
    table["galaxy"] = ["", "", "NGC 1313"]
    table["distance_mpc"] = MaskedColumn([1.0, 9.9, 4.4], mask=[True, False, False])
    path = save(table, folder / "c.ecsv")
    found = read_catalogue(entry(path, galaxy="ngc628", distance_mpc=8.0), BANDS)
    assert found["galaxy"].to_pylist() == ["ngc628", "ngc628", "NGC 1313"]
    assert found["distance_mpc"].to_pylist() == [8.0, 9.9, 4.4]
    with pytest.raises(UserError, match="line 14 has no galaxy"):
        read_catalogue(entry(path), BANDS)
    flags = read_catalogue(entry(path, galaxy="ngc628"), BANDS)["flags"].to_pylist()
    assert [Flag.NO_DISTANCE in Flag(value) for value in flags] == [True, False, False]


def test_no_distance_at_all(folder):
    table = columns()
    table.remove_column("distance_mpc")
    with pytest.raises(UserError, match=r"add distance_mpc = "):
        read_catalogue(entry(save(table, folder / "c.csv")), BANDS)


def test_survey_with_fewer_bands_says_so(folder):
    table = columns()
    table.remove_columns(["flux_acs_f435w", "error_acs_f435w"])
    path = save(table, folder / "c.csv")
    with pytest.raises(UserError, match=r"no column 'flux_acs_f435w'.*did you mean.*bands = \["):
        read_catalogue(entry(path), BANDS)
    found, summary = read_with_summary(entry(path, bands=BANDS[:1]), BANDS)
    assert np.isnan(found["flux_acs_f435w"].to_numpy()).all()
    assert summary.bands == {"wfc3_f275w": 3}
    assert summary.flags == {"NEGATIVE_FLUX": 1}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"columns": {"id": "objectid"}}, r"no column 'objectid'; did you mean 'object_id'"),
        ({"columns": {"ra": "alpha"}}, r"no column 'alpha'"),
        ({"columns": {"flux": {"acs_f814w": "I"}}}, r"'acs_f814w', no band of this survey"),
        ({"columns": {"limit": {"acs_f435w": "upper"}}}, r"no column 'upper'"),
        ({"bands": ("wfc3_f275w", "acs_f814w")}, r"flux_acs_f814w"),
        ({"classes": (1, 2)}, r"has no column class_"),
        ({"zero_points": {"acs_f435w": 0.1}}, r"zero_points are AB - Vega"),
    ],
)
def test_settings_that_the_file_does_not_bear_out(folder, settings, message):
    path = save(columns(), folder / "c.csv")
    with pytest.raises(UserError, match=message):
        read_catalogue(entry(path, **settings), BANDS)


def test_classes_of_a_table(folder):
    table = columns()
    table["class_"] = [1, 2, 4]
    found, summary = read_with_summary(entry(save(table, folder / "c.fits"), classes=(1, 2)), BANDS)
    assert found["class_"].to_pylist() == [1, 2]
    assert summary.n_left_out == 1
    assert "1 of other classes left out" in summary.lines()[0]


HEADER = "object_id,galaxy,distance_mpc,flux_acs_f435w,error_acs_f435w"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "has no header"),
        (HEADER + "\n", "a header of 5 columns but no rows"),
        (HEADER + "\n1,x,3,1,0.1\n2,x,3,1\n", r"Expected 5 columns, got 4: 2,x,3,1"),
        (HEADER + "\n1,x,3,1,0.1\n2,x,3,bright,0.1\n", r"'flux_acs_f435w', line 3: found 'bright'"),
        ("# made by me\n" + HEADER + "\n1,x,3,1,many\n", r"'error_acs_f435w', line 3: found 'many'"),
        (
            HEADER + ",limit_acs_f435w\n1,x,3,1,0.1,perhaps\n",
            r"line 2: found 'perhaps'; expected true or false",
        ),
        (HEADER + ",galaxy\n1,x,3,1,0.1,x\n", "two columns called 'galaxy'"),
        (HEADER + "\n1,,3,1,0.1\n", "line 2 has no galaxy"),
    ],
)
def test_broken_csv(folder, text, message):
    path = folder / "c.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        read_catalogue(entry(path), BANDS[1:])
    assert "c.csv" in str(caught.value)


def test_csv_with_comments_blanks_and_plus_signs(folder):
    path = folder / "c.csv"
    path.write_text(
        f"\ufeff# a comment\n{HEADER}\n1, x ,3,+1.5, 0.1\n2,x,3,,0.1\n3,x,3,nan,0.1\n", encoding="utf-8"
    )
    found = read_catalogue(entry(path), BANDS[1:])
    assert found["flux_acs_f435w"].to_numpy() == pytest.approx([1.5, np.nan, np.nan], nan_ok=True)
    assert found["galaxy"].to_pylist() == ["x"] * 3


@pytest.mark.parametrize("suffix", ["fits", "parquet", "vot", "ecsv"])
@pytest.mark.parametrize("keep", [0.5, 0.95])
def test_truncated_files(folder, suffix, keep):
    path = folder / f"c.{suffix}"
    rows = Table([np.repeat(columns()[name], 300) for name in columns().colnames], names=columns().colnames)
    save(rows, path)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    if suffix == "ecsv":
        path.write_bytes(path.read_bytes().rsplit(b" ", 1)[0])  # in the middle of a line
    with pytest.raises(UserError, match=rf"c\.{suffix}"):
        read_catalogue(entry(path), BANDS)


@pytest.mark.parametrize("suffix", ["fits", "parquet", "vot", "ecsv", "csv"])
def test_garbage(folder, suffix):
    path = folder / f"c.{suffix}"
    path.write_bytes(np.random.default_rng(1).bytes(4000))
    with pytest.raises(UserError, match=rf"c\.{suffix}"):
        read_catalogue(entry(path), BANDS)


def test_garbled_header_of_a_fits_file(folder):
    path = save(columns(), folder / "c.fits")
    content = path.read_bytes()
    path.write_bytes(content[:2880] + b"?" * 2880 + content[5760:])
    with pytest.raises(UserError, match="cannot be read as FITS"):
        read_catalogue(entry(path), BANDS)


def test_content_tells_the_format_not_the_name(folder):
    path = save(columns(), folder / "c.fits").rename(folder / "c.csv")
    assert read_catalogue(entry(path), BANDS).num_rows == 3


def test_column_of_lists(folder):
    table = columns()
    table["flux_acs_f435w"] = np.ones((3, 2))
    with pytest.raises(UserError, match="'flux_acs_f435w' holds"):
        read_catalogue(entry(save(table, folder / "c.fits")), BANDS)


def test_column_of_words_in_a_fits_file(folder):
    table = columns()
    table["flux_acs_f435w"] = ["1e-3", "faint", "2e-3"]
    with pytest.raises(UserError, match="row 2: found 'faint'; expected a number"):
        read_catalogue(entry(save(table, folder / "c.fits")), BANDS)


def test_missing_file_names_the_nearest(folder):
    save(columns(), folder / "clusters.csv")
    with pytest.raises(UserError, match=r"does not exist; did you mean 'clusters\.csv'"):
        read_catalogue(entry(folder / "cluster.csv"), BANDS)


def test_folder_in_place_of_a_file(folder):
    with pytest.raises(UserError, match="is a folder"):
        read_catalogue(entry(folder), BANDS)
