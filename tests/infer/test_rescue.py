"""Clusters that the network does not know are rescued, by whichever way, and say so."""

from dataclasses import replace

import numpy as np
import pytest
from exact_models import SYSTEMATIC, photometry, train_model

from batchflow.infer.clusters import Clusters, from_arrays
from batchflow.infer.draw import Draws, Options, Rescue, draw_posteriors
from batchflow.infer.given import given_arrays
from batchflow.infer.rescue import merge
from batchflow.infer.summary import weighted_quantiles
from batchflow.schema import Flag
from batchflow.threads import threads
from batchflow.validate.calibrate import rank_of_truth
from batchflow.validate.uniformity import smooth_ranks, uniformity

PRIOR = {
    "log_age": {"uniform": (7.0, 9.0)},
    "log_mass": {"uniform": (2.0, 7.0)},
    "ebv": {"uniform": (0.0, 0.6)},
}
TRUTH = {"log_age": 8.1, "ebv": 0.25, "log_mass": 4.5}
N = 200


@pytest.fixture(autouse=True)
def _one_thread():
    """Threads that wait for each other are slower than one on a busy machine."""
    with threads(1):
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A poor network: little trained."""
    return train_model(tmp_path_factory.mktemp("poor"), PRIOR, rows=3000)


def clusters(model, signals=(3.0, 10.0, 20.0, 60.0)):
    """A cluster of each signal-to-noise ratio; the last can not be inferred."""
    seen = [photometry(model, TRUTH, signal) for signal in signals]
    flux, error = (np.stack(values) for values in zip(*seen, strict=True))
    flux, error = (np.concatenate([values, np.full((1, 4), np.nan)]) for values in (flux, error))
    n = len(flux)
    keys = [f"G/{i}" for i in range(n)]
    return Clusters(flux, error, np.zeros(flux.shape, bool), np.full(n, 10.0), keys, [""] * n)


def draws_of(model, rescue, seen=None):
    return draw_posteriors(model.proposal, seen or clusters(model), Options(N, True, 1, rescue))


def has(draws, flag):
    return (draws.method & flag > 0).tolist()


def test_nothing_is_done_where_nothing_is_low(model):
    plain, kept = draws_of(model, None), draws_of(model, Rescue(0.0, grid="fallback"))
    assert plain.method is None
    assert (kept.method == 0).all()
    np.testing.assert_array_equal(kept.log_weights, plain.log_weights)
    assert all(np.isnan(column).all() for column in kept.refined.values())


def test_more_draws_multiply_the_effective_number(model):
    plain, more = draws_of(model, None), draws_of(model, Rescue(1.0, 8 * N, "never"))
    assert has(more, Flag.MORE_DRAWS) == [bool(e * 8 >= 1.0) for e in plain.efficiency[:-1]] + [False]
    assert not any(has(more, Flag.GRID_POSTERIOR))
    done = np.flatnonzero(more.method)
    assert done.size
    assert (more.efficiency[done] > np.minimum(0.7, 2 * plain.efficiency[done])).all()
    np.testing.assert_allclose(np.exp(more.log_weights[done]).sum(1), 1.0)


def test_what_more_draws_can_not_mend_goes_to_the_grid(model):
    plain = draws_of(model, None).efficiency
    threshold = float(np.nanmax(plain)) * 1.01
    found = draws_of(model, Rescue(threshold, N, "fallback"))
    assert has(found, Flag.GRID_POSTERIOR) == [True] * 4 + [False]
    assert not any(has(found, Flag.MORE_DRAWS))
    assert (found.efficiency[:4] > 0.6).all()
    assert np.isnan(found.efficiency[4])
    assert np.isnan(found.values["log_age"][4]).all()


def test_all_ways_lead_to_one_posterior(model):
    ways = {
        "flow": draw_posteriors(model.proposal, clusters(model), Options(20 * N, True, 1)),
        "more": draws_of(model, Rescue(1.0, 20 * N, "never")),
        "grid": draws_of(model, Rescue(0.0, 4096, "always")),
    }
    assert all(has(ways["grid"], Flag.GRID_POSTERIOR)[:4])
    exact = ways["grid"]
    for name, way in ways.items():
        effective = way.efficiency[:4] * (20 * N if name == "flow" else N)
        known = np.flatnonzero(effective > 50)
        assert known.size >= 2, name
        np.testing.assert_allclose(
            way.log_evidence[known], exact.log_evidence[known], atol=4 / np.sqrt(effective[known].min())
        )
        for parameter in PRIOR:
            width = exact.refined[f"{parameter}_q84"] - exact.refined[f"{parameter}_q16"]
            median = weighted_quantiles(way.values[parameter], way.weights, [0.5])[:, 0]
            away = np.abs(median - exact.refined[f"{parameter}_q50"]) / width
            assert (away[known] < 2.5 / np.sqrt(effective[known])).all(), (name, parameter)


def test_delivered_draws_of_a_poor_network_are_calibrated(model):
    """Over mocks of the prior the ranks of their truths are uniform; without the weights they are not."""
    rng = np.random.default_rng(8)
    truth = {name: rng.uniform(*shape["uniform"], 2000) for name, shape in PRIOR.items()}
    true = model.table.fluxes({name: truth[name] for name in model.table.parameters})
    true *= 10 ** (truth["log_mass"][:, None] - 12)
    error = np.repeat(10 ** rng.uniform(-5.5, -4.5, (2000, 1)), 4, axis=1)
    flux = rng.normal(true, np.hypot(error, SYSTEMATIC * true))
    kept = np.flatnonzero(flux[:, 2] > 5 * error[:, 2])[:200]
    seen = from_arrays(flux[kept], error[kept], 10.0, 4)
    draws = draws_of(model, Rescue(0.2, 4 * N, "fallback"), seen)
    assert 0 < np.mean(draws.method & Flag.GRID_POSTERIOR > 0) < 1
    for name in PRIOR:
        ranks = rank_of_truth(draws.values[name], draws.weights, truth[name][kept])
        smooth = smooth_ranks(ranks, draws.efficiency * N, rng.random(len(kept)))
        assert uniformity(smooth).pvalue > 0.001, name
    plain = draws_of(model, None, seen).values["log_mass"]
    even = np.full(plain.shape, 1 / N)
    assert uniformity(rank_of_truth(plain, even, truth["log_mass"][kept])).pvalue < 1e-6


def test_summaries_come_from_all_draws_and_weights_from_those_kept(model):
    draws = draws_of(model, Rescue(0.0, 20 * N, "always"))
    table = model.summarise(_catalogue(4 + 1), clusters(model), draws)
    np.testing.assert_allclose(
        np.array(table["log_age_q16"])[:4], draws.refined["log_age_q16"][:4].astype(np.float32)
    )
    kept = weighted_quantiles(draws.values["log_age"][:4], draws.weights[:4], [0.16])[:, 0]
    assert (kept != draws.refined["log_age_q16"][:4]).any()
    flags = np.array(table["flags"])
    assert (flags[:4] & Flag.GRID_POSTERIOR > 0).all()
    assert not (flags & Flag.LOW_EFFICIENCY > 0).any()
    assert draws.values["log_age"].shape == (5, N)


def _catalogue(n):
    from batchflow.infer.posterior import _catalogue as catalogue

    one = np.ones((n, 4))
    return catalogue(given_arrays(one, one, "abcd", 10.0))


WAYS = {
    "both": Rescue(0.6, 4 * N, "fallback"),
    "more": Rescue(0.6, 8 * N, "never"),
    "grid": Rescue(0.0, 2 * N, "always"),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_order_and_company_change_nothing(model, way):
    seen = clusters(model)
    whole = draws_of(model, way, seen)
    order = np.array([3, 0, 4, 2, 1])
    shuffled = draws_of(model, way, seen.rows(order))
    np.testing.assert_array_equal(shuffled.method, whole.method[order])
    np.testing.assert_allclose(shuffled.log_weights, whole.log_weights[order], rtol=1e-5, atol=1e-4)
    for name in PRIOR:
        np.testing.assert_allclose(shuffled.values[name], whole.values[name][order], rtol=1e-5)
    alone = draws_of(model, way, seen.rows(np.array([2])))
    np.testing.assert_allclose(alone.values["log_age"], whole.values["log_age"][[2]], rtol=1e-5)
    np.testing.assert_array_equal(alone.method, whole.method[[2]])


PARTED = {"none": None, **WAYS, "summary": Rescue(0.0, 2 * N, "summary")}


@pytest.mark.parametrize("n_draws", [N, 45])
@pytest.mark.parametrize("way", PARTED.values(), ids=PARTED)
def test_parts_of_any_size_and_order_are_equal_value_for_value(model, way, n_draws):
    """Without a tolerance; more clusters than pass through the flow at once, odd numbers of draws too."""
    n = 90
    seen = replace(clusters(model, np.geomspace(3, 60, n - 1)), keys=[str(i) for i in range(n)])
    options = Options(n_draws, True, 1, way)
    whole = draw_posteriors(model.proposal, seen, options)
    for index in (np.arange(n), np.random.default_rng(1).permutation(n)):
        for size in (7, n):
            rows = [index[i : i + size] for i in range(0, n, size)]
            parts = [draw_posteriors(model.proposal, seen.rows(part), options) for part in rows]
            for name, expected in _columns(whole).items():
                joined = np.concatenate([_columns(part)[name] for part in parts])
                np.testing.assert_array_equal(joined, expected[index], err_msg=f"{name}, {size}")


def _columns(draws):
    """Every array of draws by name."""
    fields = {key: value for key, value in draws._asdict().items() if value is not None}
    plain = {key: value for key, value in fields.items() if isinstance(value, np.ndarray)}
    nested = {f"{key} {name}": fields[key][name] for key in ("values", "refined") for name in fields[key]}
    return plain | nested


@pytest.mark.parametrize("use", ["summary", "auto"])
def test_summaries_alone_come_from_the_grid(model, use):
    """The flow's draws as they were, the quantiles of the grid."""
    plain, exact = draws_of(model, None), draws_of(model, Rescue(0.0, N, "always"))
    both = draws_of(model, Rescue(0.0, N, use))
    np.testing.assert_array_equal(both.log_weights, plain.log_weights)
    assert (both.method == 0).all()
    for name in PRIOR:
        column = f"{name}_q84"
        assert np.isfinite(exact.refined[column]).tolist() == [True] * 4 + [False]
        np.testing.assert_array_equal(both.refined[column], exact.refined[column])


