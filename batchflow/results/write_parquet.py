"""One Parquet file of a table or of an answer, its footer as VOParquet has it, a piece at a time."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchflow.results.source import Source
from batchflow.shards import FOOTER_KEY
from batchflow.votable import parquet_metadata, string_widths

ARROW_KEY = b"ARROW:schema"


def write_parquet(path: Path, source: Source) -> None:
    """Write a table as a Parquet file.

    Parameters
    ----------
    path : Path
        The file.
    source : Source
        What to write.
    """
    write_batches(path, source.schema, source.batches(), source.provenance)


def write_batches(
    path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], provenance: Mapping[str, Any]
) -> None:
    """Write rows as they come.

    Parameters
    ----------
    path : Path
        The file.
    schema : pyarrow.Schema
        With the metadata of `votable.described`.
    batches : iterable of pyarrow.RecordBatch
        The rows.
    provenance : mapping
        JSON-able.
    """
    widths: dict[str, int] = {}
    # Readers take metadata from the schema that Arrow stores before the first row, but widths of strings are
    # known after the last: so it is stored by hand.
    with pq.ParquetWriter(path, schema, compression="zstd", store_schema=False) as writer:
        for batch in batches:
            writer.write_batch(batch)
            for name, width in string_widths(batch).items():
                widths[name] = max(width, widths.get(name, 1))
        whole = stamped(schema, widths, provenance)
        stored = {ARROW_KEY: base64.b64encode(whole.serialize())}
        writer.add_key_value_metadata({**whole.metadata, **stored})


def stamped(schema: pa.Schema, widths: Mapping[str, int], provenance: Mapping[str, Any]) -> pa.Schema:
    """Columns with all that a reader should know of them, and where they come from.

    Parameters
    ----------
    schema : pyarrow.Schema
        With the metadata of `votable.described`.
    widths : mapping of str to int
        Characters of columns of strings.
    provenance : mapping
        JSON-able.

    Returns
    -------
    pyarrow.Schema
        The same fields.
    """
    own = {FOOTER_KEY: json.dumps(provenance).encode()}
    return schema.with_metadata({**own, **parquet_metadata(schema, widths)})
