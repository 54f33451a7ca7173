"""Priors on the mass that are not flat, and distances with errors: against integrals in one variable.

Age and reddening are all but fixed, so that mass alone is unknown and its posterior is an integral.
"""

import numpy as np
import pytest
from exact_models import BANDS, SYSTEMATIC, photometry, train_model
from scipy import stats

from batchflow.catalogue.normalise import RawCatalogue, normalise
from batchflow.errors import UserError
from batchflow.infer.clusters import from_arrays, from_catalogue
from batchflow.infer.distance import mass_shifts
from batchflow.infer.draw import Options, draw_posteriors

DRAWS, SLOPE = 20_000, -2.0
NARROW = {"log_age": {"uniform": (8.0, 8.001)}, "ebv": {"uniform": (0.100, 0.101)}}
LOW, HIGH = 2.0, 7.0
TRUTH = {"log_age": 8.0005, "ebv": 0.1005, "log_mass": 4.0}
MASSES = np.linspace(LOW, HIGH, 20_001)
STEP = MASSES[1] - MASSES[0]


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    prior = NARROW | {"log_mass": {"uniform": (LOW, HIGH)}}
    return train_model(tmp_path_factory.mktemp("flat"), prior, rows=4000)


@pytest.fixture(scope="module")
def steep(tmp_path_factory):
    prior = NARROW | {"log_mass": {"power_law": (SLOPE, LOW, HIGH)}}
    return train_model(tmp_path_factory.mktemp("steep"), prior, rows=4000)


def draws_of(model, seen, sigma=None, distance=10.0, n=DRAWS, certify=True):
    clusters = from_arrays(*seen, distance, 4, sigma)
    return draw_posteriors(model.proposal, clusters, Options(n, certify, 3))


def mass_density(masses):
    """dN/dM ~ M^-2 is 10^-m in log10 M, normalised between the edges."""
    inside = (masses >= LOW) & (masses <= HIGH)
    return np.where(inside, np.log(10) * 10.0**-masses / (10.0**-LOW - 10.0**-HIGH), 0.0)


def likelihood(model, seen, masses):
    """Of masses at 10 Mpc, at the middle of the narrow box."""
    flux, error = seen
    shape = model.table.fluxes({name: TRUTH[name] for name in ("log_age", "ebv")})[0]
    fluxes = shape * 10.0 ** (masses[:, None] - 12)
    return stats.norm.pdf(flux, fluxes, np.sqrt(error**2 + (SYSTEMATIC * fluxes) ** 2)).prod(1)


def exact(model, seen, density):
    """Mean, standard deviation and evidence of log_mass."""
    weight = likelihood(model, seen, MASSES) * density(MASSES)
    mean = (weight * MASSES).sum() / weight.sum()
    std = np.sqrt((weight * (MASSES - mean) ** 2).sum() / weight.sum())
    return mean, std, np.log(weight.sum() * STEP)


def moments(draws, name="log_mass"):
    values, weights = draws.values[name][0], draws.weights[0]
    mean = (weights * values).sum()
    return mean, np.sqrt((weights * (values - mean) ** 2).sum())


def even(masses):
    return np.full(masses.shape, 1 / (HIGH - LOW))


@pytest.mark.parametrize("signal", [50.0, 2.0], ids=["bright", "faint"])
def test_a_mass_function_shifts_the_mass_as_the_integral_says(flat, steep, signal):
    seen = photometry(flat, TRUTH, signal)
    results = []
    for model, density in ((flat, even), (steep, mass_density)):
        draws = draws_of(model, seen)
        mean, std, evidence = exact(model, seen, density)
        found = moments(draws)
        few = 1 / np.sqrt(draws.efficiency[0] * DRAWS)
        assert found[0] == pytest.approx(mean, abs=4 * std * few)
        assert found[1] == pytest.approx(std, rel=max(0.05, 4 * few))
        assert draws.log_evidence[0] == pytest.approx(evidence, abs=max(4 * few, 0.01))
        results.append((found[0], std))
    shift = results[1][0] - results[0][0]
    # Of a Gaussian posterior in log mass, the slope moves the mean by (slope + 1) ln 10 sigma^2.
    gaussian = (SLOPE + 1) * np.log(10) * results[0][1] ** 2
    if signal > 10:
        assert shift == pytest.approx(gaussian, rel=0.1, abs=5e-4)
    else:
        assert shift < 1.5 * gaussian


def test_without_a_certificate_the_mass_function_is_still_a_weight(steep):
    seen = photometry(steep, TRUTH, 1.5)
    draws = draws_of(steep, seen, certify=False, n=500)
    mass, weights = draws.values["log_mass"][0], draws.log_weights[0]
    inside = (mass >= LOW) & (mass <= HIGH)
    assert inside.sum() > 100
    assert np.isneginf(weights[~inside]).all()
    slope, _ = np.polyfit(mass[inside], weights[inside], 1)
    assert slope == pytest.approx((SLOPE + 1) * np.log(10), rel=1e-4)
    assert np.isnan(draws.efficiency[0])


