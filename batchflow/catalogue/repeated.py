"""Ids that occur more than once in a galaxy, across files and surveys: found on disk, with bounded memory."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batchflow.errors import UserError
from batchflow.schema import Flag
from batchflow.shards import read_footer, write_table

MEMORY = "300MB"
"""What DuckDB may take before it goes to disk."""
_REPEATED = """
    CREATE TEMP TABLE repeated AS
    SELECT galaxy::VARCHAR AS galaxy, object_id
    FROM read_parquet($files, hive_partitioning = false)
    GROUP BY ALL HAVING count(*) > 1
"""


class _Part(Protocol):
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
        Flagged rows by survey. Memory grows with the repeated ids of one galaxy alone.

    Raises
    ------
    UserError
        When the disk is full.
    """
    found: Counter[str] = Counter()
    with _repeated(parts, folder) as database:
        galaxies = database.execute("SELECT DISTINCT galaxy FROM repeated ORDER BY 1").fetchall()
        for (galaxy,) in galaxies:
            query = "SELECT object_id FROM repeated WHERE galaxy = ?"
            ids = pa.array(row[0] for row in database.execute(query, [galaxy]).fetchall())
            for part in parts:
                if part.galaxy == galaxy:
                    found.update(_flag_part(part.path, ids))
    return found


@contextmanager
def _repeated(parts: Sequence[_Part], folder: Path) -> Iterator[Any]:
    """Yield a database with the table `repeated` of galaxies and ids."""
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
        }
        with duckdb.connect(config=settings) as database:
            try:
                database.execute(_REPEATED, {"files": [str(part.path) for part in parts]})
            except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
                raise UserError(
                    f"cannot look for repeated ids in {folder}: {str(error).splitlines()[0]}; free space "
                    "there, or choose another output"
                ) from error
            yield database


def _flag_part(path: Path, ids: pa.Array) -> Counter[str]:
    """Flag the rows of a part whose id is among some; count them by survey."""
    table = pq.ParquetFile(path).read()
    is_repeated = pc.is_in(table["object_id"], value_set=ids)
    if not pc.any(is_repeated).as_py():
        return Counter()
    bit = pc.multiply(is_repeated.cast(pa.int32()), pa.scalar(int(Flag.DUPLICATE_ID), pa.int32()))
    place = table.schema.get_field_index("flags")
    flags = pc.bit_wise_or(table["flags"], bit)
    written = read_footer(path)
    flagged = table.set_column(place, table.schema.field(place), flags)
    write_table(path, flagged, written[0] if written else {})
    return Counter(table["survey"].filter(is_repeated).to_pylist())
