"""Mocks a second: one core and two, against a bare loop, and against writing the same bytes with pyarrow.

    python tests/benchmarks/bench_mocks.py [--rows 5000000]

`raw_writing` is the limit: shards of random floats, of the same columns, written one after another.
`bare_loop` draws from the prior, interpolates the fluxes and writes Parquet, and nothing else: no footer,
no unit in any column, no fsync. `shards` is `make_shard`, what a worker does, in a plain loop. Each of
these three runs in turns, in this process. `workers_1` and `workers_2` are the stage, as `batchflow mocks`
ran it. CIGALE: bench_cigale.py. More parameters: bench_engine.py. Growth with the number of mocks:
bench_growth.py.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from harness import BANDS, batchflow, report, wall_seconds, watch

from batchflow.config import Job, load_job
from batchflow.mocks.make import make_shard
from batchflow.physics.engine import Engine, open_engine
from batchflow.stages import mocks_settings

SHARD = 100_000
PARAMETERS = {"log_age": (6.0, 10.14), "log_mass": (2.0, 7.0), "ebv": (0.0, 1.5)}
JOB = """
name = "bench"
output = "{folder}/run"
[model]
bands = {bands}
[prior]
{prior}
[noise]
depth = [-5.3, -4.3]
[mocks]
rows = {rows}
rows_per_shard = {shard}
[cluster]
cpu_workers = {workers}
dashboard = "off"
"""


def write_job(folder: Path, rows: int, workers: int) -> Path:
    """A job of mocks alone."""
    prior = "\n".join(f"{name} = {{uniform = {list(box)}}}" for name, box in PARAMETERS.items())
    words = {"bands": list(BANDS), "prior": prior, "rows": rows, "shard": SHARD, "workers": workers}
    path = folder / "job.toml"
    path.write_text(JOB.format(folder=folder, **words))
    return path


def write_raw(path: Path, table: pa.Table) -> None:
    """Parquet as the package has it, without what it adds."""
    pq.write_table(table, path, compression="zstd", use_dictionary=False)


def bare_shard(engine: Engine, random: np.random.Generator, path: Path) -> None:
    """Draw, compute, write."""
    drawn = {name: random.uniform(*box, SHARD).astype(np.float32) for name, box in PARAMETERS.items()}
    per_mass = engine.fluxes({name: drawn[name] for name in engine.parameters})
    fluxes = (per_mass * 10.0 ** drawn["log_mass"].astype(float)[:, None]).astype(np.float32)
    write_raw(path, pa.table([*drawn.values(), *fluxes.T], names=[*drawn, *BANDS]))


def in_one_process(job: Job, folder: Path, shards: int) -> dict[str, float]:
    """Rows a second of the three loops, in turns; the median of as many shards."""
    settings, engine, random = mocks_settings(job), open_engine(job.model), np.random.default_rng(0)
    block = random.random((len(PARAMETERS) + len(BANDS), SHARD), dtype=np.float32)
    noise = pa.table({str(i): column for i, column in enumerate(block)})
    path = folder / "shard.parquet"
    works: dict[str, Callable[[int], object]] = {
        "raw_writing": lambda _: write_raw(path, noise),
        "bare_loop": lambda _: bare_shard(engine, random, path),
        "shards": lambda i: make_shard(str(path), {"index": i, "rows": SHARD}, settings, {}),
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(shards + 1):
        for name, work in works.items():
            times[name].append(wall_seconds(partial(work, turn)))
    return {name: SHARD / statistics.median(values[1:]) for name, values in times.items()}


def by_command(folder: Path, rows: int, workers: int) -> float:
    """Rows a second of the stage, the cluster's start not counted."""
    watch(batchflow("mocks", str(write_job(folder, rows, workers))))
    stages = json.loads((folder / "run" / "logs" / "stages.json").read_text())
    return float(stages["mocks"]["mocks_per_second"])


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = load_job(write_job(folder, rows, 1), [])
        figures = in_one_process(job, folder, max(3, min(20, rows // SHARD)))
        for workers in (1, 2):
            with tempfile.TemporaryDirectory() as own:
                figures[f"workers_{workers}"] = by_command(Path(own), rows, workers)
    report({"rows": rows, "rows_per_s": figures})


if __name__ == "__main__":
    main()
