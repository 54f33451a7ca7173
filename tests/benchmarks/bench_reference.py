"""The reference problem: how far the flow is from the exact posterior after some minutes of training.

    python tests/benchmarks/bench_reference.py [MINUTES] [section.key=value ...]

Goes the package's own way: mocks, training, `open_model`, draws weighted to the exact posterior; and writes
``figures.json`` into the run folder. `efficiency_*` is that of importance sampling (1: the flow is the
posterior) at percentiles of the clusters; `gap_nats` the mean log density that the flow gives the true
parameters less than the exact posterior does, which is had on a grid, not from the flow's draws.
`train_seconds` holds everything between the first look at the mocks and the last step; `draws_per_s` are
draws with their density, `certified_draws_per_s` are weighted to the exact posterior besides.
`seconds_to_efficiency` is when the median efficiency of checkpoints, kept as training goes and looked at
afterwards, passed a value: within this training, whose learning rate falls over all its minutes. A training
that is told a shorter time gets there sooner.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from exact_grid import ExactGrid
from harness import rounded

import batchflow
from batchflow.config import Job, load_job
from batchflow.infer.clusters import PARSECS_10_IN_MPC, from_arrays
from batchflow.infer.draw import Options, draw_posteriors, observations
from batchflow.infer.posterior import Model
from batchflow.keys import generator
from batchflow.mocks.noise import DEFAULT_SURVEY
from batchflow.mocks.prior import draw_prior
from batchflow.physics.engine import open_engine
from batchflow.pipeline import run_stages
from batchflow.shards import write_json

JOB = Path(__file__).with_name("reference.toml")
DISTANCE, VISUAL, LEAST_SIGNAL = 15.0, 3, 3.0
OBJECTS, DRAWS, GRID_OBJECTS = 4000, 500, 2000
FRACTION, DEPTH = 0.05, (-5.3, -4.3)
LOOKS, LOOKED_AT = 24, 1000
"""Checkpoints kept of a training, and clusters that each is tried on."""
GOALS = (0.65, 0.8)


def observe(job: Job, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """True parameters, fluxes, reported errors and depths [mJy] of clusters seen in F555W.

    The noise is written out here, not drawn by the package's noise model: the two must agree.
    """
    rng = generator(0, "reference", "held out")
    engine = open_engine(job.model)
    values = draw_prior(job.prior, 12 * n, rng)
    shift = 2 * np.log10(DISTANCE / PARSECS_10_IN_MPC)
    per_mass = engine.fluxes({name: values[name] for name in engine.parameters})
    true = per_mass * 10 ** (values["log_mass"].astype(float) - shift)[:, None]
    depth = 10 ** rng.uniform(*DEPTH, (len(true), 1))
    flux = rng.normal(true, np.hypot(depth, FRACTION * true))
    error = np.hypot(depth, FRACTION * flux)
    kept = np.flatnonzero(flux[:, VISUAL] > LEAST_SIGNAL * error[:, VISUAL])[:n]
    theta = np.stack([values[name] for name in ("log_age", "log_mass", "ebv")], 1)
    return theta[kept].astype(float), flux[kept], error[kept], depth[kept]


def timed(work: Callable[[], Any]) -> float:
    """Seconds that a piece of work takes, the second time."""
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def speeds(model: Model, flux: np.ndarray, error: np.ndarray) -> dict[str, float]:
    """Draws a second, as the flow makes them and weighted."""
    clusters = from_arrays(flux, error, DISTANCE, flux.shape[1])
    seen, survey = observations(clusters, model.network)
    base = torch.rand(len(flux), DRAWS, 3, generator=torch.Generator().manual_seed(0)).to(survey.device)
    options, proposal = Options(DRAWS, True, 0), model.proposal
    n = len(flux) * DRAWS
    return {
        "draws_per_s": n / timed(lambda: model.network.sample(seen, survey, base)[1].sum().item()),
        "certified_draws_per_s": n / timed(lambda: draw_posteriors(proposal, clusters, options)),
    }


def log_density(model: Model, theta: np.ndarray, flux: np.ndarray, error: np.ndarray) -> np.ndarray:
    """The flow's own log density of parameters; the mass as seen at 10 pc for the network."""
    clusters = from_arrays(flux, error, DISTANCE, flux.shape[1])
    seen, _ = observations(clusters, model.network)
    near = theta - np.array([0.0, 1.0, 0.0]) * clusters.log_mass_shift[:, None]
    survey = torch.full(
        (len(theta),), model.network.noise.surveys.index(DEFAULT_SURVEY), device=seen.flux.device
    )
    return model.network.log_prob(torch.as_tensor(near).to(seen.flux), seen, survey).cpu().numpy()


