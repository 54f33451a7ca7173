"""Attempts to write, to read elsewhere, and to use more than is allowed: each refused."""

import time

import pyarrow.parquet as pq
import pytest
from asked_run import make_asked_run

from batchflow.errors import UserError
from batchflow.results.query import Limits, open_database, query


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("x") / "run [1] it's"
    return make_asked_run(folder)


@pytest.fixture
def untouched(run):
    """The run's files, before and after."""
    before = {path: path.read_bytes() for path in run.root.rglob("*") if path.is_file()}
    yield
    assert {path: path.read_bytes() for path in run.root.rglob("*") if path.is_file()} == before


def one_file(run):
    return str(next(run.draws.rglob("*.parquet"))).replace("'", "''")


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT 1 AS a) TO '{file}' (USE_TMP_FILE false)",
        "EXPLAIN ANALYZE COPY (SELECT 1 AS a) TO '{file}' (USE_TMP_FILE false)",
        "EXPLAIN ANALYZE WITH x AS (COPY (SELECT 1) TO '{file}' (USE_TMP_FILE false)) SELECT 1",
        "/* SELECT */ EXPLAIN ANALYZE COPY (SELECT 1 AS a) TO '{file}'",
        "WITH x AS (COPY (SELECT 1 AS a) TO '{file}' (USE_TMP_FILE false)) SELECT 1",
        "SELECT (WITH x AS (COPY (SELECT 1 AS a) TO '{file}') SELECT 1)",
        "FROM (WITH x AS (COPY (SELECT 1 AS a) TO '{file}') SELECT 1)",
        "SELECT 1 UNION ALL (WITH x AS (COPY (SELECT 1 AS a) TO '{file}') SELECT 1)",
        "FROM query('WITH x AS (COPY (SELECT 1) TO ''{file}'') SELECT 1')",
        "FROM main.query('SELECT 1')",
        "FROM QUERY('SELECT 1')",
        "FROM query_table('posterior')",
        "FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
        "WITH x AS (INSERT INTO posterior VALUES (1)) SELECT 1",
        "WITH x AS (DELETE FROM posterior) SELECT 1",
        "EXPORT DATABASE '{folder}/dump'",
        "CREATE TABLE t AS SELECT 1",
        "CREATE SECRET s (TYPE s3)",
        "ATTACH '{folder}/x.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "PRAGMA database_list",
        "PRAGMA enable_profiling",
        "CALL pragma_version()",
        "SET memory_limit = '100GB'",
        "RESET memory_limit",
        "USE memory",
        "BEGIN",
        "PREPARE p AS SELECT 1",
        "CHECKPOINT",
        "DROP VIEW posterior",
        "UPDATE posterior SET flags = 0",
        "SELECT 1; SELECT 2",
        "",
        "-- nothing",
    ],
)
def test_a_query_reads_and_nothing_else(run, sql):
    with pytest.raises(UserError):
        query(run.root, sql.replace("{file}", one_file(run)).replace("{folder}", str(run.root)))


@pytest.mark.parametrize(
    "source",
    [
        "read_csv('{secret}')",
        "read_text('{secret}')",
        "read_blob('{secret}')",
        "read_parquet('{secret}')",
        "read_json('{secret}')",
        "sniff_csv('{secret}')",
        "parquet_metadata('{secret}')",
        "glob('{folder}/*')",
        "read_text('{run}/job.toml')",
        "read_csv('{run}/../secret.csv')",
        "read_csv('{run}/link.csv')",
        "read_csv('{run}/linked/secret.csv')",
        "'{secret}'",
        "'{run}/link.csv'",
        "'{run}/job.toml'",
        "'https://example.org/a.csv'",
        "'s3://bucket/a.parquet'",
        "read_csv('http://127.0.0.1:1/a.csv')",
        "duckdb_secrets()",
        "enable_logging(storage = 'file', storage_config = {'path': '{folder}'})",
        "hidden",
    ],
)
def test_nothing_but_the_tables_can_be_read(run, source):
    outside = run.root.parent
    (outside / "secret.csv").write_text("a\n42\n", encoding="utf-8")
    (run.root / "job.toml").write_text("name = 42\n", encoding="utf-8")
    for name, target in (("link.csv", outside / "secret.csv"), ("linked", outside)):
        if not (run.root / name).is_symlink():
            (run.root / name).symlink_to(target)
    hidden = pq.read_table(next(run.draws.rglob("*.parquet")), partitioning=None)
    assert hidden.num_rows  # a variable of this name stands here, and a query must not see it
    quoted = {"secret": outside / "secret.csv", "run": run.root, "folder": outside}
    for name, path in quoted.items():
        source = source.replace(f"{{{name}}}", str(path).replace("'", "''"))
    with pytest.raises(UserError):
        query(run.root, f"SELECT * FROM {source}")
    # The lock below the door holds as well: DuckDB itself refuses.
    with (
        open_database(run) as database,
        pytest.raises(Exception, match=r"(?i)permission|locked|does not exist"),
    ):
        database.connection.sql(f"SELECT * FROM {source}").fetchall()


def test_a_table_that_is_a_link_to_elsewhere_is_refused(tmp_path):
    run = make_asked_run(tmp_path / "run")
    part = next(run.draws.rglob("*.parquet"))
    part.rename(tmp_path / "elsewhere.parquet")
    part.symlink_to(tmp_path / "elsewhere.parquet")
    with pytest.raises(UserError, match="outside the run folder"):
        query(run.root, "SELECT 1")


