"""PHANGS-HST catalogues, written to the schema of three eras."""

from __future__ import annotations

import csv
import logging

import numpy as np
import phangs_files as make
import pytest
from astropy.table import vstack

from batchflow.catalogue.phangs_targets import known_targets, target_in
from batchflow.catalogue.read import read_catalogue, read_with_summary
from batchflow.errors import UserError
from batchflow.schema import Flag
from batchflow.settings.catalogue import CatalogueSettings

UVIS = ("wfc3_f275w", "wfc3_f336w", "wfc3_f438w", "wfc3_f555w", "wfc3_f814w")
ACS = ("wfc3_f275w", "wfc3_f336w", "acs_f435w", "acs_f555w", "acs_f814w")
BANDS = (*UVIS, *ACS[2:])


def entry(path, **others):
    return CatalogueSettings(path=path, format="phangs", **{"name": "phangs", **others})


@pytest.fixture
def write(tmp_path):
    def save(table, target="ngc1566", what="obs-human-cluster-class12"):
        return make.save(table, tmp_path / make.file_name(target, what))

    return save


@pytest.mark.parametrize("era", ["dr3", "dr4", "dr5"])
@pytest.mark.parametrize(("target", "bands"), [("ngc1566", UVIS), ("ngc628c", ACS), ("ngc3621", ACS)])
def test_photometry_of_every_era(write, era, target, bands):
    table, summary = read_with_summary(entry(write(make.obs(target, era=era), target)), BANDS)
    flux, error = make.fluxes(6, 1)
    for i, band in enumerate(bands):
        known = np.ones(6, bool)
        known[2] = band != "wfc3_f336w"
        assert table[f"flux_{band}"].to_numpy()[known] == pytest.approx(flux[known, i])
        assert table[f"error_{band}"].to_numpy()[known] == pytest.approx(error[known, i])
        assert np.isnan(table[f"flux_{band}"].to_numpy()[~known]).all()
    assert set(summary.bands) == set(bands)
    assert [Flag(flag) for flag in table["flags"].to_pylist()] == [
        Flag(0), Flag.UPPER_LIMIT, Flag.MISSING_BAND, Flag(0), Flag(0), Flag(0)
    ]  # fmt: skip
    assert table["limit_wfc3_f275w"].to_pylist() == [False, True, False, False, False, False]
    assert table["ra"].to_numpy() == pytest.approx(np.linspace(24.1, 24.2, 6))
    assert table["class_"].to_pylist()[:3] == [1, 2, 3]


@pytest.mark.parametrize("era", ["dr3", "dr5"])
def test_ages_and_masses_in_the_same_table(write, era):
    table = read_catalogue(entry(write(make.obs("ngc1566", era=era))), BANDS)
    expected = [6, 7, 8, 9, np.nan, 11]
    assert table["published_log_age"].to_numpy() == pytest.approx(expected, nan_ok=True)
    assert table["published_log_mass"][0].as_py() == pytest.approx(3.0)
    assert np.isnan(table["published_log_mass"].to_numpy()[4])
    assert np.isnan(table["published_ebv"].to_numpy()).all() == (era == "dr5")


def test_distance_galaxy_and_survey_come_with_the_package(write):
    table = read_catalogue(entry(write(make.obs("ngc628c"), "ngc628c")), BANDS)
    assert set(table["galaxy"].to_pylist()) == {"ngc0628"}
    assert set(table["survey"].to_pylist()) == {"phangs-ngc628c"}
    assert set(table["distance_mpc"].to_pylist()) == {9.84}
    assert set(table["distance_error_mpc"].to_pylist()) == {0.63}
    assert table["object_id"][0].as_py() == "ngc628c-100"
    own = read_catalogue(entry(write(make.obs("ngc628c"), "ngc628c"), distance_mpc=10.0), BANDS)
    assert set(own["distance_mpc"].to_pylist()) == {10.0}
    assert np.isnan(own["distance_error_mpc"].to_numpy()).all()


def test_ages_and_masses_of_another_file(write, caplog):
    path = write(make.obs("ngc1566"))
    sed = write(make.sed(n=5, first=102), what="sed-ground-halpha-human-cluster-class12")
    with caplog.at_level(logging.WARNING):
        table, summary = read_with_summary(entry(path, sed_path=sed), BANDS)
    assert table["published_log_age"].to_numpy() == pytest.approx([np.nan] * 2 + [6, 7, 8, 9], nan_ok=True)
    assert summary.sentinels["row without a row in sed_path"] == 2
    assert "1 clusters of sed_path have no row of photometry, the first ngc1566-106" in caplog.text


