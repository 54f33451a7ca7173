"""Train on the reference problem for some minutes and say how far the flow is from the exact posterior.

    python tests/benchmarks/bench_flow.py [MINUTES] [ROWS]

Three parameters, five WFC3 bands, 15 Mpc; noise sqrt(s^2 + (0.05 f)^2) with s log-uniform over a decade
and common to the bands; clusters with S/N > 3 in F555W. Efficiency is that of importance sampling from
the flow (1: the flow is the posterior); nll is -ln density of the truth, gap_nats what an exact posterior
would have less of it [nat].
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from batchflow.config import FlowSettings, ModelSettings, TrainSettings
from batchflow.config import PriorSettings as Prior
from batchflow.flow.checkpoint import PosteriorNetwork, load_model
from batchflow.flow.features import Observations, noise_terms
from batchflow.flow.network import Specification
from batchflow.infer.importance import inside, weigh
from batchflow.infer.likelihood import Photometry, TorchFluxTable, log_likelihood
from batchflow.keys import generator
from batchflow.mocks.make import mock_table
from batchflow.mocks.noise import NoiseModel
from batchflow.mocks.prior import draw_prior
from batchflow.physics.engine import Engine, open_engine
from batchflow.shards import write_table
from batchflow.train.data import open_shards
from batchflow.train.fit import Training, train

BANDS = ("wfc3_f275w", "wfc3_f336w", "wfc3_f438w", "wfc3_f555w", "wfc3_f814w")
VISUAL = 3
PRIOR = Prior.model_validate({"log_mass": {"uniform": [2.5, 7.0]}})
TO_10_PC = 2 * math.log10(15e6 / 10)
DRAWS, OBJECTS = 500, 2000


def reference_noise() -> NoiseModel:
    """Depth 10^-5.3..10^-4.3 mJy, log-uniform, common to the bands; 5 % of the flux besides."""
    one = np.ones((1, len(BANDS)))
    return NoiseModel(
        bands=BANDS,
        surveys=("reference",),
        depth=10**-4.8 * one,
        photon=0 * one,
        fractional=0 * one,
        scatter=0.5 / math.sqrt(3) * one,
        correlation=np.ones(1),
        brightness=np.array([[-0.3, 6.2]]),
        systematic=0.05,
        limit_fraction=np.zeros(1),
        scatter_shape="uniform",
    )


def make_shards(engine: Engine, folder: Path, rows: int) -> list[Path]:
    """Write training mocks, 100,000 a shard."""
    paths = [folder / f"shard-{i:05d}.parquet" for i in range(max(1, rows // 100_000))]
    for i, path in enumerate(paths):
        parameters = draw_prior(PRIOR, min(rows, 100_000), generator(0, "bench", i))
        write_table(path, mock_table(engine, parameters), {})
    return paths


def observe(engine: Engine) -> tuple[torch.Tensor, Observations]:
    """True parameters (mass as seen at 10 pc) and photometry of clusters with S/N > 3 in F555W."""
    rng = generator(0, "bench", "test")
    values = draw_prior(PRIOR, 12 * OBJECTS, rng)
    per_mass = engine.fluxes({name: values[name] for name in engine.parameters})
    log_mass = values["log_mass"].astype(float) - TO_10_PC
    true = per_mass * 10 ** log_mass[:, None]
    depth = 10 ** rng.uniform(-5.3, -4.3, (len(true), 1))
    flux = rng.normal(true, np.sqrt(depth**2 + (0.05 * true) ** 2))
    whole = np.sqrt(depth[:, 0] ** 2 + (0.05 * flux[:, VISUAL]) ** 2)
    kept = np.flatnonzero(flux[:, VISUAL] > 3 * whole)[:OBJECTS]
    theta = np.stack([values["log_age"], log_mass, values["ebv"]], 1)[kept]
    numbers = [torch.from_numpy(array[kept]).float() for array in (flux, depth.repeat(len(BANDS), 1))]
    everything = torch.ones(len(kept), len(BANDS), dtype=torch.bool)
    return torch.from_numpy(theta).float(), Observations(*numbers, everything, ~everything)


class Exact:
    """The exact posterior of the reference photometry, from the engine's own table."""

    def __init__(self, engine: Engine, network: PosteriorNetwork, seen: Observations) -> None:
        self.table = TorchFluxTable.from_table(engine.table(), torch.device("cpu"))
        survey = torch.zeros(len(seen.flux), dtype=torch.int64)
        self.photometry = Photometry(seen, noise_terms(network.noise, seen, survey))

    def log_posterior(self, theta: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Log of likelihood and flat prior, not normalised; theta is (n, n_draws, 3)."""
        per_mass = self.table({"log_age": theta[..., 0].flatten(), "ebv": theta[..., 2].flatten()})
        log_model = per_mass.reshape(*theta.shape[:2], -1) + theta[..., 1:2] * math.log(10)
        box = inside(theta[..., 1] + TO_10_PC, *PRIOR.boxes()["log_mass"])
        return log_likelihood(self.photometry.rows(rows), log_model) + box


def compare(network: PosteriorNetwork, exact: Exact, theta: torch.Tensor) -> tuple[np.ndarray, float]:
    """ESS / draws of each object; and the mean log density that the truth has less than it should [nat]."""
    seen, survey = exact.photometry.seen, torch.zeros(len(theta), dtype=torch.int64)
    found, gaps = [], []
    for rows in torch.arange(len(theta)).split(100):
        draws, log_q = network.sample(seen.rows(rows), survey[rows], torch.rand(len(rows), DRAWS, 3))
        weighted = weigh(exact.log_posterior(draws, rows), log_q)
        truth = exact.log_posterior(theta[rows].unsqueeze(1), rows).squeeze(1) - weighted.log_evidence
        found.append(weighted.efficiency)
        gaps.append(truth - network.log_prob(theta[rows], seen.rows(rows), survey[rows]))
    return torch.cat(found).numpy(), float(torch.cat(gaps).nanmean())


def main() -> None:
    """Print the figures as JSON."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    rows = int(sys.argv[2]) if len(sys.argv) > 2 else 2_000_000
    engine = open_engine(ModelSettings(bands=BANDS))
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        shards = open_shards(make_shards(engine, Path(name), rows), BANDS, 0.02)
        settings = TrainSettings(epochs=1000, batch=1024, learning_rate=6e-3, max_minutes=minutes)
        specification = Specification(BANDS, PRIOR.boxes(), FlowSettings(), reference_noise())
        figures = train(Training(specification, shards, settings, 0, "bench"), Path(name) / "model")
        network = load_model(Path(name) / "model")
    theta, seen = observe(engine)
    survey = torch.zeros(len(theta), dtype=torch.int64)
    start = time.perf_counter()
    network.sample(seen, survey, torch.rand(len(theta), DRAWS, 3))
    figures["draws_per_s"] = len(theta) * DRAWS / (time.perf_counter() - start)
    found, figures["gap_nats"] = compare(network, Exact(engine, network, seen), theta)
    for percentile in (1, 10, 50):
        figures[f"efficiency_p{percentile:02d}"] = float(np.nanpercentile(found, percentile))
    figures["nll"] = -float(network.log_prob(theta, seen, survey).mean())
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}, indent=2))


if __name__ == "__main__":
    main()
