"""Run folders with made-up posteriors, written by the code that infers."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from batchflow import schema
from batchflow.infer.draw import Draws
from batchflow.infer.table import draws_table, posterior_flags, posterior_table, summary_columns
from batchflow.paths import RunFolder, partition_folder
from batchflow.physics.engine import open_engine
from batchflow.physics.table import FluxTable
from batchflow.settings.prior import PriorSettings
from batchflow.shards import write_table

PRIOR = PriorSettings.model_validate(
    {"log_age": {"uniform": [6.0, 10.0]}, "log_mass": {"uniform": [2.0, 8.0]}, "ebv": {"uniform": [0.0, 1.5]}}
)


@cache
def flux_table() -> FluxTable:
    return open_engine({"bands": ["wfc3_f555w"]}).table()


def toy_draws(values: dict[str, np.ndarray], log_weights: np.ndarray | None = None) -> Draws:
    """Draws of clusters, with equal weights unless given; (n_clusters, n_draws)."""
    shape = values["log_mass"].shape
    raw = np.zeros(shape) if log_weights is None else log_weights
    weights = np.exp(raw - raw.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    given: dict[str, Any] = {
        "values": values,
        "log_weights": np.log(weights),
        "log_density": raw,
        "efficiency": 1 / (weights**2).sum(1) / shape[1],
        "log_evidence": np.full(shape[0], -3.0),
        "chi2": np.ones(shape),
        "pvalue": np.full(shape[0], 0.5),
        "nuisances": {},
    }
    return Draws(**given)


def add_part(folder: Path, galaxy: str, draws: Draws, prior: PriorSettings = PRIOR, part: int = 0) -> None:
    """Write the posterior and the draws of a part of a galaxy."""
    n = len(draws.efficiency)
    columns = {
        "galaxy": pa.array([galaxy] * n),
        "survey": ["s"] * n,
        "object_id": [f"{part}-{i}" for i in range(n)],
        "class_": np.ones(n, np.int16),
        "flags": np.zeros(n, np.int32),
    }
    wanted = schema.catalogue_schema((), schema.PUBLISHED)
    arrays = [pa.array(columns.get(field.name, np.full(n, np.nan))).cast(field.type) for field in wanted]
    catalogue = pa.Table.from_arrays(arrays, schema=wanted)
    boxes = prior.boxes()
    found = summary_columns(draws, boxes, flux_table())
    found |= {"n_bands": np.full(n, 5), "ood_pvalue": np.full(n, 0.5)}
    found["member_spread"] = pa.nulls(n, pa.float32())
    run = RunFolder(Path(folder))
    flat = {
        f"prior.{name}.{shape}": value
        for name, given in prior.model_dump(mode="json").items()
        for shape, value in given.items()
    }
    settings = flat | {"infer.min_efficiency": 0.05}
    footer = {"stage": "infer", "unit": f"{galaxy}/{part}", "fingerprint": "f", "settings": settings}
    name = f"part-{part:05d}.parquet"
    write_table(partition_folder(run.draws, galaxy) / name, draws_table(catalogue, draws), footer)
    summary = posterior_table(catalogue, found, posterior_flags(draws, boxes, 0.05))
    write_table(partition_folder(run.posterior, galaxy) / name, summary, footer)


def gaussian_draws(
    centres: dict[str, float], widths: dict[str, float], shape: tuple[int, int], seed: int
) -> Draws:
    """Normal posteriors, equal weights."""
    rng = np.random.default_rng(seed)
    return toy_draws({name: rng.normal(centres[name], widths[name], shape) for name in centres})
