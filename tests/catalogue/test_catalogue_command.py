"""`batchflow catalogue FILE`, as a user runs it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import phangs_files as make
import pytest
from astropy.table import Table
from typer.testing import CliRunner

from batchflow.cli import app
from batchflow.config import parse_job
from batchflow.errors import UserError

JOBS = Path(__file__).resolve().parents[2] / "jobs"
QUICKSTART = JOBS / "quickstart_clusters.ecsv"
KEYS = {
    "format", "unit", "detected", "assumed", "lacking", "not_read", "snippet", "survey", "path", "rows",
    "left_out", "bands", "galaxies", "classes", "sentinels", "duplicates", "flags", "surveys",
}  # fmt: skip
BAND_KEYS = {
    "band", "measured", "limits", "missing", "signal", "depth_mjy", "floor", "scatter_dex", "zero_point",
    "unit",
}  # fmt: skip


def run(*arguments):
    """The command's output; a mistake of the user is raised, as `main` meets it."""
    done = CliRunner().invoke(app, ["catalogue", *map(str, arguments)], catch_exceptions=True)
    if done.exception is not None:
        raise done.exception
    return done.stdout


def as_json(*arguments):
    return json.loads(run(*arguments, "--json"))


@pytest.fixture
def odd(tmp_path):
    """A table with names, limits, sentinels and duplicates of its own; no galaxy, no distance."""
    generator = np.random.default_rng(3)
    n_rows = 200
    magnitude = generator.uniform(18, 24, (n_rows, 3))
    error = 0.02 + 0.1 * 10 ** (0.4 * (magnitude - 23))
    table = Table({"ID": np.arange(n_rows), "RAJ2000": np.full(n_rows, 10.0)})
    for i, name in enumerate(("F336W", "F438W", "F814W")):
        table[f"{name}_VEGA"], table[f"{name}_VEGA_err"] = magnitude[:, i], error[:, i]
    table["ID"][1] = 0
    table["F336W_VEGA_err"][5] = np.nan
    table["F438W_VEGA"][6] = np.nan
    table.write(tmp_path / "odd.csv")
    return tmp_path / "odd.csv"


def test_the_table_says_what_there_is():
    text = run(QUICKSTART)
    for words in (
        "500 rows",
        "wfc3_f275w",
        "Demo-B",
        "9.8",
        "UPPER_LIMIT",
        "[[catalogue]]",
        "outside training",
    ):
        assert words in text


def test_json_has_what_the_table_has():
    found = as_json(QUICKSTART)
    assert set(found) == KEYS
    assert found["rows"] == 500
    assert {galaxy["galaxy"]: galaxy["clusters"] for galaxy in found["galaxies"]} == {
        "Demo-A": 150, "Demo-B": 200, "Demo-C": 150,
    }  # fmt: skip
    assert found["galaxies"][0]["distance_mpc"] == [4.0, 4.0]
    for band in found["bands"]:
        assert set(band) == BAND_KEYS
        assert band["measured"] + band["limits"] + band["missing"] == 500
        assert band["signal"][0] < band["signal"][1] < band["signal"][2]
        # The catalogue was simulated with these.
        assert band["floor"] == pytest.approx(0.03, abs=0.002)
        assert band["scatter_dex"] == pytest.approx(0.15, abs=0.03)


def test_a_bare_file_of_its_own_kind(odd):
    found = as_json(odd)
    assert [band["band"] for band in found["bands"]] == ["wfc3_f336w", "wfc3_f438w", "wfc3_f814w"]
    assert found["bands"][0]["zero_point"] == 1.1648
    assert found["lacking"] == ["galaxy", "distance_mpc"]
    flags = {flag["flag"]: flag for flag in found["flags"]}
    assert flags["BAD_ERROR"]["rows"] == 1
    assert flags["MISSING_BAND"]["rows"] == 1
    assert flags["DUPLICATE_ID"]["rows"] == found["duplicates"] == 2
    assert all(flag["why"] for flag in found["flags"])


def test_what_is_lacking_is_marked_in_the_snippet(odd):
    text = run(odd)
    assert "LACKING  distance_mpc" in text
    assert "distance_mpc = 10.0  # not in the file" in text
    whole = run(odd, "--galaxy", "M83", "--distance", "4.9")
    assert "LACKING" not in whole
    assert "4.9" in whole


def test_brackets_in_a_name_are_no_markup(odd):
    assert "[/b] M 83" in run(odd, "--galaxy", "[/b] M 83", "--distance", 4.9, "--set", "name=[/i]s")


@pytest.mark.parametrize("more", [(), ("--galaxy", 'M "83"', "--distance", "4.9", "--set", "classes=[1,2]")])
def test_the_snippet_is_an_entry_of_a_job(odd, more):
    if "--set" in more:
        table = Table.read(odd)
        table["class_"] = 1
        table.write(odd, overwrite=True)
    values = tomllib.loads('name = "j"\noutput = "o"\n' + as_json(odd, *more)["snippet"])
    values["model"] = {"bands": ["wfc3_f336w", "wfc3_f438w", "wfc3_f814w"]}
    (entry,) = parse_job(values, "snippet", odd.parent).catalogue
    assert entry.path == odd
    assert entry.columns.flux["wfc3_f336w"] == "F336W_VEGA"
    assert entry.unit == "Vega"
    if more:
        assert entry.galaxy == 'M "83"'
        assert entry.classes == (1, 2)


