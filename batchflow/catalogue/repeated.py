"""Ids that occur more than once in a galaxy, across files and surveys: found on disk, with bounded memory."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from batchflow.errors import UserError
from batchflow.machine import cores
from batchflow.schema import Flag
from batchflow.shards import read_footer, read_table, write_table

MEMORY = "300MB"
"""What DuckDB may take before it goes to disk."""
ROWS_AT_ONCE = 10_000_000
"""Rows among which repeated ids are sought: 10^8 at once took more than `MEMORY`, with the disk's help."""
MOST_THREADS = 4
"""Each needs some of that memory."""
FETCHED = 10_000
"""Rows that DuckDB hands over at a time."""
_COUNT = "SELECT count(*) FROM read_parquet($files, hive_partitioning = false)"
_REPEATED = """
    CREATE OR REPLACE TEMP TABLE repeated AS
    SELECT galaxy, object_id
    FROM read_parquet($files, hive_partitioning = false)
    WHERE hash(object_id) % $shares = $share
    GROUP BY ALL HAVING count(*) > 1
"""
_THEIR_ROWS = """
    SELECT filename, file_row_number
    FROM read_parquet($files, hive_partitioning = false, filename = true, file_row_number = true) AS part
    SEMI JOIN repeated ON part.galaxy = repeated.galaxy AND part.object_id = repeated.object_id
    WHERE hash(part.object_id) % $shares = $share
"""


class _Part(Protocol):
    """A file of the catalogue, all of one galaxy."""

    @property
    def galaxy(self) -> str: ...
    @property
    def path(self) -> Path: ...


def flag_repeated(parts: Sequence[_Part], folder: Path) -> Counter[str]:
    """Flag rows that share galaxy and id with another row; parts without one stay as they are.

    Parameters
    ----------
    parts : sequence of Part
        All parts of a job's catalogue.
    folder : Path
        Where DuckDB may spill to.

    Returns
    -------
    Counter of str
        Flagged rows by survey. Memory is that of a part, of DuckDB, and a bit for each row of a part that has
        any.

    Raises
    ------
    UserError
        When the disk is full.
    """
    marks: dict[str, NDArray[np.uint8]] = {}
    with _repeated(parts, folder) as rows:
        for path, row in rows:
            if path not in marks:
                marks[path] = np.zeros(-(-pq.read_metadata(path).num_rows // 8), np.uint8)
            marks[path][row >> 3] |= 1 << (row & 7)
    found: Counter[str] = Counter()
    for path, bits in marks.items():
        found.update(_flag_part(Path(path), np.flatnonzero(np.unpackbits(bits, bitorder="little"))))
    return found


@contextmanager
def _repeated(parts: Sequence[_Part], folder: Path) -> Iterator[Iterator[tuple[str, int]]]:
    """Yield path and number of each row whose id another row of its galaxy has, in no order."""
    import duckdb

    if not parts:
        raise UserError("the job's catalogues have no row: see its classes")
    # What reading left with Arrow's allocator would stand beside what DuckDB takes.
    pa.default_memory_pool().release_unused()
    with tempfile.TemporaryDirectory(prefix=".repeated-", dir=folder) as scratch:
        settings: dict[str, Any] = {
            "memory_limit": MEMORY,
            "temp_directory": scratch,
            "preserve_insertion_order": "false",
            "threads": min(MOST_THREADS, cores()),
        }
        with duckdb.connect(config=settings) as database:
            try:
                yield _rows(database, {"files": [str(part.path) for part in parts]})
            except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
                raise UserError(
                    f"cannot look for repeated ids in {folder}: {str(error).splitlines()[0]}; free space "
                    "there, or choose another output"
                ) from error


def _rows(database: Any, files: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Look for them among a share of the ids at a time: DuckDB cannot group any number of them."""
    (n_rows,) = database.execute(_COUNT, files).fetchone()
    shares = -(-n_rows // ROWS_AT_ONCE)
    for share in range(shares):
        values = files | {"shares": shares, "share": share}
        database.execute(_REPEATED, values)
        if database.execute("SELECT count(*) FROM repeated").fetchone() == (0,):
            continue
        found = database.execute(_THEIR_ROWS, values)
        while rows := found.fetchmany(FETCHED):
            yield from rows


def _flag_part(path: Path, rows: NDArray[np.int64]) -> Counter[str]:
    """Flag rows of a part; count them by survey."""
    table = read_table(path)
    flags = table["flags"].to_numpy().copy()
    flags[rows] |= int(Flag.DUPLICATE_ID)
    place = table.schema.get_field_index("flags")
    written = read_footer(path)
    flagged = table.set_column(place, table.schema.field(place), pa.array(flags))
    write_table(path, flagged, written[0] if written else {})
    return Counter(table["survey"].take(rows).to_pylist())
