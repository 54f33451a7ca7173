"""batchflow's flow beside sbi's NPE and zuko's coupling flow: same mocks, same machine, one run.

    python tests/benchmarks/bench_peers.py [SECONDS] [--peers sbi_nsf,sbi_zuko_nsf,zuko_plain,zuko_ours]

Every peer trains for SECONDS; then batchflow does, and the ratio of times is that at which batchflow's
held-out loss passed the peer's last. sbi and zuko are not among the package's dependencies: what is not
installed is left out, and said so.

zuko_plain: neural spline coupling flow of a like size on standardised photometry.
zuko_ours: the same flow in the place of batchflow's own, with all that surrounds it (features, encoder,
mass coordinate): what a library would have to carry.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from bench_reference import JOB
from bench_train_step import write_mocks
from harness import report
from torch import Tensor, nn

from batchflow.config import Job, load_job
from batchflow.flow.checkpoint import load_model, new_network
from batchflow.flow.density import with_mass
from batchflow.flow.description import HISTORY_FILE
from batchflow.flow.features import Features, Observations, make_features
from batchflow.machine import cores
from batchflow.physics.engine import open_engine
from batchflow.train.data import Mocks, open_shards
from batchflow.train.fit import train
from batchflow.train.history import read_history
from batchflow.train.optimise import one_cycle
from batchflow.train.prepare import prepare
from batchflow.train.simulate import simulate
from batchflow.train.task import make_training

BATCH, RATE = 1024, 3e-3
HELD_OUT, OBJECTS, DRAWS = 8192, 200, 500
NEEDS = {"sbi_nsf": "sbi", "sbi_zuko_nsf": "sbi", "zuko_plain": "zuko", "zuko_ours": "zuko"}


class Data(NamedTuple):
    """Simulated photometry: parameters, what batchflow reads, and what a plain network reads."""

    theta: Tensor
    features: Features
    seen: Observations
    survey: Tensor
    plain: Tensor

    def rows(self, index: Any) -> Data:
        """Some of the rows."""
        return Data(
            self.theta[index],
            self.features.rows(index),
            self.seen.rows(index),
            self.survey[index],
            self.plain[index],
        )


class Trained(NamedTuple):
    """What came out of a peer."""

    loss: float
    rows: int
    seconds: float
    draw: Callable[[Data, int], Any]
    """Draws of some objects, so many of each."""


def observe(mocks: Mocks, training: Any, seed: int) -> Data:
    """Draw photometry as batchflow's own training does."""
    network = new_network(training.specification, 0)
    noise = network.noise_on("cpu")
    found = simulate(mocks.fluxes, noise, torch.Generator().manual_seed(seed))
    theta = with_mass(mocks.parameters, network.parameters, found.log_mass)
    features = make_features(noise, found.seen, found.survey)
    # Logarithms and standard scores: the best that a plain network is usually given.
    seen = torch.where(found.seen.measured, (found.seen.flux / 1e-5).asinh(), 0.0)
    error = torch.where(found.seen.measured, found.seen.error.clamp(min=1e-12).log(), 0.0)
    plain = torch.cat([seen, error, found.seen.measured.float()], 1)
    return Data(
        theta, features, found.seen, found.survey, (plain - plain.mean(0)) / plain.std(0).clamp(min=1e-3)
    )


def train_sbi(kind: str, data: Data, held_out: Data, seconds: float) -> Trained:
    """Sbi's NPE with its own defaults but for a larger batch, epoch by epoch until the time is up."""
    from sbi.inference import NPE
    from sbi.neural_nets import posterior_nn
    from sbi.utils import BoxUniform

    low, high = data.theta.amin(0), data.theta.amax(0)
    margin = 0.01 * (high - low)
    prior = BoxUniform(low - margin, high + margin)
    npe = NPE(prior=prior, density_estimator=posterior_nn(kind), show_progress_bars=False)
    npe.append_simulations(data.theta, data.plain)
    start, epochs = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        epochs += 1
        settings = {"training_batch_size": BATCH, "learning_rate": 1e-3, "stop_after_epochs": 10_000}
        estimator = npe.train(**settings, max_num_epochs=epochs, resume_training=epochs > 1)
    spent = time.perf_counter() - start
    with torch.no_grad():
        loss = -estimator.log_prob(held_out.theta.unsqueeze(0), condition=held_out.plain).mean()
    posterior = npe.build_posterior(estimator)

    def draw(some: Data, n: int) -> Any:
        return posterior.sample_batched((n,), x=some.plain, show_progress_bars=False)

    return Trained(float(loss), round(0.9 * epochs * len(data.theta)), spent, draw)