def test_settings_win_over_guesses(odd):
    vega, ab = (as_json(odd, *more)["bands"][0]["depth_mjy"] for more in ((), ("--set", "unit=AB")))
    assert ab / vega == pytest.approx(10 ** (0.4 * 1.1648), rel=1e-3)


def test_an_entry_of_a_job_is_taken_as_it_stands(tmp_path):
    job = tmp_path / "job.toml"
    job.write_text(
        'name = "j"\noutput = "o"\n[model]\nbands = ["wfc3_f275w", "wfc3_f336w", "wfc3_f438w"]\n'
        f'[[catalogue]]\npath = "{QUICKSTART}"\nname = "mine"\n'
    )
    found = as_json(QUICKSTART, "--job", job)
    assert found["survey"] == "mine"
    assert [band["band"] for band in found["bands"]] == ["wfc3_f275w", "wfc3_f336w", "wfc3_f438w"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.fits"], "absent.fits does not exist"),
        (
            [QUICKSTART, "--bands", "wfc3_f275"],
            "--bands: unknown band 'wfc3_f275'; did you mean 'wfc3_f275w'",
        ),
        ([QUICKSTART, "--format", "tables"], "--format tables: did you mean 'table'"),
        ([QUICKSTART, "--set", "galaxi=x"], "--set galaxi: no key.*did you mean 'galaxy'"),
        ([QUICKSTART, "--set", "galaxy"], "expected section.key=value"),
        ([QUICKSTART, "--distance", "-1"], "distance_mpc=-1.0"),
        ([QUICKSTART, "--job", "absent.toml"], "absent.toml does not exist"),
        ([QUICKSTART, "--plot", "picture.doc"], "picture.doc: expected a name that ends with .png"),
        ([QUICKSTART, "--format", "legus"], "line 30.*expected a number"),
    ],
)
def test_mistakes_have_one_clear_message(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        run(*arguments)


def test_plot_makes_a_picture(tmp_path):
    path = tmp_path / "new" / "picture.png"
    run(QUICKSTART, "--plot", path)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) > 50_000


def test_legus_field_with_all_its_bands(shared):
    (path,) = (shared / "data/legus/tab").glob("*_ngc628-c_*.tab")
    found = as_json(path)
    assert found["format"] == "legus"
    assert found["survey"] == "ngc628-c"
    assert found["rows"] == 3080
    assert found["classes"] == {"0": 1521, "1": 334, "2": 357, "3": 326, "4": 542}
    assert found["sentinels"]["66.666 outside the frame"] == 1346
    assert [band["band"] for band in found["bands"]][2:] == ["acs_f435w", "acs_f555w", "acs_f814w"]
    assert found["bands"][0]["measured"] == 2207
    assert found["surveys"][0]["outside_training"] <= 3


def legus_files(shared, *fields):
    return [next((shared / "data/legus/tab").glob(f"*_{field}_*.tab")) for field in fields]


def test_legus_fields_of_unknown_bands_are_named_and_not_lost(shared):
    files = legus_files(shared, "ic559", "ic4247", "ugca281", "ugc695")
    found = as_json(*files)
    assert found["rows"] == 269 + 327
    assert found["not_read"] == [str(files[1]), str(files[3])]
    values = tomllib.loads(found["snippet"])["catalogue"]
    assert sorted(path for entry in values for path in np.atleast_1d(entry["path"])) == sorted(
        map(str, files)
    )
    assert "NOT READ 2 of 4 files" in run(*files)
    with pytest.raises(UserError, match=r"ic4247 are not known.*--bands wfc3_f275w,"):
        run(files[1], files[3])
    assert (
        as_json(*files, "--bands", "wfc3_f275w,wfc3_f336w,wfc3_f438w,wfc3_f555w,wfc3_f814w")["not_read"] == []
    )


def test_files_of_several_entries_of_a_job(shared):
    files = legus_files(shared, "ic559", "ic4247", "ugc695")
    found = as_json("--job", JOBS / "legus.toml", *files, QUICKSTART)
    assert {Path(each["path"]) for each in found} == {*files, QUICKSTART}
    bands = {each["path"]: {band["band"] for band in each["bands"]} for each in found}
    assert bands[str(files[1])] == {"wfc3_f275w", "wfc3_f336w", "wfc3_f438w", "acs_f606w", "acs_f814w"}
    assert bands[str(files[2])] == {"wfc3_f275w", "wfc3_f336w", "wfc3_f438w", "wfc3_f555w", "wfc3_f814w"}


