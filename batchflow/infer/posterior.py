"""A trained model for people who have no job: `batchflow.open_model`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from batchflow import schema
from batchflow.catalogue.files import checksum
from batchflow.errors import UserError
from batchflow.flow.checkpoint import PosteriorNetwork, load_model
from batchflow.flow.description import REFERENCE_FILE
from batchflow.infer.clusters import Clusters
from batchflow.infer.disagreement import member_spread
from batchflow.infer.draw import Draws, Options, Proposal, Rescue, draw_posteriors
from batchflow.infer.given import Given, given_arrays, given_table, is_table
from batchflow.infer.marginal import ExactModel
from batchflow.infer.nuisance import Nuisances
from batchflow.infer.ood import OOD_PVALUE, ood_pvalues
from batchflow.infer.reference import Reference, load_reference
from batchflow.infer.support import outside_training
from batchflow.infer.table import posterior_flags, posterior_table, summary_columns
from batchflow.mocks.noise import DEFAULT_SURVEY
from batchflow.physics.table import TABLE_FILE, FluxTable
from batchflow.schema import Flag
from batchflow.settings.prior import PriorSettings

Floats = NDArray[np.float64]
DEFAULT_RESCUE = Rescue()


@dataclass(frozen=True)
class Posterior:
    """Posteriors of some clusters."""

    draws: dict[str, Floats]
    """Draws by parameter, (n_clusters, n_draws)."""
    log_weights: Floats
    """Natural logarithm of weights that sum to one, (n_clusters, n_draws)."""
    summary: pa.Table
    """Columns of `schema.posterior_schema`, one row a cluster."""


@dataclass(frozen=True)
class Model:
    """A trained network with the exact model it is certified against."""

    network: PosteriorNetwork
    table: FluxTable
    reference: Reference | None = None
    """What `ood_pvalue` compares with; without, it is NaN."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands, in the order of the fluxes' columns."""
        return self.network.bands

    @property
    def prior(self) -> PriorSettings:
        """The prior that the model was trained for."""
        return PriorSettings.model_validate(self.network.description["prior_settings"])

    @cached_property
    def proposal(self) -> Proposal:
        """What draws are made with."""
        prior = self.prior
        model = ExactModel.of(self.table, Nuisances(prior.marginalised()), self.network.device)
        return Proposal(self.network, model, prior)

    def posterior(  # noqa: PLR0913 - keywords that a caller at a prompt reads
        self,
        fluxes: Any,
        errors: Any = None,
        *,
        distance_mpc: Any = None,
        distance_error_mpc: Any = None,
        draws: int = 1000,
        certify: bool = True,
        seed: int = 0,
        rescue: Rescue | None = DEFAULT_RESCUE,
    ) -> Posterior:
        """Posteriors of clusters given as arrays or as a table.

        Parameters
        ----------
        fluxes, errors : array_like or Quantity, shape (n_clusters, n_bands) or (n_bands,)
            Flux densities and 1-sigma errors, [mJy] or in their own unit, AB magnitudes too; NaN or masked
            where not measured. Or an astropy Table alone: see `infer.given.given_table` for its columns.
        distance_mpc : array_like or Quantity, shape () or (n_clusters,)
            Distances, [Mpc] or in their own unit; of a table, those of its column by default.
        distance_error_mpc : array_like or Quantity, shape () or (n_clusters,), optional
            1-sigma errors of the distances [Mpc], NaN or 0 where none is known; they widen `log_mass`.
            Clusters of one distance and error are taken to be of one galaxy, equally far in each draw.
        draws : int
            Draws a cluster.
        certify : bool
            Weight the draws to the exact posterior.
        seed : int
            Of the random numbers; a cluster's draws depend on it and on the cluster's row.
        rescue : Rescue or None
            What is done where the efficiency is low; ``Rescue(grid="always")`` takes every posterior
            from the exact grid, ``"summary"`` its quantiles, None leaves the flow's draws as they are.

        Returns
        -------
        Posterior
            Clusters that cannot be inferred have NaN and a flag.

        Raises
        ------
        UserError
            When shapes, bands or units do not fit the model, there is no distance, or an error of a distance
            is negative. A wrong number of one cluster is no error: that cluster is flagged.
        """
        if not isinstance(draws, int | np.integer) or draws < 1:
            raise UserError(f"draws = {draws!r}; expected a whole number, 1 or more")
        if rescue is not None and not isinstance(rescue, Rescue):
            raise UserError(f"rescue = {rescue!r}; expected batchflow.infer.draw.Rescue(grid=...), or None")
        given = self._given(fluxes, errors, distance_mpc, distance_error_mpc)
        clusters = given.clusters
        if self.network.noise.explicit:
            clusters = replace(clusters, surveys=[DEFAULT_SURVEY] * len(clusters.keys))
        found = draw_posteriors(self.proposal, clusters, Options(draws, certify, seed, rescue))
        least = (rescue or DEFAULT_RESCUE).min_efficiency
        table = self.summarise(_catalogue(given), clusters, found, least, certify)
        return Posterior(found.values, found.log_weights, table)

    def _given(self, fluxes: Any, errors: Any, distance: Any, distance_error: Any) -> Given:
        if is_table(fluxes):
            if errors is not None:
                raise UserError(
                    "a table and errors beside it; expected a table alone, with its error columns"
                )
            return given_table(fluxes, self.bands, distance, distance_error)
        if distance is None:
            raise UserError("distance_mpc is missing; expected a distance in Mpc, or one a cluster")
        return given_arrays(fluxes, errors, self.bands, distance, distance_error)

    def summarise(
        self,
        catalogue: pa.Table,
        clusters: Clusters,
        draws: Draws,
        least: float = DEFAULT_RESCUE.min_efficiency,
        certified: bool = True,
    ) -> pa.Table:
        """The posterior table of drawn clusters.

        Parameters
        ----------
        catalogue : pyarrow.Table
            Columns of `schema.catalogue_schema`.
        clusters : Clusters
            The same rows.
        draws : Draws
            Theirs.
        least : float
            Efficiency below which a cluster is flagged.
        certified : bool
            Whether the draws were weighted to the exact posterior.

        Returns
        -------
        pyarrow.Table
            Columns of `schema.posterior_schema`.
        """
        columns = summary_columns(draws, self.network.boxes, self.table)
        # Null, not NaN, where there is no ensemble: tables of equal runs then compare as equal.
        spread = member_spread(draws, len(self.network.members))
        columns["member_spread"] = pa.array(spread, pa.float32(), from_pandas=True)
        columns["n_bands"] = clusters.measured.sum(axis=1)
        strange = Flag.OUTSIDE_TRAINING * outside_training(clusters, self.network.noise)
        bits = clusters.flags | posterior_flags(draws, self.network.boxes, least, certified)
        bits |= strange.astype(np.int32)
        columns["ood_pvalue"] = self.ood_pvalues(clusters)
        bits |= (Flag.OUT_OF_DISTRIBUTION * (columns["ood_pvalue"] < OOD_PVALUE)).astype(np.int32)
        return posterior_table(catalogue, columns, bits)

    def ood_pvalues(self, clusters: Clusters) -> Floats:
        """Probability that a mock looks as strange, (n_clusters,); NaN without a reference."""
        if self.reference is None:
            return np.full(len(clusters.keys), np.nan)
        return ood_pvalues(clusters, self.network, self.reference)


