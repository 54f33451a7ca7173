"""A file as it lies on disk, compressed or not, as a stream of its content."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from batchflow.errors import UserError

BUFFER = 1 << 20
"""Bytes read at a time."""


def _open_gzip(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path))


def _open_bz2(path: Path) -> BinaryIO:
    return cast(BinaryIO, bz2.open(path))


def _open_xz(path: Path) -> BinaryIO:
    return cast(BinaryIO, lzma.open(path))


def _open_zstd(path: Path) -> BinaryIO:
    return cast(BinaryIO, pa.input_stream(str(path), compression="zstd", buffer_size=BUFFER))


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
        plain = tempfile.TemporaryFile()  # noqa: SIM115  # the caller keeps it as long as it reads
        with self._open(self.path) as packed:
            try:
                shutil.copyfileobj(packed, plain, BUFFER)
            except OSError as error:
                if error.errno is None:  # the decompressor's, about the content
                    raise
                raise UserError(
                    f"catalogue {self.path} cannot be decompressed in {tempfile.gettempdir()}: "
                    f"{error.strerror}; set TMPDIR to a folder with space, or decompress the file"
                ) from error
        plain.seek(0)
        return cast(BinaryIO, plain)

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
