"""Columns of FITS tables, binary and ASCII, by their headers (FITS Standard 4.0, sections 7.2 and 7.3)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchflow.errors import UserError

_NUMBERS = {"B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
_SIZES = {"L": 1, "X": 1, "A": 1, "C": 8, "M": 16, "P": 8, "Q": 16, "B": 1, "I": 2, "J": 4, "K": 8} | {
    "E": 4,
    "D": 8,
}
_KINDS = {"X": "bits", "C": "complex numbers", "M": "complex numbers", "P": "lists", "Q": "lists"}
_UNSIGNED = {("B", -(2**7)): "i1", ("I", 2**15): "u2", ("J", 2**31): "u4", ("K", 2**63): "u8"}
"""Types that FITS stores with an offset, by code and TZERO."""


@dataclass(frozen=True)
class FitsColumn:
    """One column of a table: where its bytes are in a row, and what they mean."""

    path: Path
    name: str
    code: str
    """Letter of TFORM; ``ascii`` in an ASCII table."""
    repeat: int
    """Values in a row; characters for words."""
    place: int
    """Bytes of a row before it."""
    size: int
    """Its bytes in a row."""
    unit: str
    scale: float
    zero: float
    null: str | int | None
    """What stands for none."""

    def read(self, block: NDArray[np.uint8]) -> pa.ChunkedArray:
        """Its values.

        Parameters
        ----------
        block : ndarray, shape (n_rows, bytes of a row)
            Rows of the table.

        Returns
        -------
        pyarrow.ChunkedArray
            Shape (n_rows,); null for none.

        Raises
        ------
        UserError
            When it holds no single number, word or truth value in each row.
        """
        if self.code in _KINDS or (self.code not in ("A", "ascii") and self.repeat != 1):
            what = _KINDS.get(self.code, f"{self.repeat} values")
            raise UserError(f"{self.path}: column {self.name!r} holds {what} a row; expected one value")
        raw = np.ascontiguousarray(block[:, self.place : self.place + self.size])
        if self.code in ("A", "ascii"):
            found = self._words(raw)
        elif self.code == "L":
            found = pa.array(raw[:, 0] == ord("T"), mask=~np.isin(raw[:, 0], (ord("T"), ord("F"))))
        else:
            found = self._numbers(raw)
        return pa.chunked_array([found])

    def _words(self, raw: NDArray[np.uint8]) -> pa.Array:
        if not self.size:
            return pa.array([""] * len(raw))
        packed = raw.view(f"S{self.size}")[:, 0]
        words = [_decode(value) for value in packed.tolist()]
        if self.code == "ascii":
            null = str(self.null).strip() if self.null is not None else ""
            return pa.array([None if word.strip() in ("", null) else _decimal(word) for word in words])
        return pa.array(words, pa.string())

    def _numbers(self, raw: NDArray[np.uint8]) -> pa.Array:
        stored = raw.view(_NUMBERS[self.code])[:, 0]
        values: NDArray[Any] = stored.astype(stored.dtype.newbyteorder("="))
        mask = None
        if self.code not in "ED" and self.null is not None:
            mask = values == self.null
        wide = _UNSIGNED.get((self.code, int(self.zero) if np.isfinite(self.zero) else 0))
        if wide is not None and self.scale == 1:
            signed = values.astype(np.int64 if self.code != "K" else np.uint64)
            offset = np.uint64(2**63) if self.code == "K" else np.int64(self.zero)
            with np.errstate(over="ignore"):
                values = (signed + offset).astype(wide)
        elif (self.scale, self.zero) != (1, 0):
            values = values * self.scale + self.zero
        return pa.array(values, mask=mask)


def _decode(value: bytes) -> str:
    return value.split(b"\0")[0].rstrip(b" ").decode("utf-8", "replace")


def _decimal(word: str) -> str:
    """A number of Fortran, which may write the exponent with D, as others do."""
    return re.sub(r"(?i)(?<=[\d.])d(?=[+-]?\d)", "E", word.strip())


def fits_columns(path: Path, header: Any) -> list[FitsColumn]:
    """Columns that the header of a table describes.

    Parameters
    ----------
    path : Path
        The file, for messages.
    header : astropy.io.fits.Header
        Of a BINTABLE or TABLE extension.

    Returns
    -------
    list of FitsColumn
        In the file's order.

    Raises
    ------
    UserError
        When a format is not of the standard, or the columns do not fill the rows.
    """
    if header.get("ZTABLE"):
        raise UserError(f"catalogue {path} holds a table compressed by fpack; run funpack on it first")
    is_text = header["XTENSION"].strip() == "TABLE"
    found, place = [], 0
    for index in range(1, int(header["TFIELDS"]) + 1):
        column = _column(path, header, index, place, is_text)
        place = column.place + column.size
        found.append(column)
    if found and max(column.place + column.size for column in found) > int(header["NAXIS1"]):
        raise UserError(
            f"catalogue {path}: its columns take {place} bytes a row, its header says NAXIS1 = "
            f"{header['NAXIS1']}; the file is damaged, fetch it again"
        )
    return found


def _column(path: Path, header: Any, index: int, place: int, is_text: bool) -> FitsColumn:
    form = str(header.get(f"TFORM{index}", "")).strip()
    pattern = r"([AIFED])(\d+)(?:\.\d+)?" if is_text else r"(\d*)([LXBIJKAEDCMPQ]).*"
    match = re.fullmatch(pattern, form)
    if match is None:
        raise UserError(f"catalogue {path}: TFORM{index} = {form!r} is no format of the FITS standard")
    name = str(header.get(f"TTYPE{index}", f"col{index}")).strip()
    if is_text:
        code, repeat, size = "ascii", 1, int(match[2])
        code = "A" if match[1] == "A" else code
        place = int(header[f"TBCOL{index}"]) - 1
    else:
        code, repeat = match[2], int(match[1] or 1)
        size = (repeat + 7) // 8 if code == "X" else repeat * _SIZES[code]
    null = header.get(f"TNULL{index}")
    scale, zero = float(header.get(f"TSCAL{index}", 1)), float(header.get(f"TZERO{index}", 0))
    unit = str(header.get(f"TUNIT{index}", "")).strip()
    return FitsColumn(path, name, code, repeat, place, size, unit, scale, zero, null)