def measure(job: Job) -> dict[str, float]:
    """Figures of the trained model."""
    model = batchflow.open_model(job.output)
    theta, flux, error, depth = observe(job, OBJECTS)
    posterior = model.posterior(flux, error, distance_mpc=DISTANCE, draws=DRAWS, seed=1)
    efficiency = posterior.summary["efficiency"].to_numpy()
    found = {f"efficiency_p{p:02d}": float(np.nanpercentile(efficiency, p)) for p in (1, 10, 50)}
    few = slice(0, GRID_OBJECTS)
    grid = ExactGrid(open_engine(job.model).table(), job.prior.boxes(), FRACTION, DISTANCE)
    evidence = grid.log_evidence(flux[few], depth[few])
    exact = grid.log_joint(theta[few], flux[few], depth[few]) - evidence
    gap = exact - log_density(model, theta[few], flux[few], error[few])
    sampled = posterior.summary["log_evidence"].to_numpy()[few] - evidence
    found |= {
        "gap_nats": float(gap.mean()),
        "gap_nats_error": float(gap.std() / len(gap) ** 0.5),
        "evidence_offset": float(np.nanmedian(sampled)),
        "lost_objects": int(np.isnan(efficiency).sum()),
        "n_objects": len(flux),
    }
    return found | speeds(model, flux[few], error[few])


@contextmanager
def kept_checkpoints(model: Path, kept: Path) -> Iterator[None]:
    """Keep every checkpoint that a training writes: links, made beside it at next to no cost."""
    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(0.2):
            try:
                state = json.loads((model / "checkpoint" / "state.json").read_text())
                os.link(model / "checkpoint" / state["tensors"], kept / f"{state['seconds']:.2f}.safetensors")
            except (OSError, ValueError):
                continue  # there is none yet, it is being replaced, or it is kept already

    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def efficiency_in_time(job: Job, kept: Path, end: float) -> dict[str, Any]:
    """Median efficiency by seconds of training, and when it passed each of `GOALS`."""
    model = batchflow.open_model(job.output)
    _, flux, error, _ = observe(job, LOOKED_AT)
    clusters, course = from_arrays(flux, error, DISTANCE, flux.shape[1]), list[tuple[float, float]]()
    weights = {end: model.network.density.state_dict()} | {
        float(path.stem): _weights(path) for path in kept.glob("*.safetensors")
    }
    final = {name: tensor.clone() for name, tensor in weights[end].items()}
    for seconds, state in sorted((weights | {end: final}).items()):
        model.network.density.load_state_dict(state)
        draws = draw_posteriors(model.proposal, clusters, Options(DRAWS, True, 0))
        course.append((seconds, float(np.nanmedian(draws.efficiency))))
    passed = {str(goal): next((s for s, found in course if found >= goal), None) for goal in GOALS}
    return {"efficiency_in_time": course, "seconds_to_efficiency": passed}


def _weights(path: Path) -> dict[str, torch.Tensor]:
    tensors = safetensors.torch.load_file(path)
    return {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}


def main() -> None:
    """Train, measure, write figures.json and print it."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 8.0
    often = f"train.checkpoint_seconds={max(1.0, 60 * minutes / LOOKS)}"
    job = load_job(
        JOB, [f"train.max_minutes={minutes}", often, "cluster.dashboard=127.0.0.1:0", *sys.argv[2:]]
    )
    run_stages(job, ["mocks"], "resume")
    kept = job.output.resolve() / "checkpoints"
    with kept_checkpoints(job.output.resolve() / "model", kept):
        (report,) = run_stages(job, ["train"], "restart")
    if report.failures:
        sys.exit(f"training failed: {report.failures}")
    training = batchflow.open_model(job.output).network.description["training"]
    figures: dict[str, Any] = {
        "train_seconds": training["seconds"],
        "train_rows_per_s": training["rows"] / training["seconds"],
        "train_rows": training["rows"],
        "held_out_loss": training["held_out_loss"],
    }
    figures |= measure(job)
    figures |= efficiency_in_time(job, kept, training["seconds"])
    shutil.rmtree(kept)
    figures = rounded(figures)
    figures |= {"cpus": len(os.sched_getaffinity(0)), "n_rows": job.mocks.rows}
    figures["versions"] = {name: version(name) for name in ("batchflow", "torch", "numpy")}
    write_json(job.output / "figures.json", figures)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
