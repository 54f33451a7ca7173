"""Columns of a VOTable by its FIELD elements (VOTable 1.5, sections 2 and 6), by astropy."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchflow.errors import UserError

WANTED = "batchflow: this one"
"""Name that the head gives to the table that is to be read."""
_SIZES = {
    "boolean": 1, "unsignedByte": 1, "short": 2, "int": 4, "long": 8, "float": 4, "double": 8,
    "floatComplex": 8, "doubleComplex": 16, "char": 1, "unicodeChar": 2,
}  # fmt: skip
"""Bytes of a value by datatype."""
_WORDS = ("char", "unicodeChar")
_WHOLE = ("unsignedByte", "short", "int", "long", "bit")
_COMPLEX = ("floatComplex", "doubleComplex")
_TRUE, _FALSE, _UNKNOWN = ("t", "true", "1"), ("f", "false", "0"), ("", "?")


@dataclass(frozen=True)
class VotableField:
    """One column."""

    path: Path
    """The file, for messages."""
    name: str
    datatype: str
    arraysize: str | None
    """As the file writes it; None where a row has one value."""
    null: float | None
    """Number that stands for none; a whole one where the column's are, for a float holds no long id."""
    unit: str

    @property
    def is_word(self) -> bool:
        """Whether it holds text."""
        return self.datatype in _WORDS

    @property
    def is_variable(self) -> bool:
        """Whether its length differs from row to row."""
        return (self.arraysize or "").endswith("*")

    @property
    def item_size(self) -> int:
        """Bytes of one of its values, in binary data; bits are packed."""
        return _SIZES.get(self.datatype, 1)

    @property
    def size(self) -> int:
        """Its bytes in a row of binary data, where all rows have as many."""
        count = math.prod(int(part) for part in (self.arraysize or "1").split("x"))
        return (count + 7) // 8 if self.datatype == "bit" else count * self.item_size

    def check(self) -> None:
        """Refuse what is no single value in each row.

        Raises
        ------
        UserError
            When it holds several values, or a complex one.
        """
        several = "x" in (self.arraysize or "") if self.is_word else self.arraysize not in (None, "1")
        if several or self.datatype in _COMPLEX:
            what = f"arraysize {self.arraysize}" if several else self.datatype
            raise UserError(f"{self.path}: column {self.name!r} holds {what} in each row; expected one value")

    def typed(self, words: pa.ChunkedArray) -> pa.ChunkedArray:
        """Its values, from what stands in the cells of TABLEDATA.

        Parameters
        ----------
        words : pyarrow.ChunkedArray
            Shape (n_rows,).

        Returns
        -------
        pyarrow.ChunkedArray
            Of its type, null for none; words where one of them is no such value.
        """
        if self.is_word:
            return words
        trimmed = pc.utf8_trim_whitespace(words)
        if self.datatype == "boolean":
            return _truths(trimmed)
        filled = pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)
        try:
            found = pc.cast(filled, pa.int64() if self.datatype in _WHOLE else pa.float64())
        except pa.ArrowInvalid:
            found = _hexadecimal(filled)
        if self.null is None or pa.types.is_string(found.type):
            return found
        return pc.if_else(pc.equal(found, self.null), None, found)


def _truths(words: pa.ChunkedArray) -> pa.ChunkedArray:
    lower = pc.utf8_lower(words)
    is_true, is_false, unknown = (
        pc.is_in(lower, value_set=pa.array(known)) for known in (_TRUE, _FALSE, _UNKNOWN)
    )
    if not pc.all(pc.or_(pc.or_(is_true, is_false), unknown)).as_py():
        return words
    return pc.if_else(unknown, pa.scalar(None, pa.bool_()), is_true)


def _hexadecimal(words: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whole numbers of which some are written as 0x1F; words as they are where that is not so."""
    found = words.to_pylist()
    if not all(word is None or re.fullmatch(r"0[xX][0-9a-fA-F]{1,15}|[+-]?\d{1,18}", word) for word in found):
        return words
    values = [None if word is None else int(word, 16 if word[1:2] in "xX" else 10) for word in found]
    return pa.chunked_array([pa.array(values, pa.int64())])


def votable_fields(path: Path, head: str) -> list[VotableField]:
    """Columns of the wanted table.

    Parameters
    ----------
    path : Path
        The file, for messages.
    head : str
        The VOTable without its data; the table that is wanted is called `WANTED`.

    Returns
    -------
    list of VotableField
        In the file's order; of several columns with one name, the later ones get a number.

    Raises
    ------
    UserError
        When it has no column.
    """
    from astropy.io.votable import parse

    document = parse(io.BytesIO(head.encode()), verify="ignore")
    table = next(table for table in document.iter_tables() if table.name == WANTED)
    if not table.fields:
        raise UserError(f"catalogue {path}: its VOTable has no FIELD, so no columns; fetch it again")
    names = list(_distinct([str(field.name or field.ID) for field in table.fields]))
    return [_field(path, name, field) for name, field in zip(names, table.fields, strict=True)]


def _distinct(names: Sequence[str]) -> Iterator[str]:
    """The names as astropy's `to_table` gives them: joins of tables repeat names."""
    taken: set[str] = set()
    for name in names:
        found = next(
            new
            for number in range(1, len(names) + 2)
            if (new := name if number == 1 else f"{name}{number}") not in taken
        )
        taken.add(found)
        yield found


def _field(path: Path, name: str, field: Any) -> VotableField:
    null = field.values.null
    number = null if isinstance(null, int | float | np.number) and np.isfinite(null) else None
    if number is not None:
        number = int(number) if field.datatype in _WHOLE else float(number)
    arraysize = None if field.arraysize is None else str(field.arraysize).replace(" ", "")
    if arraysize is not None and not re.fullmatch(r"(\d+x)*(\d+\*?|\*)", arraysize):
        raise UserError(
            f"{path}: column {name!r} has the arraysize {arraysize!r}; expected as 8, 8*, * or 2x3"
        )
    return VotableField(path, name, str(field.datatype), arraysize, number, str(field.unit or ""))
