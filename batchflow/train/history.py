"""Training history: a Parquet file that grows as training goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from batchflow.plan import fingerprint
from batchflow.shards import write_table

SCHEMA = pa.schema(
    {
        "step": pa.int64(),
        "epoch": pa.float64(),
        "train_loss": pa.float64(),
        "held_out_loss": pa.float64(),
        "learning_rate": pa.float64(),
        "rows_per_second": pa.float64(),
        "seconds": pa.float64(),
    }
)


class Record(NamedTuple):
    """How training stood after a step."""

    step: int
    """Batches trained on."""
    epoch: float
    """Passes over the training rows."""
    train_loss: float
    """Mean of -ln density since the last record [nat], densities in the parameters' units."""
    held_out_loss: float
    """The same on held-out mocks [nat]."""
    learning_rate: float
    """Of the last step."""
    rows_per_second: float
    """Training rows since the last record over the time they took."""
    seconds: float
    """Time trained, interruptions left out [s]."""


def write_history(path: Path, records: Sequence[Record]) -> None:
    """Write the history so far, atomically.

    Parameters
    ----------
    path : Path
        The Parquet file.
    records : sequence of Record
        In the order of steps.
    """
    columns = zip(*records, strict=True) if records else ([] for _ in SCHEMA)
    footer = {"kind": "history", "of": history_key(records)}
    write_table(path, pa.table([list(column) for column in columns], schema=SCHEMA), footer)


def history_key(records: Sequence[Sequence[float]]) -> str:
    """What the footer of a history says of its records, so that it is not taken for another one's."""
    return fingerprint({"records": [list(record) for record in records]})


def read_history(path: Path) -> list[Record]:
    """Read what `write_history` wrote; nothing when there is no file.

    Parameters
    ----------
    path : Path
        The Parquet file.

    Returns
    -------
    list of Record
        In the order of steps.
    """
    if not path.is_file():
        return []
    return [Record(**row) for row in pq.read_table(path).select(SCHEMA.names).to_pylist()]
