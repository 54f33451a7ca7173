"""Input files: found, met at the door, fingerprinted, and opened as columns whatever the format."""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from batchflow.catalogue.ascii import open_ascii
from batchflow.catalogue.binary import open_fits, open_parquet
from batchflow.catalogue.cds_readme import find_readme
from batchflow.catalogue.columns import ColumnFile, TableFile, reading
from batchflow.catalogue.delimited import open_csv, open_ecsv
from batchflow.catalogue.stored import Stored, find_stored
from batchflow.catalogue.votable import open_votable
from batchflow.catalogue_settings import CatalogueSettings
from batchflow.errors import UserError, nearest

__all__ = ["ColumnFile", "TableFile", "check_files", "check_input", "checksum", "find_files", "open_columns"]

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


def find_files(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Resolve the patterns among the paths of a catalogue.

    Parameters
    ----------
    paths : sequence of Path
        Files, and patterns with ``*``, ``?``, ``[...]`` or ``**``; a file of that very name comes first.

    Returns
    -------
    tuple of Path
        Each file once, sorted.

    Raises
    ------
    UserError
        When a pattern matches no file, or a file is listed twice.
    """
    if not paths:
        raise UserError("a [[catalogue]] has path = []; give a file, a pattern or a list of them")
    if twice := sorted({path for path in paths if list(paths).count(path) > 1}):
        raise UserError(f"catalogue {twice[0]} is listed twice in path = [...]; remove one")
    return tuple(sorted({file for path in paths for file in _matches(path)}))


def check_files(entries: Sequence[CatalogueSettings]) -> None:
    """Refuse a file whose rows two catalogues would take.

    Parameters
    ----------
    entries : sequence of CatalogueSettings
        The catalogues of a job.

    Raises
    ------
    UserError
        When a file is in two of them, unless each takes other classes.
    """
    owners: dict[Path, list[CatalogueSettings]] = {}
    for entry in entries:
        for path in find_files(entry.paths):
            for other in owners.setdefault(path.resolve(), []):
                if entry.classes is None or other.classes is None or set(entry.classes) & set(other.classes):
                    raise UserError(
                        f"{path} is in two catalogues, {other.survey!r} and {entry.survey!r}: every cluster "
                        "would count twice; take it out of one, or give each other classes"
                    )
            owners[path.resolve()].append(entry)


def _matches(path: Path) -> list[Path]:
    if not glob.has_magic(str(path)) or path.exists():
        return [path]
    # Path.glob takes no absolute pattern.
    names = glob.glob(str(path), recursive=True)  # noqa: PTH207
    found = [Path(name) for name in names if Path(name).is_file()]
    if not found:
        raise UserError(f"no file matches the pattern {path}{_beside(path)}")
    return found


def _beside(path: Path) -> str:
    """What is in a file's folder that may have been meant, as the end of a message."""
    if not path.parent.is_dir():
        return f"; its folder {path.parent} is not there either"
    names = [item.name for item in path.parent.glob("*")]
    return f"; {nearest(path.name, names[:50])}" if names else "; its folder is empty"


def check_input(path: Path) -> None:
    """Refuse what is no readable, non-empty file.

    Parameters
    ----------
    path : Path
        A catalogue.

    Raises
    ------
    UserError
        When it is absent, a folder, unreadable or empty.
    """
    if path.is_dir():
        raise UserError(f'catalogue {path} is a folder; for all its files give the pattern "{path.name}/*"')
    if not path.exists():
        raise UserError(f"catalogue {path} does not exist{_beside(path)}")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise UserError(f"catalogue {path} cannot be read: {error.strerror}") from error
    if empty:
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
        64 hexadecimal digits; computed once a process as long as the file does not change.

    Raises
    ------
    UserError
        When it is absent, a folder or empty.
    """
    check_input(path)
    found = path.stat()
    # A file put in another's place may have its size and time of change; not its inode and time of status.
    return _checksum(path, (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev))


@lru_cache(maxsize=4096)
def _checksum(path: Path, _state: tuple[int, ...]) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
