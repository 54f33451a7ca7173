"""Mock clusters of a smooth made-up physics, and noise models, for the tests of flow and training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from batchflow import schema
from batchflow.flow.features import Observations
from batchflow.flow.network import Specification
from batchflow.mocks.noise import NoiseModel
from batchflow.physics.table import FluxTable
from batchflow.physics.torch_table import TorchFluxTable
from batchflow.settings.train import FlowSettings, TrainSettings
from batchflow.shards import write_table
from batchflow.train.data import open_shards
from batchflow.train.fit import Training

BANDS = ("wfc3_f275w", "wfc3_f438w", "wfc3_f814w")
BOXES = {"log_age": (6.0, 10.0), "log_mass": (2.0, 7.0), "ebv": (0.0, 1.5)}
SMALL = FlowSettings(couplings=3, hidden=16, bins=6, encoder_layers=2)
EXTINCTION = np.array([2.4, 1.6, 0.7])
FADING = np.array([1.1, 0.8, 0.5])


def toy_fluxes(log_age: np.ndarray, ebv: np.ndarray) -> np.ndarray:
    """Flux density [mJy] of 1 Msun at 10 pc: fades with age, redder with age and dust; (n, 3)."""
    log_flux = 6.0 - FADING * (log_age[:, None] - 6.0) - EXTINCTION * ebv[:, None]
    return 10.0 ** (log_flux + 0.1 * np.sin(3 * log_age[:, None] + np.arange(3)))


def toy_table() -> FluxTable:
    """The same, tabulated."""
    ages, ebv = np.linspace(*BOXES["log_age"], 81), np.array(BOXES["ebv"])
    places = (axis.ravel() for axis in np.meshgrid(ages, ebv, indexing="ij"))
    log_flux = np.log10(toy_fluxes(*places)).reshape(len(ages), len(ebv), len(BANDS))
    return FluxTable(("log_age", "ebv"), (ages, ebv), BANDS, log_flux, np.zeros(len(ages)))


def toy_parameters(rows: int, seed: int) -> dict[str, np.ndarray]:
    """Parameters drawn from the boxes."""
    rng = np.random.default_rng(seed)
    return {name: rng.uniform(*box, rows) for name, box in BOXES.items()}


def toy_noise(**changes: Any) -> NoiseModel:
    """Two surveys: one has all bands and every kind of noise, the other lacks the last band."""
    depth = np.array([[1e-5, 2e-5, 3e-5], [3e-5, 1e-5, np.nan]])
    has = np.where(np.isfinite(depth), 1.0, np.nan)
    values = {
        "depth": depth,
        "photon": 1e-6 * has,
        "fractional": 0.02 * has,
        "scatter": 0.1 * has,
        "correlation": np.array([0.5, 0.0]),
        "brightness": np.array([[0.0, 3.5], [0.5, 3.0]]),
        "limit_fraction": np.array([0.0, 0.5]),
        "systematic": 0.05,
    }
    return NoiseModel(BANDS, ("deep", "wide"), **values | changes)


def plain_noise(**changes: Any) -> NoiseModel:
    """One survey whose errors are its depth times an object's own factor, and nothing else."""
    one = np.ones((1, 3))
    values = {
        "depth": 1e-5 * one,
        "photon": 0.0 * one,
        "fractional": 0.0 * one,
        "scatter": 0.2 * one,
        "correlation": np.ones(1),
        "brightness": np.array([[0.5, 3.0]]),
        "limit_fraction": np.zeros(1),
        "systematic": 0.05,
    }
    return NoiseModel(BANDS, ("only",), **values | changes)


def toy_photometry(rows: int, seed: int = 0) -> Observations:
    """Fluxes and errors of all sorts: faint, bright, negative, missing, limits."""
    rng = np.random.default_rng(seed)
    error = 1e-5 * 10.0 ** rng.uniform(-0.3, 0.3, (rows, 3))
    flux = error * rng.normal(10.0 ** rng.uniform(-0.5, 2.5, (rows, 1)), 1.5, (rows, 3))
    measured = rng.random((rows, 3)) < 0.8
    measured[~measured.any(1), 0] = True
    limit = measured & (flux < 3 * error) & (rng.random((rows, 3)) < 0.5)
    return Observations(*(torch.from_numpy(values) for values in (flux, error, measured, limit)))


def write_toy_shards(folder: Path, sizes: tuple[int, ...], seed: int = 0) -> list[Path]:
    """Write shards of toy mocks."""
    paths = [folder / f"shard-{index:05d}.parquet" for index in range(len(sizes))]
    for index, (path, rows) in enumerate(zip(paths, sizes, strict=True)):
        values = toy_parameters(rows, seed=seed + index)
        fluxes = toy_fluxes(values["log_age"], values["ebv"]) * 10.0 ** values["log_mass"][:, None]
        columns = [column.astype(np.float32) for column in (*values.values(), *fluxes.T)]
        write_table(path, pa.table(columns, schema=schema.mocks_schema(list(values), BANDS)), {})
    return paths


def toy_specification(noise: NoiseModel | None = None, flow: FlowSettings = SMALL) -> Specification:
    """A small network of the toy physics."""
    return Specification(BANDS, BOXES, flow, noise or toy_noise())


def toy_training(
    paths: list[Path], settings: dict[str, Any], noise: NoiseModel | None = None, **changes: Any
) -> Training:
    """A short training of a small network."""
    given = {"epochs": 2, "batch": 256, "held_out": 0.1, "checkpoint_seconds": 1e9} | settings
    chosen = TrainSettings(**given)
    shards = open_shards(paths, BANDS, chosen.held_out)
    values = {"seed": 1, "fingerprint": "f"} | changes
    fluxes = TorchFluxTable.from_table(toy_table(), torch.device("cpu"))
    return Training(toy_specification(noise), shards, fluxes, chosen, **values)
