"""What Dask costs: a stage on a cluster of one worker against the same units in a plain loop.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_overhead.py RUN [--rows 5000000] [--objects 10000]

RUN is a finished run of bench_reference.py. Mocks and inference; the loop calls, in this process, the very
function that the worker calls, with the same arguments. Loop and cluster take turns. `overhead` is of the
stage, whose worker has its libraries loaded and its model open, as the loop's process has; `first_s` is the
stage on a cluster just started, and `start_s` the start itself.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_growth import write_catalogue, write_job
from bench_mocks import write_job as write_mocks_job
from harness import report, wall_seconds

from batchflow.config import Job, load_job
from batchflow.infer.part import infer_part
from batchflow.infer.plan import plan_infer
from batchflow.infer.run import _settings, _with_arguments, infer_stage
from batchflow.mocks.make import make_shard
from batchflow.mocks.plan import plan_mocks
from batchflow.mocks.run import _with_arguments as mocks_arguments
from batchflow.mocks.run import mocks_stage
from batchflow.pipeline import Session, Stage, open_session

Loop = Callable[[], int]


def mocks_loop(session: Session) -> Loop:
    """Make every shard, one after another; how many."""
    plan = plan_mocks(session.job, session.run)
    units = [mocks_arguments(unit, plan, None) for unit in plan.wanted]
    return lambda: len([make_shard(**unit.arguments) for unit in units])


def infer_loop(session: Session) -> Loop:
    """Infer every part, one after another; how many."""
    plan = plan_infer(session.job, session.run, session.parts)
    if plan is None:
        raise SystemExit("the run has no model")
    units = [_with_arguments(unit, plan, _settings(plan, session)) for unit in plan.wanted]
    return lambda: len([infer_part(**unit.arguments) for unit in units])


def measure(job: Job, stage: Stage, loop: Callable[[Session], Loop], turns: int) -> dict[str, Any]:
    """Seconds of both, in turns."""
    with open_session(job, "restart") as session:
        start = wall_seconds(lambda: session.client)
        first = wall_seconds(lambda: _whole(stage, session))
        plain = loop(session)
        times: dict[str, list[float]] = {"loop": [], "cluster": []}
        units = plain()
        for _ in range(turns):
            times["loop"].append(wall_seconds(plain))
            times["cluster"].append(wall_seconds(lambda: _whole(stage, session)))
    seconds = {name: statistics.median(values) for name, values in times.items()}
    ratio = statistics.median(b / a for a, b in zip(times["loop"], times["cluster"], strict=True))
    return {
        "units": units,
        "start_s": start,
        "first_s": first,
        "loop_s": seconds["loop"],
        "cluster_s": seconds["cluster"],
        "overhead": ratio - 1,
        "ms_a_unit": 1e3 * (ratio - 1) * seconds["loop"] / units,
    }


def _whole(stage: Stage, session: Session) -> None:
    report = stage(session)
    if report.failures or report.made != report.wanted:
        raise SystemExit(f"{report.stage}: {report.made} of {report.wanted} made: {report.failures[:3]}")


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--turns", type=int, default=3)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as other:
        job = load_job(write_mocks_job(Path(name), words.rows, 1), [])
        figures = {"mocks": measure(job, mocks_stage, mocks_loop, words.turns)}
        write_catalogue(Path(other) / "catalogue.parquet", words.objects, words.run)
        path = write_job(Path(other), words.run, words.draws, ["cluster.cpu_workers=1"])
        figures["infer"] = measure(load_job(path, []), infer_stage, infer_loop, words.turns)
    report({"limit": 0.1} | figures)


if __name__ == "__main__":
    main()
