"""LEGUS files as released: written by hand, and the real ones."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from batchflow.catalogue.legus import find_shift, read_numbers
from batchflow.catalogue.legus_fields import FIELDS, field_in
from batchflow.catalogue.read import read_catalogue, read_with_summary
from batchflow.errors import UserError
from batchflow.physics.bands import AB_MINUS_VEGA
from batchflow.schema import Flag
from batchflow.settings.catalogue import CatalogueSettings

ACS = ("wfc3_f275w", "wfc3_f336w", "acs_f435w", "acs_f555w", "acs_f814w")
UVIS = ("wfc3_f275w", "wfc3_f336w", "wfc3_f438w", "wfc3_f555w", "wfc3_f814w")
BANDS = (*ACS, *UVIS[2:], "acs_f606w")
FILE = "hlsp_legus_hst_acs-wfc3_{}_multiband_v1_padagb-mwext-avgapcor.tab"
MAGNITUDES = (22.1, 22.4, 23.2, 23.0, 22.3)
ERRORS = (0.11, 0.07, 0.05, 0.05, 0.06)


def line(number=1, magnitudes=MAGNITUDES, errors=ERRORS, n_filters=5, class_=1, **others):
    """A line of a .tab file."""
    sky = [*others.get("extra", []), 24.18, 15.81]
    light = [value for pair in zip(magnitudes, errors, strict=True) for value in pair]
    age, mass, ebv = others.get("published", (3e7, 2e4, 0.25))
    best = [age, age, age, mass, mass, mass, ebv, ebv, ebv]
    numbers = [
        number,
        1831.0,
        6996.0,
        *sky,
        *light,
        1.6,
        *best,
        *[0.01] * 5,
        1.2,
        0.5,
        n_filters,
        class_,
        1.0,
    ]
    return "  ".join(f"{value:.6g}" for value in numbers)


def entry(path, **others):
    return CatalogueSettings(path=path, format="legus", **{"name": "centre", **others})


@pytest.fixture
def tab(tmp_path):
    """Writes lines as a file of a field."""

    def write(*lines, field="ngc628-c"):
        path = tmp_path / FILE.format(field)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


def test_vega_magnitudes_become_mjy(tab):
    table = read_catalogue(entry(tab(line())), BANDS)
    for band, magnitude, error in zip(ACS, MAGNITUDES, ERRORS, strict=True):
        ab = magnitude + AB_MINUS_VEGA[band]
        assert table[f"flux_{band}"][0].as_py() == pytest.approx(3630.78e3 * 10 ** (-0.4 * ab), rel=1e-5)
        relative = table[f"error_{band}"][0].as_py() / table[f"flux_{band}"][0].as_py()
        assert relative == pytest.approx(error / 1.0857362, rel=1e-6)
    assert table["published_log_age"][0].as_py() == pytest.approx(7.4771, abs=1e-4)
    assert table["published_log_mass"][0].as_py() == pytest.approx(4.3010, abs=1e-4)
    assert table["published_ebv"][0].as_py() == 0.25
    assert (table["galaxy"][0].as_py(), table["object_id"][0].as_py()) == ("ngc628", "centre-1")
    assert table["distance_mpc"][0].as_py() == 9.9
    assert table["flags"][0].as_py() == 0


def test_zero_points_of_the_job_win(tab):
    path = tab(line())
    table = read_catalogue(entry(path, zero_points={"acs_f555w": AB_MINUS_VEGA["acs_f555w"] + 2.5}), BANDS)
    default = read_catalogue(entry(path), BANDS)
    assert table["flux_acs_f555w"][0].as_py() == pytest.approx(default["flux_acs_f555w"][0].as_py() / 10)
    assert table["flux_acs_f814w"] == default["flux_acs_f814w"]


def test_two_extra_columns_are_found(tab):
    plain = read_catalogue(entry(tab(line()), bands=ACS), BANDS)
    shifted = tab(line(extra=[6030.197, 4894.47]), field="ngc1313-e")
    table = read_catalogue(entry(shifted, bands=ACS, galaxy="ngc628", distance_mpc=9.9), BANDS)
    for name in plain.schema.names:
        np.testing.assert_array_equal(table[name].to_numpy(), plain[name].to_numpy())


@pytest.mark.parametrize("sentinel", [99.999, 66.666, 44.444, 58.1])
def test_sentinels_are_missing_bands(tab, sentinel):
    table, summary = read_with_summary(entry(tab(line(magnitudes=(sentinel, *MAGNITUDES[1:])))), BANDS)
    assert np.isnan(table["flux_wfc3_f275w"].to_numpy()[0])
    assert table["flags"][0].as_py() == Flag.MISSING_BAND
    assert sum(summary.sentinels.values()) == 1


def test_magnitude_without_error_is_set_aside(tab):
    table, summary = read_with_summary(entry(tab(line(errors=(*ERRORS[:4], 99.999)))), BANDS)
    assert np.isnan(table["flux_acs_f814w"].to_numpy()[0])
    assert table["flags"][0].as_py() == Flag.BAD_ERROR
    assert summary.sentinels == {"99.999 error of a finite magnitude": 1}


def test_row_seen_in_no_band_is_kept(tab):
    table = read_catalogue(
        entry(tab(line(magnitudes=[66.666] * 5, errors=[66.666] * 5), *[line()] * 20)), BANDS
    )
    assert table.num_rows == 21
    assert Flag.NO_BAND in Flag(table["flags"][0].as_py())


@pytest.mark.parametrize(
    "odd",
    [{"published": (0, 0, 0)}, {"n_filters": 200, "published": (2e8, 200, 200)}],
    ids=["not fitted", "unusable"],
)
def test_what_the_survey_did_not_fit_has_no_published_values(tab, odd):
    table = read_catalogue(entry(tab(line(**odd))), BANDS)
    assert np.isnan([table[f"published_{name}"][0].as_py() for name in ("log_age", "log_mass", "ebv")]).all()


def test_classes_select_and_what_is_left_out_is_counted(tab):
    path = tab(*(line(number=i, class_=i % 5) for i in range(10)))
    table, summary = read_with_summary(entry(path, classes=(1, 2, 3)), BANDS)
    assert sorted(table["class_"].to_pylist()) == [1, 1, 2, 2, 3, 3]
    assert (summary.n_rows, summary.n_left_out) == (6, 4)
    assert summary.classes == {1: 2, 2: 2, 3: 2}


def test_classes_that_nobody_has(tab):
    with pytest.raises(UserError, match=r"classes = \[7\].*\[1\]"):
        read_catalogue(entry(tab(line()), classes=(7,)), BANDS)


def test_field_whose_filters_are_not_established_needs_them(tab):
    with pytest.raises(UserError, match=r"ngc3274.*bands = \["):
        read_catalogue(entry(tab(line(), field="ngc3274")), BANDS)


def test_five_bands_not_four(tab):
    with pytest.raises(UserError, match=r"4 bands.*five"):
        read_catalogue(entry(tab(line()), bands=ACS[:4]), BANDS)


def test_unknown_field_needs_galaxy_and_distance(tmp_path):
    path = tmp_path / "mine.tab"
    path.write_text(line())
    with pytest.raises(UserError, match="galaxy = "):
        read_catalogue(entry(path, bands=ACS), BANDS)
    with pytest.raises(UserError, match="distance_mpc = "):
        read_catalogue(entry(path, bands=ACS, galaxy="x"), BANDS)
    table = read_catalogue(entry(path, bands=ACS, galaxy="x", distance_mpc=3.0), BANDS)
    assert table["distance_mpc"][0].as_py() == 3.0


def test_band_that_the_job_does_not_model(tab):
    with pytest.raises(UserError, match=r"acs_f814w.*does not model"):
        read_catalogue(entry(tab(line())), ACS[:4])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["# comment"], "comments but no rows"),
        ([line(), line() + " 7"], r"line 2: 36 columns; expected 35"),
        (["# comment", line(), line().replace("23", "none", 1)], r"line 3, column 10: found '.*none"),
        (["1 2 3"], "3 columns; expected a LEGUS"),
        (["  ".join(["1"] * 40)], "not laid out as LEGUS"),
        ([line(extra=[1.0, 2.0, 3.0])], "not laid out as LEGUS"),
    ],
    ids=["header only", "too long", "word", "narrow", "not LEGUS", "shifted by three"],
)
def test_file_that_is_no_catalogue(tab, lines, message):
    with pytest.raises(UserError, match=message):
        read_catalogue(entry(tab(*lines)), BANDS)


def test_binary_file(tmp_path):
    path = tmp_path / FILE.format("ngc628-c")
    path.write_bytes(bytes(range(256)))
    with pytest.raises(UserError, match="no text file"):
        read_catalogue(entry(path), BANDS)


def test_field_in_a_name():
    assert field_in(FILE.format("ngc1313-e")) == "ngc1313-e"
    assert field_in("ngc628-c.tab") == "ngc628-c"
    assert field_in("ngc628-copy.tab") is None


@pytest.fixture(scope="module")
def fields(shared):
    with (shared / "data/legus/fields.csv").open(encoding="utf-8") as file:
        return {row["field"]: row for row in csv.DictReader(file)}


def real_entry(shared, row, **others):
    path = shared / "data/legus/tab" / row["file"]
    bands = None if FIELDS[row["field"]].optical else ACS
    return entry(path, **{"name": row["field"], "bands": bands, **others})


def test_known_fields_are_those_of_the_release(fields):
    assert set(FIELDS) == set(fields)
    for name, row in fields.items():
        known = FIELDS[name]
        assert known.galaxy == row["galaxy"]
        assert known.distance_mpc == float(row["distance_mpc_legus_cat_if_known"])
        optical = [
            row[f"{letter}_band"].lower().replace("acs/", "acs_").replace("uvis/", "wfc3_")
            for letter in "bvi"
        ]
        listed = [band if "?" not in band else None for band in optical]
        for band, by_release in zip(known.optical or (), listed, strict=False):
            assert by_release in (band, None), name


def test_every_real_field_is_laid_out_as_listed(shared, fields):
    for row in fields.values():
        path = shared / "data/legus/tab" / row["file"]
        values = read_numbers(path)
        assert values.shape == (int(row["n_rows"]), int(row["n_cols"]))
        assert find_shift(values, path) == int(row["first_mag_col"]) - 6


def test_counts_of_the_real_fields(shared, fields):
    """Clusters of class 1-3 (1-2) with five bands and a fit, as counted when the files were collected."""
    for name, row in fields.items():
        table, summary = read_with_summary(real_entry(shared, row, classes=(1, 2, 3)), BANDS)
        five = np.all([np.isfinite(table[f"flux_{band}"].to_numpy()) for band in summary.bands], axis=0)
        taken = five & np.isfinite(table["published_log_age"].to_numpy())
        best = taken & (table["class_"].to_numpy() < 3)
        # One object of eso486-g021 has five magnitudes, of which the survey used three.
        more = int(name == "eso486-g021")
        assert taken.sum() == int(row["n_5band_class123_fit"]) + more, name
        assert best.sum() == int(row["n_5band_class12_fit"]) + more, name
        assert summary.n_rows + summary.n_left_out == int(row["n_rows"])


def test_ids_are_unique_in_a_galaxy_of_two_fields(shared, fields):
    ids = []
    for name in ("ngc628-c", "ngc628-e"):
        table = read_catalogue(real_entry(shared, fields[name]), BANDS)
        assert table["galaxy"].to_pylist() == ["ngc628"] * table.num_rows
        ids += table["object_id"].to_pylist()
    assert len(set(ids)) == len(ids) == 3080 + 593