def test_summaries_that_can_not_be_exact_are_flagged(model, monkeypatch):
    """As if every posterior were too narrow for the cells."""
    monkeypatch.setattr("batchflow.infer.exact_summary.ENOUGH_NODES", 1e9)
    for use, flagged in (("auto", True), ("always", True), ("fallback", False), ("never", False)):
        found = draws_of(model, Rescue(0.0, N, use))
        assert has(found, Flag.SAMPLED_SUMMARY) == [flagged] * 4 + [False], use
        assert all(np.isnan(column).all() for column in found.refined.values())
        summary = model.summarise(_catalogue(4 + 1), clusters(model), found)
        own = weighted_quantiles(found.values["ebv"][:4], found.weights[:4], [0.84])[:, 0]
        np.testing.assert_allclose(np.array(summary["ebv_q84"])[:4], own.astype(np.float32))


def test_cells_are_made_finer_where_two_rules_disagree(model, monkeypatch):
    way = Rescue(0.0, N, "summary")
    usual = draws_of(model, way).refined
    monkeypatch.setattr("batchflow.infer.exact_summary.LARGEST_GAP", 0.0)
    finest = draws_of(model, way).refined
    for name in PRIOR:
        away = np.abs(usual[f"{name}_mean"] - finest[f"{name}_mean"])[:4] / finest[f"{name}_std"][:4]
        assert (away > 0).all(), name
        assert (away < 0.01).all(), name


