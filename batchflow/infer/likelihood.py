"""The exact likelihood of observed fluxes under the engine's flux table, vectorised over draws."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from batchflow.flow.features import Observations
from batchflow.mocks.noise import NoiseTerms


class Photometry(NamedTuple):
    """Observed clusters and the noise of their measurements."""

    seen: Observations
    terms: NoiseTerms
    """Variance coefficients, tensors of shape (n_clusters, n_bands)."""

    @property
    def detected(self) -> Tensor:
        """Bands with a flux and an error, (n_clusters, n_bands)."""
        return self.seen.measured & ~self.seen.limit

    @property
    def limited(self) -> Tensor:
        """Bands with an upper limit, (n_clusters, n_bands)."""
        return self.seen.measured & self.seen.limit

    def rows(self, index: Any) -> Photometry:
        """Some of the clusters, by anything that indexes a tensor."""
        return Photometry(self.seen.rows(index), NoiseTerms(*(term[index] for term in self.terms)))


def log_likelihood(photometry: Photometry, log_model: Tensor) -> Tensor:
    """Natural logarithm of the probability density of the photometry.

    Parameters
    ----------
    photometry : Photometry
        Of n_clusters clusters.
    log_model : Tensor, shape (n_clusters, n_draws, n_bands)
        Natural logarithm of the model's flux densities [mJy], as observed.

    Returns
    -------
    Tensor, shape (n_clusters, n_draws)
        Gaussian for measurements, with the variance at the MODEL's flux (the noise model's law);
        cumulative normal for upper limits. [ln mJy^-n].
    """
    residual, variance = _residual(photometry, log_model)
    gauss = residual.square() / variance + variance.log() + math.log(2 * math.pi)
    total = -0.5 * torch.where(photometry.detected[:, None], gauss, 0.0).sum(-1)
    if not bool(photometry.limited.any()):
        return total
    below = torch.special.log_ndtr(residual / variance.sqrt())
    return total + torch.where(photometry.limited[:, None], below, 0.0).sum(-1)


def chi_square(photometry: Photometry, log_model: Tensor) -> Tensor:
    """Sum over detected bands of squared residuals over the model's variance, (n_clusters, n_draws)."""
    residual, variance = _residual(photometry, log_model)
    return torch.where(photometry.detected[:, None], residual.square() / variance, 0.0).sum(-1)


def _residual(photometry: Photometry, log_model: Tensor) -> tuple[Tensor, Tensor]:
    """Observed less model flux [mJy], and its variance [mJy^2]; (n_clusters, n_draws, n_bands)."""
    model = log_model.exp()
    terms = NoiseTerms(*(term[:, None] for term in photometry.terms))
    flux = torch.where(photometry.seen.measured, photometry.seen.flux, 0.0)
    return flux[:, None] - model, terms.variance(model)