def test_clusters_of_another_file_are_not_missed(write, tmp_path, caplog):
    """Files of class 1 and 2 and of class 3: each holds half of what the files of ages have."""
    whole = make.obs("ngc1566")
    for rows, name in ((whole[:3], "obs-class12"), (whole[3:], "obs-class3")):
        write(rows, what=name)
    sed = write(make.sed(n=8), what="sed")
    with caplog.at_level(logging.WARNING):
        read_with_summary(entry(sed.parent / "*obs-class*.fits", sed_path=sed), BANDS)
    found = [text for text in caplog.messages if "no row of photometry" in text]
    assert len(found) == 1
    assert "2 clusters of sed_path" in found[0]


def test_files_of_many_targets_join_by_target_and_id(write, tmp_path):
    for target, first in (("ngc628c", 100), ("ngc628e", 102), ("ngc1566", 104)):
        write(make.obs(target), target)
        write(make.sed(first=first), target, "sed-ground-halpha-human-cluster-class12")
    path, sed = tmp_path / "*_obs-human-*.fits", tmp_path / "*_sed-ground-halpha-human-*.fits"
    table, summary = read_with_summary(entry(path, sed_path=sed), BANDS)
    assert summary.surveys == {"phangs-ngc628c": 6, "phangs-ngc628e": 6, "phangs-ngc1566": 6}
    ages = dict(zip(table["object_id"].to_pylist(), table["published_log_age"].to_pylist(), strict=True))
    assert (ages["ngc628c-102"], ages["ngc628e-102"], ages["ngc1566-104"]) == (8.0, 6.0, 6.0)
    assert not any(Flag.DUPLICATE_ID in Flag(flags) for flags in table["flags"].to_pylist())


def test_a_table_of_all_targets(tmp_path):
    tables = [make.obs(target, era="dr5") for target in ("ngc1566", "ngc628c", "ngc3621")]
    whole = vstack(tables, metadata_conflicts="silent").filled(-9999.0)
    whole["PHANGS_GALAXY"][0] = "NGC1566"
    path = tmp_path / "hlsp_phangs-cat_hst_acs-uvis_dr5-targets_v1_human-class1+2-primary.fits"
    make.save(whole, path)
    table, summary = read_with_summary(entry(path), BANDS)
    assert summary.galaxies == {"ngc0628": 6, "ngc1566": 6, "ngc3621": 6}
    assert np.isnan(table["flux_acs_f435w"].to_numpy()).tolist() == [True] * 6 + [False] * 12
    # A band that a target does not have is not missing there.
    missing = [Flag.MISSING_BAND in Flag(flags) for flags in table["flags"].to_pylist()]
    assert missing == [False, False, True, False, False, False] * 3


def test_companion_in_the_file_of_its_neighbour(write):
    found = make.obs("ngc1512")
    found["PHANGS_GALAXY"] = ["ngc1512"] * 5 + ["ngc1510"]
    table = read_catalogue(entry(write(found, "ngc1512")), BANDS)
    assert table["galaxy"].to_pylist() == ["ngc1512"] * 5 + ["ngc1510"]
    assert set(table["distance_mpc"].to_pylist()) == {17.93}


def test_classes_by_eye_or_by_machine(write):
    eye = read_catalogue(entry(write(make.obs("ngc1566"))), BANDS)
    machine = read_catalogue(entry(write(make.obs("ngc1566"), what="obs-machine-cluster-class12")), BANDS)
    named = entry(write(make.obs("ngc1566")), columns={"class_": "PHANGS_CLUSTER_CLASS_ML_VGG"})
    assert eye["class_"].to_pylist() == [1, 2, 3, 0, 1, 2]
    assert machine["class_"].to_pylist() == read_catalogue(named, BANDS)["class_"].to_pylist() == [2] * 6


def test_magnitudes_that_are_not_those_of_the_fluxes(write, caplog):
    found = make.obs("ngc1566")
    read_catalogue(entry(write(found)), BANDS)
    assert "differ from their Vega" not in caplog.text
    found["PHANGS_F555W_VEGA"] -= 0.05
    read_catalogue(entry(write(found)), BANDS)
    assert "6 rows of ngc1566 differ from their Vega magnitudes by +0.050 mag" in caplog.text
    assert caplog.text.count("differ from their Vega") == 1


def test_vega_magnitudes_alone(write):
    found = make.obs("ngc1566")
    found.remove_columns([name for name in found.colnames if "mJy" in name])
    table = read_catalogue(entry(write(found)), BANDS)
    flux, _ = make.fluxes(6, 1)
    assert table["flux_wfc3_f814w"].to_numpy() == pytest.approx(flux[:, 4], rel=1e-6)


