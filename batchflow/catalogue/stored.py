"""A file as it lies on disk, compressed or not, as a stream of its content."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa

from batchflow.errors import UserError

BUFFER = 1 << 20
"""Bytes read at a time."""


class _ArrowStream(io.RawIOBase):
    """A stream of Arrow's as one of Python's: its own cannot say that it does not seek."""

    def __init__(self, stream: pa.NativeFile) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content: bytes = self._stream.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._stream.close()
        super().close()


def _open_gzip(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path))


def _open_bz2(path: Path) -> BinaryIO:
    return cast(BinaryIO, bz2.open(path))


def _open_xz(path: Path) -> BinaryIO:
    return cast(BinaryIO, lzma.open(path))


def _open_zstd(path: Path) -> BinaryIO:
    return io.BufferedReader(_ArrowStream(pa.input_stream(str(path), compression="zstd")), BUFFER)


_COMPRESSIONS: Mapping[bytes, tuple[str, Callable[[Path], BinaryIO]]] = {
    b"\x1f\x8b": (".gz", _open_gzip),
    b"BZh": (".bz2", _open_bz2),
    b"\xfd7zXZ\x00": (".xz", _open_xz),
    b"\x28\xb5\x2f\xfd": (".zst", _open_zstd),
}
"""Suffix and opener by what a compressed file starts with."""


@dataclass(frozen=True)
class Stored:
    """A file and how to read its content."""

    path: Path
    """The file."""
    suffix: str
    """Extension of the content, in lower case: that of ``a.fits.gz`` is ``.fits``."""
    _open: Callable[[Path], BinaryIO] | None
    """Opener of a compressed file; None for a plain one."""

    @property
    def is_compressed(self) -> bool:
        """Whether the file is compressed."""
        return self._open is not None

    def stream(self) -> BinaryIO:
        """Open the content for reading from its first byte; compressed content cannot be sought."""
        return self.path.open("rb") if self._open is None else self._open(self.path)

    def seekable(self) -> BinaryIO:
        """Open the content so that it can be sought and mapped into memory.

        Returns
        -------
        BinaryIO
            The file itself; or, where that is compressed, its content in a temporary file (in TMPDIR) that
            has no name and goes when it is closed.

        Raises
        ------
        UserError
            When there is no space for the temporary file.
        """
        if self._open is None:
            return self.path.open("rb")
        number, name = tempfile.mkstemp(prefix="batchflow-")
        try:
            with os.fdopen(number, "wb") as plain, self._open(self.path) as packed:
                self._copy(packed, plain)
            return Path(name).open("rb")
        finally:
            Path(name).unlink()

    def _copy(self, packed: BinaryIO, plain: BinaryIO) -> None:
        try:
            shutil.copyfileobj(packed, plain, BUFFER)
        except OSError as error:
            if error.errno is None:  # the decompressor's, about the content
                raise
            raise UserError(
                f"catalogue {self.path} cannot be decompressed in {tempfile.gettempdir()}: "
                f"{error.strerror}; set TMPDIR to a folder with space, or decompress the file"
            ) from error

    def start(self, size: int = 65536) -> bytes:
        """First bytes of the content, fewer where it is shorter."""
        with self.stream() as file:
            return file.read(size)


def find_stored(path: Path) -> Stored:
    """See how a file is stored.

    Parameters
    ----------
    path : Path
        The file; its first bytes tell the compression, not its name.

    Returns
    -------
    Stored
        How to read it.
    """
    with path.open("rb") as file:
        start = file.read(8)
    for magic, (suffix, opener) in _COMPRESSIONS.items():
        if start.startswith(magic):
            inner = Path(path.stem) if path.suffix.lower() in (suffix, suffix + "ip") else path
            return Stored(path, inner.suffix.lower(), opener)
    return Stored(path, path.suffix.lower(), None)
