"""Arrow tables as astropy tables, with units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from astropy.table import QTable, Table


def to_table(table: pa.Table) -> Table:
    """Turn an Arrow table into an astropy table whose columns are plain arrays that name their units.

    Parameters
    ----------
    table : pyarrow.Table
        Fields may carry ``unit`` and ``description`` in their metadata.

    Returns
    -------
    astropy.table.Table
        Integers and words that are not there are masked, other numbers NaN; lists are columns of arrays.
    """
    from astropy.table import Table

    return Table([_column(table[field.name], field) for field in table.schema], names=table.column_names)


def to_qtable(table: pa.Table) -> QTable:
    """Turn the flat columns of an Arrow table into an astropy table of quantities.

    Parameters
    ----------
    table : pyarrow.Table
        Columns of lists are left out.

    Returns
    -------
    astropy.table.QTable
        As `to_table` has them.
    """
    from astropy.table import QTable

    flat = [field.name for field in table.schema if not pa.types.is_nested(field.type)]
    return QTable(to_table(table.select(flat)))


def _column(column: pa.ChunkedArray, field: pa.Field) -> Any:
    from astropy.table import Column, MaskedColumn

    notes = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    about = {"unit": notes.get("unit") or None, "description": notes.get("description")}
    if pa.types.is_nested(field.type):
        return Column(_arrays(column), **about)
    if pa.types.is_floating(field.type):
        return Column(column.to_numpy(zero_copy_only=False), **about)
    missing = np.asarray(column.is_null())
    values = _values(column, field.type)
    return MaskedColumn(values, mask=missing, **about) if missing.any() else Column(values, **about)


def _values(column: pa.ChunkedArray, type_: pa.DataType) -> Any:
    if pa.types.is_integer(type_) or pa.types.is_boolean(type_):
        return column.fill_null(pa.scalar(0).cast(type_)).to_numpy()
    return np.array(["" if value is None else str(value) for value in column.to_pylist()], dtype=str)


def _arrays(column: pa.ChunkedArray) -> Any:
    rows = np.empty(len(column), dtype=object)
    for place, row in enumerate(column.to_pylist()):
        rows[place] = np.asarray(row or [], dtype=None if row else np.float64)
    return rows
