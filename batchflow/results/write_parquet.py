"""One Parquet file of a whole table, its footer as VOParquet has it, a piece at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from batchflow.results.source import Source
from batchflow.shards import FOOTER_KEY
from batchflow.votable import parquet_metadata


def write_parquet(path: Path, source: Source) -> None:
    """Write a Parquet file.

    Parameters
    ----------
    path : Path
        The file.
    source : Source
        What to write.
    """
    with pq.ParquetWriter(path, stamped_schema(source), compression="zstd") as writer:
        for batch in source.batches():
            writer.write_batch(batch)


def stamped_schema(source: Source) -> pa.Schema:
    """The columns with all that a reader should know of them, and where they come from."""
    own = {
        FOOTER_KEY: json.dumps(source.provenance).encode(),
        **parquet_metadata(source.schema, source.facts.characters),
    }
    return source.schema.with_metadata(own)
