"""Which mock shards are wanted and which are there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from batchflow import stages
from batchflow.config import Job
from batchflow.paths import RunFolder
from batchflow.plan import Plan, Unit, check_settings, flatten, make_plan
from batchflow.shards import read_footer


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


def check_installation(units: Iterable[Unit], installed: Mapping[str, Any]) -> None:
    """Refuse shards that another CIGALE, or one with another database, made.

    It is no part of the plan's settings: shards are trained on, and looked at, where there is no CIGALE.

    Parameters
    ----------
    units : iterable of Unit
        Shards; those that are not there are passed over.
    installed : mapping
        What the engine says of pcigale here (`describe()["pcigale"]`); empty for an engine without it, of
        which nothing is asked.

    Raises
    ------
    UserError
        Naming version or database, those of the shard and those installed here.
    """
    for unit in units if installed else ():
        for path in unit.paths:
            footer, _ = read_footer(path) or ({}, 0)
            if found := footer.get("engine", {}).get("pcigale"):
                check_settings(path, flatten({"pcigale": found}), {"pcigale": installed}, "mocks")


def _unit(run: RunFolder, index: int, rows: int) -> Unit:
    return Unit(f"shard-{index:05d}", (run.shard(index),), rows, {"index": index})
