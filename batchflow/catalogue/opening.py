"""Input files opened as columns, whatever their format."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from batchflow.catalogue.ascii import open_ascii
from batchflow.catalogue.binary import open_fits, open_parquet
from batchflow.catalogue.cds_readme import find_readme
from batchflow.catalogue.columns import TableFile, reading
from batchflow.catalogue.delimited import open_csv, open_ecsv
from batchflow.catalogue.files import check_input
from batchflow.catalogue.stored import Stored, find_stored
from batchflow.catalogue.votable import open_votable
from batchflow.errors import UserError

OPENERS: Mapping[str, Callable[[Stored, int | None], TableFile]] = {
    "fits": open_fits,
    "votable": open_votable,
    "ecsv": open_ecsv,
    "csv": open_csv,
    "parquet": open_parquet,
    "ascii": open_ascii,
}
"""What opens a file of each `file_type` of the job file."""

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
    ".mrt": "ascii", ".cds": "ascii", ".tbl": "ascii", ".ascii": "ascii",
}  # fmt: skip
_BINARY = ("fits", "parquet")


def open_columns(path: Path, file_type: str | None = None, hdu: int | None = None) -> TableFile:
    """Open a FITS, VOTable, ECSV, CSV, ASCII or Parquet file; compressed ones as well (gz, bz2, xz, zst).

    Parameters
    ----------
    path : Path
        The file.
    file_type : str, optional
        A key of `OPENERS`; default what the content, or else the extension, tells.
    hdu : int, optional
        Extension of a FITS file, or table of a VOTable; default the first table.

    Returns
    -------
    TableFile
        Its rows come in pieces, so that memory does not grow with the file.

    Raises
    ------
    UserError
        When the file is absent, empty, of no known format, or its header is broken.
    """
    check_input(path)
    stored = find_stored(path)
    with reading(path, "a table"):
        start = stored.start()
    kind = file_type or _kind(path, stored.suffix, start)
    if file_type and (found := _by_content(start)) in _BINARY and found != file_type:
        raise UserError(f'catalogue {path} is {found} by its content; take out file_type = "{file_type}"')
    if hdu is not None and kind not in ("fits", "votable"):
        raise UserError(f"catalogue {path} is read as {kind}, which has no hdu = {hdu}; take hdu out")
    if kind in _BINARY and _by_content(start) != kind:
        raise UserError(
            f"catalogue {path} cannot be read as {kind.upper()}: it starts {start[:12]!r}; fetch it again, "
            f"or say what it is: file_type = {_options()}"
        )
    with reading(path, kind.upper()):
        return OPENERS[kind](stored, hdu)


def _options() -> str:
    return " | ".join(f'"{name}"' for name in OPENERS)


def _by_content(start: bytes) -> str | None:
    text = start.lstrip(b"\xef\xbb\xbf \r\n")
    return next((kind for magic, kind in _MAGIC.items() if text.startswith(magic)), None)


def _kind(path: Path, suffix: str, start: bytes) -> str:
    if found := _by_content(start):
        return found
    if (named := _SUFFIXES.get(suffix)) and named != "ascii":
        return named
    if b"\0" in start:
        raise UserError(
            f"catalogue {path} is none of FITS, VOTable, ECSV, CSV, ASCII, Parquet: it starts {start[:12]!r}"
        )
    return named or ("ascii" if find_readme(path) else _text_kind(start))


def _text_kind(start: bytes) -> str:
    """CSV or ASCII, by the header line or the first comment that may be one."""
    if re.search(rb"(?i)byte-by-byte description", start):
        return "ascii"
    lines = [line for line in start.splitlines() if line.strip()]
    header = next((line for line in lines if not line.startswith((b"#", b"\\"))), b"")
    return "csv" if b"," in header or not re.search(rb"\S[\s|]+\S", header.strip()) else "ascii"