def test_what_reads_is_allowed(run):
    for sql in (
        "EXPLAIN SELECT count(*) FROM posterior",
        "explain analyze FROM posterior",
        "DESCRIBE posterior",
        "SUMMARIZE SELECT log_age_q50 FROM posterior",
        "SHOW TABLES",
        "FROM posterior LIMIT 1;",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 5) FROM r",
        "SELECT * FROM range(3), generate_series(1, 2)",
        "PIVOT posterior ON galaxy IN ('628', 'Demo-A') USING count(*)",
        "VALUES (1)",
    ):
        assert query(run.root, sql).num_rows, sql


def test_a_query_that_takes_too_long_is_stopped(run):
    start = time.monotonic()
    with pytest.raises(UserError, match=r"took over 0\.5 s"):
        query(run.root, "SELECT count(*) FROM range(10000000000000)", Limits(seconds=0.5))
    assert time.monotonic() - start < 20


def test_a_query_that_needs_too_much_memory_is_stopped(run):
    with pytest.raises(UserError, match=r"needs more than 0\.1 GiB"):
        query(run.root, "SELECT list(range) FROM range(100000000)", Limits(memory_gib=0.1))


def test_a_wrong_column_or_function_names_those_that_there_are(run):
    with pytest.raises(UserError, match=r"(?s)nope.*columns of posterior: galaxy, survey, object_id"):
        query(run.root, "SELECT nope FROM posterior")
    with pytest.raises(UserError, match=r"(?s)macros: p_between, .*sample_draws"):
        query(run.root, "SELECT p_betwen(log_age, log_weight, 6, 7) FROM draws")
    with pytest.raises(
        UserError, match=r"(?s)fit does not exist.*fit is not there .yet.: `batchflow fit` makes"
    ):
        query(run.root, "FROM fit")
    with pytest.raises(UserError, match="nowhere"):
        query(run.root, "FROM nowhere(1)")


@pytest.mark.parametrize("which", [0, -1])
def test_a_file_that_is_broken_is_named(tmp_path, which):
    run = make_asked_run(tmp_path)
    broken = sorted(run.draws.rglob("*.parquet"))[which]
    broken.write_bytes(b"PAR1")
    with pytest.raises(UserError, match=f"{broken.parent.name}/part-00000.parquet"):
        query(run.root, "FROM draws")


def test_only_the_files_of_the_galaxy_are_opened(run):
    for sql in (
        "EXPLAIN ANALYZE SELECT * FROM draws WHERE galaxy = '../b'",
        "EXPLAIN ANALYZE SELECT log_age_q50 FROM posterior WHERE galaxy = '../b' AND log_age_q50 > 7",
        "EXPLAIN ANALYZE SELECT * FROM sample_draws('../b-1', 10, in_galaxy := '../b')",
    ):
        text = query(run.root, sql)["explain_value"][0].as_py()
        assert "Scanning Files: 1/3" in text
        assert "Total Files Read: 1" in text


def test_a_folder_named_like_a_partition_above_the_run(tmp_path):
    run = make_asked_run(tmp_path / "x=1" / "galaxy=M33" / "run")
    found = query(run.root, "SELECT DISTINCT galaxy FROM posterior ORDER BY galaxy")
    assert found["galaxy"].to_pylist() == ["../b", "628", "Demo-A"]
    assert "x" not in query(run.root, "FROM posterior").column_names


def test_what_was_not_measured_is_null(run):
    found = query(run.root, "SELECT object_id FROM posterior WHERE log_age_q50 > 0")
    assert found.num_rows == 24 - 3  # to DuckDB itself NaN is larger than any number
    assert query(run.root, "SELECT avg(log_age_q50) > 0 AS yes FROM posterior")["yes"][0].as_py()


def test_two_columns_of_one_name_are_both_there(run):
    found = query(run.root, "SELECT 1 AS a, 2 AS a, 3 AS a")
    assert found.to_pylist() == [{"a": 1, "a_2": 2, "a_3": 3}]


@pytest.fixture(scope="module")
def damaged_draws(tmp_path_factory):
    """A run with one byte of one file of draws flipped."""
    run = make_asked_run(tmp_path_factory.mktemp("damaged") / "run")
    part = min(run.draws.rglob("*.parquet"))
    content = bytearray(part.read_bytes())
    content[len(content) // 3] ^= 1
    part.write_bytes(content)
    return run


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM draws",
        'FROM "Draws"',
        "WITH a AS (SELECT * FROM draws) SELECT 1 FROM posterior WHERE EXISTS (FROM a)",
        "SELECT (SELECT max(len(log_age)) FROM draws)",
        "FROM posterior SEMI JOIN draws USING (object_id)",
        "FROM sample_draws('628-1', 3)",
        "FROM posterior WHERE object_id IN (SELECT object_id FROM sample_draws('628-1', 3))",
        "SUMMARIZE draws",
        "EXPLAIN ANALYZE SELECT * FROM draws",
    ],
)
def test_a_damaged_file_is_met_wherever_a_statement_reads_it(damaged_draws, sql):
    with pytest.raises(UserError, match="is damaged"):
        query(damaged_draws.root, sql)


def test_a_damaged_file_that_a_statement_does_not_read_is_no_hindrance(damaged_draws):
    for sql in ("SELECT count(*) FROM posterior", "FROM cone(24.2, 15.0, 1)", "FROM catalogue LIMIT 1"):
        assert query(damaged_draws.root, sql).num_rows
