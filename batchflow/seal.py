"""A checksum in a Parquet file: in the gap before its footer, which no reader of Parquet looks at.

Neither pyarrow nor DuckDB notices a flipped bit by itself: zstd decodes it into other numbers.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

from batchflow.paths import file_state

MAGIC = b"BFSEAL01"
MARK = b"batchflow.sealed"
"""Key in the footer of a file that bears a seal: one that has lost it is damaged."""
_CHECKSUMS = struct.Struct("<8sII")
_END = struct.Struct("<I4s")
BUFFER = 1 << 20
MOST_READ = 2**29
"""Bytes that are read again at most when nobody asked for it: about a quarter of a second."""


class Tail(NamedTuple):
    """What stands behind the rows of a Parquet file."""

    start: int
    """Bytes before the seal, or before the footer of a file that has none."""
    checksums: tuple[int, int] | None
    """CRC-32 of the bytes before the seal and of those behind it; None where there is no seal."""
    footer: bytes
    """The footer with its length and the closing magic number."""

    @property
    def is_sound(self) -> bool:
        """Whether the footer is as it was written, as far as the file tells."""
        if self.checksums is None:
            return MARK not in self.footer
        return self.checksums[1] == zlib.crc32(self.footer)


def seal(path: Path) -> None:
    """Put the checksum into a Parquet file that was just written."""
    with path.open("r+b") as file:
        tail = _read_tail(file)
        data = _crc(file, tail.start)
        file.seek(tail.start)
        file.write(_CHECKSUMS.pack(MAGIC, data, zlib.crc32(tail.footer)) + tail.footer)


def read_tail(path: Path) -> Tail:
    """Read the end of a Parquet file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    Tail
        Its seal, if any, and its footer.

    Raises
    ------
    OSError
        When it cannot be read, or is no whole Parquet file.
    """
    with path.open("rb") as file:
        return _read_tail(file)


def is_intact(path: Path) -> bool:
    """Whether every byte of a file is as it was written.

    Parameters
    ----------
    path : Path
        A Parquet file.

    Returns
    -------
    bool
        True as well for one that bears no seal, as long as it has a footer.
    """
    try:
        return _is_intact(path, file_state(path))
    except OSError:
        return False


@lru_cache(maxsize=65536)
def _is_intact(path: Path, _state: tuple[int, ...]) -> bool:
    """Once a process, as long as the file is the same."""
    with path.open("rb") as file:
        tail = _read_tail(file)
        return tail.is_sound and (tail.checksums is None or _crc(file, tail.start) == tail.checksums[0])


def damaged(paths: Iterable[Path], most: int | None = MOST_READ) -> list[Path]:
    """Files that are not as they were written.

    Parameters
    ----------
    paths : iterable of Path
        Parquet files.
    most : int, optional
        Bytes: where the files are more together, only their footers are looked at; None for no limit.

    Returns
    -------
    list of Path
        In the order given; those that are absent are among them.
    """
    files = list(paths)
    whole = most is None or sum(_size(path) for path in files) <= most
    return [path for path in files if not (is_intact if whole else _has_sound_footer)(path)]


def _has_sound_footer(path: Path) -> bool:
    try:
        return read_tail(path).is_sound
    except OSError:
        return False


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read_tail(file: BinaryIO) -> Tail:
    end = file.seek(0, 2)
    file.seek(max(0, end - _END.size))
    last = file.read(_END.size)
    length, magic = _END.unpack(last) if len(last) == _END.size else (0, b"")
    start = end - _END.size - length
    if magic != b"PAR1" or start < len(magic):
        raise OSError("it has no footer of a Parquet file")
    before = max(0, start - _CHECKSUMS.size)
    file.seek(before)
    found = file.read(start - before)
    footer = file.read()
    if len(found) == _CHECKSUMS.size and found.startswith(MAGIC):
        _, data, behind = _CHECKSUMS.unpack(found)
        return Tail(before, (data, behind), footer)
    return Tail(start, None, footer)


def _crc(file: BinaryIO, size: int) -> int:
    """CRC-32 of the first bytes of a file."""
    file.seek(0)
    found = 0
    while size > 0 and (piece := file.read(min(BUFFER, size))):
        found = zlib.crc32(piece, found)
        size -= len(piece)
    return found
