"""The command that asks a run questions in SQL."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from batchflow.commands.options import JsonOption, RunPath
from batchflow.commands.printing import print_table
from batchflow.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

    from batchflow.paths import RunFolder

EPILOG = (
    "Views: mocks, catalogue, posterior, draws, fit, history, validation, population, as far as the run has "
    "got; --tables lists their columns, --macros the helpers: p_between, p_all, weighted_quantile, has_flag, "
    "cone, sample_draws, ... What was not measured is NULL."
)
GRACE = 30.0
"""Seconds that a query has to stop when its time is up."""


class Format(StrEnum):
    """How an answer is written."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"
    ecsv = "ecsv"


def query(
    run: RunPath,
    sql: Annotated[str, typer.Argument(metavar="[SQL]", help="One SELECT statement.")] = "",
    file: Annotated[
        str, typer.Option("--file", help="A file with the statement; - for standard input.")
    ] = "",
    form: Annotated[Format | None, typer.Option("--format", help="By default that of --out's name.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write .parquet or .ecsv; rows alone: .csv or .json.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    as_json: JsonOption = False,
    rows: Annotated[int, typer.Option(help="Rows of a table to print at most; 0 for all.", min=0)] = 40,
    tables: Annotated[bool, typer.Option("--tables", help="List views, columns and units.")] = False,
    macros: Annotated[bool, typer.Option("--macros", help="List the helpers for queries.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds a query may take; 0 for any.", min=0)] = 600.0,
    memory: Annotated[float, typer.Option(help="GiB that it may use.", min=0.1)] = 4.0,
) -> None:
    """Ask a question in SQL: probabilities from draws, places on the sky, flags; reads, never writes."""
    from batchflow.paths import RunFolder
    from batchflow.results.output import check_output, print_answer
    from batchflow.results.query import Limits, answer
    from batchflow.results.unfinished import unfinished_stages

    folder = RunFolder(run.resolve())
    chosen = check_output(folder, out, form and form.value, force)
    chosen = "json" if as_json and out is None else chosen
    if tables or macros:
        if out is not None:
            raise UserError(f"--out {out} is for the answer to a query; --tables and --macros are printed")
        _list(run, tables, chosen)
        return
    statement = _statement(sql, file)
    with _watched(timeout), answer(run, statement, Limits(timeout, memory)) as found:
        for text in unfinished_stages(folder):
            print(f"unfinished: {text}", file=sys.stderr)
        if out is not None:
            _write(found, out, chosen, (folder, statement))
        elif chosen != "table":
            print_answer(found, chosen, sys.stdout.buffer)
        elif not _print_rows(found, rows):
            _say_why_none(run, statement)


def _list(run: Path, tables: bool, form: str) -> None:
    from batchflow.results.contents import list_macros, list_tables
    from batchflow.results.output import print_answer

    found = list_tables(run) if tables else list_macros(run)
    if form == "table":
        print_table(found)
    else:
        print_answer(found.to_reader(), form, sys.stdout.buffer)


def _statement(sql: str, file: str) -> str:
    if bool(sql) == bool(file):
        raise UserError("give a query, or a file of one: batchflow query RUN SQL | --file FILE | --file -")
    if not file:
        return sql
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--file {file} cannot be read: {error}") from None


def _write(found: pa.RecordBatchReader, out: Path, form: str, asked: tuple[RunFolder, str]) -> None:
    """Write the answer to a file, with what was asked of which run."""
    from batchflow.results.output import write_answer
    from batchflow.results.provenance import answer_provenance

    print(f"{out}: {write_answer(found, out, form, answer_provenance(*asked)):,} rows", file=sys.stderr)


def _say_why_none(run: Path, statement: str) -> None:
    from batchflow.results.contents import absent_ids

    print("\n".join(["no row fulfils the query", *absent_ids(run, statement)]), file=sys.stderr)


def _print_rows(found: pa.RecordBatchReader, rows: int) -> bool:
    """Print the first rows; whether there are any."""
    import pyarrow as pa

    kept: list[pa.RecordBatch] = []
    for batch in found:
        kept.append(batch)
        if rows and sum(item.num_rows for item in kept) > rows:
            break
    table = pa.Table.from_batches(kept, schema=found.schema)
    print_table(table.slice(0, rows or None))
    if rows and table.num_rows > rows:
        print("... more rows; --rows 0 prints all", file=sys.stderr)
    return table.num_rows > 0


@contextmanager
def _watched(seconds: float) -> Iterator[None]:
    """End the program when a query does not stop in time: some functions cannot be interrupted."""
    clock = threading.Timer(seconds + GRACE, _give_up, (seconds,))
    clock.daemon = True
    if seconds > 0:
        clock.start()
    try:
        yield
    finally:
        clock.cancel()


def _give_up(seconds: float) -> None:
    print(
        f"batchflow: the query took over {seconds:g} s (--timeout), and could not be stopped", file=sys.stderr
    )
    os._exit(2)
