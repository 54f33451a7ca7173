"""What the network is shown of an object's photometry: nothing that changes with its scale.

Multiplying fluxes and errors by c multiplies the brightness B by c and leaves every feature as it is;
the network predicts log_mass relative to log10 B, so the symmetry holds exactly.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from batchflow.flow.mass import Scaled
from batchflow.mocks.noise import ARRAYS, NoiseModel, NoiseTerms, SurveyNoise, plain_terms

FEATURES_PER_BAND = 4


class Observations(NamedTuple):
    """Photometry of some objects; tensors of shape (n_clusters, n_bands)."""

    flux: Tensor
    """Flux density [mJy]; not read where `limit` or not `measured`."""
    error: Tensor
    """Reported 1-sigma error [mJy]; in a limit, the error of a source without flux."""
    measured: Tensor
    """Whether the band was observed, limits among them."""
    limit: Tensor
    """Whether all that is known is flux < LIMIT_SIGMA * error."""

    def rows(self, index: Any) -> Observations:
        """Some of the objects, by anything that indexes a tensor."""
        return Observations(*(column[index] for column in self))


class Features(NamedTuple):
    """What the encoder reads, before standardisation."""

    colour: Tensor
    """Logarithm of flux over brightness, an asinh where noise rules, shape (n_clusters, n_bands)."""
    signal: Tensor
    """asinh of half the signal-to-noise ratio, shape (n_clusters, n_bands)."""
    measured: Tensor
    """1 where measured, limits among them; shape (n_clusters, n_bands)."""
    limit: Tensor
    """1 where a limit; shape (n_clusters, n_bands)."""
    flux: Tensor
    """Flux over B, 0 where not detected; shape (n_clusters, n_bands)."""
    random: Tensor
    """Part of its variance that depends on no model; infinite where not measured; (n_clusters, n_bands)."""
    fractional: Tensor
    """The other part over the model's flux squared, shape (n_clusters, n_bands)."""
    log_brightness: Tensor
    """log10 of B [mJy], shape (n_clusters,)."""

    @property
    def weight(self) -> Tensor:
        """Inverse variance at the observed flux, 0 where not measured; shape (n_clusters, n_bands)."""
        return 1 / self.scaled.variance

    @property
    def scaled(self) -> Scaled:
        """The photometry in units of its brightness."""
        return Scaled(self.flux, self.random, self.fractional)

    def rows(self, index: Any) -> Features:
        """Those of some objects, by anything that indexes a tensor."""
        return Features(*(column[index] for column in self))


def on_device(noise: NoiseModel, device: torch.device | str, dtype: torch.dtype) -> NoiseModel:
    """Copy a noise model's arrays into tensors; the same arithmetic then runs on the device."""
    tensors: dict[str, Any] = {
        name: torch.as_tensor(getattr(noise, name)).to(device, dtype) for name in ARRAYS
    }
    return replace(noise, **tensors)


def noise_terms(noise: NoiseModel, seen: Observations, survey: Tensor) -> NoiseTerms:
    """Variance coefficients of each measurement, in training and in the likelihood alike.

    Parameters
    ----------
    noise : NoiseModel
        Best made of tensors (`on_device`); of arrays it is converted on every call.
    seen : Observations
        Photometry, tensors of shape (n_clusters, n_bands).
    survey : Tensor of int, shape (n_clusters,)
        Index of each object's survey; -1 where the noise model does not know it: its errors are
        then taken at their word.

    Returns
    -------
    NoiseTerms
        Tensors (n_clusters, n_bands); those of a source without noise or flux, (1, 0, 0), where not
        measured.
    """
    if not isinstance(noise.depth, Tensor):
        noise = on_device(noise, seen.flux.device, seen.flux.dtype)
    flux, error = _readable(seen)
    known = survey >= 0
    surveyed = noise.select(survey.clamp(min=0))
    has = known.unsqueeze(-1) & surveyed.depth.isfinite()
    # Survey -1 is the last row: that of surveys which the model does not know.
    systematic = noise.systematic[survey]
    filled = SurveyNoise(
        torch.where(has, surveyed.depth, 1.0),
        torch.where(has, surveyed.photon, 0.0),
        torch.where(has, surveyed.fractional, 0.0),
        systematic,
    )
    exact, plain = filled.terms(flux, error), plain_terms(error, systematic)
    return NoiseTerms(*(torch.where(has, a, b) for a, b in zip(exact, plain, strict=True)))


def _readable(seen: Observations) -> tuple[Tensor, Tensor]:
    """Flux and error with what must not be read replaced: no NaN reaches the arithmetic."""
    flux = torch.where(seen.measured & ~seen.limit, seen.flux, 0.0)
    return flux, torch.where(seen.measured, seen.error, 1.0)


def make_features(noise: NoiseModel, seen: Observations, survey: Tensor) -> Features:
    """Scale-free features of each object.

    Parameters
    ----------
    noise : NoiseModel
        Made of tensors (`on_device`).
    seen : Observations
        Photometry; at least one band measured in each row.
    survey : Tensor of int, shape (n_clusters,)
        Index of each object's survey, or -1.

    Returns
    -------
    Features
        Zero where not measured. A limit shows its depth (colour) and no signal.
    """
    flux, _ = _readable(seen)
    terms = noise_terms(noise, seen, survey)
    positive = flux.clip(min=0)
    error = terms.variance(positive).sqrt()
    log_brightness = _log_brightness(flux, error, seen).unsqueeze(-1)
    signal = torch.where(seen.measured, (flux / (2 * error)).asinh(), 0.0)
    colour = torch.where(seen.measured, signal + error.log() - log_brightness, 0.0)
    masks = seen.measured.to(flux.dtype), (seen.limit & seen.measured).to(flux.dtype)
    unit = log_brightness.exp()
    return Features(
        colour,
        signal,
        *masks,
        flux / unit,
        # Photon noise is taken as it is at the observed flux: else the scale would be told.
        torch.where(seen.measured, (terms.background + terms.photon * positive) / unit / unit, torch.inf),
        terms.fractional,
        log_brightness.squeeze(-1) / math.log(10),
    )


def _log_brightness(flux: Tensor, error: Tensor, seen: Observations) -> Tensor:
    """Mean over detections of the log of flux and error in quadrature; over limits if there are none."""
    detected = seen.measured & ~seen.limit
    counted = torch.where(detected.any(-1, keepdim=True), detected, seen.measured)
    level = torch.where(counted, 0.5 * (flux * flux + error * error).log(), 0.0)
    return level.sum(-1) / counted.sum(-1).clamp(min=1)
