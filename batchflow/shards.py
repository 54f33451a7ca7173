"""One Parquet file, whole or absent, with its provenance in the footer."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchflow.errors import UserError
from batchflow.votable import described, parquet_metadata, string_widths

FOOTER_KEY = b"batchflow"
GROUP_BYTES = 64 * 2**20
"""Size of a row group, before compression: large enough to read fast, small enough to hold many."""
LISTS_GROUP_BYTES = 8 * 2**20
"""That of tables with lists: who asks for one cluster's draws reads a group of them."""
UNFINISHED = ".tmp"
"""How names of files end that are being written; they begin with a dot."""


def write_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """Make a file appear under its name only when it is complete and on disk.

    Parameters
    ----------
    path : Path
        The final name; its folder is made when absent.
    write : callable
        Writes the file under the temporary sibling name that it is given.

    Raises
    ------
    UserError
        When the file system refuses: full, read-only, no permission.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{UNFINISHED}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; free space or choose another output"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def sweep(folder: Path, deep: bool = True) -> None:
    """Remove what processes that were killed had begun to write.

    Parameters
    ----------
    folder : Path
        Nobody else writes in it.
    deep : bool
        Whether in all folders within, too.
    """
    pattern = f".*.{32 * '[0-9a-f]'}{UNFINISHED}"
    for path in folder.rglob(pattern) if deep else folder.glob(pattern):
        path.unlink(missing_ok=True)


def write_table(path: Path, table: pa.Table, footer: dict[str, Any]) -> None:
    """Write a Parquet file atomically.

    Parameters
    ----------
    path : Path
        The final name.
    table : pyarrow.Table
        The rows.
    footer : dict
        JSON-able provenance; `read_footer` gives it back.
    """
    stamped = stamp(table, footer)
    # Floats of a simulation or a posterior hardly repeat: a dictionary of them only costs time.
    repeating = [
        name
        for name, type_ in zip(stamped.schema.names, stamped.schema.types, strict=True)
        if not pa.types.is_floating(type_) and not pa.types.is_nested(type_)
    ]
    write_atomic(
        path,
        lambda temporary: pq.write_table(
            stamped,
            temporary,
            row_group_size=_rows_in_group(stamped),
            compression="zstd",
            use_dictionary=repeating,
            write_statistics=True,
        ),
    )


def stamp(table: pa.Table, footer: dict[str, Any]) -> pa.Table:
    """Give a table its provenance, and its columns units, UCDs and descriptions.

    Parameters
    ----------
    table : pyarrow.Table
        The rows.
    footer : dict
        JSON-able provenance.

    Returns
    -------
    pyarrow.Table
        The same rows; metadata of the schema says all that, in Arrow's way and in VOParquet's.
    """
    schema = described(table.schema)
    metadata = {
        **(schema.metadata or {}),
        FOOTER_KEY: json.dumps(footer, sort_keys=True).encode(),
        **parquet_metadata(schema, string_widths(table)),
    }
    return table.cast(schema.with_metadata(metadata))


def _rows_in_group(table: pa.Table) -> int:
    """Rows that fill a row group: what a reader of a file must hold in memory, lists of draws and all."""
    size = LISTS_GROUP_BYTES if any(map(pa.types.is_nested, table.schema.types)) else GROUP_BYTES
    return max(1, size * table.num_rows // max(table.nbytes, 1))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_atomic(path, write)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(values, indent=2, sort_keys=True) + "\n")


def read_footer(path: Path) -> tuple[dict[str, Any], int] | None:
    """Provenance and number of rows of a Parquet file.

    Parameters
    ----------
    path : Path
        A file written by `write_table`, or not.

    Returns
    -------
    tuple of (dict, int) or None
        None when the file is absent, truncated or not ours.
    """
    try:
        metadata = pq.read_metadata(path)
        footer = json.loads(metadata.metadata[FOOTER_KEY])
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None
    return footer, metadata.num_rows


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
