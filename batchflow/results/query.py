"""SQL over the tables of a run: DuckDB, read-only, blind to everything outside the run folder."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa

from batchflow.errors import UserError
from batchflow.paths import RunFolder


def table_files(run: RunFolder) -> dict[str, list[str]]:
    """Parquet files of every table of a run.

    Parameters
    ----------
    run : RunFolder
        The run.

    Returns
    -------
    dict of str to list of str
        Table name to glob patterns or files; only tables that are there.
    """
    validation = {f"validation_{path.stem}": path for path in sorted(run.validation.glob("*.parquet"))}
    patterns = {
        "mocks": run.mocks / "shard-*.parquet",
        "catalogue": run.catalogue / "galaxy=*" / "part-*.parquet",
        "posterior": run.posterior / "galaxy=*" / "part-*.parquet",
        "draws": run.draws / "galaxy=*" / "part-*.parquet",
        "fit": run.root / "fit" / "galaxy=*" / "part-*.parquet",
        "history": run.history,
        "population": run.root / "population" / "population.parquet",
        "population_joint": run.root / "population" / "joint.parquet",
        "validation": run.validation / "recovery.parquet",
        **validation,
    }
    found = {
        name: sorted(map(str, run.root.glob(str(path.relative_to(run.root)))))
        for name, path in patterns.items()
    }
    return {name: files for name, files in found.items() if files}


def open_database(run: RunFolder) -> duckdb.DuckDBPyConnection:
    """Open an in-memory database with a view for every table of a run.

    Parameters
    ----------
    run : RunFolder
        The run.

    Returns
    -------
    duckdb.DuckDBPyConnection
        It can read the run folder and nothing else, and its settings are locked.

    Raises
    ------
    UserError
        When the folder holds no table.
    """
    tables = table_files(run)
    if not tables:
        raise UserError(
            f"{run.root} holds no results; expected a run folder with mocks/, posterior/ or the like"
        )
    database = duckdb.connect(":memory:")
    database.execute(f"SET allowed_directories = [{_quoted(str(run.root.resolve()) + '/')}]")
    database.execute("SET enable_external_access = false")
    database.execute("SET autoinstall_known_extensions = false")
    for name, files in tables.items():
        listed = ", ".join(_quoted(file) for file in files)
        # Names and files are the run's own, and quoted; DuckDB takes no parameters in a view.
        view = f'CREATE VIEW "{name}" AS FROM read_parquet([{listed}], hive_partitioning = false)'
        database.execute(view)
    database.execute("SET lock_configuration = true")
    return database


def query(folder: str | Path, sql: str) -> pa.Table:
    """Answer a question about a run.

    Parameters
    ----------
    folder : str or Path
        The run folder.
    sql : str
        One SELECT statement; the views are ``mocks``, ``catalogue``, ``posterior``, ``draws``,
        ``history`` and ``validation``, as far as the run has got.

    Returns
    -------
    pyarrow.Table
        The answer.

    Raises
    ------
    UserError
        When the statement is wrong or wants to write.
    """
    run = RunFolder(Path(folder).resolve())
    with open_database(run) as database:
        try:
            _only_select(sql)
            return database.sql(sql).to_arrow_table()
        except duckdb.Error as error:
            names = ", ".join(sorted(table_files(run)))
            raise UserError(f"the query failed: {error}\ntables of this run: {names}") from None


def _only_select(sql: str) -> None:
    kinds = [statement.type for statement in duckdb.extract_statements(sql)]
    reading = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
    if len(kinds) != 1 or kinds[0] not in reading:
        found = ", ".join(kind.name for kind in kinds) or "nothing"
        raise UserError(f"a query is one SELECT statement; found {found} (results are read-only)")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
