"""Run folders as a finished job leaves them, with simulated photometry and no training."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tomli_w

from batchflow import schema, stages
from batchflow.config import Job, parse_job
from batchflow.flow.description import write_description
from batchflow.infer.draw import Draws
from batchflow.infer.table import draws_table, posterior_flags, posterior_table, summary_columns
from batchflow.mocks.noise import NoiseModel
from batchflow.paths import RunFolder, partition_folder
from batchflow.physics.engine import open_engine
from batchflow.physics.table import FluxTable
from batchflow.shards import write_json, write_table
from batchflow.validate.calibrate import recovery
from batchflow.validate.compare import compare_published

BANDS = ("wfc3_f275w", "wfc3_f336w", "wfc3_f438w", "wfc3_f555w", "wfc3_f814w")
MODEL = {"bands": list(BANDS)}
BOXES = {"log_age": (6.0, 10.14), "log_mass": (2.0, 8.0), "ebv": (0.0, 1.5)}
WIDTHS = {"log_age": 0.3, "log_mass": 0.25, "ebv": 0.12}
DISTANCE, DEPTH, DRAWS = 5.0, 3e-5, 200
PROPOSED, THINNED = 3000, 0.7
SPREAD = (10 / 1e6 / DISTANCE) ** 2


@cache
def flux_table() -> FluxTable:
    return open_engine(MODEL).table()


def noise() -> NoiseModel:
    """One survey of even depth, 5 % systematic."""
    one = np.ones((1, len(BANDS)))
    return NoiseModel(
        BANDS,
        ("survey",),
        depth=DEPTH * one,
        photon=0 * one,
        fractional=0.01 * one,
        scatter=0.1 * one,
        correlation=np.zeros(1),
        brightness=np.array([[0.0, 4.0]]),
        limit_fraction=np.zeros(1),
        systematic=0.05,
    )


def job(folder: Path) -> Job:
    values = {
        "name": "made-up",
        "output": str(folder),
        "model": MODEL,
        "noise": {"depth": [-5.5, -4.5]},
    }
    return parse_job(values, "test", Path("/"))


def photometry(rng: np.random.Generator, n: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Truths, noisy fluxes and reported errors [mJy]."""
    truth = {
        "log_age": rng.uniform(6.2, 10.0, n),
        "log_mass": rng.normal(4.5, 0.6, n),
        "ebv": np.abs(rng.normal(0.0, 0.25, n)).clip(max=1.4),
    }
    exact = model_fluxes(truth)
    sigma = np.hypot(DEPTH, 0.05 * exact)
    return truth, rng.normal(exact, sigma), np.hypot(DEPTH, 0.01 * exact)


def model_fluxes(values: dict[str, np.ndarray]) -> np.ndarray:
    given = {name: values[name].ravel() for name in ("log_age", "ebv")}
    found = flux_table().fluxes(given) * 10 ** values["log_mass"].ravel()[:, None] * SPREAD
    return found.reshape(*values["log_age"].shape, len(BANDS))


def weighted(rng: np.random.Generator, truth: dict[str, np.ndarray], flux: np.ndarray) -> Draws:
    """Posterior draws of uneven weight: many around the truth and over the prior, thinned."""
    shape = (len(flux), PROPOSED)
    near = {name: value[:, None] + rng.normal(0, WIDTHS[name], shape) for name, value in truth.items()}
    wide = rng.random(shape) < 0.3
    values = {
        name: np.clip(np.where(wide, rng.uniform(*box, shape), near[name]), *box)
        for name, box in BOXES.items()
    }
    expected = model_fluxes(values)
    sigma = np.hypot(DEPTH, 0.05 * expected)
    chi2 = ((flux[:, None] - expected) ** 2 / sigma**2).sum(-1)
    log_likelihood = -0.5 * chi2 - np.log(sigma).sum(-1)
    offset = [(values[name] - truth[name][:, None]) / WIDTHS[name] for name in BOXES]
    local = np.exp(-0.5 * sum(each**2 for each in offset)) / np.prod([2.5066 * w for w in WIDTHS.values()])
    flat = 1 / np.prod([high - low for low, high in BOXES.values()])
    raw = log_likelihood - np.log(0.7 * local + 0.3 * flat)
    raw -= raw.max(1, keepdims=True)
    # Gumbel's trick chooses without repeats by weight^0.7; what is left of the weight stays with the draw.
    kept = np.argsort(-(THINNED * raw + rng.gumbel(size=shape)), axis=1)[:, :DRAWS]
    rows = np.arange(len(flux))[:, None]
    weights = np.exp((1 - THINNED) * raw[rows, kept])
    weights /= weights.sum(1, keepdims=True)
    return Draws(
        values={name: value[rows, kept] for name, value in values.items()},
        log_weights=np.log(np.maximum(weights, 1e-300)),
        log_density=log_likelihood[rows, kept],
        efficiency=1 / (weights**2).sum(1) / DRAWS,
        log_evidence=np.full(len(flux), -3.0),
        chi2=chi2[rows, kept],
        pvalue=rng.random(len(flux)),
        nuisances={},
    )


