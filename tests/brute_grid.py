"""The exact posterior of clusters at 10 Mpc by brute force: the reference of the certificates.

It shares no code with the package: a coarse grid finds where the posterior lives, a fine one covers it, and
the mass is summed over on a grid of its own about each model's least-squares mass.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from batchflow.catalogue.read import read_with_summary
from batchflow.physics.engine import Engine
from batchflow.settings.catalogue import CatalogueSettings
from batchflow.settings.prior import PriorSettings

BANDS = ("wfc3_f275w", "wfc3_f336w", "acs_f435w", "acs_f555w", "acs_f814w")
SYSTEMATIC, DISTANCE = 0.05, 10.0
SHIFT = 2 * np.log10(DISTANCE * 1e5)
PRIOR = PriorSettings.model_validate({"log_mass": {"uniform": (2.0, 8.0)}})
NAMES = ("log_age", "log_mass", "ebv")
MASSES = np.linspace(-6, 6, 41)
"""Of the mass, in standard deviations about the least-squares one."""
VISUAL, LEAST_SIGNAL = 3, 5.0
DEPTH = (-5.8, -4.8)
"""Of the mocks' errors, log10 mJy."""


class Seen(NamedTuple):
    """Photometry at 10 Mpc."""

    flux: np.ndarray
    """[mJy], (n_clusters, n_bands)."""
    error: np.ndarray
    """[mJy], (n_clusters, n_bands)."""
    truth: dict[str, np.ndarray]
    """Of mocks: parameters, (n_clusters,)."""

    def rows(self, index: np.ndarray) -> Seen:
        """Some of the clusters."""
        truth = {name: column[index] for name, column in self.truth.items()}
        return Seen(self.flux[index], self.error[index], truth)


def mocks(engine: Engine, n: int, seed: int = 11) -> Seen:
    """Clusters of the prior seen at S/N above 5 in the visual band, chosen on the noisy data alone."""
    rng = np.random.default_rng(seed)
    drawn = {name: rng.uniform(*PRIOR.boxes()[name], 30 * n) for name in NAMES}
    true = engine.fluxes({name: drawn[name] for name in ("log_age", "ebv")})
    true = true * 10 ** (drawn["log_mass"][:, None] - SHIFT)
    error = np.repeat(10 ** rng.uniform(*DEPTH, (len(true), 1)), len(BANDS), axis=1)
    flux = true + rng.standard_normal(true.shape) * np.hypot(error, SYSTEMATIC * true)
    signal = flux / np.hypot(error, SYSTEMATIC * flux)
    return Seen(flux, error, drawn).rows(np.flatnonzero(signal[:, VISUAL] > LEAST_SIGNAL)[:n])


def legus(shared: Path, n: int) -> Seen:
    """Clusters of NGC 628 with five bands, put at 10 Mpc (the distance is but a shift of the mass)."""
    (path,) = (shared / "data/legus/tab").glob("*_ngc628-c_*.tab")
    entry = CatalogueSettings(path=path, format="legus", name="ngc628-c", classes=(1, 2))
    table, _ = read_with_summary(entry, BANDS)
    columns = [np.stack([table[f"{kind}_{band}"] for band in BANDS], axis=1) for kind in ("flux", "error")]
    return Seen(*columns, {}).rows(np.flatnonzero(np.isfinite(columns).all((0, 2)))[:n])


def log_likelihood(
    engine: Engine, flux: np.ndarray, error: np.ndarray, age: np.ndarray, ebv: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of one cluster, and the masses that it is at: (n_ages, n_ebv, n_masses)."""
    mesh = np.stack(np.meshgrid(age, ebv, indexing="ij"), -1).reshape(-1, 2)
    shape = engine.fluxes({"log_age": mesh[:, 0], "ebv": mesh[:, 1]}).astype(np.float32)
    variance = error**2 + (SYSTEMATIC * flux.clip(min=0)) ** 2
    norm = (shape**2 / variance).sum(1)
    best = ((shape * flux / variance).sum(1) / norm).clip(min=0.3 / np.sqrt(norm))
    mass = np.log10(best)[:, None] + MASSES * (1.2 / (np.sqrt(norm) * best * np.log(10)))[:, None]
    total = np.zeros(mass.shape, np.float32)
    scale = (10.0**mass).astype(np.float32)
    for band in range(len(BANDS)):
        model = shape[:, band, None] * scale
        sigma2 = np.float32(error[band] ** 2) + (SYSTEMATIC * model) ** 2
        total -= 0.5 * ((np.float32(flux[band]) - model) ** 2 / sigma2 + np.log(sigma2))
    low, high = PRIOR.boxes()["log_mass"]
    mass = mass + SHIFT
    inside = (mass >= low) & (mass <= high)
    # Each model's masses have a step of their own.
    total = np.where(inside, total + np.log(np.diff(mass[:, :2])), -np.inf)
    return total.reshape(len(age), len(ebv), -1), mass.reshape(len(age), len(ebv), -1)


def centres(low: float, high: float, n: int) -> np.ndarray:
    """Middles of n equal cells."""
    return low + (high - low) * (np.arange(n) + 0.5) / n


def window(axis: np.ndarray, share: np.ndarray, box: tuple[float, float]) -> tuple[float, float]:
    """Where all but 1e-6 of a coarse distribution lies, and a cell more."""
    step = axis[1] - axis[0]
    held = axis[share > 1e-6 * share.max()]
    return max(box[0], held[0] - 1.5 * step), min(box[1], held[-1] + 1.5 * step)


def exact_quantiles(engine: Engine, seen: Seen, probabilities: list[float]) -> np.ndarray:
    """Of each cluster, (n_clusters, n_parameters, n_probabilities)."""
    pairs = zip(seen.flux, seen.error, strict=True)
    return np.array([_quantiles(engine, *pair, probabilities) for pair in pairs])


def _quantiles(engine: Engine, flux: np.ndarray, error: np.ndarray, wanted: list[float]) -> np.ndarray:
    """Of one cluster, (n_parameters, n_probabilities)."""
    boxes = PRIOR.boxes()
    age, ebv = centres(*boxes["log_age"], 160), centres(*boxes["ebv"], 75)
    logs = logsumexp(log_likelihood(engine, flux, error, age, ebv)[0], axis=2)
    joint = np.exp(logs - logs.max())
    age = centres(*window(age, joint.sum(1), boxes["log_age"]), 260)
    ebv = centres(*window(ebv, joint.sum(0), boxes["ebv"]), 130)
    logs, mass = log_likelihood(engine, flux, error, age, ebv)
    joint = np.exp(logs - logs.max())
    histogram, edges = np.histogram(mass, 2000, weights=joint)
    shares = {
        "log_age": (age, joint.sum((1, 2))),
        "log_mass": ((edges[1:] + edges[:-1]) / 2, histogram),
        "ebv": (ebv, joint.sum((0, 2))),
    }
    return np.array([_crossings(*shares[name], wanted) for name in NAMES])


def _crossings(axis: np.ndarray, share: np.ndarray, wanted: list[float]) -> np.ndarray:
    """Where the cumulative distribution over even cells reaches each probability."""
    step = axis[1] - axis[0]
    reached = np.append(0.0, share.cumsum()) / share.sum()
    return np.interp(wanted, reached, np.append(axis - step / 2, axis[-1] + step / 2))
