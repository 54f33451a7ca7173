"""Seconds of queries on a large run: `python tests/benchmarks/bench_query.py --rows 1000000`.

Makes a run folder (a small run's clusters again and again, each at a place of its own; the package's own
schema and writer), times queries on it, and removes it. 10^6 clusters of 200 draws take 2.5 GB and minutes.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from harness import report

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from toy_runs import add_part, toy_draws

import batchflow
from batchflow.paths import partition_folder
from batchflow.results.query import query
from batchflow.shards import write_table

DRAWS = 200
PART = 100_000
GALAXIES = 40
"""Beside the first, which has a fifth of all clusters; they share the others evenly."""

QUERIES = {
    "one cluster's summary, galaxy given": "SELECT * FROM posterior "
    "WHERE galaxy = 'G007' AND object_id = '{id}'",
    "one cluster's summary, id alone": "SELECT galaxy, log_age_q50 FROM posterior WHERE object_id = '{id}'",
    "one cluster's draws, galaxy given": "SELECT * FROM draws WHERE galaxy = 'G007' AND object_id = '{id}'",
    "one cluster's draws, id alone": "SELECT * FROM draws WHERE object_id = '{id}'",
    "1000 draws of a cluster, galaxy given": "FROM sample_draws('{id}', 1000, in_galaxy := 'G007')",
    "1000 draws of a cluster, id alone": "FROM sample_draws('{id}', 1000)",
    "young ones of a galaxy": "SELECT object_id FROM posterior WHERE galaxy = 'G007' AND log_age_q84 < 7",
    "P(young) of a galaxy's draws": "SELECT count(*) FROM draws WHERE galaxy = 'G007' AND "
    "p_below(log_age, log_weight, 7) > 0.9",
    "P(young and massive) of a galaxy's draws": "SELECT count(*) FROM draws WHERE galaxy = 'G007' AND "
    "p_all([each_below(log_age, 7), each_above(log_mass, 4)], log_weight) > 0.9",
    "weighted quantile of a galaxy's draws": "SELECT avg(weighted_quantile(log_age, log_weight, 0.9)) "
    "FROM draws WHERE galaxy = 'G007'",
    "cone search": "SELECT count(*) FROM cone(180, 0, 1)",
    "full scan: medians by galaxy": "SELECT galaxy, median(log_age_q50), median(log_mass_q50) FROM posterior "
    "GROUP BY galaxy",
    "full scan: flags by galaxy": "SELECT galaxy, flag, count(*) FROM (SELECT galaxy, "
    "unnest(flag_names(flags)) AS flag FROM posterior) GROUP BY ALL",
    "full scan: mass histogram": "SELECT floor(log_mass_q50 * 4) / 4 AS bin, count(*) "
    "FROM posterior GROUP BY bin",
    "full scan: bimodal, widest first": "SELECT galaxy, object_id, mode_log_age FROM posterior "
    "WHERE n_modes > 1 ORDER BY log_age_std DESC LIMIT 20",
    "full scan: worst efficiency": "SELECT galaxy, object_id, efficiency FROM posterior ORDER BY efficiency "
    "LIMIT 20",
}
LONG = {
    "all draws: P(young)": "SELECT count(*) FROM draws WHERE p_below(log_age, log_weight, 7) > 0.9",
}


def make_run(folder: Path, rows: int) -> None:
    """Write posterior and draws of so many clusters."""
    with tempfile.TemporaryDirectory() as small:
        chance = np.random.default_rng(1)
        shape = (500, DRAWS)
        given = {"log_age": (7.5, 0.2), "log_mass": (4.0, 0.1), "ebv": (0.4, 0.05)}
        values = {name: chance.normal(*centre_and_width, shape) for name, centre_and_width in given.items()}
        add_part(Path(small), "toy", toy_draws(values, chance.normal(0, 0.5, shape)))
        run = batchflow.open_run(small)
        tables = {"posterior": run.posterior.to_arrow(), "draws": run.draws.to_arrow()}
    rng = np.random.default_rng(2)
    sizes = [rows // 5, *[rows * 4 // 5 // GALAXIES] * GALAXIES]
    for number, size in enumerate(sizes):
        galaxy = f"G{number:03d}"
        for part, start in enumerate(range(0, size, PART)):
            ids = np.arange(start, min(start + PART, size))
            shift = {
                "log_age": rng.normal(0, 0.7, len(ids)).clip(-1.4, 2),
                "log_mass": rng.normal(0, 0.8, len(ids)),
                "ebv": rng.uniform(-0.2, 0.5, len(ids)),
            }
            for name, table in tables.items():
                made = replicate(table, galaxy, ids, shift, rng)
                write_table(partition_folder(folder / name, galaxy) / f"part-{part:05d}.parquet", made, {})


def replicate(
    table: pa.Table, galaxy: str, ids: np.ndarray, shift: dict[str, np.ndarray], rng: np.random.Generator
) -> pa.Table:
    """Rows of a small table again and again, each moved, under other names."""
    n = len(ids)
    table = table.take(pa.array(ids % table.num_rows)).combine_chunks()
    given = {
        "galaxy": pa.array([galaxy] * n),
        "object_id": pa.array([f"{galaxy}-{i}" for i in ids]),
        "ra": pa.array(rng.uniform(0, 360, n)),
        "dec": pa.array(np.degrees(np.arcsin(rng.uniform(-1, 1, n)))),
        "efficiency": pa.array(rng.beta(5, 1, n), pa.float32()),
        "flags": pa.array(rng.choice([0, 0, 0, 1, 1, 256, 128 + 1], n), pa.int32()),
        "n_modes": pa.array(rng.choice([1, 1, 1, 1, 2], n), pa.int16()),
    }
    columns = []
    for field in table.schema:
        if field.name in given:
            columns.append(given[field.name].cast(field.type))
            continue
        column = table[field.name].combine_chunks()
        column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
        parameter = next(
            (name for name in shift if field.name == name or field.name.startswith(f"{name}_q")), None
        )
        columns.append(moved(column, shift[parameter]) if parameter else column)
    return pa.Table.from_arrays(columns, schema=table.schema)


def moved(column: pa.Array, by: np.ndarray) -> pa.Array:
    """Values, or lists of them, moved row by row."""
    if not pa.types.is_list(column.type):
        return pa.array(column.to_numpy(zero_copy_only=False) + by).cast(column.type)
    lengths = np.diff(column.offsets.to_numpy())
    values = column.values.to_numpy() + np.repeat(by.astype(np.float32), lengths)
    return pa.ListArray.from_arrays(column.offsets, pa.array(values))


def timed(folder: Path, sql: str, times: int = 3) -> dict[str, float]:
    """Seconds of the best of some, opening the database included: on the clock, of the processors; rows."""
    seconds, rows = [], 0
    for _ in range(times):
        start, used = time.perf_counter(), time.process_time()
        rows = query(folder, sql).num_rows
        seconds.append((time.perf_counter() - start, time.process_time() - used))
    wall, used = (min(values) for values in zip(*seconds, strict=True))
    return {"wall_s": wall, "cpu_s": used, "rows": rows}


def line(found: dict[str, float], name: str) -> str:
    """A query's figures, to be read."""
    return f"{found['wall_s']:7.3f} {found['cpu_s']:7.3f}  {found['rows']:7,d}  {name}"


