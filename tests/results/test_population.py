"""Populations from posteriors: exact coverage, deconvolution, honesty about few clusters."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import norm
from toy_runs import PRIOR, add_part, toy_draws

from batchflow.errors import UserError
from batchflow.report.population_pictures import population_run
from batchflow.results.population import (
    CONCENTRATION,
    PopulationOptions,
    bin_likelihoods,
    infer_populations,
    sample_shares,
)
from batchflow.results.query import query
from batchflow.results.stored import StoredDraws
from batchflow.settings.prior import Distribution, PriorSettings

EDGES = np.linspace(6.0, 10.0, 9)


def stored(values, weights=None):
    n, k = values.shape
    raw = np.zeros((n, k)) if weights is None else np.log(weights)
    log_weights = raw - np.log(np.exp(raw).sum(1, keepdims=True))
    return StoredDraws({"log_age": values}, log_weights, np.full(n, k))


def measured(true, sigma, rng, n_draws=200):
    """Posterior draws of log age under a flat prior on [6, 10], given a measurement with normal error."""
    seen = true + rng.normal(0, sigma, true.shape)
    low, high = norm.cdf((6 - seen) / sigma), norm.cdf((10 - seen) / sigma)
    return seen[:, None] + sigma * norm.ppf(
        low[:, None] + (high - low)[:, None] * rng.random((len(true), n_draws))
    )


def test_bands_hold_the_truth_as_often_as_they_say():
    # Truths from the prior itself, so that the coverage is exact: 150 repeats of 8 bins.
    rng = np.random.default_rng(1)
    inside = {0.68: [], 0.95: []}
    flat = {"log_age": Distribution(uniform=(6.0, 10.0))}
    for _ in range(150):
        shares = rng.dirichlet(np.full(8, CONCENTRATION))
        bins = rng.choice(8, 40, p=shares)
        draws = measured(EDGES[bins] + 0.5 * rng.random(40), 0.4, rng)
        found = sample_shares(bin_likelihoods(stored(draws), flat, {"log_age": EDGES}), 1200, rng)
        for level, hits in inside.items():
            low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2], axis=0)
            hits.append(((low <= shares) & (shares <= high)).mean())
    for level, hits in inside.items():
        assert np.mean(hits) == pytest.approx(level, abs=max(0.025, 3 * np.std(hits) / len(hits) ** 0.5))


def spread(shares, edges):
    centres = (edges[1:] + edges[:-1]) / 2
    mean = shares @ centres
    return np.sqrt((shares * (centres - mean[:, None]) ** 2).sum(1))


def test_broad_posteriors_do_not_broaden_the_population():
    rng = np.random.default_rng(2)
    true = rng.normal(8.1, 0.25, 1500)
    draws = measured(true, 0.4, rng)
    edges = np.linspace(6, 10, 17)
    flat = {"log_age": Distribution(uniform=(6.0, 10.0))}
    found = sample_shares(bin_likelihoods(stored(draws), flat, {"log_age": edges}), 4000, rng)
    low, high = np.quantile(spread(found, edges), [0.025, 0.975])
    counted = np.histogram(true, edges)[0][None] / 1500
    assert low < spread(counted, edges)[0] < high
    # What a histogram of medians shows, and what it would take for the truth.
    assert np.std(np.median(draws, axis=1)) > 0.44
    assert high < 0.34


def test_the_prior_of_the_draws_is_divided_out():
    # The same measurements under two priors; weights make up for the second.
    rng = np.random.default_rng(3)
    true = rng.uniform(6.5, 7.5, 300)
    draws = measured(true, 0.3, rng, 1000)
    steep = Distribution(power_law=(-0.4, 6.0, 10.0))
    slope = 0.6 * np.log(10)
    flat = bin_likelihoods(stored(draws), {"log_age": Distribution(uniform=(6.0, 10.0))}, {"log_age": EDGES})
    tilted = bin_likelihoods(
        stored(draws, np.exp(slope * (draws - 8))), {"log_age": steep}, {"log_age": EDGES}
    )
    rows = [values / values.sum(1, keepdims=True) for values in (flat, tilted)]
    assert rows[0] == pytest.approx(rows[1], abs=1e-9)


def test_sharp_posteriors_are_a_count():
    rng = np.random.default_rng(4)
    bins = np.repeat(np.arange(8), [0, 10, 20, 0, 0, 5, 1, 4])
    draws = EDGES[bins][:, None] + 0.25 + np.zeros((40, 10))
    flat = {"log_age": Distribution(uniform=(6.0, 10.0))}
    found = sample_shares(bin_likelihoods(stored(draws), flat, {"log_age": EDGES}), 8000, rng)
    wanted = (np.bincount(bins, minlength=8) + CONCENTRATION) / (40 + 8 * CONCENTRATION)
    assert found.mean(0) == pytest.approx(wanted, abs=0.01)


@pytest.fixture
def run(tmp_path):
    rng = np.random.default_rng(5)
    for galaxy, n in (("NGC 1", 60), ("../few", 3)):
        age = rng.normal(8.0, 0.3, (n, 1)) + rng.normal(0, 0.2, (n, 150))
        values = {"log_age": age, "log_mass": 3.0 + 0.5 * (age - 6), "ebv": rng.uniform(0, 1, age.shape)}
        add_part(tmp_path, galaxy, toy_draws(values))
    return tmp_path


def test_tables_and_pictures_of_each_galaxy(run):
    found = population_run(run, PopulationOptions(width=0.5, sweeps=400, joint=True))
    assert [(item["galaxy"], item["clusters"], item["few"]) for item in found["galaxies"]] == [
        ("../few", 3, True),
        ("NGC 1", 60, False),
    ]
    for item in found["galaxies"]:
        assert Path(item["picture"]).read_bytes().startswith(b"\x89PNG")
        assert item["picture"].startswith(str(run / "population"))
    table = query(run, "SELECT * FROM population ORDER BY galaxy, parameter, low").to_pandas()
    assert set(table["parameter"]) == {"log_age", "log_mass"}
    ages = table[(table.galaxy == "NGC 1") & (table.parameter == "log_age")]
    assert (ages.q02 <= ages.q16).all()
    assert (ages.q84 <= ages.q97).all()
    assert (ages.medians * 0.5).sum() == pytest.approx(1)
    few = table[(table.galaxy == "../few") & (table.parameter == "log_age")]
    assert few.few_clusters.all()
    assert (few.q97 - few.q02).mean() > 1.5 * (ages.q97 - ages.q02).mean()
    joint = pq.read_table(run / "population" / "joint.parquet")
    assert joint.num_rows == 2 * 8 * 12
    # Age and mass go together in this run: so must the joint bins.
    own = joint.to_pandas().query("galaxy == 'NGC 1'")
    best = own.loc[own.q50.idxmax()]
    assert best.log_mass_low <= 3.0 + 0.5 * (best.log_age_high - 6)
    assert best.log_mass_high >= 3.0 + 0.5 * (best.log_age_low - 6)


def test_the_same_seed_gives_the_same_population(run):
    one = [item.shares for item in infer_populations(run, PopulationOptions(sweeps=40))]
    two = [item.shares for item in infer_populations(run, PopulationOptions(sweeps=40))]
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_flagged_clusters_can_be_left_out_and_options_are_checked(run):
    shape = (5, 150)
    values = {
        name: np.full(shape, value) for name, value in (("log_age", 6.0), ("log_mass", 5.0), ("ebv", 0.1))
    }
    add_part(run, "NGC 1", toy_draws(values), part=1)  # all at the edge of the prior
    whole = next(
        item for item in infer_populations(run, PopulationOptions(sweeps=4)) if item.galaxy == "NGC 1"
    )
    options = PopulationOptions(sweeps=4, without=("PRIOR_EDGE",))
    less = next(item for item in infer_populations(run, options) if item.galaxy == "NGC 1")
    assert (whole.n_clusters, whole.n_left_out) == (65, 0)
    assert less.n_left_out >= 5
    assert less.n_clusters + less.n_left_out == 65
    with pytest.raises(UserError, match="did you mean 'PRIOR_EDGE'"):
        next(infer_populations(run, PopulationOptions(without=("PRIOR_EDG",))))
    with pytest.raises(UserError, match="width = 0"):
        next(infer_populations(run, PopulationOptions(width=0)))


def test_a_run_under_another_prior_gives_the_same_population(run, tmp_path):
    from batchflow.results.reweight import reweight_run

    other, _ = reweight_run(run, ["log_age.power_law=[-0.7, 6, 10]"], "tilted")
    options = PopulationOptions(width=0.5, sweeps=2000)
    before, after = (next(infer_populations(folder, options)) for folder in (run, other))
    assert after.shares.mean(0) == pytest.approx(before.shares.mean(0), abs=0.02)
    assert PriorSettings.model_validate(PRIOR.model_dump()) == PRIOR
