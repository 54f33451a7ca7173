"""A tiny job that runs as a user would run it, and what it leaves when nothing goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

HERE = Path(__file__).parent
STAGES = ("mocks", "train", "infer", "fit", "validate", "report")
TABLES = ("mocks", "catalogue", "model", "posterior", "draws", "fit", "validation")
"""Folders of a run whose Parquet files are its results."""

JOB = """
name = "tiny"
output = "run"
seed = 3
[cluster]
cpu_workers = 1
dashboard = "off"
[model]
bands = ["wfc3_f336w", "wfc3_f555w", "wfc3_f814w"]
[prior]
log_age = {uniform = [6.0, 10.0]}
log_mass = {uniform = [3.0, 7.0]}
ebv = {uniform = [0.0, 1.0]}
[mocks]
rows = 2000
rows_per_shard = 1000
[flow]
hidden = 16
couplings = 3
encoder_layers = 1
[train]
epochs = 2
batch = 256
held_out = 0.1
checkpoint_seconds = 0.01
[[catalogue]]
path = "clusters.csv"
format = "table"
[infer]
draws = 40
max_draws = 40
grid = "never"
rows_per_part = 20
[fit]
draws = 20
steps = {ebv = 0.1}
[validate]
mocks = 40
draws = 40
exact = 3
"""


def write_catalogue(path: Path, clusters: int = 36) -> None:
    """Write a catalogue of clusters of two galaxies, fluxes in mJy, with published ages and masses."""
    chance = np.random.default_rng(1)
    bands = ("wfc3_f336w", "wfc3_f555w", "wfc3_f814w")
    names = [f"{kind}_{band}" for kind in ("flux", "error") for band in bands]
    published = [f"published_{name}" for name in ("log_age", "log_mass", "ebv")]
    lines = [",".join(["object_id", "galaxy", "distance_mpc", *names, *published])]
    for i in range(clusters):
        flux = 10 ** chance.uniform(-3, -2) * 10 ** chance.normal(0, 0.15, len(bands))
        values = [*flux, *(0.05 * flux), chance.uniform(6.5, 9.5), chance.uniform(4, 6), 0.2]
        lines.append(",".join([f"c{i}", "one" if i % 3 else "two", "5.0", *(f"{v:.6g}" for v in values)]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def environment(job: Path, **more: str) -> dict[str, str]:
    """Environment of the program: this checkout, one thread a process, and `inject` in every process."""
    (job.parent / "marks").mkdir(exist_ok=True)
    folders = [str(HERE / "inject"), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(filter(None, folders))
    marks = str(job.parent / "marks")
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "FAULT_MARKS": marks, **more}


def command(job: Path, stage: str = "run", *overrides: str) -> list[str]:
    """The words of a command that works on a job."""
    sets = [word for item in overrides for word in ("--set", item)]
    return [sys.executable, "-m", "batchflow", stage, str(job), *sets]


def begin(job: Path, stage: str = "run", *overrides: str, **more: str) -> subprocess.Popen[str]:
    """Begin a stage, or all, of a job in a process group of its own; `more` goes into the environment."""
    return subprocess.Popen(
        command(job, stage, *overrides),
        cwd=job.parent,
        env=environment(job, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def batchflow(
    job: Path, stage: str = "run", *overrides: str, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a stage, or all, of a job to its end."""
    with begin(job, stage, *overrides, **more) as process:
        out, err = process.communicate(timeout=240)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def well(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """A run that must have ended well."""
    assert done.returncode == 0, done.stderr
    return done


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """A run that must have ended with one message that has these words."""
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode in (2, 3), (done.returncode, done.stderr)
    for word in words:
        assert word in done.stderr, done.stderr


def tables(run: Path, *names: str) -> list[Path]:
    """Parquet files of a run's results, or of some of its folders, relative to it."""
    return sorted(
        path.relative_to(run) for name in names or TABLES for path in (run / name).rglob("*.parquet")
    )


def same_tables(run_a: Path, run_b: Path, *names: str) -> int:
    """Compare the tables of two runs, or of some of their folders, value for value; how many there are."""
    assert tables(run_a, *names)
    assert tables(run_a, *names) == tables(run_b, *names)
    for path in tables(run_a, *names):
        a, b = (pq.read_table(run / path, partitioning=None) for run in (run_a, run_b))
        if path.name == "history.parquet":
            a, b = (table.drop_columns(["seconds", "rows_per_second"]) for table in (a, b))
        assert a.schema.equals(b.schema), path
        for name in a.column_names:
            assert same_values(a[name].combine_chunks(), b[name].combine_chunks()), (path, name)
    return len(tables(run_a, *names))


def same_results(run_a: Path, run_b: Path, *names: str) -> int:
    """Compare two runs, or some of their folders: tables value for value, models bit for bit; how many files.

    Times of a training and what it did in a second differ between any two runs and are not compared.
    """
    number = same_tables(run_a, run_b, *names)
    if names and "model" not in names:
        return number
    models = [sorted(path.name for path in (run / "model").iterdir()) for run in (run_a, run_b)]
    assert models[0] == models[1]
    weights = list((run_a / "model").rglob("*.safetensors"))
    assert weights
    for path in weights:
        assert path.read_bytes() == (run_b / path.relative_to(run_a)).read_bytes(), path
    if not names:
        for run in (run_a, run_b):
            assert (run / "report" / "index.html").read_text("utf-8").rstrip().endswith("</html>")
    return number + len(weights)


def same_values(a: pa.Array, b: pa.Array) -> bool:
    """Whether two columns hold the same, NaN where NaN."""
    if a.equals(b):
        return True
    if pa.types.is_list(a.type) or pa.types.is_large_list(a.type):
        lengths = [pc.list_value_length(column) for column in (a, b)]
        return lengths[0].equals(lengths[1]) and same_values(a.flatten(), b.flatten())
    floats = [column.to_numpy(zero_copy_only=False) for column in (a, b) if pa.types.is_floating(column.type)]
    return len(floats) == 2 and np.array_equal(*floats, equal_nan=True)


def nothing_half_written(run: Path) -> None:
    """Check that every table of a run that is there can be read whole."""
    for path in tables(run):
        pq.read_table(run / path, partitioning=None)