def test_a_distance_error_reaches_the_grids_masses(model):
    seen = photometry(model, TRUTH, 30.0)
    options = Options(N, True, 1, Rescue(0.0, 10 * N, "always"))
    known, unsure = (
        draw_posteriors(model.proposal, from_arrays(*seen, 10.0, 4, sigma), options) for sigma in (None, 1.0)
    )
    added = 2 * 0.1 / np.log(10)
    expected = np.hypot(known.refined["log_mass_std"], added)
    assert unsure.refined["log_mass_std"] == pytest.approx(expected, rel=0.05)
    assert unsure.refined["log_age_std"] == pytest.approx(known.refined["log_age_std"], rel=0.02)


def normal_round(rng, n, shift):
    """Draws of N(shift, 2) weighted to 5 N(0, 1)."""
    x = rng.normal(shift, 2.0, (1, n))
    ratio = np.log(5 * 2.0) - 0.5 * x**2 + 0.5 * ((x - shift) / 2) ** 2
    evidence = np.log(np.exp(ratio).mean(1))
    weights = ratio - evidence[:, None] - np.log(n)
    nan = np.full(1, 0.5)
    return Draws({"x": x}, weights, ratio, nan, evidence, x, nan, {})


def test_merged_rounds_are_of_the_same_posterior():
    rng = np.random.default_rng(5)
    n, rounds = 20_000, 8
    parts = [normal_round(rng, n, 2.0) for _ in range(rounds)]
    found = merge(parts, rng.random((1, n)))
    single = 1 / (np.exp(2 * parts[0].log_weights).sum() * n)
    variance = 1 / single - 1
    assert found.efficiency[0] == pytest.approx(1 / (1 + variance / rounds), rel=0.05)
    assert found.log_evidence[0] == pytest.approx(np.log(5), abs=0.02)
    x, w = found.values["x"][0], found.weights[0]
    assert (w * x).sum() == pytest.approx(0.0, abs=0.03)
    assert (w * x**2).sum() == pytest.approx(1.0, abs=0.05)
    assert found.refined["x_mean"][0] == pytest.approx(0.0, abs=0.02)
    assert found.refined["x_q84"][0] == pytest.approx(0.9945, abs=0.02)


