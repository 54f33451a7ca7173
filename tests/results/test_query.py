"""Questions in SQL: answered from the run, and from nothing else."""

import pyarrow as pa
import pytest

import batchflow
from batchflow.errors import UserError
from batchflow.paths import RunFolder, partition_folder
from batchflow.results.query import query
from batchflow.shards import write_table


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path / "it's a run")
    write_table(folder.shard(0), pa.table({"log_age": [6.5, 9.0], "ebv": [0.1, 0.2]}), {})
    for i, galaxy in enumerate(["NGC0628", "../x", "628"]):
        rows = pa.table(
            {
                "galaxy": pa.array([galaxy]),
                "log_age_q50": pa.array([6.5 + i], pa.float32()),
                "mode_weight": pa.array([[0.7, 0.3]], pa.list_(pa.float32())),
            }
        )
        write_table(partition_folder(folder.posterior, galaxy) / "part-00000.parquet", rows, {})
    return folder


def test_tables_are_views(run):
    assert query(run.root, "SELECT count(*) AS n FROM mocks").to_pylist() == [{"n": 2}]
    found = query(run.root, "SELECT galaxy FROM posterior WHERE log_age_q50 > 7 ORDER BY log_age_q50")
    assert found["galaxy"].to_pylist() == ["../x", "628"]


def test_galaxies_keep_their_names_in_python_too(run):
    table = batchflow.open_run(run.root).posterior.to_arrow()
    assert sorted(table["galaxy"].to_pylist()) == ["../x", "628", "NGC0628"]
    assert batchflow.open_run(run.root).posterior.to_pandas().shape == (3, 3)
    assert batchflow.open_run(run.root).posterior.to_astropy().colnames == ["galaxy", "log_age_q50"]


@pytest.mark.parametrize(
    "sql",
    [
        "DROP VIEW mocks",
        "CREATE TABLE t AS SELECT 1",
        "COPY mocks TO 'x.csv'",
        "ATTACH 'x.db'",
        "SET lock_configuration = false",
        "INSTALL httpfs",
        "SELECT 1; SELECT 2",
        "",
    ],
)
def test_a_query_only_reads(run, sql):
    before = sorted(run.root.rglob("*"))
    with pytest.raises(UserError, match="one SELECT statement"):
        query(run.root, sql)
    assert sorted(run.root.rglob("*")) == before


def test_nothing_outside_the_run_can_be_read(run, tmp_path):
    (tmp_path / "secret.csv").write_text("a\n1\n")
    for path in (tmp_path / "secret.csv", run.root / ".." / "secret.csv"):
        with pytest.raises(UserError, match=r"read_csv.* is not for queries"):
            query(run.root, f"SELECT * FROM read_csv('{str(path).replace(chr(39), chr(39) * 2)}')")


def test_a_wrong_query_says_what_there_is(run):
    with pytest.raises(UserError, match="tables of this run: mocks, posterior"):
        query(run.root, "SELECT * FROM draws")
    with pytest.raises(UserError, match="syntax error"):
        query(run.root, "SELEC 1")


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(UserError, match="is no run folder"):
        query(tmp_path, "SELECT 1")
    with pytest.raises(UserError, match="is no run folder"):
        batchflow.open_run(tmp_path / "absent")
    write_table(RunFolder(tmp_path).shard(0), pa.table({"x": [1]}), {})
    with pytest.raises(UserError, match="no table 'draws'"):
        _ = batchflow.open_run(tmp_path).draws
