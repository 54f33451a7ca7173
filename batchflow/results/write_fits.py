"""A FITS binary table, a piece at a time: rows go to the file, lists to a heap that follows them."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from batchflow.results.source import FITS_KEY, Source, ascii_text
from batchflow.votable import text_of, value_type

BLOCK = 2880
"""Bytes of a FITS block (FITS standard 4.0, section 3.1)."""
_CODES = {
    pa.bool_(): ("L", "S1"),
    pa.uint8(): ("B", "u1"),
    **dict.fromkeys((pa.int8(), pa.int16()), ("I", ">i2")),
    **dict.fromkeys((pa.uint16(), pa.int32()), ("J", ">i4")),
    **dict.fromkeys((pa.uint32(), pa.int64(), pa.uint64()), ("K", ">i8")),
    **dict.fromkeys((pa.float16(), pa.float32()), ("E", ">f4")),
    pa.float64(): ("D", ">f8"),
}
"""Letter of TFORM and type of numpy, by Arrow's type."""
NULLS = {"I": -(2**15), "J": -(2**31), "K": -(2**63)}
"""What stands for a missing integer (TNULL)."""


def write_fits(path: Path, source: Source) -> None:
    """Write a FITS file: an empty primary unit and a binary table.

    Parameters
    ----------
    path : Path
        The file.
    source : Source
        What to write; lists become variable-length arrays.
    """
    from astropy.io import fits

    dtype = _row_type(source)
    with path.open("wb") as out, tempfile.TemporaryFile(dir=path.parent) as heap:
        out.write(fits.PrimaryHDU().header.tostring().encode("ascii"))
        start = out.tell()
        # The sizes of heap and longest lists are known at the end; the header keeps its length.
        out.write(_header(source, dtype, 0, {}))
        longest: dict[str, int] = {}
        for batch in source.batches():
            out.write(_rows(batch, dtype, heap, longest).tobytes())
        size = heap.tell()
        heap.seek(0)
        shutil.copyfileobj(heap, out, 2**20)
        out.write(b"\0" * (-(out.tell()) % BLOCK))
        out.seek(start)
        out.write(_header(source, dtype, size, longest))


def _row_type(source: Source) -> np.dtype[Any]:
    fields: list[Any] = []
    for place, item in enumerate(source.schema):
        if value_type(item.type) != item.type:
            fields.append((f"f{place}", ">i8", (2,)))
        elif item.type in _CODES:
            fields.append((f"f{place}", _CODES[item.type][1]))
        else:
            fields.append((f"f{place}", f"S{source.facts.octets[item.name]}"))
    return np.dtype(fields)


def _header(source: Source, dtype: np.dtype[Any], heap: int, longest: dict[str, int]) -> bytes:
    from astropy.io import fits

    header = fits.Header()
    header["XTENSION"] = "BINTABLE"
    fixed = {"BITPIX": 8, "NAXIS": 2, "NAXIS1": dtype.itemsize, "NAXIS2": source.facts.rows, "PCOUNT": heap}
    for key, value in (fixed | {"GCOUNT": 1, "TFIELDS": len(source.schema)}).items():
        header[key] = value
    header["EXTNAME"] = source.name
    for place, item in enumerate(source.schema, start=1):
        _describe(header, place, item, (dtype[place - 1], longest.get(item.name, 0)))
    header[FITS_KEY] = json.dumps(source.provenance)
    return bytes(header.tostring().encode("ascii"))


def _describe(header: Any, place: int, item: pa.Field, found: tuple[np.dtype[Any], int]) -> None:
    """Keywords of a column."""
    dtype, longest = found
    code = _CODES.get(value_type(item.type), ("A", ""))[0]
    is_list = value_type(item.type) != item.type
    # As wide as it can get, so that the header's length does not depend on what comes.
    form = f"1Q{code}({longest:010d})" if is_list else f"{dtype.itemsize}A" if code == "A" else code
    header[f"TTYPE{place}"] = item.name
    header[f"TFORM{place}"] = form
    if code in NULLS and not is_list:
        header[f"TNULL{place}"] = NULLS[code]
    for key, value in (("TUNIT", "unit"), ("TUCD", "ucd"), ("TCOMM", "description")):
        if text := text_of(item, value):
            header[f"{key}{place}"] = ascii_text(text).decode()


def _rows(
    batch: pa.RecordBatch, dtype: np.dtype[Any], heap: IO[bytes], longest: dict[str, int]
) -> NDArray[Any]:
    rows = np.zeros(batch.num_rows, dtype)
    for place, (item, column) in enumerate(zip(batch.schema, batch.columns, strict=True)):
        if value_type(item.type) != item.type:
            rows[f"f{place}"] = _to_heap(column, heap)
            longest[item.name] = max(longest.get(item.name, 0), *rows[f"f{place}"][:, 0].tolist())
        else:
            rows[f"f{place}"] = _cells(column)
    return rows


def _to_heap(column: pa.Array, heap: IO[bytes]) -> NDArray[np.int64]:
    """Append a column's lists to the heap; numbers and offsets, (n_rows, 2)."""
    lengths = np.asarray(pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False))
    values = _cells(column.flatten())
    starts = heap.tell() + values.itemsize * (np.cumsum(lengths) - lengths)
    heap.write(values.tobytes())
    return np.stack([lengths, starts], axis=1)


def _cells(column: pa.Array) -> NDArray[Any]:
    """Values as FITS has them; a missing integer is its TNULL, a missing boolean a zero byte."""
    if column.type not in _CODES:
        texts = column.cast(pa.string()).to_pylist()
        return np.array([ascii_text(text or "") for text in texts], dtype="S")
    code, dtype = _CODES[column.type]
    if code == "L":
        return np.array(
            [{True: b"T", False: b"F"}.get(value, b"") for value in column.to_pylist()], dtype="S1"
        )
    if code in NULLS:
        column = pc.fill_null(column.cast(pa.int64()), NULLS[code])
    return np.asarray(column.to_numpy(zero_copy_only=False)).astype(dtype)