def main() -> None:
    """Make, time, remove."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--folder", type=Path, help="one that exists is used as it is, and kept")
    parser.add_argument("--long", action="store_true", help="also read every draw")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-query-") as scratch:
        folder = given.folder or Path(scratch)
        if not (folder / "posterior").is_dir():
            start = time.perf_counter()
            make_run(folder, given.rows)
            print(f"made in {time.perf_counter() - start:.0f} s")
        measure(folder, LONG if given.long else {})


def measure(folder: Path, long: dict[str, str]) -> None:
    """Print seconds by query."""
    files = sorted(folder.rglob("*.parquet"))
    size = sum(path.stat().st_size for path in files)
    rows = sum(pq.read_metadata(path).num_rows for path in files if "posterior" in path.parts)
    print(f"{rows:,} clusters, {len(files)} files, {size / 2**30:.2f} GiB")
    print("   wall     cpu     rows  query")
    found = {}
    some = f"G007-{rows // 100}"
    for name, sql in (QUERIES | long).items():
        found[name] = timed(folder, sql.replace("{id}", some), 1 if name in long else 3)
        print(line(found[name], name), flush=True)
    start = time.perf_counter()
    sql = QUERIES["one cluster's draws, galaxy given"].replace("{id}", some)
    subprocess.run(
        [sys.executable, "-m", "batchflow", "query", str(folder), sql], check=True, capture_output=True
    )
    found["the command: one cluster's draws"] = {"wall_s": time.perf_counter() - start}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report({"clusters": rows, "gib": size / 2**30, "queries": found, "peak_memory_mib": peak})


if __name__ == "__main__":
    main()
