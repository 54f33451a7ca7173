"""FITS and Parquet files as columns."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from batchflow.catalogue.columns import ColumnFile, TableFile, distinct
from batchflow.catalogue.fits_column import FitsColumn, fits_columns
from batchflow.catalogue.stored import Stored
from batchflow.errors import UserError


def open_fits(stored: Stored, hdu: int | None = None) -> TableFile:
    """Open a table of a FITS file; its rows are mapped into memory, a piece at a time.

    Parameters
    ----------
    stored : Stored
        The file; a compressed one is first written out to a temporary file.
    hdu : int, optional
        Extension, from 0; default the first table.

    Returns
    -------
    TableFile
        With TSCAL, TZERO and TNULL applied; masked values are null.

    Raises
    ------
    UserError
        When it has no such table, or is truncated.
    """
    with stored.seekable() as file:
        header, place = _find_table(stored, file, hdu)
        columns = fits_columns(stored.path, header)
        data, pages = _mapped(stored, file, place, header)
    names = distinct(stored.path, [column.name for column in columns])
    by_name = dict(zip(names, columns, strict=True))

    def pieces(rows: int) -> Iterator[ColumnFile]:
        for start in range(0, len(data), rows):
            block = data[start : start + rows]
            yield ColumnFile(stored.path, names, len(block), units, _reader(by_name, block), start)
            if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
                # Pages of rows that were read count as memory until others need it.
                pages.madvise(mmap.MADV_DONTNEED)

    units = {column.name: _fits_unit(column.unit) for column in columns if column.unit}
    return TableFile(stored.path, "FITS", names, units, len(data), pieces)


def _reader(columns: Mapping[str, FitsColumn], block: Any) -> Any:
    return lambda name: columns[name].read(block)


def _find_table(stored: Stored, file: BinaryIO, wanted: int | None) -> tuple[Any, int]:
    """Header of a table, and the byte at which its rows begin."""
    from astropy.io import fits

    hdus = fits.open(file, memmap=False, lazy_load_hdus=True)
    try:
        found = _table_hdu(stored, hdus, wanted)
        return found.header, int(found.fileinfo()["datLoc"])
    finally:
        hdus.close(closed=False)


def _table_hdu(stored: Stored, hdus: Any, wanted: int | None) -> Any:
    kinds = []
    for index, item in enumerate(hdus):
        kind = item.header.get("XTENSION", "IMAGE").strip()
        kinds.append(kind)
        is_table = kind in ("BINTABLE", "TABLE") and "ZIMAGE" not in item.header
        if index == wanted or (wanted is None and is_table):
            if is_table:
                return item
            break
    listed = ", ".join(f"{i}: {kind}" for i, kind in enumerate(kinds))
    if wanted is None:
        raise UserError(f"catalogue {stored.path} holds no table (it has {listed}); fetch the catalogue file")
    raise UserError(f"catalogue {stored.path}: hdu = {wanted} is no table; the file has {listed}, ...")


def _mapped(
    stored: Stored, file: BinaryIO, place: int, header: Any
) -> tuple[NDArray[np.uint8], mmap.mmap | None]:
    """The rows, shape (n_rows, bytes of a row), in memory as far as they are looked at; and their file."""
    width, n_rows = int(header["NAXIS1"]), int(header["NAXIS2"])
    found, needed = file.seek(0, os.SEEK_END), place + width * n_rows
    if found < needed:
        raise UserError(
            f"catalogue {stored.path} is truncated: {found:,} bytes, its header promises {needed:,}; "
            "fetch it again"
        )
    if not width * n_rows:
        return np.empty((n_rows, width), np.uint8), None
    pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(pages, np.uint8, n_rows * width, place).reshape(n_rows, width), pages


def _fits_unit(text: str) -> str:
    """A unit in astropy's own notation where it is one of the FITS standard's, else as it stands."""
    for form in (None, "fits"):
        try:
            unit = u.Unit(text, format=form)
            return text if form is None else str(unit)
        except (ValueError, TypeError):
            continue
    return text


def open_parquet(stored: Stored, _hdu: int | None = None) -> TableFile:
    """Open a Parquet file; its columns are read when asked for, a piece at a time.

    Parameters
    ----------
    stored : Stored
        The file.

    Returns
    -------
    TableFile
        With the units in the fields' metadata.
    """
    file = pq.ParquetFile(_decompressed(stored) if stored.is_compressed else stored.path)
    fields = list(file.schema_arrow)
    names = distinct(stored.path, [item.name for item in fields])
    units = {item.name: (item.metadata or {}).get(b"unit", b"").decode() for item in fields}

    def pieces(rows: int) -> Iterator[ColumnFile]:
        start = 0
        for groups, n_rows in _spans(file, rows):
            cursors = _Cursors(file, groups, rows)
            for first in range(0, n_rows, rows):
                length = min(rows, n_rows - first)
                column = cursors.piece(first, length)
                yield ColumnFile(stored.path, names, length, units, column, start + first)
            start += n_rows

    return TableFile(stored.path, "Parquet", names, units, file.metadata.num_rows, pieces)


def _decompressed(stored: Stored) -> pa.BufferReader:
    with stored.seekable() as file:
        return pa.BufferReader(pa.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))


def _spans(file: pq.ParquetFile, rows: int) -> Iterator[tuple[list[int], int]]:
    """Row groups to read together: one long one, or short ones of `rows` rows at most."""
    groups: list[int] = []
    total = 0
    for index in range(file.num_row_groups):
        more = file.metadata.row_group(index).num_rows
        if groups and total + more > rows:
            yield groups, total
            groups, total = [], 0
        groups, total = [*groups, index], total + more
    if groups:
        yield groups, total


class _Cursors:
    """A place in each column of some row groups; columns nobody asks for are not read."""

    def __init__(self, file: pq.ParquetFile, groups: Sequence[int], rows: int) -> None:
        self._file, self._groups, self._rows = file, list(groups), rows
        self._cursors: dict[str, _Cursor] = {}

    def piece(self, first: int, length: int) -> Any:
        """What reads a column's rows from `first` on."""

        def read(name: str) -> pa.ChunkedArray:
            if name not in self._cursors:
                batches = self._file.iter_batches(self._rows, self._groups, [name], use_threads=False)
                self._cursors[name] = _Cursor(name, batches)
            return self._cursors[name].read(first, length)

        return read


class _Cursor:
    """One column, read forward."""

    def __init__(self, name: str, batches: Iterator[pa.RecordBatch]) -> None:
        self._name, self._batches = name, batches
        self._place, self._waiting = 0, pa.chunked_array([], pa.null())
        self._last: tuple[tuple[int, int], pa.ChunkedArray] | None = None

    def read(self, first: int, length: int) -> pa.ChunkedArray:
        """Rows from `first` on; what lies before them and was not read is passed over."""
        if self._last is not None and self._last[0] == (first, length):
            return self._last[1]
        while self._place + len(self._waiting) < first + length:
            batch = next(self._batches)
            column = batch.column(batch.schema.names.index(self._name))
            kept = self._waiting.chunks if len(self._waiting) else []
            self._waiting = pa.chunked_array([*kept, column])
            passed = min(max(first - self._place, 0), len(self._waiting))
            self._waiting, self._place = self._waiting.slice(passed), self._place + passed
        found = self._waiting.slice(first - self._place, length)
        self._waiting = self._waiting.slice(first - self._place + length)
        self._place = first + length
        self._last = ((first, length), found)
        return found