def write_galaxy(run: RunFolder, galaxy: str, n: int, seed: int = 0, published: bool = True) -> None:
    """Catalogue, posterior and draws of one galaxy; the last cluster has no distance and no posterior."""
    rng = np.random.default_rng(seed)
    truth, flux, error = photometry(rng, n)
    draws = weighted(rng, truth, flux)
    lost = np.arange(n) == n - 1
    for values in (*draws.values.values(), draws.log_weights, draws.log_density, draws.efficiency):
        values[lost] = np.nan
    nothing = np.full(n, np.nan)
    columns = {
        "galaxy": pa.array([galaxy] * n),
        "survey": ["survey"] * n,
        "object_id": [str(i) for i in range(n)],
        "distance_mpc": np.where(lost, np.nan, DISTANCE),
        "class_": np.ones(n, np.int16),
        "flags": np.where(lost, schema.Flag.NO_DISTANCE | schema.Flag.NOT_INFERRED, 0).astype(np.int32),
        **{schema.flux_column(band): flux[:, i] for i, band in enumerate(BANDS)},
        **{schema.error_column(band): error[:, i] for i, band in enumerate(BANDS)},
        **{schema.limit_column(band): np.zeros(n, bool) for band in BANDS},
    }
    if published:
        columns |= {f"published_{name}": truth[name] + rng.normal(0, 0.1, n) for name in schema.PUBLISHED}
    wanted = schema.catalogue_schema(BANDS, schema.PUBLISHED)
    arrays = [pa.array(columns.get(field.name, nothing)).cast(field.type) for field in wanted]
    catalogue = pa.Table.from_arrays(arrays, schema=wanted)
    found = summary_columns(draws, BOXES, flux_table())
    found |= {"n_bands": np.full(n, len(BANDS)), "ood_pvalue": rng.random(n)}
    found["member_spread"] = pa.nulls(n, pa.float32())
    bits = np.where(lost, 0, posterior_flags(draws, BOXES, 0.05)).astype(np.int32)
    footer = {"stage": "infer", "unit": galaxy, "fingerprint": "f", "settings": {}}
    tables = {
        run.catalogue: catalogue,
        run.draws: draws_table(catalogue, draws),
        run.posterior: posterior_table(catalogue, found, bits),
    }
    for parent, table in tables.items():
        write_table(partition_folder(parent, galaxy) / "part-00000.parquet", table, footer)


def replace_column(path: Path, name: str, values: object) -> None:
    """Write a Parquet file anew with another column of the same type."""
    table = pq.read_table(path, partitioning=None)
    place = table.schema.get_field_index(name)
    field = table.schema.field(place)
    column = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, field.type)
    write_table(path, table.set_column(place, field, column), {})


def write_model(run: RunFolder) -> None:
    """What a model folder says of itself; without weights."""
    flux_table().save(run.model / "flux_table.safetensors")
    steps = np.arange(1, 40) * 100
    history = {
        "step": steps,
        "epoch": steps / 1000,
        "train_loss": 2 + np.exp(-steps / 800),
        "held_out_loss": 2.05 + np.exp(-steps / 800),
        "learning_rate": 1e-3 * (1 - steps / 4000),
        "rows_per_second": np.full(39, 1e5),
        "seconds": steps / 100.0,
    }
    write_table(run.history, pa.table(history), {})
    settings = job(run.root)
    values = {
        "format": "batchflow model 2",
        "bands": list(BANDS),
        "parameters": list(BOXES),
        "prior": {name: list(box) for name, box in BOXES.items()},
        "prior_settings": settings.prior.model_dump(mode="json"),
        "flow": {"kind": "spline"},
        "noise": noise().to_dict(),
        "engine": open_engine(MODEL).describe(),
        "training": {"seconds": 12.0, "held_out_loss": 2.05},
        "versions": {"batchflow": "0.0.1", "numpy": "2"},
        "weights_sha256": "0",
    }
    write_description(run.model, values)


def write_validation(run: RunFolder, posterior: pa.Table) -> None:
    """Recovery of truths, and the comparison with published values."""
    rng = np.random.default_rng(5)
    truth = {name: rng.normal(7, 1, 400) for name in BOXES}
    draws = {name: value[:, None] + rng.normal(0, 0.2, (400, 1)) for name, value in truth.items()}
    draws = {name: centre + rng.normal(0, 0.2, (400, 200)) for name, centre in draws.items()}
    table = recovery(draws, np.full((400, 200), 1 / 200), truth)
    table = table.append_column("efficiency", pa.array([0.5] * 3)).append_column("n_lost", pa.array([0] * 3))
    write_table(run.validation / "recovery.parquet", table, {})
    write_table(run.validation / "comparison.parquet", compare_published(posterior), {})


def write_run(folder: Path, galaxies: dict[str, int], published: bool = True) -> RunFolder:
    """A whole run.

    `galaxies` gives the number of clusters of each.
    """
    run = RunFolder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    run.job.write_text(tomli_w.dumps(stages.resolved(job(folder))))
    for seed, (galaxy, n) in enumerate(galaxies.items()):
        write_galaxy(run, galaxy, n, seed, published)
    write_model(run)
    files = sorted(run.posterior.glob("*/*.parquet"))
    write_validation(run, pa.concat_tables([pq.read_table(file, partitioning=None) for file in files]))
    write_json(run.logs / "stages.json", STAGES)
    return run


STAGES = {
    "mocks": {"made": 10, "mocks_per_second": 2e5, "peak_memory_mib": {"cpu-0": 310.2}, "seconds": 3.9},
    "train": {"made": 1, "rows_per_second": 1e5, "seconds": 62.0},
    "infer": {"made": 3, "clusters_per_second": 120.5, "seconds": 4.2},
}
