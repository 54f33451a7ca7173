"""VOTable files, read as a stream: their XML is parsed a block at a time, and rows are let go in pieces."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa

from batchflow.catalogue.binary import open_fits
from batchflow.catalogue.columns import ColumnFile, TableFile
from batchflow.catalogue.stored import BUFFER, Stored
from batchflow.catalogue.votable_document import Document, warn_once
from batchflow.catalogue.votable_fields import VotableField, votable_fields
from batchflow.catalogue.votable_rows import BinarySink, Block, CellSink, Sink
from batchflow.errors import UserError

Slices = Sequence[tuple[Block, int, int]]
"""Consecutive rows: of each block the first and how many."""


@dataclass(frozen=True)
class _Source:
    """A table in a file."""

    stored: Stored
    hdu: int | None
    """As the user gave it."""
    kind: str
    """How its rows are written."""
    fields: Sequence[VotableField]

    def sink(self) -> Sink:
        """What takes in its rows."""
        if self.kind == "TABLEDATA":
            return CellSink(self.fields)
        return BinarySink(self.fields, with_nulls=self.kind == "BINARY2")


def open_votable(stored: Stored, hdu: int | None = None) -> TableFile:
    """Open a table of a VOTable file; its rows come in pieces, however they are written.

    Parameters
    ----------
    stored : Stored
        The file, of VOTable 1.0 to 1.5: TABLEDATA, BINARY or BINARY2, or a FITS file within it.
    hdu : int, optional
        Which of its tables that have data, from 0; default the first.

    Returns
    -------
    TableFile
        Null for empty cells, the FIELD's null values, and what BINARY2 marks.

    Raises
    ------
    UserError
        When it has no such table, its data are elsewhere, or it declares entities.
    """
    document = _read_head(stored, hdu or 0)
    if document.kind == "FITS":
        extension = document.of_kind.get("extnum", "")
        inner = Stored(stored.path, ".fits", lambda _: _stream_of(stored, hdu or 0))
        return open_fits(inner, int(extension) if extension.isdigit() else None)
    fields = votable_fields(stored.path, document.head())
    source = _Source(stored, hdu, document.kind, fields)
    promised = document.of_table.get("nrows", "")
    n_rows = int(promised) if promised.isdigit() else None

    def pieces(rows: int) -> Iterator[ColumnFile]:
        start = 0
        for slices in _grouped(_blocks(source), rows):
            piece = _piece(source, slices, start)
            yield piece
            start += piece.n_rows
        if n_rows not in (None, start):
            raise UserError(
                f"catalogue {stored.path} has {start:,} rows, but its attribute nrows says {n_rows:,}; "
                "fetch it again, or take the attribute out"
            )

    return TableFile(stored.path, "VOTable", *_described(fields), n_rows, pieces)


def _described(fields: Sequence[VotableField]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Names and units."""
    return tuple(field.name for field in fields), {field.name: field.unit for field in fields if field.unit}


def _piece(source: _Source, slices: Slices, start: int) -> ColumnFile:
    names, units = _described(source.fields)

    def read(name: str) -> pa.ChunkedArray:
        index = names.index(name)
        source.fields[index].check()
        found = pa.chunked_array(
            [block.column(index).slice(first, length) for block, first, length in slices]
        )
        return source.fields[index].typed(found) if source.kind == "TABLEDATA" else found

    n_rows = sum(length for _, _, length in slices)
    return ColumnFile(source.stored.path, names, n_rows, units, read, start)


def _grouped(blocks: Iterator[Block], rows: int) -> Iterator[Slices]:
    """Blocks cut and put together to pieces of `rows` rows, the last of fewer."""
    waiting: list[tuple[Block, int, int]] = []
    missing = rows
    for block in blocks:
        first = 0
        while first < block.n_rows:
            length = min(missing, block.n_rows - first)
            waiting.append((block, first, length))
            first, missing = first + length, missing - length
            if not missing:
                yield waiting
                waiting, missing = [], rows
    if waiting:
        yield waiting


def _blocks(source: _Source) -> Iterator[Block]:
    """Rows as they are parsed; the file is parsed to its end, so that a truncated one is found."""
    sink = source.sink()
    document = Document(source.stored.path, source.hdu or 0, sink)
    for _ in document.parse(source.stored):
        yield sink.take()
    sink.finish()
    if source.hdu is None and document.n_tables > 1:
        path = source.stored.path
        warn_once(f"{path} holds {document.n_tables} tables; the first was read: hdu = 1 means the second")


def _read_head(stored: Stored, wanted: int) -> Document:
    document = Document(stored.path, wanted)
    for _ in document.parse(stored):
        if document.is_met:
            break
    else:
        raise UserError(_no_table(stored, wanted, document))
    if document.kind == "TABLEDATA":
        return document
    if href := document.of_stream.get("href"):
        raise UserError(f"catalogue {stored.path}: its rows are in another file, {href}; give that file")
    if (encoding := document.of_stream.get("encoding", "")) != "base64":
        raise UserError(f"catalogue {stored.path}: a stream with encoding={encoding!r}; expected 'base64'")
    return document


def _no_table(stored: Stored, wanted: int, document: Document) -> str:
    if document.error:
        return f"catalogue {stored.path} holds no table but a server's error: {document.error[:300]}"
    if wanted and document.n_tables:
        return f"catalogue {stored.path}: hdu = {wanted} is no table; it has {document.n_tables} with data"
    if document.n_fields:
        return f"catalogue {stored.path} has a header of {document.n_fields} columns but no rows"
    return f"catalogue {stored.path} holds no table; fetch the catalogue file"


class _TextSink:
    """Gathers the text of a stream; what it holds is no rows."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.done = lambda: None
        self.text = self.parts.append

    def start(self, name: str, attributes: Any) -> None:
        """Nothing in a stream begins."""

    def end(self, name: str) -> None:
        """The stream ends."""
        self.done()


class _Decoded(io.RawIOBase):
    """The bytes of a stream in base64, a block at a time."""

    def __init__(self, stored: Stored, wanted: int) -> None:
        self._sink = _TextSink()
        self._parsing = Document(stored.path, wanted, self._sink).parse(stored)
        self._text, self._bytes = "", b""

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        while not self._bytes:
            try:
                next(self._parsing)
            except StopIteration:
                return 0
            text = self._text + "".join("".join(self._sink.parts).split())
            self._sink.parts.clear()
            whole = len(text) - len(text) % 4
            self._text, self._bytes = text[whole:], base64.b64decode(text[:whole], validate=True)
        found, self._bytes = self._bytes[: len(buffer)], self._bytes[len(buffer) :]
        buffer[: len(found)] = found
        return len(found)


def _stream_of(stored: Stored, wanted: int) -> BinaryIO:
    return io.BufferedReader(_Decoded(stored, wanted), BUFFER)
