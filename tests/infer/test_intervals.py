"""Credible intervals against brute force: 500 mocks, 300 real clusters.

The brute force is its own: a coarse grid finds where the posterior lives, a fine one covers it, and the mass
is summed over on a grid of its own about each model's least-squares mass.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from batchflow.catalogue.read import read_with_summary
from batchflow.config import CatalogueSettings, FlowSettings, PriorSettings
from batchflow.flow.checkpoint import new_network
from batchflow.flow.density import Specification
from batchflow.infer.clusters import from_arrays
from batchflow.infer.draw import Options, Proposal, Rescue, draw_posteriors
from batchflow.infer.marginal import ExactModel
from batchflow.infer.nuisance import Nuisances
from batchflow.mocks.noise import NoiseModel
from batchflow.physics.engine import open_engine
from batchflow.schema import Flag

BANDS = ("wfc3_f275w", "wfc3_f336w", "acs_f435w", "acs_f555w", "acs_f814w")
SYSTEMATIC, DISTANCE = 0.05, 10.0
SHIFT = 2 * np.log10(DISTANCE * 1e5)
PRIOR = PriorSettings.model_validate({"log_mass": {"uniform": (2.0, 8.0)}})
NAMES = ("log_age", "log_mass", "ebv")
EDGES = ("q16", "q84")
MASSES = np.linspace(-6, 6, 41)
"""Of the mass, in standard deviations about the least-squares one."""


class Seen(NamedTuple):
    """Photometry at 10 Mpc [mJy]; arrays (n_clusters, n_bands)."""

    flux: np.ndarray
    error: np.ndarray


@pytest.fixture(scope="module")
def engine():
    return open_engine({"bands": BANDS})


@pytest.fixture(scope="module")
def proposal(engine):
    """An untrained network: it has no part in the summaries."""
    one = np.ones((1, len(BANDS)))
    none, box = np.zeros(1), np.array([[0.0, 5.0]])
    noise = NoiseModel(
        BANDS, ("none",), one, 0 * one, 0 * one, one, np.ones(1), box, SYSTEMATIC, none
    )  # fmt: skip
    network = new_network(Specification(BANDS, PRIOR.boxes(), FlowSettings(), noise), 0)
    return Proposal(network, ExactModel.of(engine.table(), Nuisances({}), torch.device("cpu")), PRIOR)


def mocks(engine, n):
    """Clusters of the prior seen at S/N above 5 in the visual band, errors of a decade."""
    rng = np.random.default_rng(11)
    drawn = {name: rng.uniform(*PRIOR.boxes()[name], 30 * n) for name in NAMES}
    true = engine.fluxes({name: drawn[name] for name in ("log_age", "ebv")})
    true = true * 10 ** (drawn["log_mass"][:, None] - SHIFT)
    error = np.repeat(10 ** rng.uniform(-5.8, -4.8, (len(true), 1)), len(BANDS), axis=1)
    flux = true + rng.standard_normal(true.shape) * np.hypot(error, SYSTEMATIC * true)
    kept = np.flatnonzero(flux[:, 3] > 5 * np.hypot(error, SYSTEMATIC * flux)[:, 3])[:n]
    return Seen(flux[kept], error[kept])


def legus(shared, n):
    """Clusters of NGC 628 with five bands, put at 10 Mpc (the distance is but a shift of the mass)."""
    (path,) = (shared / "data/legus/tab").glob("*_ngc628-c_*.tab")
    entry = CatalogueSettings(path=path, format="legus", name="ngc628-c", classes=(1, 2))
    table, _ = read_with_summary(entry, BANDS)
    columns = [np.stack([table[f"{kind}_{band}"] for band in BANDS], axis=1) for kind in ("flux", "error")]
    whole = np.flatnonzero(np.isfinite(columns).all((0, 2)))[:n]
    return Seen(*(column[whole] for column in columns))


def intervals(proposal, seen, rescue):
    """Ends of the 68 % intervals, (n_clusters, n_parameters, 2)."""
    clusters = from_arrays(*seen, DISTANCE, len(BANDS))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    found = draw_posteriors(proposal, clusters, Options(512, True, 1, rescue))
    torch.set_num_threads(before)
    columns = [[found.refined[f"{name}_{edge}"] for edge in EDGES] for name in NAMES]
    return np.array(columns).transpose(2, 0, 1), found


def log_likelihood(engine, flux, error, age, ebv):
    """Over the masses too, which are given back: (n_ages, n_ebv, n_masses)."""
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


def centres(low, high, n):
    return low + (high - low) * (np.arange(n) + 0.5) / n


def window(axis, share, box):
    """Where all but 1e-6 of a coarse distribution lies, and a cell more."""
    step = axis[1] - axis[0]
    held = axis[share > 1e-6 * share.max()]
    return max(box[0], held[0] - 1.5 * step), min(box[1], held[-1] + 1.5 * step)


def exact_intervals(engine, flux, error):
    """Ends of the 68 % intervals of one cluster, (n_parameters, 2)."""
    boxes = PRIOR.boxes()
    age, ebv = centres(*boxes["log_age"], 160), centres(*boxes["ebv"], 75)
    logs = logsumexp(log_likelihood(engine, flux, error, age, ebv)[0], axis=2)
    joint = np.exp(logs - logs.max())
    age = centres(*window(age, joint.sum(1), boxes["log_age"]), 260)
    ebv = centres(*window(ebv, joint.sum(0), boxes["ebv"]), 130)
    logs, mass = log_likelihood(engine, flux, error, age, ebv)
    joint = np.exp(logs - logs.max())
    found = [_ends(age, joint.sum((1, 2)), age[1] - age[0])]
    histogram, edges = np.histogram(mass, 2000, weights=joint)
    found.append(_ends((edges[1:] + edges[:-1]) / 2, histogram, edges[1] - edges[0]))
    found.append(_ends(ebv, joint.sum((0, 2)), ebv[1] - ebv[0]))
    return np.array(found)


def _ends(axis, share, step):
    reached = np.append(0.0, share.cumsum()) / share.sum()
    return np.interp([0.16, 0.84], reached, np.append(axis - step / 2, axis[-1] + step / 2))


def errors(engine, proposal, seen, rescue):
    """Worst of both ends over the interval's width, (n_clusters, n_parameters).

    Clusters that no model fits (flag POOR_FIT) are left out: the brute force's masses lie about a
    least-squares mass that is not where their posterior is.
    """
    found, draws = intervals(proposal, seen, rescue)
    sampled = draws.method & Flag.SAMPLED_SUMMARY > 0
    exact = np.array([exact_intervals(engine, *each) for each in zip(*seen, strict=True)])
    fitted = draws.pvalue > 0.001
    assert not sampled[fitted].any()
    assert fitted.mean() > 0.85
    return (np.abs(found - exact).max(2) / (exact[..., 1] - exact[..., 0]))[fitted]


def report(name, off):
    print(f"{name}: within 2 % {(off < 0.02).mean(0)}, all {(off < 0.02).all(1).mean()}")
    print(f"  median {np.median(off, 0)}, 99 % {np.percentile(off, 99, axis=0)}")


DEFAULT = Rescue()
"""What a job has that says nothing of it."""


def test_intervals_are_exact_by_default(engine, proposal):
    off = errors(engine, proposal, mocks(engine, 12), DEFAULT)
    assert (off < 0.03).all()
    assert (off < 0.02).mean() > 0.9


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_intervals_of_mocks_are_exact(engine, proposal):
    off = errors(engine, proposal, mocks(engine, 500), DEFAULT)
    report("mocks", off)
    # Measured: 1.000, .994, 1.000.
    assert ((off < 0.02).mean(0) >= 0.99).all()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_intervals_of_real_clusters_are_exact(engine, proposal, shared):
    off = errors(engine, proposal, legus(shared, 300), DEFAULT)
    report("LEGUS", off)
    # Measured over 292 that a model fits: .986, .993, .990; a few clusters decide, so the bar lies lower.
    assert ((off < 0.02).mean(0) >= 0.975).all()
