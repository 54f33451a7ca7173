"""Arrow tables as astropy tables of quantities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from batchflow.votable import text_of

if TYPE_CHECKING:
    from astropy.table import QTable


def to_qtable(table: pa.Table) -> QTable:
    """Turn the flat columns of an Arrow table into an astropy table of quantities.

    Parameters
    ----------
    table : pyarrow.Table
        Fields may carry ``unit`` and ``description`` in their metadata; columns of lists are left out.

    Returns
    -------
    astropy.table.QTable
        Integers and words that are not there are masked, other numbers NaN.
    """
    from astropy.table import QTable, Table

    flat = [field for field in table.schema if not pa.types.is_nested(field.type)]
    names = [field.name for field in flat]
    return QTable(Table([_column(table[field.name], field) for field in flat], names=names))


def _column(column: pa.ChunkedArray, field: pa.Field) -> Any:
    from astropy.table import Column, MaskedColumn

    about = {"unit": text_of(field, "unit") or None, "description": text_of(field, "description") or None}
    if pa.types.is_floating(field.type):
        return Column(column.to_numpy(zero_copy_only=False), **about)
    missing = np.asarray(column.is_null())
    values = _values(column, field.type)
    return MaskedColumn(values, mask=missing, **about) if missing.any() else Column(values, **about)


def _values(column: pa.ChunkedArray, type_: pa.DataType) -> Any:
    if pa.types.is_integer(type_) or pa.types.is_boolean(type_):
        return column.fill_null(pa.scalar(0).cast(type_)).to_numpy()
    return np.array(["" if value is None else str(value) for value in column.to_pylist()], dtype=str)
