"""Certificates of the connections between scheduler, workers and client."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from distributed.security import Security

from batchflow.errors import UserError

CA, CERT, KEY = "ca.pem", "cert.pem", "key.pem"
STALE_SECONDS = 30 * 86400.0
"""Certificates of a driver that was killed stay behind; older ones are no running job's."""


def from_folder(folder: Path) -> Security:
    """Mutual TLS by the certificates of a folder, the same for scheduler, workers and client.

    Parameters
    ----------
    folder : Path
        With ``ca.pem``, ``cert.pem`` and ``key.pem``.

    Returns
    -------
    distributed.Security
        That refuses every connection without them.

    Raises
    ------
    UserError
        When one is absent.
    """
    for name in (CA, CERT, KEY):
        if not (folder / name).is_file():
            raise UserError(
                f"certificates = {str(folder)!r} holds no {name}; expected {CA}, {CERT} and {KEY}"
            )
    roles = {}
    for role in ("scheduler", "worker", "client"):
        roles[f"tls_{role}_cert"], roles[f"tls_{role}_key"] = str(folder / CERT), str(folder / KEY)
    return Security(tls_ca_file=str(folder / CA), require_encryption=True, **roles)


def temporary() -> Any:
    """Mutual TLS by new certificates that are in memory only.

    Returns
    -------
    distributed.Security
        Of this process and its children.

    Raises
    ------
    UserError
        When ``cryptography`` is not installed.
    """
    try:
        return Security.temporary()
    except ImportError:
        raise UserError(
            "encrypted connections need the package cryptography: pip install 'batchflow[hpc]', "
            "or name the site's certificates, or set cluster.tls = false on a network of your own"
        ) from None


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Have new certificates in a folder of one's own for as long as the block runs.

    Parameters
    ----------
    parent : Path
        On a disk that the workers' nodes share; made with mode 0700 when absent.

    Yields
    ------
    Path
        Mode 0700, its files 0600; it goes when the block ends.

    Raises
    ------
    UserError
        When ``cryptography`` is not installed, or the folder cannot be made.
    """
    made = temporary()
    try:
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _remove_stale(parent)
        folder = Path(tempfile.mkdtemp(prefix="tls-", dir=parent))
    except OSError as error:
        raise UserError(f"secrets = {str(parent)!r}: cannot be made: {error.strerror}") from None
    contents = {CA: made.tls_ca_file, CERT: made.tls_worker_cert, KEY: made.tls_worker_key}
    try:
        for name, content in contents.items():
            (folder / name).touch(mode=0o600)
            (folder / name).write_text(str(content), encoding="ascii")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_stale(parent: Path) -> None:
    for folder in parent.glob("tls-*"):
        with suppress(FileNotFoundError):  # another driver was faster
            if time.time() - folder.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
