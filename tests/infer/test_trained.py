"""A trained network's weighted draws: against brute force, and calibrated over mocks of the prior.

The network is a small one, trained for a minute: the certificates must hold for a mediocre one too. Its
draws are looked at with the exact grid left out of everything, and as they are delivered by default.
"""

from __future__ import annotations

import brute_grid
import numpy as np
import pytest
from brute_grid import BANDS, DEPTH, DISTANCE, NAMES, PRIOR, SYSTEMATIC, Seen, legus, mocks
from exact_models import make_job, train_job

from batchflow.infer.clusters import from_arrays
from batchflow.infer.draw import Draws, Options, Rescue, draw_posteriors
from batchflow.infer.posterior import Model
from batchflow.physics.engine import open_engine
from batchflow.schema import QUANTILES, Flag
from batchflow.threads import threads
from batchflow.validate.calibrate import rank_of_truth
from batchflow.validate.uniformity import smooth_ranks, uniformity

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROWS = 400_000
TRAINING = {
    "flow": {"couplings": 6, "hidden": 64, "bins": 12, "encoder_layers": 2},
    "train": {"epochs": 4, "batch": 512, "learning_rate": 5e-3},
}
LEVELS = np.array(list(QUANTILES.values()))
NO_GRID, DEFAULT = Rescue(grid="never"), Rescue()
WAYS = {"weights alone": None, "no grid": NO_GRID, "default": DEFAULT}
MANY, USUAL = 8192, 1000
"""Draws to compare with brute force, for quantiles of fewer err too much to tell; and of a job."""
POOR = 0.001
"""Posterior predictive p-value below which no model fits: the brute force's masses miss the posterior."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with threads(1):
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory, _one_thread):
    noise = {"depth": DEPTH, "systematic": SYSTEMATIC}
    prior = {"log_mass": {"uniform": PRIOR.boxes()["log_mass"]}}
    job = make_job(prior, model={"bands": BANDS}, noise=noise, **TRAINING)
    return train_job(tmp_path_factory.mktemp("trained"), job, ROWS)


@pytest.fixture(scope="module")
def engine():
    return open_engine({"bands": BANDS})


def draws_of(model: Model, seen: Seen, rescue: Rescue | None, n: int) -> Draws:
    clusters = from_arrays(seen.flux, seen.error, DISTANCE, len(BANDS))
    return draw_posteriors(model.proposal, clusters, Options(n, True, 1, rescue))


def check_against_brute_force(name, draws, exact):
    """The weight below each exact quantile is its probability, to what the effective number allows."""
    certified = (draws.efficiency >= DEFAULT.min_efficiency) & (draws.pvalue > POOR)
    effective = draws.efficiency * MANY
    below = [
        [(draws.weights * (draws.values[p] < exact[:, i, k, None])).sum(1) for k in range(len(LEVELS))]
        for i, p in enumerate(NAMES)
    ]
    off = np.array(below).transpose(2, 0, 1) - LEVELS
    pull = (off / np.sqrt(LEVELS * (1 - LEVELS) / effective[:, None, None]))[certified]
    wild = (np.abs(pull) > 4).any((1, 2))
    at = np.percentile(draws.efficiency, [1, 10, 50])
    print(
        f"\n{name}: {certified.mean():.3f} certified, efficiency {at}"
        f"\n  pulls: rms {np.sqrt(np.square(pull).mean((0, 2)))}, beyond 4 in {wild.mean():.3f} of clusters"
        f"\n  median error of a probability {np.median(np.abs(off[certified]), (0, 2))}"
    )
    assert certified.mean() > 0.85
    assert (np.sqrt(np.square(pull).mean(0)) < 1.2).all()
    assert wild.mean() < 0.02


@pytest.mark.parametrize("way", ["weights alone", "default"])
def test_weighted_draws_of_mocks_are_of_the_exact_posterior(model, engine, exact_mocks, way):
    seen, exact = exact_mocks
    check_against_brute_force(f"mocks, {way}", draws_of(model, seen, WAYS[way], MANY), exact)


@pytest.fixture(scope="module")
def exact_mocks(engine):
    seen = mocks(engine, 500, seed=21)
    return seen, brute_grid.exact_quantiles(engine, seen, list(LEVELS))


@pytest.fixture(scope="module")
def exact_clusters(engine, shared):
    seen = legus(shared, 100)
    return seen, brute_grid.exact_quantiles(engine, seen, list(LEVELS))


@pytest.mark.parametrize("way", ["weights alone", "default"])
def test_weighted_draws_of_real_clusters_are_of_the_exact_posterior(model, exact_clusters, way):
    seen, exact = exact_clusters
    check_against_brute_force(f"LEGUS, {way}", draws_of(model, seen, WAYS[way], MANY), exact)


@pytest.fixture(scope="module")
def drawn(engine):
    """Mocks of the prior, chosen on their noisy data alone: the ranks of a right posterior are uniform."""
    return mocks(engine, 2000, seed=31)


def ranks_of(draws: Draws, seen: Seen, density: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Of each parameter, and of the posterior density (which sees all of them together)."""
    effective = 1 / np.square(weights).sum(1)
    chance = np.random.default_rng(1)
    columns = {name: (draws.values[name], seen.truth[name]) for name in NAMES}
    columns["density"] = (draws.log_density, density)
    return {
        name: smooth_ranks(rank_of_truth(values, weights, truth), effective, chance.random(len(truth)))
        for name, (values, truth) in columns.items()
    }


