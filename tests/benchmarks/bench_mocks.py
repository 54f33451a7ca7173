"""Mocks per second and memory against the number of rows; and the limit, writing the same bytes.

    python tests/benchmarks/bench_mocks.py [ROWS ...]

Each size runs as a user would run it (`batchflow mocks`, two workers), set-up of the cluster included.
Beside it stands one process writing an equal number of random rows with pyarrow: the disk's and the
compressor's limit.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

JOB = """
name = "bench"
output = "{folder}/run"
[model]
bands = ["wfc3_f275w", "wfc3_f336w", "wfc3_f438w", "wfc3_f555w", "wfc3_f814w"]
[noise]
depth = [-5.3, -4.3]
[mocks]
rows = {rows}
rows_per_shard = 100_000
[cluster]
cpu_workers = 2
dashboard = "127.0.0.1:0"
"""


def run_job(rows: int, folder: Path) -> dict[str, float]:
    """Make mocks through the command line; wall time [s], peak memory [MiB]."""
    job = folder / "job.toml"
    job.write_text(JOB.format(folder=folder, rows=rows))
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "batchflow", "mocks", str(job)], check=True, stderr=subprocess.DEVNULL
    )
    wall = time.perf_counter() - start
    figures = json.loads((folder / "run" / "logs" / "stages.json").read_text())["mocks"]
    peaks = figures["peak_memory_mib"]
    return {
        "wall": wall,
        "rate": figures["mocks_per_second"],
        "client": peaks["client"],
        "worker": max(value for name, value in peaks.items() if name != "client"),
    }


def write_raw(rows: int, folder: Path) -> float:
    """Seconds to write as many rows of random floats, one process, nothing else."""
    block = np.random.default_rng(0).random((8, 100_000), dtype=np.float32)
    table = pa.table({str(i): column for i, column in enumerate(block)})
    start = time.perf_counter()
    for i in range(rows // 100_000):
        pq.write_table(table, folder / f"{i}.parquet", compression="zstd", use_dictionary=False)
    return time.perf_counter() - start


def main() -> None:
    """Print a line a size."""
    sizes = [int(text) for text in sys.argv[1:]] or [100_000, 1_000_000, 5_000_000]
    print(f"{'rows':>9} {'wall s':>8} {'rows/s':>10} {'raw/ours':>9} {'client MiB':>11} {'worker MiB':>11}")
    for rows in sizes:
        with tempfile.TemporaryDirectory() as name:
            found = run_job(rows, Path(name))
            raw = write_raw(rows, Path(name))
        ratio = found["rate"] / (rows / raw)
        print(
            f"{rows:>9} {found['wall']:>8.1f} {found['rate']:>10.0f} {ratio:>9.2f} "
            f"{found['client']:>11.0f} {found['worker']:>11.0f}"
        )


if __name__ == "__main__":
    main()
