"""SQL over the tables of a run: DuckDB, read-only, blind to everything outside the run folder."""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from batchflow import schema
from batchflow.errors import UserError
from batchflow.paths import RunFolder
from batchflow.results.guard import names_in, parse_query, renamed, sampled_ids
from batchflow.results.ids import no_cluster
from batchflow.results.macros import READS, Macro, create_macros, macros_for
from batchflow.results.unfinished import MADE_BY
from batchflow.seal import damaged
from batchflow.shards import refuse_damaged
from batchflow.votable import described

BATCH_ROWS = 10_000
FAILURES = (duckdb.Error, pa.ArrowException, OSError)


@dataclass(frozen=True)
class Limits:
    """What a query may use."""

    seconds: float = 600.0
    """Time; 0 for no limit."""
    memory_gib: float = 4.0
    """Memory, above which sorts and joins go to temporary files [GiB]."""


@dataclass(frozen=True)
class Database:
    """An open database over a run."""

    connection: duckdb.DuckDBPyConnection
    files: dict[str, list[str]]
    """Parquet files of each view."""
    tables: dict[str, pa.Schema]
    """Columns of each view, as its files have them."""
    macros: list[Macro]

    def parse(self, sql: str) -> dict[str, Any]:
        """The tree of a statement that only reads; UserError for any other."""
        return parse_query(self.connection, sql, [macro.name for macro in self.macros if macro.reads])

    def absent(self, table: str, ids: Sequence[str]) -> list[str]:
        """For each cluster that a table lacks, a sentence that names the nearest."""
        found = []
        for wanted in ids:
            there = f'SELECT 1 FROM "{table}" WHERE object_id = ? LIMIT 1'  # noqa: S608 - a table of ours
            if not self.connection.execute(there, [wanted]).fetchall():
                every = f'SELECT DISTINCT object_id FROM "{table}"'  # noqa: S608 - a table of ours
                known = [row[0] for row in self.connection.execute(every).fetchall()]
                found.append(no_cluster(table, wanted, known))
        return found

    def check_files(self, names: set[str]) -> None:
        """See that views and macros, whose names are given in small letters, have sound files only.

        Raises
        ------
        DamagedError
            DuckDB itself would give other numbers. Of a table of more than `seal.MOST_READ` bytes, only the
            footers are looked at.
        """
        read = names | {macro.reads for macro in self.macros if macro.name in names}
        for name, files in self.files.items():
            if name.lower() in read:
                refuse_damaged(damaged(map(Path, files)))


def table_files(run: RunFolder) -> dict[str, list[str]]:
    """Parquet files of every table of a run.

    Parameters
    ----------
    run : RunFolder
        The run.

    Returns
    -------
    dict of str to list of str
        Table name to files; only tables that are there, one at least.

    Raises
    ------
    UserError
        When there is none, or a file is a link to somewhere outside the run folder.
    """
    validation = {f"validation_{path.stem}": path for path in sorted(run.validation.glob("*.parquet"))}
    patterns = {
        "mocks": run.mocks / "shard-*.parquet",
        "catalogue": run.catalogue / "galaxy=*" / "part-*.parquet",
        "posterior": run.posterior / "galaxy=*" / "part-*.parquet",
        "draws": run.draws / "galaxy=*" / "part-*.parquet",
        "fit": run.fit / "galaxy=*" / "part-*.parquet",
        "history": run.history,
        "population": run.population / "population.parquet",
        "population_joint": run.population / "joint.parquet",
        "validation": run.validation / "recovery.parquet",
        **validation,
        "validation_objects": run.validation / "objects" / "galaxy=*" / "part-*.parquet",
    }
    found = {name: sorted(run.root.glob(str(path.relative_to(run.root)))) for name, path in patterns.items()}
    root = run.root.resolve()
    if not any(found.values()):
        what = "holds neither mocks/ nor posterior/" if root.is_dir() else "does not exist"
        raise UserError(
            f"{run.root} is no run folder: it {what}; give the folder that a job names as its output"
        )
    return {name: [_inside(root, path) for path in files] for name, files in found.items() if files}


