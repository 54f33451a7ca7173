"""Tiny trained models of real engines, and their exact posteriors by brute force in NumPy.

The network need not be good: the weights are exact whatever it is, and that is what the tests look at.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from batchflow import stages
from batchflow.catalogue.files import checksum
from batchflow.config import Job, parse_job
from batchflow.infer.posterior import TABLE_FILE, Model, open_model
from batchflow.mocks.make import make_shard
from batchflow.physics.engine import open_engine
from batchflow.threads import threads
from batchflow.train.fit import train
from batchflow.train.task import make_training

BANDS = ["wfc3_f275w", "wfc3_f336w", "wfc3_f555w", "wfc3_f814w"]
SYSTEMATIC = 0.05


class Grid(NamedTuple):
    """Points and their posterior probability."""

    values: dict[str, np.ndarray]
    """Each parameter, (n_points,)."""
    probability: np.ndarray
    """Sums to one, (n_points,)."""
    log_evidence: float

    def moments(self, values: np.ndarray) -> tuple[float, float]:
        mean = float((self.probability * values).sum())
        return mean, float(np.sqrt((self.probability * (values - mean) ** 2).sum()))


def make_job(prior: dict[str, Any], **sections: Any) -> Job:
    """A job of one made-up survey and a small network."""
    values = {
        "name": "exact",
        "output": "unused",
        "model": {"bands": BANDS},
        "prior": prior,
        "noise": {"depth": [-5.5, -4.5], "systematic": SYSTEMATIC},
        "flow": {"couplings": 4, "hidden": 16, "bins": 6, "encoder_layers": 2},
        "train": {"epochs": 4, "batch": 256, "learning_rate": 5e-3},
    }
    return parse_job(values | sections, "test", Path("/"))


def train_model(folder: Path, prior: dict[str, Any], rows: int = 8000) -> Model:
    """Mocks, training, model folder."""
    return train_job(folder, make_job(prior), rows)


def train_job(folder: Path, job: Job, rows: int) -> Model:
    """The same for any job without a catalogue."""
    shard = folder / "shard.parquet"
    make_shard(str(shard), {"index": 0, "rows": rows}, stages.mocks_settings(job), {})
    table = open_engine(job.model).table()
    training = make_training(
        job, table, {"shards": [str(shard)], "catalogue": []}, stages.train_settings(job)
    )
    table.save(folder / "model" / TABLE_FILE)
    training.description["flux_table_sha256"] = checksum(folder / "model" / TABLE_FILE)
    with threads(1):  # several that wait for each other are slower than one on a busy machine
        train(training, folder / "model")
    return open_model(folder, device="cpu")


def photometry(model: Model, truth: dict[str, float], signal: float) -> tuple[np.ndarray, np.ndarray]:
    """Fluxes [mJy] of a cluster at 10 Mpc, and errors that give the mean band this signal to noise."""
    names = model.table.parameters
    fluxes = model.table.fluxes({name: truth[name] for name in names})[0] * 10 ** (truth["log_mass"] - 12)
    return fluxes, np.full(fluxes.shape, fluxes.mean() / signal)


def brute_force(
    model: Model,
    seen: tuple[np.ndarray, np.ndarray],
    axes: dict[str, np.ndarray],
    prior: dict[str, np.ndarray],
    mass: tuple[np.ndarray, Any],
) -> Grid:
    """Posterior on a grid, for a cluster at 10 Mpc.

    `axes` are cell centres of every parameter but the mass and `prior` the probability of each cell;
    `mass` are offsets [dex] about each model's least-squares mass, and the density of log_mass.
    """
    flux, error = seen
    mesh = {name: grid.ravel() for name, grid in zip(axes, np.meshgrid(*axes.values()), strict=True)}
    weight = np.prod(np.stack([grid.ravel() for grid in np.meshgrid(*prior.values())]), axis=0)
    shape = model.table.fluxes(mesh)
    variance = error**2 + (SYSTEMATIC * flux) ** 2
    best = np.log10((shape * flux / variance).sum(1) / (shape**2 / variance).sum(1))
    away, density = mass
    log_mass = best[:, None] + away
    model_flux = shape[:, None] * 10.0 ** log_mass[..., None]
    sigma2 = error**2 + (SYSTEMATIC * model_flux) ** 2
    log_like = -0.5 * ((flux - model_flux) ** 2 / sigma2 + np.log(2 * np.pi * sigma2)).sum(-1)
    log_mass = log_mass + 12  # from the mass seen at 10 pc to that at 10 Mpc
    top = log_like.max()
    joint = np.exp(log_like - top) * weight[:, None] * density(log_mass) * (away[1] - away[0])
    total = joint.sum()
    repeated = {name: np.repeat(values, away.size) for name, values in mesh.items()}
    values = repeated | {"log_mass": log_mass.ravel()}
    return Grid(values, joint.ravel() / total, float(np.log(total) + top))


def cells(low: float, high: float, n: int) -> np.ndarray:
    """Centres of n equal cells."""
    return low + (high - low) * (np.arange(n) + 0.5) / n
