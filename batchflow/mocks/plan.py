"""Which mock shards are wanted and which are there."""

from __future__ import annotations

from batchflow import stages
from batchflow.config import Job
from batchflow.paths import RunFolder
from batchflow.plan import Plan, Unit, make_plan


def plan_mocks(job: Job, run: RunFolder) -> Plan:
    """Which shards are wanted and which are there.

    Parameters
    ----------
    job : Job
        The job.
    run : RunFolder
        Its run folder.

    Returns
    -------
    Plan
        One unit a shard.
    """
    settings = stages.mocks_settings(job)
    size = job.mocks.rows_per_shard
    starts = range(0, job.mocks.rows, size)
    units = [_unit(run, index, min(size, job.mocks.rows - start)) for index, start in enumerate(starts)]
    return make_plan("mocks", settings, units)


def _unit(run: RunFolder, index: int, rows: int) -> Unit:
    return Unit(f"shard-{index:05d}", (run.shard(index),), rows, {"index": index})
