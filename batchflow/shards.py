"""One Parquet file, whole or absent, with its provenance in the footer."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchflow.errors import UserError
from batchflow.paths import remove
from batchflow.seal import MAGIC, MARK, damaged, read_tail, seal
from batchflow.votable import described, parquet_metadata, string_widths

if TYPE_CHECKING:
    import pyarrow.dataset as ds

FOOTER_KEY = b"batchflow"
GROUP_BYTES = 64 * 2**20
"""Size of a row group, before compression: large enough to read fast, small enough to hold many."""
LISTS_GROUP_BYTES = 8 * 2**20
"""That of tables with lists: who asks for one cluster's draws reads a group of them."""
UNFINISHED = ".tmp"
"""How names of files end that are being written; they begin with a dot."""


class DamagedError(UserError):
    """A file of a run is not as it was written."""


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
        raise UserError(f"cannot write {path}: {_reason(error)}") from error
    finally:
        # Where a file stands in the folder's place, this fails as well.
        with suppress(OSError):
            temporary.unlink()


def _reason(error: OSError) -> str:
    """What the file system says, and the way out."""
    if isinstance(error, IsADirectoryError):
        return "a folder of this name is in its place; move it away"
    if isinstance(error, FileExistsError | NotADirectoryError):
        return f"{error.filename or 'its folder'} is not a folder; move it away"
    return f"{error.strerror or error}; free space or choose another output"


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
    remove(*(folder.rglob(pattern) if deep else folder.glob(pattern)))


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
    stamped = stamp(table, {**footer, "file": place_of(path)})
    stamped = stamped.replace_schema_metadata({**stamped.schema.metadata, MARK: MAGIC})
    # Floats of a simulation or a posterior hardly repeat: a dictionary of them only costs time.
    repeating = [
        name
        for name, type_ in zip(stamped.schema.names, stamped.schema.types, strict=True)
        if not pa.types.is_floating(type_) and not pa.types.is_nested(type_)
    ]

    def write(temporary: Path) -> None:
        pq.write_table(
            stamped,
            temporary,
            row_group_size=_rows_in_group(stamped),
            compression="zstd",
            use_dictionary=repeating,
            write_statistics=True,
            write_page_checksum=True,
        )
        seal(temporary)

    write_atomic(path, write)


def place_of(path: Path) -> str:
    """What a file is called in any run: its name, and its folders' up to the table's."""
    return "/".join(path.parts[-3 if path.parent.name.startswith("galaxy=") else -2 :])


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
        tail = read_tail(path)
        if not tail.is_sound:
            return None
        metadata = pq.read_metadata(pa.BufferReader(tail.footer))
        footer = json.loads(metadata.metadata[FOOTER_KEY])
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None
    return (footer, metadata.num_rows) if isinstance(footer, dict) else None


def read_table(path: str | Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a file that `write_table` wrote, and see that it is as it was written.

    Parameters
    ----------
    path : str or Path
        The file.
    columns : sequence of str, optional
        Those to read; default all.

    Returns
    -------
    pyarrow.Table
        Its rows.

    Raises
    ------
    DamagedError
        When it cannot be read, or a checksum says that it was altered.
    """
    refuse_damaged(damaged([Path(path)], most=0))
    wanted = None if columns is None else list(columns)
    try:
        table = pq.read_table(path, columns=wanted, partitioning=None, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        refuse_damaged(damaged([Path(path)], most=None), str(error).splitlines()[0])
        raise
    return table.replace_schema_metadata(_unsealed(table.schema).metadata)


def _unsealed(schema: pa.Schema) -> pa.Schema:
    """Without the mark of a file with a checksum: copies that others write of the rows have none."""
    return schema.with_metadata({key: value for key, value in (schema.metadata or {}).items() if key != MARK})


def open_dataset(files: Sequence[str | Path], schema: pa.Schema | None = None) -> ds.Dataset:
    """Several files of a table as one.

    Parameters
    ----------
    files : sequence of str or Path
        Written by `write_table`.
    schema : pyarrow.Schema, optional
        Columns; default those of the first file.

    Returns
    -------
    pyarrow.dataset.Dataset
        Pages are compared with their checksums as they are read.

    Raises
    ------
    DamagedError
        When a file is not as it was written; of more than `seal.MOST_READ` bytes, only footers are looked at.
    """
    # With it comes pandas, where that is installed: a quarter of a second that `query` and `status` save.
    import pyarrow.dataset as ds

    refuse_damaged(damaged(map(Path, files)))
    options = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    format_ = ds.ParquetFileFormat(default_fragment_scan_options=options)
    found = ds.dataset(list(map(str, files)), format=format_, schema=schema)
    return found.replace_schema(_unsealed(found.schema))


def refuse_damaged(files: Sequence[Path], why: str = "") -> None:
    """Name files that are not as they were written.

    Raises
    ------
    DamagedError
        When there are any.
    """
    if not files:
        return
    more = f" (and {len(files) - 1} more)" if len(files) > 1 else ""
    detail = f" ({why})" if why else ""
    raise DamagedError(
        f"{files[0]}{more} is damaged: it was cut short or altered since it was written{detail}; "
        "`batchflow run JOB` makes it anew; where it does not, remove the file first"
    )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
