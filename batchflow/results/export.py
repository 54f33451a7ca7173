"""A table of a run as one file for other programs, with units, descriptions, UCDs and provenance."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchflow.errors import UserError
from batchflow.made import made
from batchflow.paths import RunFolder
from batchflow.results.output import check_place
from batchflow.results.provenance import EXPORTED, run_provenance, stage_footer
from batchflow.results.query import table_files
from batchflow.results.source import Source, choose
from batchflow.results.tables import open_run
from batchflow.results.write_csv import csv_description, description_of, write_csv, write_ecsv
from batchflow.results.write_fits import write_fits
from batchflow.results.write_hats import remove_hats, write_hats
from batchflow.results.write_parquet import write_parquet
from batchflow.results.write_votable import write_votable
from batchflow.shards import write_atomic, write_json

FORMATS: dict[str, Callable[[Path, Source], None]] = {
    ".fits": write_fits,
    ".vot": write_votable,
    ".ecsv": write_ecsv,
    ".csv": write_csv,
    ".parquet": write_parquet,
}
"""What writes each kind of file; a further one is a line here."""
HATS = "hats"


@dataclass(frozen=True)
class Request:
    """What to export, and how."""

    table: str = "posterior"
    columns: tuple[str, ...] = ()
    """All where empty."""
    galaxies: tuple[str, ...] = ()
    """All where empty."""
    format: str = ""
    """An extension without its dot, or ``hats``; by default what the file's name says."""
    force: bool = False
    """Overwrite."""


def export_run(folder: str | Path, target: str | Path, request: Request) -> dict[str, Any]:
    """Write a table of a run for other programs.

    Parameters
    ----------
    folder : str or Path
        The run folder.
    target : str or Path
        The file; for a HATS catalogue a folder.
    request : Request
        What, and how.

    Returns
    -------
    dict
        ``file``, ``format``, ``rows``, ``columns``, and ``left_out``, rows that the format has no place for.

    Raises
    ------
    UserError
        When the target is there, its kind is not known, or the run lacks what is asked for.
    """
    target = Path(target)
    kind = _kind(target, request.format)
    run = RunFolder(Path(folder).resolve())
    source = _source(run, request)
    check_place(run, target, request.force)
    if kind == ".csv":
        check_place(run, description_of(target), request.force)
    left_out = 0
    if kind == HATS:
        left_out = _write_folder(target, source)
    else:
        _write_file(target, source, kind)
    rows = source.facts.rows - left_out
    figures = {"file": str(target), "format": kind, "rows": rows, "columns": len(source.columns)}
    return figures | {"left_out": left_out}


def _kind(target: Path, wanted: str) -> str:
    """Extension of the format, with its dot; or ``hats``."""
    if wanted == HATS:
        return HATS
    kind = f".{wanted.removeprefix('.')}" if wanted else target.suffix.lower()
    if kind not in FORMATS:
        raise UserError(
            f"{target}: {wanted or target.suffix or 'a name without extension'!r} is no kind of file that "
            f"can be written; expected one of {' '.join(FORMATS)}, or --format hats for a folder by position"
        )
    return kind


def _source(run: RunFolder, request: Request) -> Source:
    table = open_run(run.root).table(request.table)
    columns = choose(table.dataset, request.columns, request.galaxies)
    export = {"table": request.table, "columns": list(columns), "galaxies": list(request.galaxies)}
    origin = run_provenance(run, stage_footer(table_files(run)[request.table]))
    return Source(
        request.table, table.dataset, columns, request.galaxies, origin | {EXPORTED: export | made()}
    )


def _write_file(target: Path, source: Source, kind: str) -> None:
    if target.is_dir():
        raise UserError(f"{target} is a folder; give the name of a file, or --format hats")
    if kind == ".csv":
        # First, so that a CSV file that is there always has its description.
        write_json(description_of(target), csv_description(source, target.name))
    write_atomic(target, lambda temporary: FORMATS[kind](temporary, source))


def _write_folder(target: Path, source: Source) -> int:
    if target.is_file():
        raise UserError(f"{target} is a file; a HATS catalogue is a folder: give another name")
    work = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        work.mkdir(parents=True)
        left_out = write_hats(work, source)
        if target.exists():
            remove_hats(target)
        work.rename(target)
    except OSError as error:
        raise UserError(
            f"cannot write {target}: {error.strerror or error}; free space or choose another"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return left_out