def _inside(root: Path, path: Path) -> str:
    if not path.resolve().is_relative_to(root):
        raise UserError(
            f"{path} is a link to {path.resolve()}, outside the run folder; results are read from within it "
            "only: put the file itself there, or open the folder that it lies in"
        )
    return str(path)


@contextmanager
def open_database(run: RunFolder, limits: Limits = Limits()) -> Iterator[Database]:
    """Open an in-memory database with a view for every table of a run.

    Parameters
    ----------
    run : RunFolder
        The run.
    limits : Limits
        Memory.

    Yields
    ------
    Database
        It can read the files of the run's tables and nothing else, and its settings are locked. Before it
        reads one, `Database.check_files`.

    Raises
    ------
    UserError
        When the folder holds no table.
    """
    files = table_files(run)
    with (
        tempfile.TemporaryDirectory(prefix="batchflow-query-") as spill,
        duckdb.connect(":memory:", config={"python_enable_replacements": False}) as connection,
    ):
        _lock_up(connection, sorted(chain.from_iterable(files.values())), spill, limits)
        tables = {name: _columns(found[0]) for name, found in files.items()}
        for name, found in files.items():
            connection.execute(_view(name, found, tables[name]))
        macros = macros_for({name: found.names for name, found in tables.items()})
        create_macros(connection, macros)
        connection.execute("SET lock_configuration = true")
        yield Database(connection, files, tables, macros)


def _columns(file: str) -> pa.Schema:
    refuse_damaged(damaged([Path(file)], most=0))
    try:
        return described(pq.read_schema(file))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file} is not a whole Parquet file: {error}; run its stage again") from None


def _lock_up(connection: duckdb.DuckDBPyConnection, files: Sequence[str], spill: str, limits: Limits) -> None:
    connection.execute(f"SET memory_limit = '{max(limits.memory_gib, 0.1):g}GiB'")
    connection.execute(f"SET temp_directory = {_quoted(spill)}")
    # The files one by one: a folder would let job files, logs and links in it be read, too.
    connection.execute(f"SET allowed_paths = [{', '.join(map(_quoted, files))}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET autoinstall_known_extensions = false")
    connection.execute("SET autoload_known_extensions = false")


def _view(name: str, files: Sequence[str], columns: pa.Schema) -> str:
    """Statement that makes a view: DuckDB takes no parameters in one, so names and files are quoted."""
    listed = ", ".join(map(_quoted, files))
    hive = str(_by_folder(files)).lower()
    options = f"hive_partitioning = {hive}, hive_types_autocast = false"
    chosen = ", ".join(_column(field) for field in columns)
    return f'CREATE VIEW "{name}" AS SELECT {chosen} FROM read_parquet([{listed}], {options})'  # noqa: S608, see above


def _by_folder(files: Sequence[str]) -> bool:
    """Whether DuckDB can take the galaxy from the folder's name and so pass over the others."""
    folders = [Path(file).parts for file in (files[0], files[-1])]
    named = all(sum(part.startswith("galaxy=") for part in parts) == 1 for parts in folders)
    return named and not any("/galaxy=__HIVE_DEFAULT_PARTITION__/" in file for file in files)


def _column(field: pa.Field) -> str:
    name = '"' + field.name.replace('"', '""') + '"'
    # To DuckDB NaN is larger than any number: `log_age_q50 > 7` would find clusters that have no age.
    return f"nullif({name}, 'nan') AS {name}" if pa.types.is_floating(field.type) else name


def query(folder: str | Path, sql: str, limits: Limits = Limits()) -> pa.Table:
    """Answer a question about a run.

    Parameters
    ----------
    folder : str or Path
        The run folder.
    sql : str
        One SELECT statement; the views are ``mocks``, ``catalogue``, ``posterior``, ``draws``, ``fit``,
        ``history`` and ``validation``, as far as the run has got, and the macros those of
        `batchflow.results.macros`. A number that is NaN in the files is NULL here.
    limits : Limits
        Time and memory.

    Returns
    -------
    pyarrow.Table
        The answer.

    Raises
    ------
    UserError
        When the statement is wrong, wants to write, or uses more than it may.
    """
    with answer(folder, sql, limits) as reader:
        return reader.read_all()


