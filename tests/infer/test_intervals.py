"""Credible intervals as delivered against brute force: 500 mocks, 300 real clusters."""

from __future__ import annotations

import brute_grid
import numpy as np
import pytest
import torch
from brute_grid import BANDS, DISTANCE, NAMES, PRIOR, SYSTEMATIC, legus, mocks

from batchflow.flow.checkpoint import new_network
from batchflow.flow.density import Specification
from batchflow.infer.clusters import from_arrays
from batchflow.infer.draw import Options, Proposal, Rescue, draw_posteriors
from batchflow.infer.marginal import ExactModel
from batchflow.infer.nuisance import Nuisances
from batchflow.mocks.noise import NoiseModel
from batchflow.physics.engine import open_engine
from batchflow.schema import Flag
from batchflow.settings.train import FlowSettings
from batchflow.threads import threads

EDGES = {"q16": 0.16, "q84": 0.84}


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


def intervals(proposal, seen, rescue):
    """Ends of the 68 % intervals, (n_clusters, n_parameters, 2)."""
    clusters = from_arrays(seen.flux, seen.error, DISTANCE, len(BANDS))
    with threads(1):
        found = draw_posteriors(proposal, clusters, Options(512, True, 1, rescue))
    columns = [[found.refined[f"{name}_{edge}"] for edge in EDGES] for name in NAMES]
    return np.array(columns).transpose(2, 0, 1), found


def errors(engine, proposal, seen, rescue):
    """Worst of both ends over the interval's width, (n_clusters, n_parameters).

    Clusters that no model fits (flag POOR_FIT) are left out: the brute force's masses lie about a
    least-squares mass that is not where their posterior is.
    """
    found, draws = intervals(proposal, seen, rescue)
    sampled = draws.method & Flag.SAMPLED_SUMMARY > 0
    exact = brute_grid.exact_quantiles(engine, seen, list(EDGES.values()))
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
@pytest.mark.parametrize("seed", [11, 51])
def test_intervals_of_mocks_are_exact(engine, proposal, seed):
    """The settings were chosen with the mocks of the first seed, and of others than the second."""
    off = errors(engine, proposal, mocks(engine, 500, seed), DEFAULT)
    report(f"mocks, seed {seed}", off)
    assert ((off < 0.02).mean(0) >= 0.99).all()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_intervals_of_real_clusters_are_exact(engine, proposal, shared):
    off = errors(engine, proposal, legus(shared, 300), DEFAULT)
    report("LEGUS", off)
    # Measured over 292 that a model fits: .997, .990, .993; a few clusters decide, so the bar lies lower.
    assert ((off < 0.02).mean(0) >= 0.98).all()
