"""What every worker needs for the fit, made once: the noise model and the flux table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from batchflow.catalogue.files import checksum
from batchflow.errors import UserError
from batchflow.fit.classical import GridModels, How
from batchflow.fit.exact import exact_proposal
from batchflow.fit.grid import check_size, grid_nodes, make_models
from batchflow.infer.clusters import Clusters
from batchflow.infer.draw import Proposal
from batchflow.mocks.flux_table import open_table
from batchflow.mocks.noise import NoiseModel
from batchflow.paths import RunFolder
from batchflow.physics.table import TABLE_FILE, FluxTable
from batchflow.settings.fit import FitSettings
from batchflow.settings.prior import PriorSettings
from batchflow.shards import write_json
from batchflow.stages import from_resolved

NOISE_FILE = "noise.json"


@dataclass(frozen=True)
class Fitter:
    """All that fits clusters."""

    table: FluxTable
    models: GridModels
    """Of the classical grid."""
    proposal: Proposal
    """Of the exact posterior."""
    fit: FitSettings

    @property
    def noise(self) -> NoiseModel:
        """Noise of the job's surveys."""
        return self.proposal.network.noise

    @property
    def how(self) -> How:
        """How chi2 is made."""
        return How(self.fit.upper_limits, self.fit.likely)

    def additional_error(self, clusters: Clusters) -> NDArray[np.float64]:
        """Fraction of the flux to add to each error, (n_clusters, n_bands)."""
        given = self.fit.additional_error
        unreported: NDArray[np.float64] = self.noise.systematic[self.noise.index(clusters.surveys)]
        return unreported if given is None else np.full(clusters.flux.shape, given)


def prepare_fit(job: dict[str, Any], folder: str, parts: list[str]) -> str:
    """Make the noise model and the flux table of a job; the task of a worker.

    Parameters
    ----------
    job : dict
        As `stages.resolved` gives it.
    folder : str
        Where they go.
    parts : list of str
        Parts of the normalised catalogue.

    Returns
    -------
    str
        Checksum of what was made.
    """
    from batchflow.train.task import make_noise

    found, place = from_resolved(job, "job"), Path(folder)
    write_json(place / NOISE_FILE, make_noise(found, parts).to_dict())
    open_table(found, RunFolder(found.output.resolve())).save(place / TABLE_FILE)
    return prepared(folder)


def prepared(folder: str) -> str:
    """Checksum of what `prepare_fit` made."""
    return " ".join(checksum(Path(folder) / name) for name in (NOISE_FILE, TABLE_FILE))


@lru_cache(maxsize=2)
def cached_fitter(folder: str, checksums: str, prior: str, fit: str) -> Fitter:
    """A fitter made once a process.

    Parameters
    ----------
    folder : str
        Where `prepare_fit` put the noise model and the table.
    checksums : str
        Theirs.
    prior, fit : str
        [prior] and [fit] of the job, as JSON.

    Returns
    -------
    Fitter
        On the GPU where there is one.

    Raises
    ------
    UserError
        When another run has changed the files.
    """
    if prepared(folder) != checksums:
        raise UserError(f"{folder}: the noise model was replaced while the job ran; run the job again")
    values = json.loads((Path(folder) / NOISE_FILE).read_text(encoding="utf-8"))
    table = FluxTable.load(Path(folder) / TABLE_FILE)
    return make_fitter(
        table,
        NoiseModel.from_dict(values),
        PriorSettings.model_validate_json(prior),
        FitSettings.model_validate_json(fit),
    )


def make_fitter(table: FluxTable, noise: NoiseModel, prior: PriorSettings, fit: FitSettings) -> Fitter:
    """Put a fitter together.

    Parameters
    ----------
    table : FluxTable
        Of the job.
    noise : NoiseModel
        Of its catalogues.
    prior : PriorSettings
        Of every parameter.
    fit : FitSettings
        The classical grid.

    Returns
    -------
    Fitter
        On the GPU where there is one.

    Raises
    ------
    UserError
        When the grid is too large, or nodes lie outside the table.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    nodes = grid_nodes(fit, prior, dict(zip(table.parameters, table.nodes, strict=True)))
    check_size(nodes, len(table.bands))
    models = GridModels.of(make_models(nodes, table), device)
    return Fitter(table, models, exact_proposal(table, noise, prior, device), fit)
