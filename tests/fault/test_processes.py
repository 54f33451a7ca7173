"""Kills, signals and hangs of the job's processes: nothing is lost, and a rerun ends as an unbroken run.

Each fault comes at the worst moment: a file is written, and not yet under its name.
"""

from __future__ import annotations

import shutil
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
    begin,
    environment,
    nothing_half_written,
    refused,
    same_results,
    same_tables,
    well,
)

# A busy machine: the longest begins the program nine times.
pytestmark = [pytest.mark.fault, pytest.mark.timeout(1200)]

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


@pytest.mark.fault(len(IN_WORKERS))
def test_a_worker_killed_in_every_stage_is_made_up_for_in_the_same_run(job, unbroken):
    well(batchflow(job, FAULTS=faults("kill", *IN_WORKERS)))
    assert met(job) == len(IN_WORKERS)
    nothing_is_left(job)
    assert same_results(job.parent / "run", unbroken)


@pytest.mark.fault(8)
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
    # The folders of the models, too, hold the same files: no checkpoint was left behind.
    assert same_results(job.parent / "run", unbroken)
    assert "made" in (job.parent / "run" / "model" / "model.json").read_text()


SIGNALS = {
    ("term-client", "SIGTERM"): ("mocks", SHARD, ("mocks",)),
    ("interrupt-all", "SIGINT"): ("train", "*/model/checkpoint/state.json", ("model",)),
    ("term-all", "SIGTERM"): ("infer", "*/posterior/*/part-00000.parquet", ("posterior", "draws")),
}
"""Who is told what; the stage, the file that is being written, what the stage makes."""


@pytest.mark.parametrize("case", SIGNALS, ids=lambda case: case[0])
def test_a_signal_ends_the_job_with_a_message_and_the_next_run_goes_on(job, finished, unbroken, case):
    (action, name), (stage, pattern, made) = case, SIGNALS[case]
    for folder in made:
        shutil.rmtree(finished / folder)
    done = batchflow(job, stage, FAULTS=faults(action, pattern))
    assert done.returncode == 128 + signal.Signals[name]
    assert f"batchflow: stopped by {name}; what is done stays done" in done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    nothing_is_left(job)
    well(batchflow(job, stage))
    assert same_results(finished, unbroken, *made)


def test_a_unit_that_hangs_is_ended_and_tried_again_until_it_is_done(job, unbroken):
    well(batchflow(job, "mocks", "cluster.hang_minutes=0.5", FAULTS=faults("hang", SHARD)))
    assert met(job) == 1
    nothing_is_left(job)
    (trace,) = (job.parent / "run" / "logs" / "hung").iterdir()
    assert "shard-00001: no progress for 0.5 minutes" in trace.read_text()
    assert "in make_shard" in trace.read_text()
    assert same_tables(job.parent / "run", unbroken, "mocks") == 2


@pytest.mark.parametrize("action", ["hang-with-the-lock", "stop"])
def test_a_worker_that_cannot_even_speak_is_ended_too(job, unbroken, action):
    """Neither its own threads nor its connection can tell: the scheduler hears nothing from it."""
    silence = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "20s"}
    well(batchflow(job, "mocks", FAULTS=faults(action, SHARD), **silence))
    assert met(job) == 1
    nothing_is_left(job)
    assert same_tables(job.parent / "run", unbroken, "mocks") == 2


@pytest.mark.fault(4)
def test_a_unit_beyond_its_workers_memory_is_made_up_for_or_set_aside(job, unbroken):
    limit = "cluster.memory_limit=1GiB"
    done = batchflow(job, "mocks", limit, FAULTS=faults("eat", SHARD), FAULT_TIMES="3")
    refused(done, "1 unit failed, the rest is done", "shard-00001: its worker died 3 times", "memory_limit")
    assert met(job) == done.returncode == 3
    nothing_is_left(job)
    assert [path.name for path in (job.parent / "run" / "mocks").iterdir()] == ["shard-00000.parquet"]
    well(batchflow(job, "mocks", limit, FAULTS=faults("eat", SHARD), FAULT_TIMES="4"))
    assert met(job) == 4
    assert same_tables(job.parent / "run", unbroken, "mocks") == 2


def test_a_worker_that_keeps_much_memory_goes_on(job, unbroken):
    """Dask's own would pause at 80 % of the limit, for ever."""
    well(
        batchflow(
            job, "mocks", "cluster.memory_limit=1GiB", FAULTS=faults("leak", "*/mocks/shard-00000.parquet")
        )
    )
    assert met(job) == 1
    assert same_tables(job.parent / "run", unbroken, "mocks") == 2


def test_two_runs_in_one_folder_at_once(job, unbroken):
    with begin(job, "mocks", "cluster.hang_minutes=0.5", FAULTS=faults("hang", SHARD)) as first:
        while not met(job):
            assert first.poll() is None
            time.sleep(0.1)
        before = (job.parent / "run" / "job.toml").read_bytes()
        refused(batchflow(job, "mocks", "seed=4"), f"{job.parent / 'run'} is in use by another batchflow")
        assert (job.parent / "run" / "job.toml").read_bytes() == before
        assert first.wait(240) == 0
    nothing_is_left(job)
    assert same_tables(job.parent / "run", unbroken, "mocks") == 2


@contextmanager
def scheduler(job: Path, **more: str) -> Iterator[tuple[str, ...]]:
    """A Dask scheduler with a worker of each kind; what a job must say to use it."""
    file, place = job.parent / "scheduler.json", ("--host", "127.0.0.1", "--no-dashboard")
    python = (sys.executable, "-m")
    told = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": job.parent}
    started = [
        subprocess.Popen(
            [*python, "distributed.cli.dask_scheduler", *place, "--port", "0", "--scheduler-file", str(file)],
            env=environment(job),
            **told,
        )
    ]
    env = environment(job, FAULT_SCHEDULER=str(started[0].pid), **more)
    for kind in ("CPU", "GPU"):
        words = ("--scheduler-file", str(file), "--resources", f"{kind}=1", "--nthreads", "1")
        started.append(
            subprocess.Popen([*python, "distributed.cli.dask_worker", *place, *words], env=env, **told)
        )
    try:
        yield "cluster.site=address", f"cluster.scheduler_file={file}"
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(60)


def test_a_scheduler_that_is_killed_is_named_and_the_next_run_goes_on(job, unbroken):
    with scheduler(job, FAULTS=faults("kill-scheduler", SHARD)) as site:
        refused(batchflow(job, "mocks", *site), "the scheduler", "went away while the job ran")
    nothing_half_written(job.parent / "run")
    with scheduler(job) as site:
        well(batchflow(job, "mocks", *site))
    nothing_is_left(job)
    assert same_tables(job.parent / "run", unbroken, "mocks") == 2
