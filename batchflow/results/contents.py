"""What can be asked of a run: its views, their columns, the macros."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from batchflow.paths import RunFolder
from batchflow.results.query import open_database, table_files


def list_tables(folder: str | Path) -> pa.Table:
    """Every column of every view of a run.

    Parameters
    ----------
    folder : str or Path
        The run folder.

    Returns
    -------
    pyarrow.Table
        Columns ``table``, ``rows``, ``column``, ``type``, ``unit`` and ``description``, as the files say.

    Raises
    ------
    UserError
        When the folder holds no table.
    """
    run = RunFolder(Path(folder).resolve())
    files = table_files(run)
    with open_database(run) as database:
        tables = database.tables
    rows = []
    for name, columns in sorted(tables.items()):
        count = sum(pq.read_metadata(file).num_rows for file in files[name])
        rows += [{"table": name, "rows": count} | _about(field) for field in columns]
    return pa.Table.from_pylist(rows)


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


def _about(field: pa.Field) -> dict[str, str]:
    notes = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    is_list = pa.types.is_list(field.type)
    shown = f"list of {field.type.value_type}" if is_list else str(field.type)
    return {
        "column": field.name,
        "type": shown,
        "unit": notes.get("unit", ""),
        "description": notes.get("description", ""),
    }
