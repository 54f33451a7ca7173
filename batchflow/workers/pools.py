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

from batchflow.submit.queue import is_over, states
from batchflow.workers.jobs import array_options

LOG = logging.getLogger("batchflow")

TICK_SECONDS = 1.0
LOST_SECONDS = 20.0
"""A worker that is away for so long does not come back: another job takes its place."""
ASK_FIRST_SECONDS, ASK_MOST_SECONDS = 3.0, 30.0
"""The batch system is asked whether jobs without workers still exist: soon, then ever more seldom."""
REPLACEMENTS = 3
"""Jobs in place of lost ones, for each job that a pool may have; after them something else must be wrong."""
STAYED_SECONDS = 60.0
"""A job whose workers stayed for so long did its work: when its walltime is up, another takes its place."""
TROUBLE_SECONDS = 60.0
"""How long work is kept when its workers are gone and no more can come."""


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
    in_vain: int = 0
    """Lost one after the other without having been of use."""
    came: bool = False
    """Whether any of its workers ever did."""
    last_demand: float = field(default_factory=time.monotonic)

    def lose(self, stayed: float) -> None:
        """Note that a job was lost whose workers stayed for so long [s]."""
        self.lost += 1
        self.in_vain = 0 if stayed > STAYED_SECONDS else self.in_vain + 1

    def is_hopeless(self, most: int, jobs: int) -> bool:
        """Whether more jobs would change nothing: of `most` at once, when `jobs` are not lost yet."""
        if self.came:
            return self.in_vain > REPLACEMENTS * most
        return self.in_vain > REPLACEMENTS and jobs == 0


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
        self._seen: dict[str, tuple[float, float]] = {}
        self._absent: set[str] = set()
        self._ask_after, self._ask_at = ASK_FIRST_SECONDS, 0.0
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

    async def _tick(self) -> None:
        if self.status.name != "running":
            return
        self._look()
        await self._drop_over()
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
        self._in_trouble(" ".join(message.split()))
        for name in list(self.worker_spec):
            worker = self.workers.get(name)
            if worker is None or getattr(worker, "job_id", None) is None:
                del self.worker_spec[name]
                self.workers.pop(name, None)
                if worker is not None:
                    # It never began, so nobody can close it, as Dask asserts of all that it made.
                    self._created.discard(worker)

    def _jobs(self, pool: str) -> list[str]:
        return [name for name in self.worker_spec if _pool(name) == pool]

    def _count(self, pool: str) -> int:
        return sum(self.worker_spec[name]["jobs"] for name in self._jobs(pool))

    def _in_trouble(self, message: str) -> None:
        self.trouble = self.trouble or message
        if self.scheduler is not None:
            self.scheduler.no_workers_timeout = TROUBLE_SECONDS

    def _look(self) -> None:
        """See which jobs have workers; drop those whose workers have been away for long."""
        now = time.monotonic()
        present = {str(info["name"]) for info in self.scheduler_info["workers"].values()}
        absent = set()
        for name, spec in list(self.worker_spec.items()):
            if present & {f"{name}{suffix}" for suffix in spec.get("group", [""])}:
                self._seen[name] = self._seen.get(name, (now, now))[0], now
                self.states[_pool(name)].came = True
            elif name in self._seen and now - self._seen[name][1] > LOST_SECONDS:
                self._lose(name)
            else:
                absent.add(name)
        if absent - self._absent:
            self._ask_after, self._ask_at = ASK_FIRST_SECONDS, now + ASK_FIRST_SECONDS
        self._absent = absent

    async def _drop_over(self) -> None:
        """Drop jobs without workers that are over: none would come of them."""
        jobs = {
            name: str(self.workers[name].job_id)
            for name in self._absent & set(self.workers)
            if getattr(self.workers[name], "job_id", None)
        }
        if not jobs or time.monotonic() < self._ask_at:
            return
        system = next(iter(self.pools.values())).system
        found = await asyncio.to_thread(states, system, list(jobs.values()))
        self._ask_after = min(2 * self._ask_after, ASK_MOST_SECONDS)
        self._ask_at = time.monotonic() + self._ask_after
        self._look()
        for name, id_ in jobs.items():
            if found is not None and is_over(found.get(id_)) and name in self._absent:
                self._lose(name)

    def _lose(self, name: str) -> None:
        first, last = self._seen.pop(name, (0.0, 0.0))
        self.states[_pool(name)].lose(last - first)
        LOG.warning("worker job %s is lost; its workers stayed for %.0f s", name, last - first)
        self._absent.discard(name)
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
        if state.is_hopeless(plan.most, count):
            self._in_trouble(
                f"{state.in_vain} worker jobs of the pool {pool} were lost one after the other; "
                "see RUN/logs/workers"
            )
        elif self.trouble is None and wanted > count:
            self._add(plan, state, wanted - count)

    def _add(self, plan: PoolPlan, state: PoolState, jobs: int) -> None:
        for count in [jobs] if plan.array else [1] * jobs:
            name = f"{plan.name}-{state.submitted}"
            state.submitted += 1
            self.worker_spec[name] = _specification(plan, name, count)

    def _update_worker_status(self, op: str, message: Any) -> None:
        # SpecCluster's own would forget the job of a worker that left; ours go when `_look` finds them lost.
        super(SpecCluster, self)._update_worker_status(op, message)


def _pool(name: str) -> str:
    return name.rpartition("-")[0]


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
