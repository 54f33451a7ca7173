"""The catalogues of a job as Parquet parts, a folder for each galaxy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchflow.catalogue.normalise import flag_duplicates
from batchflow.paths import partition_folder
from batchflow.shards import write_table


@dataclass(frozen=True)
class Part:
    """A slice of a galaxy's clusters, in a file of its own."""

    galaxy: str
    """Name of the galaxy, not escaped."""
    path: Path
    """The Parquet file."""
    n_rows: int
    """Its clusters."""
    first_id: str
    """Id of the first cluster."""
    last_id: str
    """Id of the last cluster."""


def write_catalogue(
    tables: Iterable[pa.Table], folder: Path, rows_per_part: int, footer: Mapping[str, Any]
) -> list[Part]:
    """Write all surveys of a job, by galaxy.

    Parameters
    ----------
    tables : iterable of pyarrow.Table
        Surveys as `read_catalogue` gives them, in any order.
    folder : Path
        Parts become ``folder/galaxy=<escaped>/part-00000.parquet`` and on.
    rows_per_part : int
        Clusters in a part at most.
    footer : mapping
        Provenance; each part's says its galaxy and ids as well.

    Returns
    -------
    list of Part
        By galaxy, then in the order of the rows: surveys by name, rows as in their file.

    Raises
    ------
    UserError
        When the disk refuses.
    """
    whole = pa.concat_tables(tables)
    parts = []
    galaxies = whole["galaxy"].cast(pa.string())
    for galaxy in sorted(pc.unique(galaxies).to_pylist()):
        rows = flag_duplicates(_by_survey(whole.filter(pc.equal(galaxies, galaxy))))
        for start in range(0, rows.num_rows, rows_per_part):
            path = partition_folder(folder, galaxy) / f"part-{start // rows_per_part:05d}.parquet"
            parts.append(_write(path, rows.slice(start, rows_per_part), footer))
    return parts


def _by_survey(rows: pa.Table) -> pa.Table:
    surveys = np.array(rows["survey"].to_pylist(), dtype=object)
    return rows.take(pa.array(np.argsort(surveys, kind="stable")))


def _write(path: Path, rows: pa.Table, footer: Mapping[str, Any]) -> Part:
    galaxy, ids = rows["galaxy"][0].as_py(), rows["object_id"]
    part = Part(galaxy, path, rows.num_rows, ids[0].as_py(), ids[-1].as_py())
    own = {"galaxy": galaxy, "first_id": part.first_id, "last_id": part.last_id}
    write_table(path, _with_own_dictionary(rows, galaxy), {**footer, **own})
    return part


def _with_own_dictionary(rows: pa.Table, galaxy: str) -> pa.Table:
    """Let the column `galaxy` know this one alone: a part must not depend on what else is in the job."""
    place = rows.schema.get_field_index("galaxy")
    codes = np.zeros(rows.num_rows, dtype=np.int32)
    column = pa.DictionaryArray.from_arrays(codes, pa.array([galaxy]))
    return rows.set_column(place, rows.schema.field(place), column)
