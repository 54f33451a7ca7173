"""What Dask costs: a stage on a cluster of one worker against the same units in a plain loop.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_overhead.py RUN [--rows 10000000] [--objects 6000]

RUN is a finished run of bench_reference.py. Mocks and inference; the loop calls, in a process of its own with
the environment of a worker, the very function that the worker calls, with the same arguments. Both have their
libraries loaded and their model open, and both begin with an empty folder. Each turn has a cluster and a
process of its own, for two processes that do the very same differ by 10 % for as long as they live; which
comes first, changes from turn to turn. Units are of the default size: 100,000 mocks, 2000 clusters, without
the exact quantiles that would make each unit ten times longer. Figures are medians of the turns:

  overhead      processor time of all processes (client, scheduler, nannies, worker) over the loop's, less 1.
                What they use while nothing runs (`idle`, seconds a second) is counted for the time that the
                work would take on a machine of its own, so that a busy machine tells little
  wall_overhead the same by the clock: means something on a quiet machine only. There the client's and the
                scheduler's time runs beside the worker's
  start_s, first_s   start of the cluster, and the stage on a cluster just started: not in the above
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from bench_growth import write_catalogue, write_job
from bench_mocks import write_job as write_mocks_job
from harness import report, wall_seconds

from batchflow.config import Job, load_job
from batchflow.infer.part import infer_part
from batchflow.infer.plan import plan_infer
from batchflow.infer.run import _settings, _with_arguments, infer_stage
from batchflow.machine import WORKER_VARIABLES
from batchflow.mocks.make import make_shard
from batchflow.mocks.plan import plan_mocks
from batchflow.mocks.run import _with_arguments as mocks_arguments
from batchflow.mocks.run import mocks_stage
from batchflow.paths import remove
from batchflow.pipeline import Session, Stage, open_session
from batchflow.plan import Unit

IDLE_SECONDS = 3.0
Work = Callable[[Session], tuple[Callable[..., int], list[Unit]]]
Seconds = tuple[float, float]
"""On the clock, and of the processor."""


class Turn(NamedTuple):
    """What was measured once."""

    units: int
    start_s: float
    first_s: float
    idle: float
    plain: Seconds
    cluster: Seconds

    @property
    def overhead(self) -> float:
        """Additional time of the processor, as a machine of its own would have it."""
        (wall, cpu), loop_cpu = self.cluster, self.plain[1]
        return (cpu - self.idle * (wall - loop_cpu)) / loop_cpu - 1


def mocks_work(session: Session) -> tuple[Callable[..., int], list[Unit]]:
    """What makes a shard, and every shard."""
    plan = plan_mocks(session.job, session.run)
    return make_shard, [mocks_arguments(unit, plan, None) for unit in plan.wanted]


def infer_work(session: Session) -> tuple[Callable[..., int], list[Unit]]:
    """What infers a part, and every part."""
    plan = plan_infer(session.job, session.run, session.parts)
    if plan is None:
        raise SystemExit("the run has no model")
    settings = _settings(plan, session)
    return infer_part, [_with_arguments(unit, plan, settings) for unit in plan.wanted]


def loop(function: Callable[..., int], units: Sequence[Unit]) -> Seconds:
    """One unit after another."""
    wall, cpu = time.perf_counter(), time.process_time()
    for unit in units:
        function(**unit.arguments)
    return time.perf_counter() - wall, time.process_time() - cpu


def on_cluster(session: Session, work: Callable[[], object]) -> Seconds:
    """Time of some work, and of the processor in every process of the cluster meanwhile."""

    def used() -> float:
        return float(time.process_time() + sum(session.client.run(time.process_time).values()))

    before = used()
    wall = wall_seconds(work)
    return wall, used() - before


def measure(job: Job, stage: Stage, work: Work, turns: int) -> dict[str, Any]:
    """Figures of a stage and of its loop."""
    os.environ.update(WORKER_VARIABLES)
    return figures([_turn(job, stage, work, swapped=turn % 2 == 1) for turn in range(turns)])


def _turn(job: Job, stage: Stage, work: Work, swapped: bool) -> Turn:
    """Both on new processes, one after the other in either order, each into an empty folder."""
    with open_session(job, "restart") as session, ProcessPoolExecutor(1, get_context("spawn")) as pool:
        start = wall_seconds(lambda: session.client)
        first = wall_seconds(lambda: _whole(stage, session))
        function, units = work(session)
        pool.submit(loop, function, units[:1]).result()
        idle = on_cluster(session, lambda: time.sleep(IDLE_SECONDS))[1] / IDLE_SECONDS

        def plainly() -> Seconds:
            return pool.submit(loop, function, units).result()

        def clustered() -> Seconds:
            return on_cluster(session, lambda: _whole(stage, session))

        found = dict[Callable[[], Seconds], Seconds]()
        for one in (clustered, plainly) if swapped else (plainly, clustered):
            remove(session.run.mocks, session.run.posterior, session.run.draws)
            found[one] = one()
    return Turn(len(units), start, first, idle, found[plainly], found[clustered])


def figures(turns: Sequence[Turn]) -> dict[str, Any]:
    """Medians of the turns; overheads are of what came one after the other."""
    overheads = [one.overhead for one in turns]
    by_clock = [one.cluster[0] / one.plain[0] - 1 for one in turns]
    medians = {
        "start_s": [one.start_s for one in turns],
        "first_s": [one.first_s for one in turns],
        "loop_s": [one.plain[0] for one in turns],
        "cluster_s": [one.cluster[0] for one in turns],
        "loop_cpu_s": [one.plain[1] for one in turns],
        "cluster_cpu_s": [one.cluster[1] for one in turns],
        "idle": [one.idle for one in turns],
        "overhead": overheads,
        "wall_overhead": by_clock,
    }
    return {
        "units": turns[0].units,
        **{name: statistics.median(values) for name, values in medians.items()},
        "overhead_error": _error(overheads),
        "wall_overhead_error": _error(by_clock),
        "overheads": overheads,
        "wall_overheads": by_clock,
    }


def _error(values: Sequence[float]) -> float:
    """Standard error of the median, were they normal."""
    return 1.2533 * statistics.stdev(values) / math.sqrt(len(values))


def _whole(stage: Stage, session: Session) -> None:
    report = stage(session)
    if report.failures or report.made != report.wanted:
        raise SystemExit(f"{report.stage}: {report.made} of {report.wanted} made: {report.failures[:3]}")


def of_mocks(rows: int, turns: int) -> dict[str, Any]:
    """Figures of so many mocks."""
    with tempfile.TemporaryDirectory() as folder:
        return measure(load_job(write_mocks_job(Path(folder), rows, 1), []), mocks_stage, mocks_work, turns)


def of_infer(objects: int, words: argparse.Namespace) -> dict[str, Any]:
    """Figures of so many clusters of one galaxy."""
    with tempfile.TemporaryDirectory() as folder:
        write_catalogue(Path(folder) / "catalogue.parquet", objects, words.run, galaxies=1)
        sets = ["cluster.cpu_workers=1", "infer.grid=fallback"]
        path = write_job(Path(folder), words.run, words.draws, sets)
        return measure(load_job(path, []), infer_stage, infer_work, words.turns)


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--objects", type=int, default=6000)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--turns", type=int, default=8)
    words = parser.parse_args()
    found = {"mocks": of_mocks(words.rows, words.turns), "infer": of_infer(words.objects, words)}
    report({"limit": 0.1} | found)


if __name__ == "__main__":
    main()
