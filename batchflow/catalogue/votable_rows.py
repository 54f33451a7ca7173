"""Rows of a VOTable as they come out of its XML: cells of TABLEDATA, or the bytes of a BINARY stream."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchflow.catalogue.votable_fields import VotableField
from batchflow.errors import UserError

_NUMBERS = {
    "unsignedByte": "u1", "short": ">i2", "int": ">i4", "long": ">i8", "float": ">f4", "double": ">f8",
}  # fmt: skip


class Block(Protocol):
    """Some rows."""

    @property
    def n_rows(self) -> int:
        """How many."""
        ...

    def column(self, index: int) -> pa.Array:
        """One column of them."""
        ...


class Listener(Protocol):
    """What an XML parser tells of the data, with the names of elements as they are written: v:TD, TD."""

    done: Callable[[], None]
    """To be called when the element that holds the rows ends."""
    text: Callable[[str], None]
    """Takes characters, in as many parts as the parser likes."""

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""
        ...

    def end(self, name: str) -> None:
        """An element ends."""
        ...


class Sink(Listener, Protocol):
    """What makes rows of it."""

    def take(self) -> Block:
        """Whole rows met since the last time."""
        ...

    def finish(self) -> None:
        """Refuse a rest that is no row."""
        ...


def _nothing() -> None:
    """Stands for what is to be called until it is known."""


@dataclass(frozen=True)
class CellBlock:
    """Rows of TABLEDATA, as text."""

    n_rows: int
    columns: Sequence[pa.Array]

    def column(self, index: int) -> pa.Array:
        """What stands in the cells of a column."""
        return self.columns[index]


class CellSink:
    """Gathers the cells of TABLEDATA."""

    def __init__(self, fields: Sequence[VotableField]) -> None:
        self._path, self._width = fields[0].path, len(fields)
        self._cells: list[str] = []
        self._text: list[str] = []
        self._n_rows = 0
        self._expected = 0
        self.done: Callable[[], None] = _nothing
        self.text: Callable[[str], None] = self._text.append

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """Begin a cell."""
        self._text.clear()
        if attributes and attributes.get("encoding") == "base64":
            raise UserError(f"{self._path}, row {self._n_rows + 1}: a cell in base64; expected text")

    def end(self, name: str) -> None:
        """End a cell or a row."""
        kind = name[-2:]
        if kind == "TD":
            self._cells.append("".join(self._text))
            self._text.clear()
        elif kind == "TR":
            self._end_row()
        else:
            self.done()

    def _end_row(self) -> None:
        self._expected += self._width
        self._n_rows += 1
        if len(self._cells) != self._expected:
            found = len(self._cells) - self._expected + self._width
            raise UserError(
                f"{self._path}, row {self._n_rows}: {found} cells; expected {self._width}, one for each FIELD"
            )

    def take(self) -> CellBlock:
        """Whole rows met since the last time."""
        whole, self._expected = self._expected, 0
        cells, self._cells = self._cells[:whole], self._cells[whole:]
        columns = [pa.array(cells[i :: self._width], pa.string()) for i in range(self._width)]
        return CellBlock(whole // self._width, columns)

    def finish(self) -> None:
        """Refuse a row that did not end; an XML parser does not let it come to this."""


class BinarySink:
    """Gathers the rows of a BINARY or BINARY2 stream in base64."""

    def __init__(self, fields: Sequence[VotableField], with_nulls: bool) -> None:
        self._layout = RowLayout(fields, with_nulls)
        self._path = fields[0].path
        self._text: list[str] = []
        self._rest = ""
        self._bytes = b""
        self._n_rows = 0
        self.done: Callable[[], None] = _nothing
        self.text: Callable[[str], None] = self._text.append

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """Nothing in a stream begins."""

    def end(self, name: str) -> None:
        """The stream ends."""
        self.done()

    def take(self) -> BinaryBlock:
        """Whole rows met since the last time."""
        text = self._rest + "".join("".join(self._text).split())
        self._text.clear()
        whole = len(text) - len(text) % 4
        self._rest = text[whole:]
        self._bytes += base64.b64decode(text[:whole], validate=True)
        anchors = self._layout.anchors(self._bytes, self._n_rows)
        block = BinaryBlock(self._layout, np.frombuffer(self._bytes, np.uint8), anchors[:-1])
        self._bytes = self._bytes[int(anchors[-1, 0]) :]
        self._n_rows += block.n_rows
        return block

    def finish(self) -> None:
        """Refuse a rest that is no row.

        Raises
        ------
        UserError
            When the stream ends within a row.
        """
        if self._rest or self._bytes:
            raise UserError(
                f"catalogue {self._path} is truncated: its stream ends within row {self._n_rows + 1}; "
                "fetch it again"
            )


class RowLayout:
    """Where columns are in a row, from its beginning or from the end of a column of varying length."""

    def __init__(self, fields: Sequence[VotableField], with_nulls: bool) -> None:
        self.fields = fields
        self.with_nulls = with_nulls
        """Whether a row begins with a bit for each column that says whether it is null (BINARY2)."""
        self.places: list[tuple[int, int]] = []
        """By column: how many of varying length come before it, and bytes between."""
        self._variable: list[tuple[int, int]] = []
        """By column of varying length: bytes before it since the last one, and bytes of a value."""
        passed = (len(fields) + 7) // 8 if with_nulls else 0
        for field in fields:
            self.places.append((len(self._variable), passed))
            if field.is_variable:
                _check_variable(field)
                self._variable.append((passed, field.item_size))
                passed = 0
            else:
                passed += field.size
        self._tail = passed

    def anchors(self, content: bytes, n_before: int) -> NDArray[np.int64]:
        """Find the rows.

        Parameters
        ----------
        content : bytes
            Rows one after the other, the last perhaps cut off.
        n_before : int
            Rows before these, for messages.

        Returns
        -------
        ndarray, shape (n_rows + 1, 1 + columns of varying length)
            Where each row begins, and each column of varying length ends; one row more than there is.

        Raises
        ------
        UserError
            When a length is negative.
        """
        if not self._variable:
            return np.arange(len(content) // self._tail + 1, dtype=np.int64)[:, None] * self._tail
        found: list[list[int]] = []
        place: int | None = 0
        while place is not None:
            row = [place]
            place = self._pass(content, row)
            if place == -1:
                raise UserError(
                    f"{self.fields[0].path}, row {n_before + len(found) + 1}: a column of negative length; "
                    "the file is damaged, fetch it again"
                )
            found.append(row + [row[0]] * (1 + len(self._variable) - len(row)))
        return np.array(found, dtype=np.int64)

    def _pass(self, content: bytes, row: list[int]) -> int | None:
        """Where the next row begins: None where this one is cut off, -1 where it is damaged."""
        at, end = row[0], len(content)
        for before, size in self._variable:
            at += before
            if at + 4 > end:
                return None
            (count,) = struct.unpack_from(">i", content, at)
            if count < 0:
                return -1
            at += 4 + count * size
            row.append(at)
        at += self._tail
        return at if at <= end else None


def _check_variable(field: VotableField) -> None:
    if field.datatype == "bit" or "x" in (field.arraysize or ""):
        raise UserError(
            f"{field.path}: column {field.name!r} of {field.datatype} has the arraysize {field.arraysize} in "
            "binary data, whose length readers disagree on; convert the file to FITS or Parquet"
        )


@dataclass(frozen=True)
class BinaryBlock:
    """Rows of a binary stream."""

    layout: RowLayout
    content: NDArray[np.uint8]
    anchors: NDArray[np.int64]

    @property
    def n_rows(self) -> int:
        """How many."""
        return len(self.anchors)

    def column(self, index: int) -> pa.Array:
        """Values of a column, null for none."""
        field = self.layout.fields[index]
        field.check()
        if field.is_word:
            return pa.array(self._words(index, field), pa.string(), mask=self._nulls(index))
        raw = self._bytes(index, field.size)
        if field.datatype == "boolean":
            known = np.isin(raw[:, 0], list(b"Tt1Ff0"))
            return pa.array(np.isin(raw[:, 0], list(b"Tt1")), mask=~known | self._nulls(index))
        if field.datatype == "bit":
            # The standard sets the first bit of the byte, astropy the fifth.
            return pa.array(raw[:, 0] != 0, mask=self._nulls(index))
        stored = raw.view(_NUMBERS[field.datatype])[:, 0]
        values: NDArray[Any] = stored.astype(stored.dtype.newbyteorder("="))
        mask = self._nulls(index)
        return pa.array(values, mask=mask if field.null is None else mask | (values == field.null))

    def _bytes(self, index: int, size: int) -> NDArray[np.uint8]:
        """Bytes of a column of fixed length, shape (n_rows, size)."""
        anchor, before = self.layout.places[index]
        return np.ascontiguousarray(
            self.content[self.anchors[:, anchor, None] + (before + np.arange(size, dtype=np.int64))]
        )

    def _words(self, index: int, field: VotableField) -> list[str]:
        encoding = "utf-8" if field.datatype == "char" else "utf-16-be"
        content = self.content.tobytes()
        anchor, before = self.layout.places[index]
        starts = self.anchors[:, anchor] + before
        ends = starts + (0 if field.is_variable else field.size)
        if field.is_variable:
            starts, ends = starts + 4, self.anchors[:, anchor + 1]
        pairs = zip(starts.tolist(), ends.tolist(), strict=True)
        return [content[low:high].decode(encoding, "replace").split("\0")[0] for low, high in pairs]

    def _nulls(self, index: int) -> NDArray[np.bool_]:
        """Rows whose bit says that the column is null."""
        if not self.layout.with_nulls:
            return np.zeros(self.n_rows, dtype=bool)
        flags = self.content[self.anchors[:, 0] + index // 8]
        found: NDArray[np.bool_] = (flags >> (7 - index % 8)) & 1 == 1
        return found
