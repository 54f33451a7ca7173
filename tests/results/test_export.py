"""Exports read back by astropy: values, units, descriptions, UCDs, lists, provenance."""

import json
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units
from astropy.io import fits, votable
from astropy.table import Table
from toy_runs import add_part, gaussian_draws

from batchflow import schema
from batchflow.errors import UserError
from batchflow.paths import RunFolder
from batchflow.results import source as source_module
from batchflow.results.export import FORMATS, Request, export_run
from batchflow.results.provenance import provenance
from batchflow.shards import write_table

CENTRES, WIDTHS = {"log_age": 7.0, "log_mass": 4.0, "ebv": 0.3}, {"log_age": 0.1, "log_mass": 0.1, "ebv": 0.1}
GALAXIES = ("NGC <1> & é", "NGC 628")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two galaxies of 7 clusters; the second has a catalogue with nulls, infinities and limits."""
    folder = tmp_path_factory.mktemp("run")
    for galaxy in GALAXIES:
        add_part(folder, galaxy, gaussian_draws(CENTRES, WIDTHS, (7, 20), 1))
    wanted = schema.catalogue_schema(["wfc3_f275w"])
    columns = {
        "galaxy": pa.array(["NGC 628"] * 3),
        "survey": ["s", None, ""],
        "object_id": ["1", 'a,"b"', "x"],
        "ra": [10.0, 359.9, np.nan],
        "dec": [-1.0, 89.0, 0.0],
        "class_": pa.array([1, None, 3], pa.int16()),
        "flags": [0, 4, 2**30],
        "flux_wfc3_f275w": [1.5, np.inf, np.nan],
        "error_wfc3_f275w": [1e-30, -np.inf, None],
        "limit_wfc3_f275w": [True, False, False],
    }
    arrays = [pa.array(columns.get(item.name, [np.nan] * 3)).cast(item.type) for item in wanted]
    path = RunFolder(folder).catalogue / "galaxy=NGC%20628" / "part-00000.parquet"
    write_table(path, pa.Table.from_arrays(arrays, schema=wanted), {"stage": "catalogue"})
    return folder


def read(path):
    return Table.read(path, unit_parse_strict="silent") if path.suffix == ".fits" else Table.read(path)


def stored(run, name):
    parts = sorted(getattr(RunFolder(run), name).glob("*/*.parquet"))
    return pa.concat_tables([pq.read_table(path, partitioning=None) for path in parts]).to_pydict()


@pytest.mark.parametrize("kind", FORMATS)
def test_values_come_back(run, tmp_path, kind):
    path = tmp_path / f"clusters{kind}"
    figures = export_run(run, path, Request())
    table, wanted = read(path), stored(run, "posterior")
    assert figures | {"columns": 54, "rows": 14, "left_out": 0} == figures
    assert table.colnames == list(wanted)
    assert [str(text) for text in table["object_id"]] == wanted["object_id"]
    for name in ("log_age_q16", "efficiency", "ra", "flags", "n_modes"):
        values = np.ma.filled(np.ma.asarray(table[name]).astype(float), np.nan)
        np.testing.assert_array_equal(values.astype(np.float32), np.array(wanted[name], np.float32))
    galaxy = "NGC <1> & \\xe9" if kind == ".fits" else GALAXIES[0]
    assert set(table["galaxy"]) == {galaxy, GALAXIES[1]}


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != ".csv"])
def test_units_and_descriptions_come_back(run, tmp_path, kind):
    path = tmp_path / f"clusters{kind}"
    export_run(run, path, Request())
    table = read(path)
    assert units.Unit(str(table["log_age_q50"].unit)) == units.Unit("dex(yr)")
    assert units.Unit(str(table["distance_mpc"].unit)) == units.Mpc
    if kind != ".fits":  # astropy does not take descriptions from TCOMM: see below
        assert table["log_age_q50"].description == "log10 of the age: posterior median"


def test_ucds(run, tmp_path):
    for kind in FORMATS:
        export_run(run, tmp_path / f"a{kind}", Request(columns=("ra", "log_age_q50")))
    header = fits.getheader(tmp_path / "a.fits", 1)
    assert [header[key] for key in ("TTYPE2", "TUNIT2", "TUCD2")] == [
        "log_age_q50",
        "dex(yr)",
        "time.age;stat.median",
    ]
    assert header["TCOMM2"] == "log10 of the age: posterior median"
    fields = votable.parse(tmp_path / "a.vot", verify="exception").get_first_table().fields
    assert [field.ucd for field in fields] == ["pos.eq.ra;meta.main", "time.age;stat.median"]
    assert read(tmp_path / "a.ecsv")["ra"].meta["ucd"] == "pos.eq.ra;meta.main"
    assert pq.read_schema(tmp_path / "a.parquet").field("ra").metadata[b"ucd"] == b"pos.eq.ra;meta.main"
    described = json.loads((tmp_path / "a.csv-metadata.json").read_text())["tableSchema"]["columns"][1]
    assert described["ucd"] == "time.age;stat.median"
    assert described["dc:description"] == "log10 of the age: posterior median"
    assert described["unit"] == "dex(yr)"


@pytest.mark.parametrize("kind", FORMATS)
def test_lists_come_back(run, tmp_path, kind):
    path = tmp_path / f"draws{kind}"
    export_run(run, path, Request("draws", ("object_id", "log_age", "log_weight")))
    table, wanted = read(path), stored(run, "draws")
    for name in ("log_age", "log_weight"):
        rows = [json.loads(text) for text in table[name]] if kind == ".csv" else list(table[name])
        np.testing.assert_array_equal(np.array(rows, np.float32), np.array(wanted[name], np.float32))


@pytest.mark.parametrize("kind", FORMATS)
def test_missing_and_infinite_numbers_and_odd_names(run, tmp_path, kind):
    path = tmp_path / f"catalogue{kind}"
    export_run(run, path, Request("catalogue"))
    table = read(path)
    assert [str(text) for text in table["object_id"]] == ["1", 'a,"b"', "x"]
    flux = np.ma.filled(np.ma.asarray(table["flux_wfc3_f275w"]), np.nan)
    np.testing.assert_array_equal(flux, [1.5, np.inf, np.nan])
    error = np.ma.filled(np.ma.asarray(table["error_wfc3_f275w"]).astype(float), np.nan)
    np.testing.assert_array_equal(error, [1e-30, -np.inf, np.nan])
    assert table["flags"].tolist() == [0, 4, 2**30]
    limit = ["true" in str(value).lower() for value in table["limit_wfc3_f275w"]]
    assert limit == [True, False, False]
    if kind != ".parquet":  # where astropy has no mask
        assert np.ma.getmaskarray(np.ma.asarray(table["class_"])).tolist() == [False, True, False]


@pytest.mark.parametrize("kind", FORMATS)
def test_the_size_of_the_pieces_does_not_matter(run, tmp_path, kind, monkeypatch):
    whole, pieces = tmp_path / f"a{kind}", tmp_path / "b" / f"a{kind}"
    export_run(run, whole, Request("draws"))
    monkeypatch.setattr(source_module, "PIECE_VALUES", 3 * source_module.DRAWS_EACH)
    export_run(run, pieces, Request("draws"))
    one, other = read(whole), read(pieces)
    for name in one.colnames:
        assert [np.asarray(value).tolist() for value in one[name]] == [
            np.asarray(value).tolist() for value in other[name]
        ]


def test_one_galaxy(run, tmp_path):
    assert export_run(run, tmp_path / "a.csv", Request(galaxies=("NGC 628",)))["rows"] == 7
    with pytest.raises(UserError, match="did you mean 'NGC 628'"):
        export_run(run, tmp_path / "b.csv", Request(galaxies=("NGC628",)))
    assert not (tmp_path / "b.csv").exists()


@pytest.mark.parametrize(
    ("name", "request_", "words"),
    [
        ("a.xlsx", Request(), "'.xlsx' is no kind of file that can be written; expected one of .fits .vot"),
        ("a", Request(), "a name without extension"),
        ("a.fits", Request("posteriors"), "posterior"),
        ("a.fits", Request(columns=("log_agee",)), "no column 'log_agee'"),
        ("a.fits", Request("history"), "no table 'history'"),
    ],
)
def test_what_is_not_there_is_said(run, tmp_path, name, request_, words):
    with pytest.raises(UserError, match=words.replace(".", r"\.")):
        export_run(run, tmp_path / name, request_)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_unasked(run, tmp_path):
    path = tmp_path / "a.fits"
    path.write_text("mine")
    with pytest.raises(UserError, match=r"is there already.*--force"):
        export_run(run, path, Request())
    assert path.read_text() == "mine"
    export_run(run, path, Request(force=True))
    assert len(read(path)) == 14


def test_a_run_is_not_written_into(run):
    target = RunFolder(run).posterior / "galaxy=x" / "part-00000.parquet"
    with pytest.raises(UserError, match="in the run folder"):
        export_run(run, target, Request())


@pytest.mark.parametrize("kind", FORMATS)
def test_a_broken_export_leaves_nothing(run, tmp_path, kind, monkeypatch):
    def broken(self):
        yield from ()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(source_module.Source, "batches", broken)
    with pytest.raises(UserError, match="No space left"):
        export_run(run, tmp_path / f"a{kind}", Request())
    assert not list(tmp_path.glob(f"*{kind}")) + list(tmp_path.glob(".*"))


@pytest.mark.parametrize("kind", FORMATS)
def test_an_export_knows_where_it_comes_from(run, tmp_path, kind):
    path = tmp_path / f"a{kind}"
    export_run(run, path, Request(columns=("ra",)))
    found = provenance(path)
    assert found["stage"] == "infer"
    assert found["settings"]["prior.log_age.uniform"] == [6.0, 10.0]
    assert found["export"]["columns"] == ["ra"]
    assert found["export"]["versions"]["pyarrow"] == pa.__version__


def test_a_fits_file_is_whole(run, tmp_path):
    export_run(run, tmp_path / "a.fits", Request("draws"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(tmp_path / "a.fits") as hdus:
            hdus.verify("exception")
            assert hdus[1].header["PCOUNT"] == 14 * 4 * 20 * 4
            assert hdus[1].columns["log_age"].format == "QE(0000000020)"
    assert (tmp_path / "a.fits").stat().st_size % 2880 == 0


@pytest.mark.parametrize("kind", ["fits", "vot", "ecsv"])
def test_tables_with_numbers_alone_and_with_dictionaries(tmp_path, kind):
    """Runs of early versions have the galaxy as a dictionary."""
    galaxies = pa.array(["é", "b", "é"]).dictionary_encode()
    table = pa.table({"galaxy": galaxies, "object_id": ["1", "2", "3"], "log_age_q50": [6.0, 7.0, 8.0]})
    folder = tmp_path / "run"
    write_table(folder / "posterior" / "galaxy=x" / "part-00000.parquet", table, {})
    write_table(RunFolder(folder).history, pa.table({"step": [1, 2]}), {})
    for name, rows in (("posterior", 3), ("history", 2)):
        path = tmp_path / f"{name}.{kind}"
        assert export_run(folder, path, Request(name))["rows"] == rows == len(read(path))
    assert read(tmp_path / f"posterior.{kind}")["log_age_q50"].tolist() == [6.0, 7.0, 8.0]
