"""Other codes on the reference problem, for bench_draws.py: each where it can be imported.

emcee and nautilus sample the likelihood and prior of exact_grid.py, vectorised, until there are as many
effective draws as asked for. bagpipes fits a cluster with its own models, for 5000 effective draws, as
tests/infer/test_bagpipes.py does. sbi (NPE with its neural spline flow, `sample_batched`) and zuko
(coupling flow) are trained for a short while by bench_peers.py first; their draws are not weighted to
anything.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bench_reference import DISTANCE, FRACTION, JOB, observe
from exact_grid import ExactGrid

from batchflow.config import load_job
from batchflow.physics.engine import open_engine

SYNFERENCE = 18.0
"""Objects a second and core: Harvey et al. 2025 (arXiv:2511.10640); 8 parameters, 14 bands, draws alone."""
NEEDS = {"emcee": "emcee", "nautilus": "nautilus", "bagpipes": "bagpipes", "sbi": "sbi", "zuko": "zuko"}
WALKERS, BURN_IN, STEPS, MOST_STEPS = 32, 300, 500, 30_000
LIVE_POINTS = 400
BATCHED = 100_000
"""Draws that sbi and zuko are asked for in all."""
Floats = np.ndarray
LogDensity = Callable[[Floats], Floats]
Sampler = Callable[[LogDensity, Floats, int], float]


def run_peers(
    run: Path, sizes: list[int], words: argparse.Namespace, folder: Path
) -> tuple[dict[str, Any], list[str]]:
    """Objects a second of each, by number of draws; and who was left out, with the reason."""
    found, left_out = dict[str, Any](), list[str]()
    for name in filter(None, words.peers.split(",")):
        if importlib.util.find_spec(NEEDS[name]) is None:
            left_out.append(f"{name}: not importable; tests/benchmarks/README.md says how to have it")
        elif name == "bagpipes":
            found[name] = {"any": {"objects_per_s": 1 / bagpipes_seconds(folder)}}
        elif name in ("sbi", "zuko"):
            found[name] = batched(run, name, sizes, words.seconds, folder)
        else:
            found[name] = {str(n): sampled(run, SAMPLERS[name], n, words.objects) for n in sizes}
    return found, left_out


def targets(run: Path, objects: int) -> Iterator[tuple[LogDensity, Floats]]:
    """Log density of likelihood and prior of some clusters, and the edges of the prior's box (3, 2)."""
    job = load_job(run / "job.toml", [])
    _, flux, _, depth = observe(job, objects)
    boxes = job.prior.boxes()
    grid = ExactGrid(open_engine(job.model).table(), boxes, FRACTION, DISTANCE)
    edges = np.array([boxes[name] for name in ("log_age", "log_mass", "ebv")])
    for seen, level in zip(flux, depth[:, 0], strict=True):

        def log_density(theta: Floats, seen: Floats = seen, level: float = level) -> Floats:
            theta = np.atleast_2d(theta)
            inside = ((theta > edges[:, 0]) & (theta < edges[:, 1])).all(1)
            found = np.full(len(theta), -np.inf)
            if inside.any():
                found[inside] = grid.log_joint(theta[inside], seen, level)
            return found

        yield log_density, edges


def sampled(run: Path, sampler: Sampler, draws: int, objects: int) -> dict[str, float]:
    """Objects a second, and effective draws of each."""
    start, effective = time.process_time(), list[float]()
    for log_density, edges in targets(run, objects):
        effective.append(sampler(log_density, edges, draws))
    spent = time.process_time() - start
    return {"objects_per_s": objects / spent, "effective_draws": float(np.mean(effective))}


def emcee_draws(log_density: LogDensity, edges: Floats, draws: int) -> float:
    """Walk until the chains hold enough independent draws; how many they hold."""
    emcee = importlib.import_module("emcee")
    random = np.random.default_rng(0)
    low, high = edges.T
    tried = random.uniform(low, high, (4096, 3))
    level = log_density(tried)
    share = np.exp(level - level.max())
    start = tried[random.choice(len(tried), WALKERS, p=share / share.sum())]
    start = np.clip(start + random.normal(0, 0.02, start.shape), edges[:, 0] + 1e-3, edges[:, 1] - 1e-3)
    sampler = emcee.EnsembleSampler(WALKERS, 3, log_density, vectorize=True)
    state = sampler.run_mcmc(start, BURN_IN)
    sampler.reset()
    effective = 0.0
    while effective < draws and sampler.iteration < MOST_STEPS:
        state = sampler.run_mcmc(state, STEPS)
        effective = WALKERS * sampler.iteration / float(sampler.get_autocorr_time(tol=0).max())
    return effective


def nautilus_draws(log_density: LogDensity, edges: Floats, draws: int) -> float:
    """Nested sampling with neural boundaries, until there are enough effective draws."""
    nautilus = importlib.import_module("nautilus")

    low, high = edges.T

    def prior(unit: Floats) -> Floats:
        scaled: Floats = low + unit * (high - low)
        return scaled

    sampler = nautilus.Sampler(
        prior, log_density, n_dim=3, n_live=LIVE_POINTS, n_networks=1, vectorized=True, seed=0
    )
    sampler.run(n_eff=draws, verbose=False)
    return float(sampler.n_eff)


SAMPLERS: dict[str, Sampler] = {"emcee": emcee_draws, "nautilus": nautilus_draws}


def bagpipes_seconds(folder: Path) -> float:
    """Seconds of the processor for one cluster."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "infer"))
    test = importlib.import_module("test_bagpipes")
    here = Path.cwd()
    os.chdir(folder)
    try:
        pipes = importlib.import_module("bagpipes")
        test.sample_ages_finely(pipes.config)
        _, flux, error = test.observe()
        start = time.process_time()
        test.theirs(pipes, flux[:1], error[:1], folder)
        return time.process_time() - start
    finally:
        os.chdir(here)


def batched(run: Path, name: str, sizes: list[int], seconds: float, folder: Path) -> dict[str, Any]:
    """Objects a second of a network of sbi or zuko, after a short training."""
    import bench_peers

    _, data, held_out = bench_peers.problem(load_job(JOB, [f"output={folder}/peer"]), folder)
    if name == "sbi":
        trained = bench_peers.train_sbi("nsf", data, held_out, seconds)
    else:
        trained = bench_peers.train_zuko_plain(data, held_out, seconds)
    found = {}
    for draws in sizes:
        some = held_out.rows(slice(0, max(4, BATCHED // draws)))
        trained.draw(held_out.rows(slice(0, 2)), draws)
        start = time.process_time()
        trained.draw(some, draws)
        found[str(draws)] = {"objects_per_s": len(some.theta) / (time.process_time() - start)}
    return found