def fit_module(
    module: nn.Module, loss: Callable[[Data], Tensor], data: Data, seconds: float
) -> tuple[int, float]:
    """AdamW with the one-cycle schedule over the time; rows seen and seconds."""
    optimiser = torch.optim.AdamW(module.parameters(), lr=RATE, betas=(0.9, 0.98), fused=True)
    start, rows = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds:
        optimiser.param_groups[0]["lr"] = RATE * one_cycle(spent / seconds)
        value = loss(data.rows(torch.randint(0, len(data.theta), (BATCH,))))
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]  # torch's own
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        rows += BATCH
    return rows, spent


def zuko_flow(context: int) -> Any:
    """Zuko's neural spline flow as couplings, of batchflow's size."""
    import zuko

    return zuko.flows.NSF(3, context, bins=16, transforms=6, hidden_features=(128,), passes=2, randperm=True)


def train_zuko_plain(data: Data, held_out: Data, seconds: float) -> Trained:
    """Zuko on standardised photometry, behind an encoder like batchflow's."""
    centre, spread = data.theta.mean(0), data.theta.std(0)
    encoder = nn.Sequential(
        nn.Linear(data.plain.shape[1], 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 64)
    )
    flow = zuko_flow(64)

    def loss(some: Data) -> Tensor:
        log_prob: Tensor = flow(encoder(some.plain)).log_prob((some.theta - centre) / spread)
        return spread.log().sum() - log_prob.mean()

    rows, spent = fit_module(nn.ModuleList([encoder, flow]), loss, data, seconds)

    def draw(some: Data, n: int) -> Any:
        with torch.no_grad():
            return flow(encoder(some.plain)).rsample_and_log_prob((n,))[0]

    with torch.no_grad():
        return Trained(float(loss(held_out)), rows, spent, draw)