def test_a_round_without_weight_does_no_harm():
    rng = np.random.default_rng(5)
    good, lost = normal_round(rng, 500, 0.0), normal_round(rng, 500, 0.0)
    lost = lost._replace(log_weights=np.full((1, 500), -np.log(500)), log_evidence=np.array([np.nan]))
    found = merge([lost, good], rng.random((1, 500)))
    np.testing.assert_array_equal(found.values["x"], good.values["x"])
    assert found.log_evidence[0] == pytest.approx(good.log_evidence[0] - np.log(2))
    both = merge([lost, lost], rng.random((1, 500)))
    assert np.isnan(both.efficiency[0])
    np.testing.assert_allclose(both.weights.sum(1), 1.0)


def test_a_lost_cluster_says_so_whoever_stands_beside_it(model):
    """One brighter than any mass of the prior: no draw of the network has any weight."""
    flux, error = photometry(model, TRUTH, 20.0)
    for more in (0, 1):
        fluxes, errors = (np.stack([1e6 * values] + more * [values]) for values in (flux, error))
        found = model.posterior(fluxes, errors, distance_mpc=10.0, draws=N, rescue=None).summary
        assert np.isnan(found["efficiency"][0].as_py())
        assert found["flags"][0].as_py() & Flag.LOW_EFFICIENCY
        plain = model.posterior(fluxes, errors, distance_mpc=10.0, draws=N, certify=False).summary
        assert not plain["flags"][0].as_py() & Flag.LOW_EFFICIENCY
