"""Broken files of a finished run: each is met, by name, and a rerun ends with the unbroken run's results."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from inline_runs import copied, inline, other, run_inline, whole  # noqa: F401 - fixtures
from tiny_job import same_results

from batchflow.config import load_job
from batchflow.errors import UserError
from batchflow.results.query import query
from batchflow.status import status_of

pytestmark = pytest.mark.fault

ONE, TWO = "galaxy=one/part-00000.parquet", "galaxy=two/part-00000.parquet"
TABLES = {
    "mocks": ("mocks/shard-00000.parquet", "mocks/shard-00001.parquet"),
    "catalogue": (f"catalogue/{ONE}", f"catalogue/{TWO}"),
    "posterior": (f"posterior/{ONE}", f"draws/{ONE}"),
    "draws": (f"draws/{ONE}", f"draws/{TWO}"),
    "fit": (f"fit/{ONE}", f"fit/{TWO}"),
    "validation": ("validation/recovery.parquet", "validation/calibration.parquet"),
    "validation_objects": (f"validation/objects/{ONE}", f"validation/objects/{TWO}"),
    "history": ("model/history.parquet", "mocks/shard-00001.parquet"),
}
"""A file of each table, and the one that it is exchanged with."""
OTHERS = {
    "index": ("catalogue/_index.json", "model/model.json"),
    "weights": ("model/weights.safetensors", "model/reference.safetensors"),
    "description": ("model/model.json", "catalogue/_index.json"),
    "flux table": ("model/flux_table.safetensors", "model/weights.safetensors"),
    "reference": ("model/reference.safetensors", "model/flux_table.safetensors"),
    "noise": ("fit/inputs/noise.json", "fit/inputs/flux_table.safetensors"),
    "figures": ("logs/stages.json", "model/model.json"),
    "resolved job": ("job.toml", "model/model.json"),
}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 0x10
    path.write_bytes(content)


def put_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = {
    "truncated": truncate,
    "flipped early": lambda path: flip(path, 0.05),
    "flipped in the footer": lambda path: flip(path, 0.97),
    "empty": lambda path: path.write_bytes(b""),
    "a folder in its place": put_folder,
}
CASES = [
    pytest.param(name, damage, id=f"{name}-{damage}")
    for name in (*TABLES, *OTHERS)
    for damage in (*DAMAGES, "swapped", "of another run")
]


def exchange(a: Path, b: Path) -> None:
    content = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(content)


def asked(run: Path, table: str) -> pa.Table | None:
    """All of a table as a query gives it; None after a message that names a file of the run."""
    try:
        return query(run, f"FROM {table} ORDER BY ALL")
    except UserError as error:
        told = str(error)
    assert str(run) in told or "does not exist" in told, told
    return None


@pytest.mark.parametrize(("name", "damage"), CASES)
def test_a_broken_file(name, damage, copied, whole, request):  # noqa: F811
    file, partner = (TABLES | OTHERS)[name]
    path = copied / file
    if damage == "swapped":
        exchange(path, copied / partner)
    elif damage == "of another run":
        shutil.copy(request.getfixturevalue("other") / file, path)
    else:
        DAMAGES[damage](path)
    job = copied.parent / "job.toml"
    if name in TABLES and damage not in ("swapped", "of another run"):
        assert asked(copied, name) is None
    finish(job)
    same_results(copied, whole)
    assert all(row["state"] == "done" for row in status_of(load_job(job), verify=True))


def finish(job: Path) -> None:
    """Run the job again as a user would: what a message tells to do is done."""
    for _ in range(3):
        try:
            run_inline(job)
        except UserError as error:
            follow(str(error), job)
        else:
            return
    raise AssertionError("three messages followed, and the run does not end")


def follow(message: str, job: Path) -> None:
    named = [word.strip(":;,") for word in message.split() if str(job.parent / "run") in word]
    assert named, message
    if "--mode restart" in message:
        stage = message.rpartition("make the stage ")[2].split()[0]
        run_inline(job, (stage,), "restart")
    elif "move it away" in message or "remove it" in message:
        shutil.rmtree(named[0]) if Path(named[0]).is_dir() else Path(named[0]).unlink()
    else:
        raise AssertionError(message)
