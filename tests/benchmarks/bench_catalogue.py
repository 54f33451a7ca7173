"""Catalogues read, partitioned and written: seconds and peak memory by file type and number of rows.

    python tests/benchmarks/bench_catalogue.py [--types fits,csv] [ROWS ...]

Types: parquet, fits, csv, ecsv, ascii, votable (TABLEDATA), binary, binary2 (VOTables too), csv.gz, fits.gz.
Five bands, nine galaxies. Each case is a process of its own, so that its peak memory is its own; the file is
made by another.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from astropy.table import Table
from harness import BANDS, report

SUFFIXES = {
    "parquet": ".parquet", "fits": ".fits", "csv": ".csv", "ecsv": ".ecsv", "ascii": ".txt",
    "votable": ".vot", "binary": ".vot", "binary2": ".vot", "csv.gz": ".csv.gz", "fits.gz": ".fits.gz",
}  # fmt: skip
LIMIT_S = 30.0
"""For a million rows, on two cores with nothing else to do [s]."""


def make_table(rows: int) -> pa.Table:
    """Clusters of nine galaxies, in no order."""
    random = np.random.default_rng(1)
    galaxy = random.integers(0, 9, rows)
    columns = {
        "object_id": np.char.add("c", np.arange(rows).astype(str)),
        "galaxy": np.char.add("NGC", (600 + galaxy).astype(str)),
        "ra": 10.0 * galaxy + random.random(rows) * 0.1,
        "dec": random.random(rows) * 0.1,
        "distance_mpc": 5.0 + galaxy,
    }
    for band in BANDS:
        columns[f"flux_{band}"] = 10 ** random.normal(-3, 1, rows)
        columns[f"error_{band}"] = np.full(rows, 1e-4)
    return pa.table(columns)


def make_file(kind: str, rows: int, folder: Path) -> Path:
    """Write a catalogue."""
    table, path = make_table(rows), folder / f"catalogue{SUFFIXES[kind]}"
    if kind == "parquet":
        pq.write_table(table, path)
    elif kind == "csv":
        pyarrow.csv.write_csv(table, path)
    elif kind == "csv.gz":
        with pa.CompressedOutputStream(str(path), "gzip") as stream:
            pyarrow.csv.write_csv(table, stream)
    else:
        formats = {"ecsv": {"format": "ascii.ecsv"}, "ascii": {"format": "ascii.basic"}} | {
            name: {"format": "votable", "tabledata_format": form}
            for name, form in (("votable", "tabledata"), ("binary", "binary"), ("binary2", "binary2"))
        }
        columns = {name: table[name].to_numpy() for name in table.column_names}
        texts = {name: column.astype(str) for name, column in columns.items() if column.dtype.kind == "O"}
        found = Table(columns | texts)
        found.write(path, **formats.get(kind, {"format": "fits"}))
    return path


def ingest(path: Path, folder: Path) -> dict[str, float]:
    """Make the normalised catalogue of a run as `batchflow run` does: wall and CPU seconds, peak [MiB]."""
    from batchflow.catalogue.ingest import ensure_catalogue
    from batchflow.config import parse_job
    from batchflow.paths import RunFolder

    values = {
        "name": "bench",
        "output": str(folder / "run"),
        "model": {"bands": list(BANDS)},
        "catalogue": [{"path": str(path)}],
    }
    job = parse_job(values, "bench", folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start, cpu = time.perf_counter(), time.process_time()
    parts = ensure_catalogue(job, RunFolder(job.output), "resume")
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows = sum(part.n_rows for part in parts)
    return {"seconds": seconds, "cpu": cpu, "before": before, "peak": peak, "rows": rows}


def measure(kind: str, rows: int) -> dict[str, float]:
    """Run one case in processes of its own."""
    with tempfile.TemporaryDirectory() as name:
        for step in ("--make", "--ingest"):
            command = [sys.executable, __file__, step, name, "--types", kind, str(rows)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print a line a case; exit 1 when one takes more than `LIMIT_S` for a million rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", type=int, default=[1_000_000, 3_000_000])
    parser.add_argument("--types", default="parquet,fits,csv,ecsv,ascii,votable,binary2")
    parser.add_argument("--make", type=Path)
    parser.add_argument("--ingest", type=Path)
    asked = parser.parse_args()
    if asked.make:
        make_file(asked.types, asked.rows[0], asked.make)
        return
    if asked.ingest:
        (path,) = asked.ingest.glob("catalogue*")
        print(json.dumps(ingest(path, asked.ingest) | {"bytes": path.stat().st_size}))
        return
    heads = ("type", "rows", "file MB", "wall s", "CPU s", "before MiB", "peak MiB")
    print("{:>8} {:>9} {:>8} {:>7} {:>6} {:>10} {:>9}".format(*heads))
    slow, cases = False, list[dict[str, Any]]()
    for kind in asked.types.split(","):
        for rows in asked.rows:
            found = measure(kind, rows)
            if found["rows"] != rows:
                raise SystemExit(f"{kind}: {found['rows']} rows written of {rows}")
            print(
                f"{kind:>8} {rows:>9} {found['bytes'] / 1e6:>8.0f} {found['seconds']:>7.1f} "
                f"{found['cpu']:>6.1f} {found['before']:>10.0f} {found['peak']:>9.0f}",
                flush=True,
            )
            cases.append({"type": kind} | found)
            slow |= found["seconds"] > LIMIT_S * max(rows / 1e6, 1)
    report({"limit_s_a_million": LIMIT_S, "cases": cases})
    raise SystemExit(int(slow))


if __name__ == "__main__":
    main()
