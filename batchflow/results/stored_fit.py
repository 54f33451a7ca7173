"""How well stored draws fit their photometry: found again from the run's own catalogue and model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from batchflow.infer.clusters import Clusters, from_catalogue
from batchflow.infer.distance import mass_shifts
from batchflow.infer.draw import ROWS_IN_CHUNK, Proposal, photometry_of, replicated_tail
from batchflow.infer.marginal import compare
from batchflow.infer.posterior import cached_model
from batchflow.paths import RunFolder
from batchflow.results.stored import read_draws
from batchflow.shards import read_table
from batchflow.train.plan import read_description

Floats = NDArray[np.float64]


class StoredFit(NamedTuple):
    """Of each draw, (n_clusters, n_draws); NaN where a cluster has none."""

    log_likelihood: Floats
    chi2: Floats
    tail: Floats
    """Probability that data replicated from the draw fit worse than the observed."""


def stored_fit(
    run: RunFolder, place: Path, stored: pa.Table, settings: Mapping[str, Any]
) -> StoredFit | None:
    """Compare the draws of a part with its photometry again.

    Parameters
    ----------
    run : RunFolder
        That inferred them.
    place : Path
        The part, relative to the folder of the draws or of the catalogue.
    stored : pyarrow.Table
        Its draws.
    settings : mapping
        Of the footer.

    Returns
    -------
    StoredFit or None
        None where catalogue or model are not there any more or are others, and with marginalised parameters.
    """
    weights = (read_description(run.model) or {}).get("weights_sha256")
    if weights is None or weights != settings.get("weights") or not (run.catalogue / place).is_file():
        return None
    model, proposal = cached_model(str(run.model), str(weights))
    table = read_table(run.catalogue / place)
    if len(proposal.model.nuisances) or table["object_id"].to_pylist() != stored["object_id"].to_pylist():
        return None
    clusters, draws = from_catalogue(table, model.bands), read_draws(stored)
    found = StoredFit(*(np.full(draws.log_weights.shape, np.nan) for _ in range(3)))
    index = np.flatnonzero(clusters.usable & (draws.lengths > 0))
    size = max(1, ROWS_IN_CHUNK // draws.log_weights.shape[1])
    for start in range(0, len(index), size):
        rows = index[start : start + size]
        values = {name: column[rows] for name, column in draws.values.items()}
        part = _fit(proposal, clusters.rows(rows), values, int(settings["seed"]))
        for whole, column in zip(found, part, strict=True):
            whole[rows] = column
    return found


def _fit(proposal: Proposal, clusters: Clusters, draws: dict[str, Floats], seed: int) -> StoredFit:
    network = proposal.network
    photometry, _ = photometry_of(network, clusters)
    shift = mass_shifts(clusters, draws["log_mass"].shape[1], seed)
    moved = draws | {"log_mass": draws["log_mass"] - shift}
    values = {
        name: torch.as_tensor(moved[name], dtype=torch.float32, device=network.device)
        for name in proposal.parameters
    }
    with torch.inference_mode():
        exact = compare(proposal.model, photometry, values, None)
    log_likelihood, chi2 = (
        part.cpu().numpy().astype(np.float64) for part in (exact.log_likelihood, exact.chi2)
    )
    n_bands = photometry.detected.sum(1).cpu().numpy()
    return StoredFit(log_likelihood, chi2, replicated_tail(chi2, n_bands))
