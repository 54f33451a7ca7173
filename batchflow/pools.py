"""A Dask cluster whose workers are batch jobs: two pools, one scheduler, as many as there is work for."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from distributed import SpecCluster
from tornado.ioloop import PeriodicCallback

from batchflow.jobs import array_options
from batchflow.submit.queue import is_over, states

LOG = logging.getLogger("batchflow")

TICK_SECONDS = 1.0
LOST_SECONDS = 20.0
"""A worker that is away for so long does not come back: another job takes its place."""
ASK_SECONDS = 10.0
"""How often the batch system is asked whether jobs whose workers have not come still exist."""
REPLACEMENTS = 3
"""Jobs in place of lost ones, for each job that a pool may have; after them something else must be wrong."""


@dataclass(frozen=True)
class PoolPlan:
    """What a pool's jobs are, and how many there may be."""

    name: str
    resources: Mapping[str, int]
    job: type[Any]
    options: Mapping[str, Any]
    system: str
    processes: int = 1
    least: int = 0
    most: int = 1
    idle_seconds: float = 60.0
    array: bool = False


@dataclass
class PoolState:
    """What has become of a pool so far."""

    demand: int = 0
    """Units that want one of its workers."""
    submitted: int = 0
    lost: int = 0
    last_demand: float = field(default_factory=time.monotonic)


class BatchCluster(SpecCluster):
    """Workers as batch jobs.

    Parameters
    ----------
    scheduler : dict
        Specification of the scheduler, as `SpecCluster` takes it.
    pools : sequence of PoolPlan
        The pools.
    patience_minutes : float
        How long a worker that is needed is waited for.
    kwargs
        For `SpecCluster`.
    """

    def __init__(
        self, scheduler: dict[str, Any], pools: list[PoolPlan], patience_minutes: float, **kwargs: Any
    ) -> None:
        self.patience_minutes = patience_minutes
        self.pools = {plan.name: plan for plan in pools}
        self.states = {plan.name: PoolState() for plan in pools}
        self.trouble: str | None = None
        self._seen: dict[str, float] = {}
        self._asked = time.monotonic()
        self._ticker: PeriodicCallback | None = None
        super().__init__(scheduler=scheduler, workers={}, **kwargs)

    async def _start(self) -> None:
        await super()._start()
        self._ticker = PeriodicCallback(self._tick, 1000 * TICK_SECONDS)
        self._ticker.start()

    async def _close(self) -> None:
        if self._ticker is not None:
            self._ticker.stop()
        await super()._close()

    def demand(self, resource: str, units: int) -> None:
        """Say how many units want a worker with a resource; jobs come, and go when there are none.

        Parameters
        ----------
        resource : str
            Such as "CPU".
        units : int
            Not yet done.
        """
        for name, plan in self.pools.items():
            if resource in plan.resources:
                self.states[name].demand = units

    def report(self) -> dict[str, dict[str, int]]:
        """Jobs of each pool: wanted now, submitted and lost so far."""
        return {
            name: {"jobs": self._count(name), "submitted": state.submitted, "lost": state.lost}
            for name, state in self.states.items()
        }

    async def _tick(self) -> None:
        if self.status.name != "running":
            return
        self._drop_lost()
        await self._drop_stillborn()
        for name in self.pools:
            self._set_size(name)
        if set(self.worker_spec) != set(self.workers):
            try:
                await self._correct_state()
            except (RuntimeError, OSError, ValueError) as error:
                self._give_up(str(error))

    def _give_up(self, message: str) -> None:
        """The batch system refuses our jobs: asking again and again would not change its mind."""
        LOG.error("a worker job could not be submitted: %s", message)
        self.trouble = self.trouble or message
        for name in list(self.worker_spec):
            worker = self.workers.get(name)
            if worker is None or getattr(worker, "job_id", None) is None:
                del self.worker_spec[name]
                self.workers.pop(name, None)
                if worker is not None:
                    # It never began, so nobody can close it, as Dask asserts of all that it made.
                    self._created.discard(worker)

    def _jobs(self, pool: str) -> list[str]:
        return [name for name in self.worker_spec if str(name).rpartition("-")[0] == pool]

    def _count(self, pool: str) -> int:
        return sum(self.worker_spec[name]["jobs"] for name in self._jobs(pool))

    def _drop_lost(self) -> None:
        now = time.monotonic()
        present = {str(info["name"]) for info in self.scheduler_info["workers"].values()}
        for name, spec in list(self.worker_spec.items()):
            names = {f"{name}{suffix}" for suffix in spec.get("group", [""])}
            if names & present:
                self._seen[name] = now
            elif now - self._seen.get(name, now) > LOST_SECONDS:
                state = self.states[str(name).rpartition("-")[0]]
                state.lost += 1
                LOG.warning("worker job %s is lost", name)
                del self.worker_spec[name], self._seen[name]

    async def _drop_stillborn(self) -> None:
        """Drop jobs that ended before their worker came: the queue would be waited for in vain."""
        pending = {
            str(worker.job_id): name
            for name, worker in self.workers.items()
            if name in self.worker_spec and name not in self._seen and getattr(worker, "job_id", None)
        }
        if not pending or time.monotonic() - self._asked < ASK_SECONDS:
            return
        self._asked = time.monotonic()
        system = next(iter(self.pools.values())).system
        found = await asyncio.to_thread(states, system, list(pending))
        for id_, name in pending.items():
            if (
                found is not None
                and is_over(found.get(id_))
                and name not in self._seen
                and name in self.worker_spec
            ):
                self.states[str(name).rpartition("-")[0]].lost += 1
                LOG.warning("worker job %s (%s) ended before its worker came; see its log", id_, name)
                del self.worker_spec[name]

    def _set_size(self, pool: str) -> None:
        plan, state, count = self.pools[pool], self.states[pool], self._count(pool)
        now = time.monotonic()
        if state.demand:
            state.last_demand = now
        wanted = min(plan.most, max(plan.least, -(-state.demand // plan.processes)))
        if now - state.last_demand > plan.idle_seconds:
            for name in self._jobs(pool)[plan.least :]:
                self._seen.pop(name, None)
                del self.worker_spec[name]
        if state.lost > REPLACEMENTS * plan.most:
            self.trouble = f"{state.lost} worker jobs of the pool {pool} were lost; see their logs"
        elif self.trouble is None and wanted > count:
            self._add(plan, state, wanted - count)

    def _add(self, plan: PoolPlan, state: PoolState, jobs: int) -> None:
        for count in [jobs] if plan.array else [1] * jobs:
            name = f"{plan.name}-{state.submitted}"
            state.submitted += 1
            self.worker_spec[name] = _specification(plan, name, count)

    def _update_worker_status(self, op: str, message: Any) -> None:
        # SpecCluster's own would forget the job of a worker that left; ours are closed by `_drop_lost`.
        super(SpecCluster, self)._update_worker_status(op, message)


def _specification(plan: PoolPlan, name: str, count: int) -> dict[str, Any]:
    found = {"cls": plan.job, "options": dict(plan.options), "jobs": count}
    tasks, processes = [""], [""]
    if count > 1:
        found["options"] = array_options(dict(plan.options), plan.system, name, count)
        tasks = [f"-{index}" for index in range(1, count + 1)]
    if plan.processes > 1:
        processes = [f"-{index}" for index in range(plan.processes)]
    if count * plan.processes > 1:
        found["group"] = [f"{task}{process}" for task in tasks for process in processes]
    return found
