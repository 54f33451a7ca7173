"""Kills, signals and hangs of the job's processes: nothing is lost, and a rerun ends as an unbroken run.

Each fault comes at the worst moment: a file is written, and not yet under its name.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tiny_job import (
    batchflow,
    command,
    environment,
    nothing_half_written,
    refused,
    same_results,
    same_tables,
    well,
)

pytestmark = pytest.mark.fault

SHARD = "*/mocks/shard-00001.parquet"
IN_WORKERS = (
    SHARD,
    "*/model/checkpoint/state.json",
    "*/posterior/*/part-00000.parquet",
    "*/fit/inputs/noise.json",
    "*/fit/galaxy=two/part-00000.parquet",
    "*/validation/calibration.parquet",
    "*/validation/methods.parquet",
)
"""A file of each stage, in the order of the stages; the checkpoint is the GPU worker's."""


def faults(action: str, *patterns: str) -> str:
    return "\n".join(f"{action} {pattern}" for pattern in patterns)


def met(job: Path) -> int:
    """How many faults came about."""
    return len(list((job.parent / "marks").iterdir()))


def processes(job: Path) -> list[str]:
    """Command lines of the processes that this test's job has left running."""
    mark, found = f"FAULT_MARKS={job.parent / 'marks'}".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # ended meanwhile, or another user's
            continue
    return [line for line in found if line]


def nobody_is_left(job: Path, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while found := processes(job):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def nothing_is_left(job: Path) -> None:
    """Check that no process, no scratch and no half-written file is left of a run that ended."""
    nobody_is_left(job)
    assert not list(job.parent.rglob("*.tmp"))
    assert not (job.parent / "run" / "scratch").exists()


def start(job: Path, stage: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run in a terminal's group of its own, where Ctrl-C is heard."""
    with subprocess.Popen(
        command(job, stage),
        cwd=job.parent,
        env=environment(job, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        out, err = process.communicate(timeout=240)
    return subprocess.CompletedProcess(command(job, stage), process.returncode, out, err)


def test_a_worker_killed_in_every_stage_is_made_up_for_in_the_same_run(job, unbroken):
    well(batchflow(job, FAULTS=faults("kill", *IN_WORKERS)))
    assert met(job) == len(IN_WORKERS)
    nothing_is_left(job)
    assert same_results(job.parent / "run", unbroken)


def test_a_client_killed_in_every_stage_goes_on_to_the_same_result(job, unbroken):
    whose = {
        "kill": ("*/catalogue/*/part-00000.parquet", "*/report/index.html"),
        # While a worker writes; the model's description is the last that training writes.
        "kill-client": (*IN_WORKERS[:2], "*/model/model.json", *IN_WORKERS[2:3], *IN_WORKERS[4:6]),
    }
    wanted = "\n".join(faults(action, *patterns) for action, patterns in whose.items())
    kills = 0
    while (done := batchflow(job, FAULTS=wanted)).returncode == -signal.SIGKILL:
        kills += 1
        nobody_is_left(job)
        nothing_half_written(job.parent / "run")
        assert kills <= 8
    well(done)
    assert kills == met(job) == 8
    nothing_is_left(job)
    assert same_results(job.parent / "run", unbroken)
    assert "made" in (job.parent / "run" / "model" / "model.json").read_text()


@pytest.mark.parametrize(
    ("action", "name"), [("term-client", "SIGTERM"), ("term-all", "SIGTERM"), ("interrupt-all", "SIGINT")]
)
def test_a_signal_ends_the_job_with_a_message_and_the_next_run_goes_on(job, unbroken, action, name):
    done = start(job, "mocks", FAULTS=faults(action, SHARD))
    assert done.returncode == 128 + signal.Signals[name]
    assert f"batchflow: stopped by {name}; what is done stays done" in done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    nothing_is_left(job)
    well(batchflow(job, "mocks"))
    assert same_tables(job.parent / "run", unbroken, "mocks") == 2