def test_a_distance_error_widens_the_mass_and_nothing_else(flat):
    seen = photometry(flat, TRUTH, 20.0)
    known, unsure = draws_of(flat, seen), draws_of(flat, seen, sigma=0.5)
    added = 2 * 0.5 / (10.0 * np.log(10))
    width = np.sqrt(moments(known)[1] ** 2 + added**2)
    assert moments(unsure)[1] == pytest.approx(width, rel=0.02)
    assert moments(unsure)[1] > 1.5 * moments(known)[1]
    assert moments(unsure)[0] == pytest.approx(moments(known)[0], abs=0.003)
    for name in ("log_age", "ebv"):
        np.testing.assert_array_equal(unsure.values[name], known.values[name])
    np.testing.assert_allclose(unsure.efficiency, known.efficiency, rtol=1e-3)
    np.testing.assert_array_equal(unsure.chi2, known.chi2)


def test_the_prior_looks_at_the_mass_at_the_draws_distance(steep):
    seen = photometry(steep, TRUTH, 20.0)
    distances = 10.0 + 1.0 * np.linspace(-5, 5, 401)
    chance = stats.norm.pdf(distances, 10.0, 1.0)
    shift = 2 * np.log10(distances / 10.0)
    # The photometry fixes the mass at 10 Mpc; the prior is that of the mass at the true distance.
    prior = np.array([(chance * mass_density(mass + shift)).sum() / chance.sum() for mass in MASSES])
    weight = likelihood(steep, seen, MASSES) * prior
    draws = draws_of(steep, seen, sigma=1.0)
    few = 1 / np.sqrt(draws.efficiency[0] * DRAWS)
    assert draws.log_evidence[0] == pytest.approx(np.log(weight.sum() * STEP), abs=4 * few)
    # Of a log-normal distance, the slope would move it by (slope + 1) ln 10 sigma^2 as it does the mass.
    moved = moments(draws)[0] - moments(draws_of(steep, seen))[0]
    assert moved == pytest.approx((SLOPE + 1) * np.log(10) * (2 * 0.1 / np.log(10)) ** 2, rel=0.5)


@pytest.mark.parametrize("none", [np.nan, 0.0])
def test_no_error_changes_no_number(flat, none):
    seen = photometry(flat, TRUTH, 20.0)
    two = [np.stack([values, values]) for values in seen]
    plain = draws_of(flat, two, n=100)
    mixed = draws_of(flat, two, sigma=[none, 1.0], n=100)
    np.testing.assert_array_equal(mixed.values["log_mass"][0], plain.values["log_mass"][0])
    np.testing.assert_array_equal(mixed.log_weights[0], plain.log_weights[0])
    assert (mixed.values["log_mass"][1] != plain.values["log_mass"][1]).all()


def clusters_at(distance, sigma):
    return from_arrays(np.ones((len(distance), 1)), np.ones((len(distance), 1)), distance, 1, sigma)


def test_distances_are_those_of_the_normal_distribution_each_stratum_once():
    shift = mass_shifts(clusters_at([10.0], [0.7]), 1000, seed=3)[0]
    distance = np.sort(10.0 ** (shift / 2) * 1e-5)
    np.testing.assert_allclose(
        distance, stats.truncnorm(-5, 5, 10.0, 0.7).ppf((np.arange(1000) + 0.5) / 1000), rtol=1e-5
    )


def test_clusters_of_a_galaxy_are_equally_far_in_each_draw():
    distance, sigma = [10.0, 10.0, 9.0], [0.7, 0.7, 0.7]
    first, second, other = mass_shifts(clusters_at(distance, sigma), 500, seed=3)
    np.testing.assert_array_equal(first, second)
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.2
    assert abs(np.corrcoef(first, mass_shifts(clusters_at(distance, sigma), 500, seed=4)[0])[0, 1]) < 0.2


def test_a_distance_is_positive_however_large_its_error():
    assert np.isfinite(mass_shifts(clusters_at([10.0, 1.0], [10.0, 40.0]), 2000, seed=3)).all()


def test_a_negative_error_is_refused():
    with pytest.raises(UserError, match="distance_error_mpc = -1; expected 0 or more"):
        clusters_at([10.0], [-1.0])


def test_a_catalogues_distance_errors_and_galaxies_are_read():
    one = np.ones(3)
    raw = RawCatalogue(
        ["A", "B", "A"], ["1", "2", "3"], one, one, 10 * one, {BANDS[0]: one}, {BANDS[0]: one},
        distance_error_mpc=np.array([0.7, np.nan, 0.7]),
    )  # fmt: skip
    clusters = from_catalogue(normalise(raw, "s", BANDS[:1]), BANDS[:1])
    shifts = mass_shifts(clusters, 100, seed=3)
    np.testing.assert_array_equal(shifts[0], shifts[2])
    assert shifts[0].std() == pytest.approx(2 * 0.07 / np.log(10), rel=0.05)
    np.testing.assert_array_equal(shifts[1], clusters.log_mass_shift[1])
    part = clusters.rows(np.array([2]))
    np.testing.assert_array_equal(mass_shifts(part, 100, seed=3), shifts[2:])
