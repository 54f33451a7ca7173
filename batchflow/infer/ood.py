"""Whether colours and errors are where the training mocks live: the column `ood_pvalue`."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import gammaincc

from batchflow.flow.features import Observations, make_features
from batchflow.flow.network import PosteriorNetwork
from batchflow.infer.clusters import Clusters
from batchflow.infer.draw import observations
from batchflow.infer.reference import Reference, colour_pvalues
from batchflow.mocks.noise import NoiseModel
from batchflow.train.simulate import BROADENING, OUTLIERS

OOD_PVALUE = 0.001
"""`ood_pvalue` below which a cluster is flagged: one mock in a thousand is."""
ROUNDING = 0.013
"""Standard deviation [dex] that rounding and other habits of catalogues leave in their errors, 3 %."""

Floats = NDArray[np.float64]


def ood_pvalues(clusters: Clusters, network: PosteriorNetwork, reference: Reference) -> Floats:
    """Probability that a mock of the training looks as strange as each cluster.

    Parameters
    ----------
    clusters : Clusters
        n_clusters of them.
    network : PosteriorNetwork
        For its noise model and its device.
    reference : Reference
        Of the model.

    Returns
    -------
    ndarray, shape (n_clusters,)
        Of the stranger of colours and errors, corrected for there being two; of the colours alone where
        the survey is unknown; NaN where no band is measured.
    """
    found = np.full(len(clusters.keys), np.nan)
    index = np.flatnonzero(clusters.measured.any(axis=1))
    if not len(index):
        return found
    seen, survey = observations(clusters.rows(index), network)
    noise = network.noise_on(network.device)
    with torch.inference_mode():
        features = make_features(noise, seen, survey)
        colours = colour_pvalues(reference.to(network.device), features).cpu().numpy().astype(np.float64)
    errors = error_pvalues(seen, survey.cpu().numpy(), network.noise)
    least = np.fmin(colours, errors)
    found[index] = np.where(np.isnan(errors), colours, 1 - (1 - least) ** 2)
    return found


def error_pvalues(seen: Observations, survey: NDArray[np.int64], noise: NoiseModel) -> Floats:
    """Probability that errors so far from their survey's are drawn in training.

    Parameters
    ----------
    seen : Observations
        Photometry, (n_clusters, n_bands).
    survey : ndarray of int, shape (n_clusters,)
        Index of each cluster's survey, or -1.
    noise : NoiseModel
        In NumPy arrays.

    Returns
    -------
    ndarray, shape (n_clusters,)
        Upper tail of chi square of the log factors xi on the surveys' depths, which are jointly normal
        in training but for a share of outliers, that lie anywhere within the survey's reach; NaN where
        the survey is unknown.
    """
    flux, error = (np.asarray(column.cpu().numpy(), dtype=np.float64) for column in seen[:2])
    measured, limit = (column.cpu().numpy() for column in seen[2:])
    used = measured & np.isfinite(noise.depth[survey]) & (survey >= 0)[:, None]
    flux, error = np.where(used & ~limit, flux, 0.0), np.where(used, error, 1.0)
    shift, spread = _log_factor(flux, error, noise, survey)
    chi2 = _mahalanobis(np.where(used, shift, 0.0), np.where(used, spread, 1.0), used, noise, survey)
    bands = used.sum(axis=1)
    core = gammaincc(np.maximum(bands, 1) / 2, chi2 / 2)
    share, beyond = _outliers(np.where(used, np.abs(shift), 0.0), noise.reach[survey], bands)
    return np.where(bands > 0, (1 - share) * core + share * beyond, np.nan)


def _outliers(shift: Floats, reach: Floats, bands: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Share of outliers among the mocks of so many bands, and of them, those that lie further out."""
    with np.errstate(divide="ignore", invalid="ignore"):
        inner = np.where(reach > 0, shift / reach, 0.0).max(axis=1)
    share = np.where((reach > 0).any(axis=1), 1 - (1 - OUTLIERS) ** (bands + 1), 0.0)
    return share, np.clip(1 - inner, 0.0, 1.0)


def _log_factor(
    flux: Floats, error: Floats, noise: NoiseModel, survey: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """log10 xi of each band, and what rounding leaves of its uncertainty [dex].

    An error below the floor that is a fixed share of the flux has no xi: it counts by its distance
    from the floor.
    """
    own = noise.select(survey)
    positive = np.maximum(flux, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = 1 - (own.fractional * positive / error) ** 2
        factor = error * np.sqrt(np.maximum(share, 0.0) / (own.depth**2 + own.photon * positive))
        floor = np.log10(error / (own.fractional * positive))
        return np.where(share > 0, np.log10(factor), floor), ROUNDING / np.where(share > 0, share, 1.0)


def _mahalanobis(
    shift: Floats, rounding: Floats, used: NDArray[np.bool_], noise: NoiseModel, survey: NDArray[np.int64]
) -> Floats:
    """Shift' C^-1 shift, where C is the covariance of log10 xi in training, with rounding."""
    broad = BROADENING if noise.scatter_shape == "normal" else 1.0
    spread = np.where(used, broad * noise.scatter[survey], 0.0)
    covariance = noise.correlation[survey] * spread[:, :, None] * spread[:, None, :]
    covariance += rounding[:, :, None] ** 2 * np.eye(shift.shape[1])
    found: Floats = (shift * np.linalg.solve(covariance, shift[..., None])[..., 0]).sum(axis=1)
    return found
