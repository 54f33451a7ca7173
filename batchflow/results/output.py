"""The answer to a query as a file or as text: CSV, JSON, Parquet, ECSV."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from batchflow.errors import UserError, nearest
from batchflow.paths import RunFolder
from batchflow.results.write_csv import csv_text, description_of, ecsv_text, plain
from batchflow.results.write_parquet import write_batches
from batchflow.shards import write_atomic

FORMATS = ("table", "csv", "json", "parquet", "ecsv")
SUFFIXES = {".csv": "csv", ".json": "json", ".parquet": "parquet", ".pq": "parquet", ".ecsv": "ecsv"}


def check_output(run: RunFolder, out: Path | None, form: str | None, force: bool) -> str:
    """Settle the format of an answer, and see that it may be written.

    Parameters
    ----------
    run : RunFolder
        The run that is asked.
    out : Path or None
        The file; None for standard output.
    form : str or None
        One of `FORMATS`; None to go by the file's name.
    force : bool
        Whether a file that is there is replaced.

    Returns
    -------
    str
        The format.

    Raises
    ------
    UserError
        When the format is unknown or needs a file, or the file is there, or among the run's own.
    """
    if form is not None and form not in FORMATS:
        raise UserError(f"--format {form}: {nearest(form, FORMATS)}")
    if out is None:
        if form == "parquet":
            raise UserError("--format parquet needs a file: --out FILE.parquet")
        return form or "table"
    chosen = form or SUFFIXES.get(out.suffix.lower())
    if chosen in (None, "table"):
        raise UserError(
            f"--out {out}: no format goes by {out.suffix or 'such a name'}; use "
            f"{', '.join(SUFFIXES)}, or --format"
        )
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; name a file")
    check_place(run, out, force)
    if chosen == "csv":
        check_place(run, description_of(out), force)
    return str(chosen)


def check_place(run: RunFolder, target: Path, force: bool) -> None:
    """See that something may be written under a name.

    Parameters
    ----------
    run : RunFolder
        The run that it is made from.
    target : Path
        The name.
    force : bool
        Whether what is there is replaced.

    Raises
    ------
    UserError
        When it lies in the run folder, or is there already.
    """
    place, root = target.resolve(), run.root.resolve()
    if place == root or root in place.parents:
        raise UserError(f"{target} lies in the run folder, which is only read; choose another place")
    if place.exists() and not force:
        raise UserError(f"{target} is there already; choose another name, or replace it: --force")


def write_answer(reader: pa.RecordBatchReader, out: Path, form: str, provenance: Mapping[str, Any]) -> int:
    """Write an answer to a file that appears when it is complete.

    Parameters
    ----------
    reader : pyarrow.RecordBatchReader
        The answer; CSV, JSON and Parquet are written as it comes.
    out : Path
        The file.
    form : str
        One of `FORMATS`.
    provenance : mapping
        What Parquet and ECSV say of where the rows come from.

    Returns
    -------
    int
        Number of rows.
    """
    rows = 0

    def counted() -> Iterator[pa.RecordBatch]:
        nonlocal rows
        for batch in reader:
            rows += batch.num_rows
            yield batch

    def write(temporary: Path) -> None:
        if form == "parquet":
            write_batches(temporary, reader.schema, counted(), provenance)
            return
        text = partial(ecsv_text, provenance=provenance) if form == "ecsv" else _TEXT[form]
        with temporary.open("wb") as file:
            text(file, reader.schema, counted())

    write_atomic(out, write)
    if form == "csv":
        # Of an exported file that was replaced; it would tell where other rows come from.
        description_of(out).unlink(missing_ok=True)
    return rows


def print_answer(reader: pa.RecordBatchReader, form: str, file: BinaryIO) -> None:
    """Write an answer as text.

    Parameters
    ----------
    reader : pyarrow.RecordBatchReader
        The answer.
    form : str
        ``csv``, ``json`` or ``ecsv``.
    file : binary file
        Where to.
    """
    _TEXT[form](file, reader.schema, reader)


def _json_text(out: BinaryIO, _schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    before = "["
    for batch in batches:
        for row in batch.to_pylist():
            out.write(f"{before}\n  {json.dumps(plain(row), default=str)}".encode())
            before = ","
    out.write(b"[]\n" if before == "[" else b"\n]\n")


_TEXT: dict[str, Callable[[BinaryIO, pa.Schema, Iterable[pa.RecordBatch]], None]] = {
    "csv": csv_text,
    "json": _json_text,
    "ecsv": ecsv_text,
}
