"""Catalogues and fitters of the fit's tests."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from batchflow import schema
from batchflow.fit.prepare import Fitter, make_fitter
from batchflow.infer.clusters import Clusters
from batchflow.mocks.estimate import explicit_noise
from batchflow.mocks.unreported import Unreported
from batchflow.physics.engine import open_engine
from batchflow.settings.fit import FitSettings
from batchflow.settings.model import ModelSettings
from batchflow.settings.prior import PriorSettings
from batchflow.threads import threads

BANDS = ("wfc3_f275w", "wfc3_f336w", "wfc3_f438w", "wfc3_f555w", "wfc3_f814w")
MPC = 10.0
SHIFT = 12.0
"""log10 of (10 Mpc / 10 pc)^2."""
FLAT = {"log_age": {"uniform": (6.0, 10.1)}, "ebv": {"uniform": (0.0, 1.0)}}
COARSE = {"nodes": {"log_age": tuple(np.arange(6.0, 10.2, 0.25).tolist())}, "steps": {"ebv": 0.1}}


def fitter(fit=None, prior=None, vary=None, systematic=0.05) -> Fitter:
    """Of a job whose noise is given."""
    prior = {**FLAT, **(prior or {})}
    settings = PriorSettings.model_validate(prior)
    table = open_engine(ModelSettings(bands=BANDS, vary=vary or {})).table()
    noise = explicit_noise(BANDS, (-6.0, -3.0), Unreported(systematic))
    return make_fitter(table, noise, settings, FitSettings.model_validate({**COARSE, **(fit or {})}))


def observe(table, n=6, seed=0, signal=15.0, limits=(), missing=(), **fixed) -> Clusters:
    """Noisy clusters at 10 Mpc; `limits` and `missing` are (cluster, band)."""
    rng = np.random.default_rng(seed)
    edges = {"log_age": (6.1, 9.9), "ebv": (0.0, 0.9)}
    values = {name: rng.uniform(*edges.get(name, table.limits[name]), n) for name in table.parameters}
    true = table.fluxes(values | fixed) * 10.0 ** (rng.uniform(3.5, 5.5, n)[:, None] - SHIFT)
    error = true.mean(axis=1, keepdims=True) / signal * rng.uniform(0.5, 2.0, true.shape)
    flux = true + error * rng.standard_normal(true.shape)
    limit = np.zeros(flux.shape, bool)
    for place in limits:
        limit[place], flux[place] = True, 3 * error[place]
    for place in missing:
        flux[place] = np.nan
    return Clusters(flux, error, limit, np.full(n, MPC), [f"G/{i}" for i in range(n)], [""] * n)


def catalogue(clusters: Clusters) -> pa.Table:
    """The clusters as a catalogue part."""
    n = len(clusters.keys)
    columns = {
        "galaxy": pa.array(["G"] * n),
        "survey": list(clusters.surveys),
        "object_id": [key.partition("/")[2] for key in clusters.keys],
        "distance_mpc": clusters.distance_mpc,
        "class_": np.ones(n, np.int16),
        "flags": np.zeros(n, np.int32),
    }
    for i, band in enumerate(BANDS):
        columns[schema.flux_column(band)] = clusters.flux[:, i]
        columns[schema.error_column(band)] = clusters.error[:, i]
        columns[schema.limit_column(band)] = clusters.limit[:, i]
    wanted = schema.catalogue_schema(BANDS, schema.PUBLISHED)
    arrays = [pa.array(columns.get(field.name, np.full(n, np.nan))).cast(field.type) for field in wanted]
    return pa.Table.from_arrays(arrays, schema=wanted)


def one_thread():
    """Threads that wait for each other are slower than one on a busy machine."""
    with threads(1):
        yield
