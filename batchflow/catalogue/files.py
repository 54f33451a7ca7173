"""Input files: found, met at the door, fingerprinted. Whoever opens them takes `catalogue.opening`."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from batchflow.errors import UserError, nearest
from batchflow.paths import file_state
from batchflow.settings.catalogue import CatalogueSettings


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
    try:
        if path.is_dir():
            raise UserError(
                f'catalogue {path} is a folder; for all its files give the pattern "{path.name}/*"'
            )
        if not path.exists():
            raise UserError(f"catalogue {path} does not exist{_beside(path)}")
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
    return _checksum(path, file_state(path))


@lru_cache(maxsize=4096)
def _checksum(path: Path, _state: tuple[int, ...]) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
