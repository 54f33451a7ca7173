"""What a bare file is taken for: format, bands, columns, unit."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from batchflow.catalogue.detect import detect_format, guess_table
from batchflow.errors import UserError

FORMATS = ("legus", "phangs", "phatter", "table")


def written(tmp_path, columns, name="c.csv", units=None):
    """A file of ten rows with those columns."""
    table = Table({column: np.full(10, value) for column, value in columns.items()})
    for column, unit in (units or {}).items():
        table[column].unit = unit
    table.write(tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"PHANGS_F275W_mJy": 1.0, "ID_PHANGS_CLUSTER": 1}, "phangs"),
        ({"MAG275": 20.0, "SIG275": 0.1, "MAG475": 20.0, "SIG475": 0.1}, "phatter"),
        ({"object_id": 1, "flux_wfc3_f275w": 1.0, "error_wfc3_f275w": 0.1}, "table"),
    ],
)
def test_format_by_the_columns(tmp_path, columns, expected):
    assert detect_format(written(tmp_path, columns), FORMATS)[0] == expected


def test_format_that_has_no_reader_is_a_table(tmp_path):
    path = written(tmp_path, {"PHANGS_F275W_mJy": 1.0})
    assert detect_format(path, ("legus", "table"))[0] == "table"


def test_numbers_without_a_header_are_legus(tmp_path):
    path = tmp_path / "field.txt"
    path.write_text("# a comment\n" + " ".join(["1.5"] * 36) + "\n")
    assert detect_format(path, FORMATS) == ("legus", "a table of 36 numbers a line, without a header")


def test_every_legus_field_is_told(shared):
    for path in (shared / "data/legus/tab").glob("*.tab"):
        assert detect_format(path, FORMATS)[0] == "legus"


def test_columns_of_the_schema_need_no_mapping(tmp_path):
    columns = {"object_id": 1, "flux_wfc3_f275w": 1.0, "error_wfc3_f275w": 0.1}
    guess = guess_table(written(tmp_path, columns), {})
    assert guess.settings["bands"] == ["wfc3_f275w"]
    assert "columns" not in guess.settings


@pytest.mark.parametrize(
    ("flux", "error"),
    [
        ("F275W", "F275W_err"), ("MAG275", "SIG275"), ("f275w_flux", "f275w_unc"),
        ("mag_F275W", "magerr_F275W"),
        ("F275W_VEGA", "e_F275W_VEGA"), ("WFC3_F275W_mJy", "WFC3_F275W_mJy_ERR"),
    ],
)  # fmt: skip
def test_names_that_surveys_use(tmp_path, flux, error):
    guess = guess_table(written(tmp_path, {"ID": 1, flux: 20.0, error: 0.1}), {})
    assert guess.settings["bands"] == ["wfc3_f275w"]
    assert guess.settings["columns"] == {
        "flux": {"wfc3_f275w": flux},
        "error": {"wfc3_f275w": error},
        "id": "ID",
    }


def test_other_columns_with_numbers_are_no_bands(tmp_path):
    columns = {"id": 1, "F336W": 20.0, "F336W_err": 0.1, "flag_F438W": 0, "col_F555W_F814W_color": 1.0}
    assert guess_table(written(tmp_path, columns), {}).settings["bands"] == ["wfc3_f336w"]


@pytest.mark.parametrize(
    ("blue", "expected"), [("F435W", "acs_f814w"), ("F438W", "wfc3_f814w"), ("F475W", "acs_f814w")]
)
def test_the_camera_follows_the_blue_filter_and_the_guess_is_said(tmp_path, blue, expected):
    columns = {"id": 1, blue: 20.0, f"{blue}_err": 0.1, "F814W": 20.0, "F814W_err": 0.1}
    guess = guess_table(written(tmp_path, columns), {})
    assert guess.settings["bands"][1] == expected
    assert any("F814W is " + expected in text and "--bands" in text for text in guess.assumed)


def test_bands_that_the_user_names_are_taken(tmp_path):
    columns = {"id": 1, "F435W": 20.0, "F435W_err": 0.1, "F814W": 20.0, "F814W_err": 0.1}
    guess = guess_table(written(tmp_path, columns), {"bands": ["acs_f435w", "wfc3_f814w"]})
    assert guess.settings["bands"] == ["acs_f435w", "wfc3_f814w"]
    assert not any("F814W is" in text for text in guess.assumed)


def test_a_flux_without_its_error_is_left_out_and_said(tmp_path):
    columns = {"id": 1, "F336W": 20.0, "F336W_err": 0.1, "F555W": 20.0}
    guess = guess_table(written(tmp_path, columns), {})
    assert guess.settings["bands"] == ["wfc3_f336w"]
    assert any("wfc3_f555w" in text and "left out" in text for text in guess.assumed)


@pytest.mark.parametrize(
    ("name", "unit", "value", "expected"),
    [
        ("F336W", "uJy", 3.0, None), ("F336W_ABmag", "", 22.0, "AB"), ("F336W_vega", "", 22.0, "Vega"),
        ("F336W_uJy", "", 3.0, "uJy"), ("F336W", "", 22.0, "Vega"), ("F336W", "", 0.01, "mJy"),
        ("F336W", "mag", 22.0, "Vega"),
    ],
)  # fmt: skip
def test_units(tmp_path, name, unit, value, expected):
    units = {name: unit} if unit else {}
    path = written(tmp_path, {"id": 1, name: value, f"{name}_err": 0.1}, "c.ecsv", units)
    guess = guess_table(path, {})
    assert guess.settings.get("unit") == expected
    if name == "F336W" and unit != "uJy":
        assert any("--set unit" in text for text in guess.assumed)
    assert "unit" not in guess_table(path, {"unit": "AB"}).settings


def test_sentinels_and_marks_of_limits(tmp_path):
    table = Table({"id": [1, 2, 3], "F336W": [20.0, 99.999, 21.0], "F336W_err": [0.1, 99.999, -99.0]})
    table.write(tmp_path / "c.csv")
    guess = guess_table(tmp_path / "c.csv", {})
    assert guess.settings["sentinels"] == [99.999]
    assert guess.settings["limit_error"] == -99.0
    assert sum("--set" in text for text in guess.assumed) >= 2


def test_a_file_without_bands_says_what_it_expected(tmp_path):
    with pytest.raises(UserError, match=r"no band found.*object_id, colour.*flux_<band>.*--set columns"):
        guess_table(written(tmp_path, {"object_id": 1, "colour": 2.0}), {})


def test_m33_as_a_table(shared):
    guess = guess_table(shared / "data/m33_phatter/m33_phatter_clusters.fits", {})
    flux = guess.settings["columns"]["flux"]
    assert flux["wfc3_f275w"] == "MAG275"
    assert flux["acs_f475w"] == "MAG475"
    assert flux["wfc3_f160w"] == "MAG160"
    assert guess.settings["limit_error"] == -99.0
    assert guess.settings["unit"] == "Vega"