@contextmanager
def answer(folder: str | Path, sql: str, limits: Limits = Limits()) -> Iterator[pa.RecordBatchReader]:
    """Answer a question about a run piece by piece; arguments and errors are those of `query`.

    Yields
    ------
    pyarrow.RecordBatchReader
        Its fields carry the unit that the schema has for their names. Read it before leaving.
    """
    with open_database(RunFolder(Path(folder).resolve()), limits) as database:
        clock = threading.Timer(limits.seconds, database.connection.interrupt)
        clock.daemon = True
        if limits.seconds > 0:
            clock.start()
        try:
            yield _start(database, sql, limits)
        finally:
            clock.cancel()


def _start(database: Database, sql: str, limits: Limits) -> pa.RecordBatchReader:
    explain = partial(_explain, database=database, sql=sql, limits=limits)
    try:
        tree = database.parse(sql)
        database.check_files(names_in(tree))
        # A cluster that is not there would have no draws, and no row would say why.
        if absent := database.absent("draws", sampled_ids(tree)):
            raise UserError(absent[0])
        batches = database.connection.sql(sql).to_arrow_reader(BATCH_ROWS)
    except FAILURES as error:
        raise UserError(explain(error)) from None
    known = {field.name: field for name in mentioned(database.tables, sql) for field in database.tables[name]}
    columns = _named(batches.schema, known, renamed(tree))
    return pa.RecordBatchReader.from_batches(columns, _cast(batches, columns, explain))


def mentioned(tables: Iterable[str], sql: str) -> list[str]:
    """Tables that a statement names, or that a macro which it names reads."""
    words = set(re.findall(r"\w+", sql.lower()))
    read = words | {table for macro, table in READS.items() if macro in words}
    return [name for name in tables if name.lower() in read]


def _named(columns: pa.Schema, known: Mapping[str, pa.Field], new: Mapping[str, str]) -> pa.Schema:
    """Columns with units, as the tables asked have them; of several with one name, the second is name_2."""
    fields: dict[str, pa.Field] = {}
    for column in columns:
        name, number = column.name, 1
        while name in fields:
            number += 1
            name = f"{column.name}_{number}"
        origin = _origin(column.name, new)
        like = known.get(origin, schema.field(origin, column.type))
        fields[name] = pa.field(name, column.type, metadata=like.metadata)
    return pa.schema(list(fields.values()))


def _origin(name: str, new: Mapping[str, str]) -> str:
    """The view's column that a column is, through the names that it was given; empty when it was computed."""
    passed: set[str] = set()
    while name in new and name not in passed:
        passed.add(name)
        name = new[name]
    return "" if name in passed else name


def _cast(
    batches: pa.RecordBatchReader, wanted: pa.Schema, explain: Callable[[Exception], str]
) -> Iterator[pa.RecordBatch]:
    # A query runs while it is read, so this is where most fail: not where its rows are written.
    try:
        for batch in batches:
            yield pa.RecordBatch.from_arrays(batch.columns, schema=wanted)
    except FAILURES as error:
        raise UserError(explain(error)) from None


def _explain(error: Exception, database: Database, sql: str, limits: Limits) -> str:
    text = str(error)
    if "INTERRUPT" in text:
        return f"the query took over {limits.seconds:g} s; ask for less, or give it time: --timeout SECONDS"
    if "Out of Memory" in text:
        return (
            f"the query needs more than {limits.memory_gib:g} GiB; ask for fewer columns or rows, or give it "
            f"more: --memory GIB ({text.splitlines()[0]})"
        )
    lines = [f"the query failed: {text}", f"tables of this run: {', '.join(sorted(database.tables))}"]
    lines += [
        f"columns of {name}: {', '.join(database.tables[name].names)}"
        for name in mentioned(database.tables, sql)
    ]
    for name in sorted(MADE_BY.keys() - database.tables.keys()):
        if re.search(rf"\b{name}\b", text):
            lines.append(f"{name} is not there (yet): `batchflow {MADE_BY[name]}` makes it")
    if "Function" in text:
        lines.append(f"macros: {', '.join(macro.name for macro in database.macros)}")
    return "\n".join([*lines, "`batchflow query RUN --tables` and `--macros` say more"])


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
