"""The command: formats, files, refusals, what goes to standard error."""

import csv
import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from asked_run import make_asked_run
from astropy.table import QTable, Table
from typer.testing import CliRunner

from batchflow.cli import app
from batchflow.errors import UserError
from batchflow.paths import partition_folder
from batchflow.results.export import Request, export_run
from batchflow.results.provenance import provenance
from batchflow.results.query import query

SQL = (
    "SELECT galaxy, object_id, log_age_q50, n_modes, mode_log_age, published_log_age "
    "FROM posterior WHERE galaxy = '628' ORDER BY object_id"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_asked_run(tmp_path_factory.mktemp("asked"))


def ask(*arguments, stdin=None):
    done = CliRunner().invoke(app, ["query", *map(str, arguments)], input=stdin)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done


def expected(run):
    return query(run.root, SQL).to_pylist()


def test_every_format_holds_the_answer(run, tmp_path):
    rows = expected(run)
    ages = np.array([np.nan if row["log_age_q50"] is None else row["log_age_q50"] for row in rows])
    ask(run.root, SQL, "--out", tmp_path / "a.csv")
    found = list(csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text(encoding="utf-8"))))
    assert [float(row["log_age_q50"] or "nan") for row in found] == pytest.approx(ages, nan_ok=True)
    assert json.loads(found[0]["mode_log_age"]) == pytest.approx(rows[0]["mode_log_age"])
    ask(run.root, SQL, "--out", tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == rows
    ask(run.root, SQL, "--out", tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.to_pylist() == rows
    assert table.schema.field("log_age_q50").metadata[b"unit"] == b"dex(yr)"
    ask(run.root, SQL, "--out", tmp_path / "a.ecsv")
    plain = Table.read(tmp_path / "a.ecsv")
    assert plain["mode_log_age"][0] == pytest.approx(rows[0]["mode_log_age"])
    assert str(plain["published_log_age"].unit) == "dex(yr)"
    ask(run.root, SQL.replace("mode_log_age, ", ""), "--out", tmp_path / "b.ecsv")
    flat = QTable.read(tmp_path / "b.ecsv")
    assert flat["log_age_q50"].value == pytest.approx(ages, nan_ok=True)
    assert str(flat["log_age_q50"].unit) == "dex(yr)"


def test_a_parquet_answer_says_what_its_columns_are_and_where_they_come_from(run, tmp_path):
    path = tmp_path / "a.parquet"
    sql = (
        "SELECT galaxy, log_age_q50, mass AS heavy, log_mass_q50 - 6 AS ebv, flux_wfc3_f555w, "
        "dec AS ra, distance_mpc AS far, mode_log_age "
        "FROM (SELECT posterior.* REPLACE (1 AS dec), log_mass_q50 AS mass, "
        "log10(flux_wfc3_f555w) AS flux_wfc3_f555w FROM posterior JOIN catalogue USING (galaxy, object_id))"
    )
    ask(run.root, sql, "--out", path)
    for kind in ("parquet", "parquet.votable"):
        table = Table.read(path, format=kind)
        units = {name: str(table[name].unit or "") for name in table.colnames}
        assert units == {
            "galaxy": "",
            "log_age_q50": "dex(yr)",
            "heavy": "dex(solMass)",
            "ebv": "",
            "flux_wfc3_f555w": "",
            "ra": "",
            "far": "Mpc",
            "mode_log_age": "dex(yr)",
        }
        assert table["log_age_q50"].description == "log10 of the age: posterior median"
    assert pq.read_schema(path).field("heavy").metadata[b"ucd"] == b"phys.mass;stat.median"
    found = provenance(path)
    assert found["file"] == "a.parquet"
    assert (found["export"]["query"], found["export"]["tables"]) == (sql, ["catalogue", "posterior"])


def test_an_answer_by_a_macro_knows_the_table_that_the_macro_reads(run, tmp_path):
    ask(run.root, "FROM sample_draws('628-1', 3)", "--out", tmp_path / "a.parquet")
    ask(run.root, "FROM cone(24.2, 15.0, 1)", "--out", tmp_path / "b.parquet")
    found = [provenance(tmp_path / name)["export"]["tables"] for name in ("a.parquet", "b.parquet")]
    assert found == [["draws"], ["posterior"]]


def test_a_csv_answer_does_not_keep_the_description_of_an_export(run, tmp_path):
    path, beside = tmp_path / "a.csv", tmp_path / "a.csv-metadata.json"
    export_run(run.root, path, Request(columns=("galaxy",)))
    path.unlink()
    for write in (lambda: ask(run.root, SQL, "--out", path), lambda: export_run(run.root, path, Request())):
        with pytest.raises(UserError, match=r"a.csv-metadata.json is there already"):
            write()
    ask(run.root, SQL, "--out", path, "--force")
    assert not beside.exists()
    with pytest.raises(UserError, match=r"its .csv and .json hold the rows alone"):
        provenance(path)


def test_an_answer_without_rows_has_columns_all_the_same(run, tmp_path):
    for name in ("none.parquet", "none.ecsv"):
        ask(run.root, "SELECT galaxy, log_age_q50 FROM posterior WHERE false", "--out", tmp_path / name)
        assert provenance(tmp_path / name)["export"]["tables"] == ["posterior"]
    assert Table.read(tmp_path / "none.ecsv").colnames == ["galaxy", "log_age_q50"]
    table = pq.read_table(tmp_path / "none.parquet")
    assert (table.num_rows, table.schema.field("log_age_q50").metadata[b"unit"]) == (0, b"dex(yr)")


def test_standard_output_takes_formats_too(run):
    assert json.loads(ask(run.root, SQL, "--json").stdout) == expected(run)
    assert json.loads(ask(run.root, SQL, "--format", "json").stdout) == expected(run)
    found = list(csv.reader(io.StringIO(ask(run.root, SQL, "--format", "csv").stdout)))
    assert [row[1] for row in found[1:]] == [row["object_id"] for row in expected(run)]
    assert ask(run.root, SQL, "--format", "ecsv").stdout.startswith("# %ECSV 1.0")
    assert json.loads(ask(run.root, "FROM posterior WHERE false", "--json").stdout) == []
    shown = ask(run.root, SQL, "--rows", "2")
    assert "628-2" in shown.stdout
    assert "628-3" not in shown.stdout
    assert "more rows; --rows 0" in shown.stderr
    assert "no row fulfils" in ask(run.root, "FROM posterior WHERE false").stderr


ODD = (
    "SELECT * FROM (VALUES (1.5::DECIMAL(4, 2), 1::HUGEINT, INTERVAL 1 DAY, ['a', NULL, 'b,\"c\"'], "
    "{'x': 1, 'y': 'nan'::DOUBLE}, [1, NULL], [[1.5]], DATE '2026-02-13', true), "
    "(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)) t(a, b, c, d, e, f, g, h, i)"
)


def test_every_type_of_sql_has_its_text(run, tmp_path):
    text = ask(run.root, ODD, "--format", "csv").stdout
    first, second = csv.DictReader(io.StringIO(text))
    assert (first["a"], first["b"], first["i"]) == ("1.50", "1", "true")
    assert json.loads(first["d"]) == ["a", None, 'b,"c"']
    assert (json.loads(first["e"]), json.loads(first["f"])) == ({"x": 1, "y": None}, [1, None])
    assert (json.loads(first["g"]), first["h"]) == ([[1.5]], "2026-02-13")
    assert set(second.values()) == {""}
    assert json.loads(ask(run.root, ODD, "--json").stdout)[0]["a"] == 1.5
    ask(run.root, ODD, "--out", tmp_path / "odd.ecsv")
    table = Table.read(tmp_path / "odd.ecsv")
    assert (table["a"][0], table["b"][0], bool(table["i"][0])) == (1.5, 1, True)
    assert table["d"][0] == ["a", None, 'b,"c"']


def test_an_id_that_is_not_there_is_told_the_nearest(run):
    for sql in ("FROM posterior WHERE object_id = '628-99'", "FROM draws d WHERE '628-99' = d.object_id"):
        told = ask(run.root, sql).stderr
        assert "has no cluster '628-99'; nearest: 628-" in told
    told = ask(run.root, "FROM posterior WHERE galaxy = 'none' AND object_id = '628-1'").stderr
    assert told == "no row fulfils the query\n"


def test_the_statement_comes_from_a_file_or_standard_input(run, tmp_path):
    (tmp_path / "q.sql").write_text(f"-- the galaxy 628\n{SQL};\n", encoding="utf-8")
    assert json.loads(ask(run.root, "--file", tmp_path / "q.sql", "--json").stdout) == expected(run)
    assert json.loads(ask(run.root, "--file", "-", "--json", stdin=SQL).stdout) == expected(run)
    for arguments in ((), (SQL, "--file", "-")):
        with pytest.raises(UserError, match="give a query, or a file of one"):
            ask(run.root, *arguments)
    with pytest.raises(UserError, match=r"absent.sql cannot be read"):
        ask(run.root, "--file", tmp_path / "absent.sql")


def test_nothing_is_overwritten_unless_asked(run, tmp_path):
    out = tmp_path / "a.csv"
    out.write_text("precious", encoding="utf-8")
    with pytest.raises(UserError, match=r"is there already.*--force"):
        ask(run.root, SQL, "--out", out)
    assert out.read_text(encoding="utf-8") == "precious"
    with pytest.raises(UserError, match="the query failed"):
        ask(run.root, "SELECT nope FROM posterior", "--out", out, "--force")
    late = "SELECT CASE WHEN range > 90000 THEN error('late') ELSE 'row' END FROM range(100000)"
    for name in ("a.csv", "a.parquet"):  # fails after rows were written
        with pytest.raises(UserError, match=r"the query failed.*late"):
            ask(run.root, late, "--out", tmp_path / name, "--force")
    assert out.read_text(encoding="utf-8") == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    ask(run.root, SQL, "--out", out, "--force")
    assert out.read_text(encoding="utf-8").startswith("galaxy,")


def test_the_run_folder_is_not_written_into(run, tmp_path):
    before = sorted(run.root.rglob("*"))
    (tmp_path / "link").symlink_to(run.root)
    for place in (
        run.root / "a.csv",
        run.posterior / "galaxy=628" / "part-00001.parquet",
        tmp_path / "link" / "a.csv",
    ):
        with pytest.raises(UserError, match="in the run folder"):
            ask(run.root, SQL, "--out", place, "--force")
    assert sorted(run.root.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "a.txt"], "no format goes by .txt"),
        (["--out", "a"], "no format goes by"),
        (["--format", "parquet"], "needs a file"),
        (["--out", "."], "is a folder|no format"),
        (["--out", "a.csv", "--format", "table"], "no format"),
    ],
)
def test_an_output_that_makes_no_sense_is_refused(run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        ask(run.root, SQL, *arguments)
    assert not list(tmp_path.iterdir())


def test_lists_of_views_and_macros(run):
    assert "log_mass_q50" in ask(run.root, "--tables").stdout
    shown = ask(run.root, "--macros").stdout
    assert "p_all([each_below(log_age, 7), each_above(log_mass, 4)], log_weight)" in shown
    assert {"table", "rows", "column"} <= set(json.loads(ask(run.root, "--tables", "--json").stdout)[0])
    assert ask(run.root, "--macros", "--format", "csv").stdout.startswith("macro,meaning,example\n")
    with pytest.raises(UserError, match="--tables and --macros are printed"):
        ask(run.root, "--tables", "--out", "a.csv")
    text = " ".join(ask("--help").stdout.replace("│", " ").split())
    assert "Views: mocks, catalogue, posterior" in text
    assert "p_between" in text


def test_an_unfinished_stage_is_said_on_standard_error(tmp_path):
    run = make_asked_run(tmp_path)
    assert "unfinished" not in ask(run.root, SQL).stderr
    next(partition_folder(run.posterior, "Demo-A").glob("*")).unlink()
    done = ask(run.root, SQL, "--format", "csv")
    assert "unfinished: infer: 2 of 3 parts of the catalogue are done; lacking Demo-A" in done.stderr
    assert "unfinished" not in done.stdout


def test_names_in_brackets_are_shown(run):
    assert "[bold]x[/bold]" in ask(run.root, "SELECT '[bold]x[/bold]' AS name").stdout


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(UserError, match="is no run folder"):
        ask(tmp_path, "SELECT 1")
    with pytest.raises(UserError, match="is no run folder"):
        ask(tmp_path / "absent", "--tables")