class ZukoInside(nn.Module):
    """zuko's flow with the surface of `flow.model.ConditionalFlow`, on the logit of the unit cube."""

    own: Any
    """batchflow's flow: its encoder, and the narrow layer behind it."""

    def __init__(self, own: nn.Module) -> None:
        super().__init__()
        self.own = own
        self.flow = zuko_flow(64)

    def encode(self, features: Tensor) -> Tensor:
        """As `ConditionalFlow.encode`; the context has no couplings' axis of its own."""
        hidden = features
        for place, layer in enumerate(self.own.encoder):
            update = torch.relu(layer(hidden))
            hidden = hidden + update if place else update
        context: Tensor = self.own.context[0](hidden)
        return context

    def log_prob(self, unit: Tensor, context: Tensor) -> Tensor:
        """As `ConditionalFlow.log_prob`."""
        inner = unit.clamp(1e-6, 1 - 1e-6)
        slope = (inner * (1 - inner)).log().sum(-1)
        log_prob: Tensor = self.flow(context).log_prob(inner.logit())
        return log_prob - slope

    def transport(self, base: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """As `ConditionalFlow.transport`, from random numbers of zuko's own."""
        place, log_prob = self.flow(context).rsample_and_log_prob((base.shape[1],))
        unit = place.sigmoid().transpose(0, 1)
        slope = (unit * (1 - unit)).clamp(min=1e-12).log().sum(-1)
        return unit, log_prob.transpose(0, 1) - slope


def train_zuko_ours(training: Any, data: Data, held_out: Data, seconds: float) -> Trained:
    """Zuko's flow inside batchflow's density."""
    network = new_network(training.specification, 0)
    prepare(network, training.shards, 0, training.fluxes)
    density: Any = network.density
    density.flow = ZukoInside(density.flow)
    weights = nn.ModuleList([density.flow.flow, density.flow.own.encoder, density.flow.own.context[0]])

    def loss(some: Data) -> Tensor:
        log_prob: Tensor = density.log_prob(some.theta, density.condition(some.features))
        return -log_prob.mean()

    rows, spent = fit_module(weights, loss, data, seconds)

    def draw(some: Data, n: int) -> Tensor:
        return network.sample(some.seen, some.survey, torch.rand(len(some.theta), n, 3))[0]

    with torch.no_grad():
        return Trained(float(loss(held_out)), rows, spent, draw)


def draws_per_second(found: Trained, data: Data) -> float:
    """Draws a second for some objects at once."""
    some = data.rows(slice(0, OBJECTS))
    found.draw(data.rows(slice(0, 2)), DRAWS)
    start = time.perf_counter()
    found.draw(some, DRAWS)
    return OBJECTS * DRAWS / (time.perf_counter() - start)


def train_own(training: Any, folder: Path, held_out: Data) -> tuple[Trained, list[Any]]:
    """batchflow, and its history."""
    figures = train(training, folder)
    network = load_model(folder)
    loss = -float(network.log_prob(held_out.theta, held_out.seen, held_out.survey).mean())

    def draw(some: Data, n: int) -> Tensor:
        return network.sample(some.seen, some.survey, torch.rand(len(some.theta), n, 3))[0]

    return Trained(loss, int(figures["rows"]), figures["seconds"], draw), read_history(folder / HISTORY_FILE)


def shown(found: Trained, data: Data) -> dict[str, float]:
    """Figures of one of them."""
    return {
        "held_out_loss": found.loss,
        "rows_per_s": found.rows / found.seconds,
        "draws_per_s": draws_per_second(found, data),
        "seconds": found.seconds,
    }


def problem(job: Job, folder: Path) -> tuple[Any, Data, Data]:
    """A training, its mocks as seen four times, and held-out ones."""
    inputs = {"shards": [write_mocks(job, folder)], "catalogue": []}
    training = make_training(job, open_engine(job.model).table(), inputs, {})
    shards = open_shards(training.shards.paths, training.shards.bands, 0.2)
    object.__setattr__(training, "shards", shards)
    mocks = shards.read(0, shards.training_rows(0))
    data = observe(Mocks(*(torch.cat([part] * 4) for part in mocks)), training, seed=1)
    return training, data, observe(shards.read_held_out(HELD_OUT), training, seed=2)


def compare(job: Job, names: list[str], seconds: float, folder: Path) -> dict[str, dict[str, float]]:
    """Train all and put the ratios beside them."""
    training, data, held_out = problem(job, folder)
    run: dict[str, Callable[[], Trained]] = {
        "sbi_nsf": lambda: train_sbi("nsf", data, held_out, seconds),
        "sbi_zuko_nsf": lambda: train_sbi("zuko_nsf", data, held_out, seconds),
        "zuko_plain": lambda: train_zuko_plain(data, held_out, seconds),
        "zuko_ours": lambda: train_zuko_ours(training, data, held_out, seconds),
    }
    table: dict[str, dict[str, float]] = {}
    for name in names:
        table[name] = shown(run[name](), held_out)
        print(name, table[name], flush=True)
    own, history = train_own(training, folder / "own", held_out)
    mine = table["batchflow"] = shown(own, held_out)
    for name in names:
        passed = [
            record.seconds for record in history if record.held_out_loss <= table[name]["held_out_loss"]
        ]
        table[name] |= {
            "batchflow_draws_ratio": mine["draws_per_s"] / table[name]["draws_per_s"],
            "batchflow_rows_ratio": mine["rows_per_s"] / table[name]["rows_per_s"],
            "batchflow_time_to_loss_ratio": table[name]["seconds"] / passed[0] if passed else math.nan,
        }
    return table


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("seconds", type=float, nargs="?", default=150.0)
    parser.add_argument("--peers", default=",".join(NEEDS))
    parser.add_argument("--threads", type=int, default=cores())
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    names = []
    for name in chosen.peers.split(","):
        if importlib.util.find_spec(NEEDS[name]) is None:
            print(f"{name} left out: {NEEDS[name]} is not installed (see tests/benchmarks/README.md)")
        else:
            names.append(name)
    if not names:
        report({"left_out": [*NEEDS]})
        return
    with tempfile.TemporaryDirectory() as folder:
        minutes = f"train.max_minutes={chosen.seconds / 60}"
        table = compare(load_job(JOB, [minutes]), names, chosen.seconds, Path(folder))
    report({"seconds": chosen.seconds, "peers": table})


if __name__ == "__main__":
    main()
