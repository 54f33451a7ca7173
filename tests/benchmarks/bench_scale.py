"""Inference of a large catalogue: memory of every process, draws a second with writing, what grows.

    python tests/benchmarks/bench_scale.py RUN [--objects 1000000] [--draws 200] [--folder FOLDER] [--set ...]

RUN is a finished run of bench_reference.py, whose model is used. A catalogue of its problem is made, 20,000
clusters repeated under new ids in galaxies of unlike size, and goes through `batchflow infer` with two
local workers, as a user would run it. Every second the memory of every process is read from /proc.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tomli_w
from bench_reference import DISTANCE, observe

from batchflow.config import load_job, parse_job
from batchflow.mocks.noise import DEFAULT_SURVEY
from batchflow.overrides import apply_overrides
from batchflow.schema import error_column, flux_column
from batchflow.stages import resolved

BLOCK = 20_000
GALAXIES = 40


def write_catalogue(path: Path, objects: int, run: Path) -> None:
    """Blocks of the same photometry, each row with an id of its own; bounded memory."""
    job = load_job(run / "job.toml", [])
    _, flux, error, _ = observe(job, min(BLOCK, objects))
    names = [flux_column(b) for b in job.model.bands] + [error_column(b) for b in job.model.bands]
    columns = dict(zip(names, np.concatenate([flux, error], 1).T, strict=True))
    # A galaxy's share of the clusters falls as one over its rank.
    share = np.cumsum(1 / np.arange(1, GALAXIES + 1))
    writer = None
    for start in range(0, objects, len(flux)):
        rows = slice(0, min(len(flux), objects - start))
        number = np.arange(start, start + rows.stop)
        rank = np.searchsorted(share / share[-1], (number * 0.6180339887498949) % 1)
        table = pa.table(
            {"object_id": number.astype(str), "galaxy": [f"G{i:03d}" for i in rank]}
            | {name: column[rows] for name, column in columns.items()}
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer:
        writer.close()


def write_job(folder: Path, run: Path, words: argparse.Namespace) -> Path:
    """The job of the model, with the catalogue; two workers."""
    values = resolved(load_job(run / "job.toml", []))
    values["name"], values["output"] = "scale", str(folder / "run")
    entry = {"path": str(folder / "catalogue.parquet"), "format": "table", "name": DEFAULT_SURVEY}
    values["catalogue"] = [entry | {"distance_mpc": DISTANCE, "unit": "mJy"}]
    values["cluster"] = {"cpu_workers": 2, "dashboard": "off"}
    values["infer"] = {"draws": words.draws, "rows_per_part": 2000}
    apply_overrides(values, words.set)
    path = folder / "job.toml"
    path.write_text(tomli_w.dumps(resolved(parse_job(values, str(path), folder))))
    return path


def tree(root: int) -> dict[int, tuple[str, float, float]]:
    """Name, memory and its peak [MiB] of a process and its descendants, by process id."""
    parents, found = dict[int, int](), dict[int, tuple[str, float, float]]()
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
            command = status.with_name("cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        pid = int(status.parent.name)
        parents[pid] = int(lines["PPid"])
        if "VmRSS" in lines:
            sizes = [int(lines[key].split()[0]) / 1024 for key in ("VmRSS", "VmHWM")]
            found[pid] = (command, *sizes)
    mine, last = {root}, 0
    while len(mine) > last:
        last = len(mine)
        mine |= {pid for pid, parent in parents.items() if parent in mine}
    return {pid: value for pid, value in found.items() if pid in mine}


def watch(process: subprocess.Popen[Any], draws: Path, seconds: float) -> dict[str, Any]:
    """Peaks of every process, and the client's memory with the parts that were done, at intervals."""
    peaks, client, start = dict[int, float](), list[dict[str, float]](), time.perf_counter()
    while process.poll() is None:
        for pid, (_, now, peak) in tree(process.pid).items():
            peaks[pid] = max(peaks.get(pid, 0.0), peak)
            if pid == process.pid and (not client or time.perf_counter() - start > client[-1]["s"] + seconds):
                done = sum(1 for _ in draws.glob("galaxy=*/part-*.parquet"))
                client.append({"s": round(time.perf_counter() - start, 1), "mib": round(now), "parts": done})
        time.sleep(1)
    others = sorted((peak for pid, peak in peaks.items() if pid != process.pid), reverse=True)
    return {"client_peak_mib": round(peaks[process.pid]), "others_peak_mib": [*map(round, others)]} | {
        "client": client
    }


def main() -> None:
    """Make the catalogue, infer it, print the figures as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0, help="between looks at the client")
    parser.add_argument("--set", action="append", default=[])
    words = parser.parse_args()
    folder = words.folder or Path(tempfile.mkdtemp(prefix="bench-scale-"))
    folder.mkdir(parents=True, exist_ok=True)
    write_catalogue(folder / "catalogue.parquet", words.objects, words.run)
    job = write_job(folder, words.run, words)
    shutil.copytree(words.run / "model", folder / "run" / "model", dirs_exist_ok=True)
    start = time.perf_counter()
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "batchflow", "infer", str(job)], stdout=output, stderr=output
        )
        figures = watch(process, folder / "run" / "draws", words.seconds)
    if process.returncode:
        sys.exit((folder / "output.txt").read_text())
    stage = json.loads((folder / "run" / "logs" / "stages.json").read_text())["infer"]
    size = sum(path.stat().st_size for path in (folder / "run" / "draws").rglob("*.parquet"))
    figures |= {
        "objects": words.objects,
        "draws": words.draws,
        "parts": stage["made"],
        "wall_s": round(time.perf_counter() - start, 1),
        "infer_s": round(stage["seconds"], 1),
        "draws_per_s": round(stage["draws_per_second"]),
        "draws_gib": round(size / 2**30, 3),
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