def open_model(folder: str | Path, device: str | None = None) -> Model:
    """Open a trained model.

    Parameters
    ----------
    folder : str or Path
        A run folder, or its model folder.
    device : str, optional
        A torch device; default CUDA when there is one.

    Returns
    -------
    Model
        Ready to infer.

    Raises
    ------
    UserError
        When there is no model, or its files do not agree with each other.
    """
    found = Path(folder)
    inner = found / "model" if (found / "model").is_dir() else found
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    network = load_model(inner, device=chosen)
    _check_file(inner / TABLE_FILE, network.description.get("flux_table_sha256"), "flux table")
    wanted = network.description.get("reference_sha256")
    _check_file(inner / REFERENCE_FILE, wanted, "reference")
    reference = None if wanted is None else load_reference(inner)
    return Model(network, FluxTable.load(inner / TABLE_FILE), reference)


def _check_file(path: Path, wanted: str | None, what: str) -> None:
    """See that a file of the model folder is the one that the model was trained with."""
    if wanted is not None and (not path.is_file() or checksum(path) != wanted):
        raise UserError(f"{path} is not the {what} of this model; train again or copy the folder anew")


@lru_cache(maxsize=2)
def cached_model(folder: str, weights: str) -> tuple[Model, Proposal]:
    """A model loaded once a process; `weights` is its checksum, so that a new one is loaded anew."""
    model = open_model(folder)
    if model.network.weights_sha256 != weights:
        raise UserError(f"{folder}: the model was replaced while the job ran; run the job again")
    return model, model.proposal


def _catalogue(given: Given) -> pa.Table:
    """The rows of a catalogue that has nothing but photometry."""
    clusters, n = given.clusters, len(given.ids)
    columns: dict[str, Any] = {
        "galaxy": list(given.galaxies),
        "survey": list(clusters.surveys),
        "object_id": list(given.ids),
        "distance_mpc": clusters.distance_mpc,
        "distance_error_mpc": clusters.distance_error_mpc,
        "class_": np.zeros(n, np.int16),
        "flags": given.flags,
    }
    nan = np.full(n, np.nan)
    wanted = schema.catalogue_schema((), schema.PUBLISHED)
    arrays = [pa.array(columns.get(field.name, nan)).cast(field.type) for field in wanted]
    return pa.Table.from_arrays(arrays, schema=wanted)
