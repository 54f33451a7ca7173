"""A small run with everything that the README's queries ask for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from toy_runs import add_part, toy_draws

from batchflow import schema
from batchflow.paths import RunFolder, partition_folder
from batchflow.schema import Flag
from batchflow.shards import write_table

SIZES = {"Demo-A": 12, "../b": 7, "628": 5}
CENTRE = (24.2, 15.0)


def make_asked_run(folder: Path) -> RunFolder:
    """Three galaxies of weighted draws, some young and massive, some bimodal, one not inferred."""
    run = RunFolder(folder)
    rng = np.random.default_rng(5)
    for galaxy, n in SIZES.items():
        add_part(folder, galaxy, _draws(n, rng))
        for parent in (run.posterior, run.draws):
            _finish(partition_folder(parent, galaxy) / "part-00000.parquet", galaxy, rng)
        _write_catalogue(run, galaxy, n, rng)
    return run


def _draws(n: int, rng: np.random.Generator):
    age = rng.choice([6.5, 7.2, 8.5], (n, 1)) + rng.normal(0, 0.1, (n, 80))
    second = (np.arange(n) % 3 == 0)[:, None] & (rng.random((n, 80)) < 0.4)
    values = {
        "log_age": np.where(second, 9.2 + rng.normal(0, 0.05, (n, 80)), age),
        "log_mass": rng.uniform(3, 6, (n, 1)) + rng.normal(0, 0.3, (n, 80)),
        "ebv": np.clip(0.5 - 0.2 * (age - age.mean(1, keepdims=True)) + rng.normal(0, 0.02, (n, 80)), 0, 1.5),
    }
    return toy_draws(values, rng.normal(0, 1.5, (n, 80)))


def _finish(path: Path, galaxy: str, rng: np.random.Generator) -> None:
    """Ids, places, flags and published ages, and a last cluster without a posterior."""
    table = pq.read_table(path, partitioning=None)
    n = table.num_rows
    angle, distance = np.linspace(0, 6, n), np.linspace(0, 60, n) / 3600
    ra = CENTRE[0] + distance * np.cos(angle) / np.cos(np.radians(CENTRE[1]))
    flags = [int(Flag.MISSING_BAND) * (i % 2) | int(Flag.LOW_EFFICIENCY) * (i % 4 == 0) for i in range(n)]
    changed = {
        "object_id": [f"{galaxy}-{i + 1}" for i in range(n)],
        "ra": ra,
        "dec": CENTRE[1] + distance * np.sin(angle),
        "flags": flags,
        "published_log_age": np.where(np.arange(n) % 5 == 4, np.nan, rng.uniform(6, 10, n)),
    }
    for name, values in changed.items():
        if name in table.column_names:
            place = table.schema.get_field_index(name)
            field = table.schema.field(place)
            table = table.set_column(place, field, pa.array(values, field.type))
    write_table(path, _without_last(table), {})


def _without_last(table: pa.Table) -> pa.Table:
    """The last row as a cluster that was not inferred."""
    columns = []
    for field in table.schema:
        values = table[field.name].to_pylist()
        if pa.types.is_list(field.type):
            values[-1] = [] if "log_weight" in table.column_names else None
        elif field.type == pa.float32():
            values[-1] = float("nan")
        columns.append(pa.array(values, field.type))
    return pa.Table.from_arrays(columns, schema=table.schema)


def _write_catalogue(run: RunFolder, galaxy: str, n: int, rng: np.random.Generator) -> None:
    wanted = schema.catalogue_schema(("wfc3_f555w",))
    given = {
        "galaxy": pa.array([galaxy] * n),
        "object_id": [f"{galaxy}-{i + 1}" for i in range(n)],
        "flux_wfc3_f555w": rng.lognormal(-5, 1, n) - 0.003,
    }
    columns = [pa.array(given[f.name]) if f.name in given else pa.nulls(n, f.type) for f in wanted]
    rows = pa.Table.from_arrays([c.cast(f.type) for c, f in zip(columns, wanted, strict=True)], schema=wanted)
    write_table(partition_folder(run.catalogue, galaxy) / "part-00000.parquet", rows, {})
