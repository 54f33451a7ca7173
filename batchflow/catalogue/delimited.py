"""CSV and ECSV: streamed as words, so that an id 007 stays one and a stray word is found with its line."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from batchflow.catalogue.columns import ColumnFile, TableFile, distinct
from batchflow.catalogue.stored import Stored
from batchflow.errors import UserError

BLOCK = 4 << 20
"""Bytes parsed at a time."""


@dataclass(frozen=True)
class Delimited:
    """A text table whose rows are lines."""

    path: Path
    names: tuple[str, ...]
    header_lines: int
    """Lines above the first row."""
    delimiter: str = ","
    units: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, pa.DataType] = field(default_factory=dict)
    """Types that the file declares; a column that does not bear them out stays words."""


def open_csv(stored: Stored, _hdu: int | None = None) -> TableFile:
    """Open a CSV file: lines from ``#`` above the header and blank lines anywhere are passed over.

    Parameters
    ----------
    stored : Stored
        The file, UTF-8, with a line of column names.

    Returns
    -------
    TableFile
        Columns of words.

    Raises
    ------
    UserError
        When it has no header, or one name twice.
    """
    with stored.stream() as file:
        line, above = _header_line(stored.path, file)
    if "," not in line and len(line.split()) > 1:
        raise UserError(
            f"catalogue {stored.path} has no comma in its header {line.strip()[:60]!r}; if blanks stand "
            'between its columns, say file_type = "ascii"'
        )
    names = [name.strip() for name in next(csv.reader([line], skipinitialspace=True))]
    return _table(stored, "CSV", Delimited(stored.path, distinct(stored.path, names), above + 1))


def _header_line(path: Path, file: BinaryIO) -> tuple[str, int]:
    """The line of column names, and the number of lines above it."""
    for above, line in enumerate(io.TextIOWrapper(file, encoding="utf-8-sig")):
        if line.strip() and not line.startswith("#"):
            return line, above
    raise UserError(f"catalogue {path} has no header: expected a line of column names, with commas between")


def open_ecsv(stored: Stored, _hdu: int | None = None) -> TableFile:
    """Open an ECSV file (Enhanced Character-Separated Values 1.0, astropy APE 6).

    Parameters
    ----------
    stored : Stored
        The file.

    Returns
    -------
    TableFile
        Columns of the declared types, with their units.

    Raises
    ------
    UserError
        When its header is broken.
    """
    from astropy.table.meta import get_header_from_yaml

    yaml, names_line = [], ""
    with stored.stream() as file:
        for line in io.TextIOWrapper(file, encoding="utf-8-sig"):
            if not line.startswith("#"):
                names_line = line.rstrip("\r\n")
                break
            yaml.append(line[2:].rstrip("\r\n"))
    header: Mapping[str, Any] = get_header_from_yaml(yaml[1:])
    delimiter = str(header.get("delimiter", " "))
    names = next(csv.reader([names_line], delimiter=delimiter), [])
    declared = [str(item["name"]) for item in header["datatype"]]
    if names != declared:
        raise UserError(
            f"catalogue {stored.path}: its ECSV header declares the columns {declared[:8]}, the line of "
            f"names has {names[:8]}; expected the same"
        )
    return _table(
        stored,
        "ECSV",
        Delimited(
            stored.path,
            distinct(stored.path, names),
            len(yaml) + 1,
            delimiter,
            {str(item["name"]): str(item.get("unit") or "") for item in header["datatype"]},
            {str(item["name"]): _arrow_type(item) for item in header["datatype"]},
        ),
    )


def _arrow_type(item: Mapping[str, Any]) -> pa.DataType:
    if item.get("subtype"):
        return pa.string()
    names = {"bool": pa.bool_(), "float16": pa.float32(), "float128": pa.float64()}
    kind = str(item["datatype"])
    if kind in names:
        return names[kind]
    return pa.type_for_alias(kind) if kind.startswith(("int", "uint", "float")) else pa.string()


def _table(stored: Stored, kind: str, layout: Delimited) -> TableFile:
    return TableFile(
        stored.path,
        kind,
        layout.names,
        layout.units,
        None,
        lambda rows: _pieces(stored, layout, rows),
    )


class _BlankLines:
    """Passes over blank and comment lines, and remembers where they were."""

    def __init__(self) -> None:
        self._numbers: list[int] = []

    def __call__(self, row: Any) -> Literal["skip", "error"]:
        if row.text.strip() and not row.text.startswith("#"):
            return "error"
        self._numbers.append(row.number)
        return "skip"

    def line(self, index: int) -> int:
        """Line, from 1 below the header, of a row, from 0."""
        line = index + 1
        for number in self._numbers:
            line += number <= line
        return line


def _pieces(stored: Stored, layout: Delimited, rows: int) -> Iterator[ColumnFile]:
    start, taken = 0, 0
    blank = _BlankLines()
    with stored.stream() as file:
        waiting: list[pa.RecordBatch] = []
        for batch in _batches(file, layout, blank):
            waiting.append(batch)
            taken += batch.num_rows
            while taken >= rows:
                whole = pa.Table.from_batches(waiting)
                yield _piece(layout, whole.slice(0, rows), start, blank)
                start, taken = start + rows, taken - rows
                waiting = whole.slice(rows).to_batches() if taken else []
        if waiting:
            yield _piece(layout, pa.Table.from_batches(waiting), start, blank)


class _Utf8(io.RawIOBase):
    """A stream that refuses what is not UTF-8: the parser would print a traceback for a row of it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._file.read(len(buffer))
        self._decoder.decode(content, final=not content)
        buffer[: len(content)] = content
        return len(content)


def _batches(file: BinaryIO, layout: Delimited, blank: _BlankLines) -> Iterator[pa.RecordBatch]:
    names = list(layout.names)
    for _ in range(layout.header_lines):
        file.readline()
    try:
        yield from pyarrow.csv.open_csv(
            _Utf8(file),
            read_options=pyarrow.csv.ReadOptions(column_names=names, block_size=BLOCK, use_threads=False),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=layout.delimiter, ignore_empty_lines=False, invalid_row_handler=blank
            ),
            convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    except pa.ArrowInvalid as error:
        if "Empty CSV file" not in str(error):
            raise


def _piece(layout: Delimited, table: pa.Table, start: int, blank: _BlankLines) -> ColumnFile:
    return ColumnFile(
        layout.path,
        layout.names,
        table.num_rows,
        layout.units,
        lambda name: _typed(table[name], layout.types.get(name, pa.string())),
        start=start,
        _line=lambda index: layout.header_lines + blank.line(start + index),
    )


def _typed(column: pa.ChunkedArray, type_: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_string(type_):
        return column
    trimmed = pc.utf8_trim_whitespace(column)
    try:
        return pc.if_else(pc.equal(trimmed, ""), None, trimmed).cast(type_)
    except pa.ArrowInvalid:
        return column
