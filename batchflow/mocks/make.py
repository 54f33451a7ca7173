"""One shard of mock clusters: parameters from the prior, noise-free fluxes from the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchflow import schema
from batchflow.errors import UserError
from batchflow.keys import generator
from batchflow.mocks.prior import draw_prior
from batchflow.physics.engine import Engine, open_engine
from batchflow.physics.table import FluxTable
from batchflow.settings.model import ModelSettings
from batchflow.settings.prior import PriorSettings
from batchflow.shards import write_table


def make_shard(
    path: str,
    unit: dict[str, int],
    settings: dict[str, Any],
    footer: dict[str, Any],
    table: str | None = None,
) -> int:
    """Make a shard and write it; the task of a worker.

    Parameters
    ----------
    path : str
        The shard's final name.
    unit : dict
        ``index`` of the shard and its number of ``rows``.
    settings : dict
        As `stages.mocks_settings` gives them.
    footer : dict
        Provenance.
    table : str, optional
        A flux table that was computed before, to be interpolated in place of opening the engine.

    Returns
    -------
    int
        Number of rows written.
    """
    engine = _saved_engine(table) if table else open_engine(ModelSettings.model_validate(settings["model"]))
    prior = PriorSettings.model_validate(settings["prior"])
    rng = generator(settings["seed"], "mocks", unit["index"])
    parameters = engine.realise(draw_prior(prior, unit["rows"], rng), prior.ranges())
    write_table(Path(path), mock_table(engine, parameters), footer | {"engine": engine.describe()})
    return unit["rows"]


def _saved_engine(path: str) -> Engine:
    from batchflow.physics.cigale_table import TableEngine

    return TableEngine(FluxTable.load(path))


def mock_table(engine: Engine, parameters: dict[str, NDArray[np.float32]]) -> pa.Table:
    """Noise-free mock clusters.

    Parameters
    ----------
    engine : Engine
        Computes the fluxes.
    parameters : dict of str to ndarray, shape (n,)
        `log_mass` and the engine's parameters.

    Returns
    -------
    pyarrow.Table
        Columns of `schema.mocks_schema`: fluxes [mJy] at 10 pc for the row's mass.

    Raises
    ------
    UserError
        When the engine has no flux for a mock: in a shard NaN would pass for a band not observed.
    """
    per_mass, bad = engine.flagged_fluxes({name: parameters[name] for name in engine.parameters})
    if bad.any():
        first = int(bad.argmax())
        at = ", ".join(f"{name} = {parameters[name][first]:g}" for name in engine.parameters)
        raise UserError(
            f"the engine gives no flux for {int(bad.sum())} of {bad.size} mocks, first at {at}; "
            "narrow the prior to where it does"
        )
    fluxes = per_mass * 10.0 ** parameters["log_mass"].astype(np.float64)[:, None]
    columns = [*parameters.values(), *fluxes.T.astype(np.float32)]
    return pa.table(columns, schema=schema.mocks_schema(list(parameters), engine.bands))