def density_at_truth(engine, seen):
    """Ln of likelihood and prior of each mock's own parameters, written out."""
    model = engine.fluxes({name: seen.truth[name] for name in ("log_age", "ebv")})
    model = model * 10 ** (seen.truth["log_mass"][:, None] - brute_grid.SHIFT)
    variance = seen.error**2 + (SYSTEMATIC * model) ** 2
    log_like = -0.5 * ((seen.flux - model) ** 2 / variance + np.log(2 * np.pi * variance)).sum(1)
    return log_like - sum(np.log(high - low) for low, high in PRIOR.boxes().values())


@pytest.mark.parametrize("way", WAYS)
def test_weighted_draws_are_calibrated(model, engine, drawn, way):
    draws = draws_of(model, drawn, WAYS[way], USUAL)
    assert np.isfinite(draws.efficiency).all()
    ranks = ranks_of(draws, drawn, density_at_truth(engine, drawn), draws.weights)
    found = {name: uniformity(column) for name, column in ranks.items()}
    print(f"\n{way}:", {name: f"p = {each.pvalue:.3f}" for name, each in found.items()})
    assert min(min(each.pvalue, each.ks_pvalue) for each in found.values()) > 1e-3


def test_delivered_quantiles_are_calibrated(model, drawn):
    """Of the posterior table, which come from the grid by default."""
    draws = draws_of(model, drawn, DEFAULT, 64)
    exact = draws.method & Flag.SAMPLED_SUMMARY == 0
    assert exact.mean() > 0.998
    n = exact.sum()
    for name in NAMES:
        quantiles = np.stack([draws.refined[f"{name}_{suffix}"] for suffix in QUANTILES], 1)
        below = (drawn.truth[name][:, None] < quantiles)[exact].mean(0)
        print(f"\n{name}: {below} of truths below the quantiles of {LEVELS}")
        assert (np.abs(below - LEVELS) < 3.5 * np.sqrt(LEVELS * (1 - LEVELS) / n)).all(), name


def test_the_network_alone_is_not(model, engine, drawn):
    """What the weights mend: without them the same tests fail."""
    draws = draws_of(model, drawn, None, USUAL)
    even = np.full(draws.weights.shape, 1 / USUAL)
    ranks = ranks_of(draws, drawn, density_at_truth(engine, drawn), even)
    print("\nnetwork alone:", {name: f"{uniformity(each).pvalue:.1e}" for name, each in ranks.items()})
    assert uniformity(ranks["density"]).pvalue < 1e-6
