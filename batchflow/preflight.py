"""`check --cluster`: one worker of each pool is started and looked at before a job depends on them."""

from __future__ import annotations

import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from distributed import Client

from batchflow.cluster import CPU, GPU, connect, require, workers_with
from batchflow.config import Job
from batchflow.errors import UserError

PACKAGES = ("batchflow", "dask", "distributed", "msgpack", "numpy", "pyarrow", "torch", "tornado")
PAYLOAD_BYTES = 16 * 2**20
SLOW_MEGABYTES = 10.0
"""Below, a model folder takes seconds to reach a worker [MB/s]."""
SHARED_SECONDS = 10.0
"""A file of one node shows on another within this time, caches of network file systems included."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    where: str
    what: str
    state: Literal["ok", "note", "wrong"]
    text: str


def preflight(job: Job) -> list[Finding]:
    """Start a worker of each pool and see whether it can do its work.

    Parameters
    ----------
    job : Job
        Without problems that can be seen from here.

    Returns
    -------
    list of Finding
        In the order in which they were found; a pool without a worker ends the list of that pool.
    """
    found: list[Finding] = []
    root = job.output.resolve()
    with _folder(root) as (folder, scratch), connect(job.cluster, scratch) as client:
        for resource in (CPU, GPU):
            found += _look_at_pool(client, resource, job, folder)
    return found


def _look_at_pool(client: Client, resource: str, job: Job, folder: Path) -> list[Finding]:
    start = time.monotonic()
    try:
        require(client, resource, job.cluster.wait_minutes)
    except UserError as error:
        return [Finding(resource, "worker", "wrong", str(error))]
    address = workers_with(client, resource)[0]
    name = str(client.scheduler_info(n_workers=-1)["workers"][address]["name"])
    facts: dict[str, Any] = client.run(worker_facts, workers=[address])[address]
    waited = time.monotonic() - start
    where = f"{resource} {name}"
    return [
        Finding(where, "worker", "ok", f"on {facts['host']} after {waited:.1f} s"),
        compare_versions(where, worker_facts()["versions"], facts["versions"]),
        _scratch(where, facts),
        _shared(where, client, address, folder),
        _bandwidth(where, client, address),
        *([_gpu(where, facts)] if resource == GPU else []),
    ]


def worker_facts(dask_worker: Any = None) -> dict[str, Any]:
    """What a process knows of itself: host, versions, GPU, scratch; Dask gives the worker, if it is one."""
    import socket
    from importlib.metadata import PackageNotFoundError, version

    import torch

    versions = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    return {
        "host": socket.gethostname(),
        "versions": versions,
        "devices": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        **_scratch_facts(dask_worker),
    }


def compare_versions(where: str, ours: dict[str, str], theirs: dict[str, str]) -> Finding:
    """Compare a worker's versions with the driver's.

    Parameters
    ----------
    where : str
        The worker.
    ours, theirs : dict of str to str
        Package to version.

    Returns
    -------
    Finding
        Naming each that differs.
    """
    differ = [
        f"{name} {theirs.get(name)} there, {ours[name]} here"
        for name in ours
        if theirs.get(name) != ours[name]
    ]
    if not differ:
        return Finding(where, "versions", "ok", f"Python {ours['python']}, torch {ours['torch']}, as here")
    text = "; ".join(differ) + "; use one environment for both (site file: prologue)"
    return Finding(where, "versions", "wrong", text)


def write_token(folder: str, token: str) -> str | None:
    """On a worker: read the driver's file and leave one of one's own.

    Parameters
    ----------
    folder : str
        In the run folder.
    token : str
        Content of ``driver.txt``.

    Returns
    -------
    str or None
        What went wrong.
    """
    path = Path(folder) / "driver.txt"
    deadline = time.monotonic() + SHARED_SECONDS
    while not path.is_file():
        if time.monotonic() > deadline:
            return f"does not see {path}"
        time.sleep(0.1)
    try:
        if path.read_text() != token:
            return f"reads something else in {path}"
        (Path(folder) / f"{token}.worker").write_text(token)
    except OSError as error:
        return f"{error.strerror}: {error.filename}"
    return None


def payload(size: int) -> bytes:
    """On a worker: bytes that do not compress."""
    return os.urandom(size)


def _shared(where: str, client: Client, address: str, folder: Path) -> Finding:
    token = uuid.uuid4().hex
    (folder / "driver.txt").write_text(token)
    problem = client.run(write_token, str(folder), token, workers=[address])[address]
    answer = folder / f"{token}.worker"
    deadline = time.monotonic() + SHARED_SECONDS
    while problem is None and not answer.is_file():
        if time.monotonic() > deadline:
            problem = f"writes to {folder}, and nothing arrives here"
        time.sleep(0.1)
    if problem:
        text = f"the worker {problem}; choose an output on a disk that all nodes share"
        return Finding(where, "shared files", "wrong", text)
    return Finding(where, "shared files", "ok", f"both read and write {folder.parent}")


def _bandwidth(where: str, client: Client, address: str) -> Finding:
    client.run(payload, 1, workers=[address])
    start = time.perf_counter()
    client.run(payload, PAYLOAD_BYTES, workers=[address])
    speed = PAYLOAD_BYTES / (time.perf_counter() - start) / 1e6
    state: Literal["ok", "note"] = "ok" if speed > SLOW_MEGABYTES else "note"
    advice = "" if state == "ok" else "; is this the right interface (site file)?"
    return Finding(where, "bandwidth", state, f"{speed:.0f} MB/s to the driver{advice}")


def _scratch_facts(worker: Any) -> dict[str, Any]:
    if worker is None:  # the driver itself
        return {}
    folder = Path(worker.local_directory)
    usage = shutil.disk_usage(folder)
    return {
        "scratch": str(folder),
        "scratch_gigabytes": usage.free / 1e9,
        "writable": os.access(folder, os.W_OK),
    }


def _scratch(where: str, facts: dict[str, Any]) -> Finding:
    text = f"{facts['scratch']}, {facts['scratch_gigabytes']:.1f} GB free"
    if not facts["writable"]:
        return Finding(where, "scratch", "wrong", f"{text}, not writable; set scratch in the site file")
    return Finding(where, "scratch", "ok" if facts["scratch_gigabytes"] > 1 else "note", text)


def _gpu(where: str, facts: dict[str, Any]) -> Finding:
    if facts["gpu"]:
        return Finding(where, "GPU", "ok", f"{facts['gpu']} (CUDA_VISIBLE_DEVICES={facts['devices']})")
    text = (
        f"torch sees no CUDA device (CUDA_VISIBLE_DEVICES={facts['devices']!r}); training will use its cores"
    )
    return Finding(where, "GPU", "note", text)


@contextmanager
def _folder(root: Path) -> Iterator[tuple[Path, Path]]:
    """A folder in the run folder, and a name beside it for the workers' temporary files; both go.

    What stays behind is the workers' logs, which say why one did not come.
    """
    folder = root / f"preflight-{uuid.uuid4().hex[:8]}"
    # A run may be at work in the same folder: its own scratch is not touched.
    scratch = root / f"{folder.name}-scratch"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"output: cannot make {folder}: {error.strerror}") from None
    try:
        yield folder, scratch
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(scratch, ignore_errors=True)