def test_repeated_ids(write):
    found = make.obs("ngc1566")
    found["ID_PHANGS_CLUSTER"][1] = 100
    flags = read_catalogue(entry(write(found)), BANDS)["flags"].to_pylist()
    assert [Flag.DUPLICATE_ID in Flag(flag) for flag in flags] == [True, True, False, False, False, False]
    sed = make.sed(shuffled=False)
    sed["ID_PHANGS_CLUSTER"][1] = 100
    path = write(sed, what="sed-ground-halpha-human-cluster-class12")
    with pytest.raises(UserError, match=r"cluster 100 of ngc1566 other values"):
        read_catalogue(entry(write(make.obs("ngc1566")), sed_path=path), BANDS)


def without(column):
    found = make.obs("ngc1566")
    found.remove_columns([name for name in found.colnames if name.startswith(column)])
    return found


def named(galaxy):
    found = make.obs("ngc1566")
    found["PHANGS_GALAXY"] = [galaxy] * len(found)
    return found


@pytest.mark.parametrize(
    ("table", "settings", "message"),
    [
        (without("PHANGS_F438W"), {}, r"neither the columns PHANGS_F438W_mJy .* wfc3_f438w of ngc1566"),
        (without("I"), {}, r"no column ID_PHANGS_CLUSTER or .*is it a PHANGS-HST catalogue"),
        (named("ngc9999"), {}, r"'ngc9999' is none of the 38"),
        (
            make.obs("ngc1566"),
            {"foreground_ebv": 0.02},
            r"foreground_ebv = 0.02, but PHANGS-HST .* corrected",
        ),
        (make.obs("ngc1566"), {"sed_path": "nowhere*.fits"}, r"nowhere"),
    ],
)
def test_what_cannot_be(write, table, settings, message):
    with pytest.raises(UserError, match=message):
        read_catalogue(entry(write(table), **settings), BANDS)


def test_photometry_in_place_of_ages(write):
    path = write(make.obs("ngc1566"))
    with pytest.raises(UserError, match=r"no column of ages.*is it a file of photometry"):
        read_catalogue(entry(path, sed_path=path), BANDS)


def test_a_file_that_names_no_galaxy(tmp_path):
    make.obs("ngc1566").write(tmp_path / "clusters.fits")
    with pytest.raises(UserError, match=r'add galaxy = "ngc1566"'):
        read_catalogue(entry(tmp_path / "clusters.fits"), BANDS)
    table = read_catalogue(entry(tmp_path / "clusters.fits", galaxy="NGC 1566"), BANDS)
    assert set(table["galaxy"].to_pylist()) == {"ngc1566"}


def test_one_distance_for_many_galaxies(tmp_path):
    whole = vstack([make.obs(t, era="dr5") for t in ("ngc1566", "ic1954")], metadata_conflicts="silent")
    make.save(whole, tmp_path / "all.fits")
    with pytest.raises(UserError, match=r"2 galaxies \(ic1954, ngc1566"):
        read_catalogue(entry(tmp_path / "all.fits", distance_mpc=10.0), BANDS)


def test_targets_are_those_of_the_survey(shared):
    with (shared / "data/phangs/phangs_galaxies_full.csv").open(encoding="utf-8") as file:
        rows = {row["target"]: row for row in csv.DictReader(file)}
    with (shared / "data/phangs/phangs_zeropoints_per_target.csv").open(encoding="utf-8") as file:
        listed = list(csv.DictReader(file))
    zero_points = {(row["target"], row["filter"]): float(row["ab_minus_vega"]) for row in listed}
    for name, row in rows.items():
        known = known_targets()[name]
        assert (known.galaxy, known.distance_mpc) == (row["galaxy"], float(row["distance_mpc"]))
        assert known.distance_error_mpc == float(row["distance_err_mpc"])
        cameras = {"UVIS": "wfc3", "WFC": "acs"}
        optical = [f"{cameras[row['b_inst']]}_{row['b_band'].lower()}"]
        optical += [f"{cameras[row['v_inst']]}_f555w", f"{cameras[row['i_inst']]}_f814w"]
        assert list(known.zero_points)[2:] == optical
        for band, filter_ in known.filters.items():
            assert known.zero_points[band] == pytest.approx(zero_points[name, filter_], abs=1e-4)
    assert len({target.galaxy for target in map(known_targets().get, rows)}) == 38


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("hlsp_phangs-cat_hst_acs-uvis_ngc628c_multi_v1_obs-human-cluster-class12.fits", "ngc628c"),
        ("ngc0628e_phangshst_base_catalog.class12.fits", "ngc628e"),
        ("NGC0685.fits", "ngc685"),
        ("hlsp_phangs-cat_hst_acs-uvis_dr5-targets_v1_human-class3-primary.fits", None),
    ],
)
def test_target_in_a_file_name(name, target):
    found = target_in(name)
    assert (found.name if found else None) == target
