"""The training loop against its bare step, and both against the machine's matrix products.

    python tests/benchmarks/bench_train_step.py [STEPS] [--threads N]

The bare step is forward, backward, clipping and optimiser on a batch whose features lie on the device; the
loop adds shuffling, noise, masks, features, records and checkpoints. Both run in turns, so that whatever
else the machine does slows both alike. The arithmetic counted is that of the linear layers alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path

import torch
from bench_reference import JOB
from torch import nn

from batchflow.config import Job, load_job
from batchflow.flow.checkpoint import new_network
from batchflow.flow.density import PosteriorDensity
from batchflow.flow.features import make_features
from batchflow.keys import generator
from batchflow.machine import cores
from batchflow.mocks.make import mock_table
from batchflow.mocks.prior import draw_prior
from batchflow.physics.engine import open_engine
from batchflow.shards import write_table
from batchflow.threads import crew
from batchflow.train.fit import TrainingProgress, _Fit
from batchflow.train.hands import hired
from batchflow.train.optimise import Optimisation
from batchflow.train.parts import parts
from batchflow.train.simulate import simulate
from batchflow.train.task import make_training

ROWS, TURN = 100_000, 20
DRAWS, OBJECTS = 500, 128


def write_mocks(job: Job, folder: Path) -> str:
    """One shard of mocks."""
    engine = open_engine(job.model)
    path = folder / "shard-00000.parquet"
    write_table(path, mock_table(engine, draw_prior(job.prior, ROWS, generator(0, "bench"))), {})
    return str(path)


def matrix_flops(density: PosteriorDensity) -> float:
    """Multiplications and additions of the trained linear layers, forward, a row."""
    layers = [layer for layer in density.flow.modules() if isinstance(layer, nn.Linear)]
    return sum(2.0 * layer.in_features * layer.out_features for layer in layers)


def draw_flops(density: PosteriorDensity) -> float:
    """The same a draw: the couplings."""
    layers = [layer for layer in density.flow.couplings.modules() if isinstance(layer, nn.Linear)]
    return sum(2.0 * layer.in_features * layer.out_features for layer in layers)


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def peak_flops(device: torch.device) -> float:
    """Floating-point operations a second of a large square matrix product; the best of several."""
    size = 2048 if device.type == "cpu" else 8192
    left, right = torch.randn(size, size, device=device), torch.randn(size, size, device=device)
    times = []
    for _ in range(12):
        start = time.perf_counter()
        torch.mm(left, right)
        synchronise(device)
        times.append(time.perf_counter() - start)
    return 2.0 * size**3 / min(times)


class Done(Exception):  # noqa: N818 - not an error
    """Enough steps."""


def run(steps: int, device: torch.device) -> dict[str, float]:
    """Time both, in turns of a few steps."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        job = load_job(JOB, ["train.max_minutes=60", f"output={name}/run"])
        inputs = {"shards": [write_mocks(job, Path(name))], "catalogue": []}
        training = make_training(job, open_engine(job.model).table(), inputs, {})
        threaded = stack.enter_context(crew(device))
        fit = _Fit(training, Path(name) / "model", device, threaded)
        density = new_network(training.specification, 1).density.to(device)
        bare = Optimisation(density.flow, 1e-3)
        batch = fit.batches.batch
        number = min(threaded.number, len(parts(batch, device)))
        bare.share(stack.enter_context(hired(number, density.flow, batch)))
        ready = list(islice(fit._examples(0, 0), 8))
        turns: dict[str, list[float]] = {"loop": [], "bare": []}
        mark = time.perf_counter()

        def alternate(progress: TrainingProgress) -> None:
            nonlocal mark
            if progress.step % TURN:
                return
            synchronise(device)
            now = time.perf_counter()
            turns["loop"].append(now - mark)
            for step in range(TURN):
                bare.step(ready[step % len(ready)], 0.3)
            synchronise(device)
            mark = time.perf_counter()
            turns["bare"].append(mark - now)
            if progress.step >= steps:
                raise Done

        with contextlib.suppress(Done):
            fit.run(alternate)
        # The first turn warms up.
        rate = {kind: TURN * batch / statistics.median(times[1:]) for kind, times in turns.items()}
        pairs = list(zip(turns["loop"], turns["bare"], strict=True))[1:]
        flops = matrix_flops(density)
        return {
            "loop_rows_per_s": rate["loop"],
            "bare_rows_per_s": rate["bare"],
            "loop_over_bare": statistics.median(bare / loop for loop, bare in pairs),
            "matrix_flops_a_row": flops,
            "training_gflops": 3e-9 * flops * rate["bare"],
        } | sampling(fit, device)


def sampling(fit: _Fit, device: torch.device) -> dict[str, float]:
    """Draws a second, and their arithmetic."""
    density = fit.network.density
    mocks = fit.training.shards.read_held_out(OBJECTS).to(device)
    simulation = simulate(mocks.fluxes, fit.noise, torch.Generator(device).manual_seed(0))
    features = make_features(fit.noise, simulation.seen, simulation.survey)
    base = torch.rand(OBJECTS // 4, DRAWS, 3, device=device)
    times = []
    with torch.inference_mode():
        condition = density.condition(features.rows(slice(0, OBJECTS // 4)))
        for _ in range(10):
            start = time.perf_counter()
            density.draw(condition, base)
            synchronise(device)
            times.append(time.perf_counter() - start)
    rate = base.shape[0] * DRAWS / statistics.median(times)
    return {"draws_per_s": rate, "sampling_gflops": 1e-9 * draw_flops(density) * rate}


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("steps", type=int, nargs="?", default=600)
    parser.add_argument("--threads", type=int, default=cores())
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = run(chosen.steps, device)
    found["peak_gflops"] = 1e-9 * peak_flops(device)
    for kind in ("training", "sampling"):
        found[f"{kind}_over_peak"] = found[f"{kind}_gflops"] / found["peak_gflops"]
    found["threads"] = chosen.threads
    print(json.dumps({name: float(f"{value:.4g}") for name, value in found.items()}, indent=2))


if __name__ == "__main__":
    main()
