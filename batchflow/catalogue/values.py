"""Columns of a file as numbers, words and truth values; what is neither is named with its place."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from batchflow.catalogue.columns import ColumnFile
from batchflow.errors import UserError

Floats = NDArray[np.float64]
NONE = ("", "--", "null", "none", "na", "n/a", "nan", "masked")
"""Words that tables write where there is no number, in lower case."""
_TRUTH = {
    "true": True,
    "t": True,
    "1": True,
    "yes": True,
    "false": False,
    "f": False,
    "0": False,
    "no": False,
}


def numbers(file: ColumnFile, name: str) -> Floats:
    """Read a column as numbers.

    Parameters
    ----------
    file : ColumnFile
        The file.
    name : str
        The column.

    Returns
    -------
    ndarray, shape (n_rows,)
        In the file's unit; NaN where masked or blank.

    Raises
    ------
    UserError
        When there is no such column, or a word stands where a number should.
    """
    column = file.column(name)
    if _is_text(column.type):
        column = _parsed(file, name, column)
    try:
        return np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy(), dtype=np.float64)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        raise UserError(f"{file.where(name)} is of type {column.type}; expected numbers") from None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _parsed(file: ColumnFile, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    trimmed = pc.utf8_trim_whitespace(column)
    is_none = pc.is_in(pc.utf8_lower(trimmed), value_set=pa.array(NONE, trimmed.type))
    filled = pc.if_else(is_none, pa.scalar(None, trimmed.type), trimmed)
    try:
        return pc.cast(filled, pa.float64())
    except pa.ArrowInvalid:
        found = [_number(file, name, i, text) for i, text in enumerate(filled.to_pylist())]
        return pa.chunked_array([pa.array(found, pa.float64())])


def _number(file: ColumnFile, name: str, index: int, text: str | None) -> float | None:
    try:
        # Python alone takes 1_000 for a thousand.
        return None if text is None else float(text.replace("_", "?"))
    except ValueError:
        raise UserError(
            f"{file.where(name)}, {file.row(index)}: found {text!r}; expected a number, or nothing for none"
        ) from None


def words(file: ColumnFile, name: str) -> list[str]:
    """Read a column as text.

    Parameters
    ----------
    file : ColumnFile
        The file.
    name : str
        The column.

    Returns
    -------
    list of str
        Without blanks around; empty where masked; whole numbers without a decimal point.
    """
    column = file.column(name)
    if _is_text(column.type):
        return pc.fill_null(pc.utf8_trim_whitespace(column), "").to_pylist()
    return [_word(value) for value in column.to_pylist()]


def _word(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return "" if math.isnan(value) else str(int(value)) if value.is_integer() else str(value)
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text.strip()


def truths(file: ColumnFile, name: str) -> NDArray[np.bool_]:
    """Read a column as truth values.

    Parameters
    ----------
    file : ColumnFile
        The file.
    name : str
        The column: booleans, 0 and 1, or true and false as words.

    Returns
    -------
    bool ndarray, shape (n_rows,)
        False where masked or blank.

    Raises
    ------
    UserError
        When something else stands there; the message names the row.
    """
    column = file.column(name)
    if pa.types.is_boolean(column.type):
        return np.array(pc.fill_null(column, False).to_numpy(), dtype=bool)
    return np.array([_truth(file, name, i, word) for i, word in enumerate(words(file, name))], dtype=bool)


def _truth(file: ColumnFile, name: str, index: int, word: str) -> bool:
    if word.lower() in ("", "nan"):
        return False
    if word.lower() not in _TRUTH:
        raise UserError(f"{file.where(name)}, {file.row(index)}: found {word!r}; expected true or false")
    return _TRUTH[word.lower()]
