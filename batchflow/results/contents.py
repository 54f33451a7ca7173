"""What can be asked of a run: its views, their columns, the macros."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from batchflow.paths import RunFolder
from batchflow.results.guard import compared_ids
from batchflow.results.query import mentioned, open_database
from batchflow.seal import damaged
from batchflow.shards import refuse_damaged
from batchflow.votable import text_of, value_type


def list_tables(folder: str | Path) -> pa.Table:
    """Every column of every view of a run.

    Parameters
    ----------
    folder : str or Path
        The run folder.

    Returns
    -------
    pyarrow.Table
        Columns ``table``, ``rows``, ``column``, ``type``, ``unit`` and ``description``.

    Raises
    ------
    UserError
        When the folder holds no table, or one with a damaged footer.
    """
    with open_database(RunFolder(Path(folder).resolve())) as database:
        counts = {name: _rows(files) for name, files in database.files.items()}
    rows = [
        {"table": name, "rows": counts[name]} | _about(field)
        for name, columns in sorted(database.tables.items())
        for field in columns
    ]
    return pa.Table.from_pylist(rows)


def _rows(files: list[str]) -> int:
    refuse_damaged(damaged(map(Path, files), most=0))
    return sum(pq.read_metadata(file).num_rows for file in files)


def list_macros(folder: str | Path) -> pa.Table:
    """The macros that queries of a run can use.

    Parameters
    ----------
    folder : str or Path
        The run folder.

    Returns
    -------
    pyarrow.Table
        Columns ``macro``, ``meaning`` and ``example``.

    Raises
    ------
    UserError
        When the folder holds no table.
    """
    with open_database(RunFolder(Path(folder).resolve())) as database:
        found = database.macros
    rows = [
        {"macro": f"{macro.name}({macro.arguments})", "meaning": macro.meaning, "example": macro.example}
        for macro in found
    ]
    return pa.Table.from_pylist(rows)


def absent_ids(folder: str | Path, sql: str) -> list[str]:
    """Look for the ids of clusters that a statement asks for.

    Parameters
    ----------
    folder : str or Path
        The run folder.
    sql : str
        A statement that can be answered.

    Returns
    -------
    list of str
        For each that the first table named lacks: a sentence that names the nearest.
    """
    with open_database(RunFolder(Path(folder).resolve())) as database:
        names = mentioned(database.tables, sql)
        tables = [name for name in names if "object_id" in database.tables[name].names]
        return database.absent(tables[0], compared_ids(database.parse(sql))) if tables else []


def _about(field: pa.Field) -> dict[str, str]:
    values = value_type(field.type)
    return {
        "column": field.name,
        "type": f"list of {values}" if pa.types.is_list(field.type) else str(values),
        "unit": text_of(field, "unit"),
        "description": text_of(field, "description"),
    }