def test_all_entries_of_a_job(tmp_path):
    job = tmp_path / "job.toml"
    head = 'name = "j"\noutput = "o"\n[model]\nbands = ["wfc3_f275w", "wfc3_f336w", "wfc3_f438w"]\n'
    entry = '[[catalogue]]\npath = "{}"\nname = "{}"\n'
    other = tmp_path / "other.ecsv"
    other.write_bytes(QUICKSTART.read_bytes())
    job.write_text(head + entry.format(QUICKSTART, "one") + entry.format(other, "a/b"))
    found = as_json("--job", job, "--plot", tmp_path / "p.png")
    assert [each["survey"] for each in found] == ["one", "a/b"]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["p-a%2Fb.png", "p-one.png"]
    job.write_text(head)
    for arguments, message in (
        ([], "--job JOB for all"),
        (["--job", job], r"job\.toml has no \[\[catalogue"),
    ):
        with pytest.raises(UserError, match=f"name a FILE.*{message}"):
            run(*arguments)


def test_files_and_patterns_are_one_catalogue(odd, tmp_path):
    (tmp_path / "more.csv").write_bytes(odd.read_bytes())
    for arguments in ((odd, tmp_path / "more.csv"), (tmp_path / "*.csv",)):
        found = as_json(*arguments, "--galaxy", "M83", "--distance", "4.9")
        assert found["rows"] == 400
        assert found["duplicates"] == 400
        values = tomllib.loads('name = "j"\noutput = "o"\n' + found["snippet"])
        values["model"] = {"bands": ["wfc3_f336w", "wfc3_f438w", "wfc3_f814w"]}
        (entry,) = parse_job(values, "snippet", tmp_path / "elsewhere").catalogue
        assert [str(path) for path in entry.paths] == [str(argument) for argument in arguments]


def test_files_of_two_formats_are_no_catalogue(odd, tmp_path):
    make.save(make.obs("ngc1566"), tmp_path / "z_phangs.fits")
    with pytest.raises(UserError, match=r"odd.csv looks like table, but .*z_phangs.fits like phangs"):
        run(odd, tmp_path / "z_phangs.fits")


def test_memory_is_that_of_a_piece(odd, monkeypatch):
    whole = as_json(odd)
    monkeypatch.setattr("batchflow.catalogue.columns.PIECE_CELLS", 200)
    monkeypatch.setattr("batchflow.catalogue.statistics.PIECE_ROWS", 30)
    assert as_json(odd) == whole


@pytest.mark.parametrize("target", ["ngc1566", "ngc628c"])
def test_phangs_is_told_with_its_bands(target, tmp_path):
    path = tmp_path / make.file_name(target, "obs-human-cluster-class12")
    make.save(make.obs(target), path)
    found = as_json(path)
    assert found["format"] == "phangs"
    camera = "acs" if target == "ngc628c" else "wfc3"
    blue = "f435w" if target == "ngc628c" else "f438w"
    assert [band["band"] for band in found["bands"]] == [
        "wfc3_f275w", "wfc3_f336w", f"{camera}_{blue}", f"{camera}_f555w", f"{camera}_f814w",
    ]  # fmt: skip
    assert {band["unit"] for band in found["bands"]} == {"mJy, of columns ..._mJy"}
    assert {band["zero_point"] for band in found["bands"]} == {None}


def test_units_and_zero_points_are_said(odd, tmp_path):
    assert {band["unit"] for band in as_json(odd)["bands"]} == {"Vega, as unit says"}
    table = Table.read(odd)
    for name in ("F336W_VEGA", "F438W_VEGA"):
        table[name].unit, table[f"{name}_err"].unit = "uJy", "uJy"
    table.write(tmp_path / "c.ecsv")
    first, _, last = as_json(tmp_path / "c.ecsv", "--set", "unit=Vega")["bands"]
    assert (first["unit"], first["zero_point"]) == ("uJy, as the file says", None)
    assert (last["unit"], last["zero_point"]) == ("Vega, as unit says", 0.4288)


def test_m33_is_told_as_phatter(shared):
    found = as_json(shared / "data/m33_phatter/m33_phatter_clusters.fits")
    assert (found["format"], found["rows"]) == ("phatter", 1214)
    assert [band["band"] for band in found["bands"]] == [
        "wfc3_f275w", "wfc3_f336w", "acs_f475w", "acs_f814w", "wfc3_f110w", "wfc3_f160w",
    ]  # fmt: skip
    assert found["lacking"] == ["galaxy", "distance_mpc"]
    assert all(band["limits"] > 0 and band["zero_point"] is not None for band in found["bands"])


def test_m33_read_as_a_table(shared):
    path = shared / "data/m33_phatter/m33_phatter_clusters.fits"
    found = as_json(path, "--format", "table", "--galaxy", "M33", "--distance", "0.87")
    assert found["rows"] == 1214
    names = [band["band"] for band in found["bands"]]
    assert names[:4] == ["wfc3_f275w", "wfc3_f336w", "acs_f475w", "acs_f814w"]
    assert any("-99" in text and "upper limit" in text for text in found["assumed"])
