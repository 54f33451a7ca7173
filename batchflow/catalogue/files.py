"""Input files: met at the door, fingerprinted, and opened as columns whatever the format."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from batchflow.errors import UserError, nearest

logger = logging.getLogger(__name__)

_MAGIC = {
    b"SIMPLE  =": "fits",
    b"PAR1": "parquet",
    b"# %ECSV": "ecsv",
    b"<?xml": "votable",
    b"<VOTABLE": "votable",
}
_SUFFIXES = {
    ".fits": "fits", ".fit": "fits", ".fts": "fits", ".parquet": "parquet", ".pq": "parquet",
    ".ecsv": "ecsv", ".vot": "votable", ".votable": "votable", ".xml": "votable", ".csv": "csv",
}  # fmt: skip


def check_input(path: Path) -> None:
    """Refuse what is no readable, non-empty file.

    Parameters
    ----------
    path : Path
        A catalogue.

    Raises
    ------
    UserError
        When it is absent, a folder or empty.
    """
    if path.is_dir():
        raise UserError(f"catalogue {path} is a folder; give one [[catalogue]] for each file in it")
    if not path.exists():
        beside = [item.name for item in path.parent.glob("*")] if path.parent.is_dir() else []
        hint = f"; {nearest(path.name, beside[:50])}" if beside else "; its folder is not there either"
        raise UserError(f"catalogue {path} does not exist{hint}")
    if path.stat().st_size == 0:
        raise UserError(f"catalogue {path} is empty (0 bytes); was the download cut off?")


def checksum(path: Path) -> str:
    """SHA-256 of an input file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    UserError
        When it is absent, a folder or empty.
    """
    check_input(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class ColumnFile:
    """A file opened as named columns."""

    path: Path
    names: tuple[str, ...]
    n_rows: int
    units: Mapping[str, str]
    """Unit of the columns that have one, as the file writes it."""
    _column: Callable[[str], Any]
    first_line: int | None = None
    """Line of the first row, in formats that have lines."""

    def where(self, name: str) -> str:
        """Name file and column, for messages."""
        return f"{self.path}: column {name!r}"

    def row(self, index: int) -> str:
        """Name a row, for messages: its line where there are lines, else its number from 1."""
        return f"row {index + 1}" if self.first_line is None else f"line {index + self.first_line}"

    def column(self, name: str) -> pa.ChunkedArray:
        """One column as the file has it; masked values are null.

        Parameters
        ----------
        name : str
            The column.

        Returns
        -------
        pyarrow.ChunkedArray
            Shape (n_rows,).

        Raises
        ------
        UserError
            When the file has no such column, or it holds a list in each row.
        """
        if name not in self.names:
            raise UserError(f"{self.path} has no column {name!r}; {nearest(name, self.names)}")
        return self._column(name)


def open_columns(path: Path) -> ColumnFile:
    """Open a FITS, VOTable, ECSV, CSV or Parquet file.

    Parameters
    ----------
    path : Path
        The file; its content, or else its extension, tells the format.

    Returns
    -------
    ColumnFile
        At least one row.

    Raises
    ------
    UserError
        When the file is absent, empty, of no known format, broken, or has no rows.
    """
    check_input(path)
    kind = _kind(path)
    openers = {"parquet": _open_parquet, "csv": _open_csv}
    found = openers[kind](path) if kind in openers else _open_astropy(path, kind)
    if not found.n_rows:
        raise UserError(f"catalogue {path} has a header of {len(found.names)} columns but no rows")
    return found


def _kind(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(512)
    for magic, kind in _MAGIC.items():
        if start.lstrip(b"\xef\xbb\xbf \r\n").startswith(magic):
            return kind
    kind = _SUFFIXES.get(path.suffix.lower(), "csv")
    if kind == "csv" and b"\0" in start:
        raise UserError(
            f"catalogue {path} is none of FITS, VOTable, ECSV, CSV, Parquet: it starts {start[:12]!r}"
        )
    return kind


@contextmanager
def _reading(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a parser says of a broken file into one message."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # Parsers meet hostile files with exceptions of every type, SyntaxError among them.
        raise UserError(f"catalogue {path} cannot be read as {kind}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _open_parquet(path: Path) -> ColumnFile:
    with _reading(path, "Parquet"):
        file = pq.ParquetFile(path)
        fields = list(file.schema_arrow)
    units = {item.name: (item.metadata or {}).get(b"unit", b"").decode() for item in fields}

    def column(name: str) -> pa.ChunkedArray:
        with _reading(path, "Parquet"):
            return file.read(columns=[name])[name]

    names = tuple(item.name for item in fields)
    return ColumnFile(path, names, file.metadata.num_rows, units, column)


def _open_csv(path: Path) -> ColumnFile:
    with _reading(path, "CSV"):
        names, skipped = _csv_header(path)
        table = _read_csv(path, names, skipped)
    return ColumnFile(path, tuple(names), table.num_rows, {}, table.column, first_line=skipped + 2)


def _csv_header(path: Path) -> tuple[list[str], int]:
    """Column names, and the number of comment lines above them."""
    with path.open(encoding="utf-8-sig") as file:
        for skipped, line in enumerate(file):
            if line.strip() and not line.startswith("#"):
                names = [name.strip().strip('"') for name in line.split(",")]
                if twice := {name for name in names if names.count(name) > 1}:
                    raise UserError(f"catalogue {path} has two columns called {min(twice)!r}; rename one")
                return names, skipped
    raise UserError(f"catalogue {path} has no header: expected a line of column names, with commas between")


def _read_csv(path: Path, names: list[str], skipped: int) -> pa.Table:
    # As strings: an id 007 stays one, and a word among numbers is found with its line.
    return pyarrow.csv.read_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(column_names=names, skip_rows=skipped + 1, use_threads=False),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=False, ignore_empty_lines=False),
        convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
    )


def _open_astropy(path: Path, kind: str) -> ColumnFile:
    from astropy.table import Table

    formats = {"fits": "fits", "ecsv": "ascii.ecsv", "votable": "votable"}
    with _reading(path, kind.upper()), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = Table.read(path, format=formats[kind])
        table.convert_bytestring_to_unicode()
    _heed(path, [str(item.message) for item in caught])
    units = {name: str(table[name].unit or "") for name in table.colnames}
    return ColumnFile(
        path, tuple(table.colnames), len(table), units, lambda name: _from_astropy(path, name, table[name])
    )


def _heed(path: Path, messages: list[str]) -> None:
    for message in messages:
        if "truncated" in message:
            raise UserError(f"catalogue {path} is truncated: {message.splitlines()[0]}; fetch it again")
        logger.info("%s: %s", path, message)


def _from_astropy(path: Path, name: str, column: Any) -> pa.ChunkedArray:
    values = np.ma.MaskedArray(column)
    if values.ndim != 1:
        raise UserError(f"{path}: column {name!r} holds {values.shape[1:]} numbers a row; expected one")
    mask = np.ma.getmaskarray(values)
    data = np.asarray(values.data)
    native = data.astype(data.dtype.newbyteorder("=")) if data.dtype.kind in "iufb" else data.astype(str)
    return pa.chunked_array([pa.array(native, mask=mask)])
