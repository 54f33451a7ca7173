"""Posteriors a second at 100, 1000 and 10,000 draws, writing included, and those of other codes.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_draws.py RUN [--draws 100,1000,10000] [--total 400000]
        [--objects 2] [--seconds 30] [--peers emcee,nautilus,bagpipes,sbi,zuko]

RUN is a finished run of bench_reference.py. `certified` and `grid` go through `infer_part`, the task of a
worker, from a part of a catalogue to posterior and draws on disk; `weighted` are the same certified draws
without rescue, summary and writing, `draws_alone` the flow's draws with their density, `raw_writing` the
same draws written with pyarrow: the limits. `--total` draws are made at each size. All on one thread;
seconds are the processor's, or the clock's where the model lies on a GPU. What the peers do: samplers.py.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from bench_growth import write_catalogue, write_job
from harness import report
from samplers import NEEDS, SYNFERENCE, run_peers

from batchflow.config import load_job
from batchflow.infer.clusters import Clusters, from_catalogue
from batchflow.infer.draw import Options, draw_posteriors, observations
from batchflow.infer.part import infer_part
from batchflow.infer.plan import plan_infer
from batchflow.infer.posterior import Model, cached_model
from batchflow.infer.run import _settings
from batchflow.pipeline import open_session

GRID_SHARE = 20
"""One object in so many goes through the grid as well."""
FEWEST = 32
Clock = Callable[[], float]


class Problem(NamedTuple):
    """What batchflow is given."""

    folder: Path
    clusters: pa.Table
    """Normalised."""
    settings: dict[str, Any]
    """Of `infer_part`, but for the draws."""


def prepare(run: Path, folder: Path, objects: int) -> Problem:
    """A catalogue of one galaxy, normalised."""
    write_catalogue(folder / "catalogue.parquet", objects, run, galaxies=1)
    path = write_job(folder, run, 1, [f"infer.rows_per_part={objects}"])
    with open_session(load_job(path, []), "resume") as session:
        (part,) = session.parts
        plan = plan_infer(session.job, session.run, [part])
        if plan is None:
            raise SystemExit(f"{run} has no model")
        # A copy bears no seal of the file that it comes from.
        clusters = pq.read_table(part.path, partitioning=None).replace_schema_metadata()
        return Problem(folder, clusters, _settings(plan, session))


def seconds(work: Callable[[], Any], now: Clock) -> float:
    """How long a piece of work takes."""
    start = now()
    work()
    return now() - start


def through_disk(problem: Problem, draws: int, grid: str, objects: int, now: Clock) -> float:
    """Objects a second of a worker's task, which writes {grid}-posterior and {grid}-draws."""
    names = ("part", "warm", f"{grid}-posterior", f"{grid}-draws")
    part, warm, *outputs = (problem.folder / f"{name}.parquet" for name in names)
    pq.write_table(problem.clusters.slice(0, objects), part)
    pq.write_table(problem.clusters.slice(0, 2), warm)
    told = problem.settings | {"draws": draws, "grid": grid}
    written = (str(outputs[0]), str(outputs[1]))
    infer_part(str(warm), written, told, {})
    return objects / seconds(lambda: infer_part(str(part), written, told, {}), now)


def own(problem: Problem, draws: int, objects: int) -> dict[str, Any]:
    """Objects a second of batchflow's ways."""
    model, proposal = cached_model(problem.settings["model"], problem.settings["weights"])
    now = time.process_time if model.network.device.type == "cpu" else time.perf_counter
    certified = through_disk(problem, draws, "fallback", objects, now)
    posterior, stored = (problem.folder / f"fallback-{kind}.parquet" for kind in ("posterior", "draws"))
    grid = through_disk(problem, draws, "always", max(4, objects // GRID_SHARE), now)
    efficiency = pq.read_table(posterior, columns=["efficiency"])["efficiency"].to_numpy()
    clusters = from_catalogue(problem.clusters.slice(0, objects), model.bands)
    options = Options(draws, True, 0, None)
    table = pq.read_table(stored).replace_schema_metadata()
    works: dict[str, Callable[[], Any]] = {
        "weighted": lambda: draw_posteriors(proposal, clusters, options),
        "draws_alone": lambda: draw_alone(model, clusters, draws),
        "raw_writing": lambda: pq.write_table(table, stored, compression="zstd", use_dictionary=False),
    }
    rates = {name: objects / seconds(work, now) for name, work in works.items()}
    return {
        "objects": objects,
        "device": model.network.device.type,
        "efficiency_p50": float(np.nanmedian(efficiency)),
        "objects_per_s": {"certified": certified, "grid": grid} | rates,
    }


def draw_alone(model: Model, clusters: Clusters, draws: int) -> None:
    """The flow's draws and their density, some clusters at a time."""
    step = max(1, 65_536 // draws)
    with torch.inference_mode():
        for start in range(0, len(clusters.keys), step):
            part = clusters.rows(np.arange(start, min(start + step, len(clusters.keys))))
            seen, survey = observations(part, model.network)
            base = torch.rand(len(part.keys), draws, len(model.network.parameters)).to(survey.device)
            model.network.sample(seen, survey, base)[1].sum().item()


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--draws", default="100,1000,10000")
    parser.add_argument("--total", type=int, default=400_000, help="draws made at each size")
    parser.add_argument("--objects", type=int, default=2, help="that samplers are given")
    parser.add_argument("--seconds", type=float, default=30.0, help="of training of sbi and zuko")
    parser.add_argument("--peers", default=",".join(NEEDS))
    words = parser.parse_args()
    torch.set_num_threads(1)
    sizes = [int(text) for text in words.draws.split(",")]
    objects = {draws: max(FEWEST, words.total // draws) for draws in sizes}
    with tempfile.TemporaryDirectory() as name:
        problem = prepare(words.run, Path(name), max(objects.values()))
        found = {str(draws): own(problem, draws, n) for draws, n in objects.items()}
        peers, left_out = run_peers(words.run, sizes, words, Path(name))
    report({"draws": found, "peers": peers, "left_out": left_out, "synference_objects_per_s": SYNFERENCE})


if __name__ == "__main__":
    main()
