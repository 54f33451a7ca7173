"""Certified posteriors with nuisances and priors of any shape, against brute force over the engine."""

import numpy as np
import pytest
from exact_models import brute_force, cells, photometry, train_model
from scipy import stats

from batchflow.infer.clusters import from_arrays
from batchflow.infer.draw import Options, draw_posteriors
from batchflow.infer.table import summary_columns

DRAWS = 20_000
OFFSETS = np.arange(-0.3, 0.3, 0.02)
AGES, EBV = (7.5, 9.0), (0.0, 0.6)
BASE = {"log_age": {"uniform": AGES}, "log_mass": {"uniform": (2.0, 8.0)}, "ebv": {"uniform": EBV}}
TRUTH = {"log_age": 8.2, "ebv": 0.25, "log_mass": 4.5}
UNKNOWN = TRUTH | {"rv": 3.6, "metallicity": 0.012}


def flat_mass(log_mass):
    return np.where((log_mass >= 2.0) & (log_mass <= 8.0), 1 / 6.0, 0.0)


def even(axis):
    return np.full(axis.size, 1 / axis.size)


def weighed(distribution, axis):
    found = distribution.pdf(axis)
    return found / found.sum()


def draws_of(model, seen, **others):
    clusters = from_arrays(*seen, 10.0, 4)
    return draw_posteriors(model.proposal, clusters, Options(DRAWS, True, 1))


def assert_equal_posteriors(draws, grid, names):
    """Means, widths and evidence agree to what the effective number of draws allows."""
    effective = draws.efficiency[0] * DRAWS
    assert effective > 400
    assert draws.log_evidence[0] == pytest.approx(grid.log_evidence, abs=4 / np.sqrt(effective))
    weights = draws.weights[0]
    for name in names:
        mean, std = grid.moments(grid.values[name])
        values = draws.values[name][0] if name in draws.values else draws.nuisances[name][0]
        found = (weights * values).sum()
        assert found == pytest.approx(mean, abs=4 * std / np.sqrt(effective)), name
        assert np.sqrt((weights * (values - found) ** 2).sum()) == pytest.approx(std, rel=0.12), name


@pytest.fixture(scope="module")
def joint(tmp_path_factory):
    """Metallicity inferred under a flat prior, reddening under a normal one."""
    prior = BASE | {"ebv": {"truncated_normal": (0.1, 0.1, *EBV)}, "metallicity": {"uniform": (0.004, 0.03)}}
    return train_model(tmp_path_factory.mktemp("joint"), prior)


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    """R(V) normal and marginalised; the metallicity one of three, one of them between the library's."""
    nuisances = {
        "rv": {"truncated_normal": (3.1, 0.4, 2.2, 4.5), "marginalise": True},
        "metallicity": {"choice": (0.004, 0.012, 0.03)},
    }
    return train_model(tmp_path_factory.mktemp("averaged"), BASE | nuisances)


def test_a_nuisance_inferred_jointly_is_a_parameter_like_any_other(joint):
    assert joint.network.parameters == ("log_age", "log_mass", "ebv", "metallicity")
    seen = photometry(joint, TRUTH | {"metallicity": 0.015}, signal=20)
    axes = {"log_age": cells(*AGES, 60), "ebv": cells(*EBV, 30), "metallicity": cells(0.004, 0.03, 12)}
    prior = {name: even(axis) for name, axis in axes.items()}
    prior["ebv"] = weighed(stats.norm(0.1, 0.1), axes["ebv"])
    grid = brute_force(joint, seen, axes, prior, (OFFSETS, flat_mass))
    assert_equal_posteriors(draws_of(joint, seen), grid, grid.values)
    # The normal prior on the reddening acts: without it the posterior mean is elsewhere.
    flat = brute_force(joint, seen, axes, {n: even(a) for n, a in axes.items()}, (OFFSETS, flat_mass))
    mean, std = grid.moments(grid.values["ebv"])
    assert flat.moments(flat.values["ebv"])[0] - mean > 0.3 * std


def test_a_nuisance_inferred_jointly_has_its_columns(joint):
    posterior = joint.posterior(
        *photometry(joint, TRUTH | {"metallicity": 0.015}, 20), distance_mpc=10.0, draws=50
    )
    assert set(posterior.draws) == {"log_age", "log_mass", "ebv", "metallicity"}
    assert {"metallicity_q50", "metallicity_map", "mode_metallicity"} <= set(posterior.summary.column_names)
    assert 0.004 <= posterior.summary["metallicity_q50"][0].as_py() <= 0.03


@pytest.fixture(scope="module")
def bright(averaged):
    """Photometry, its draws and its brute force."""
    seen = photometry(averaged, UNKNOWN, 20)
    return draws_of(averaged, seen), averaged_grid(averaged, seen), seen


def averaged_grid(model, seen):
    listed = np.array([0.004, 0.012, 0.03])
    axes = {"log_age": cells(*AGES, 50), "ebv": cells(*EBV, 30), "rv": cells(2.2, 4.5, 16)}
    prior = {name: even(axis) for name, axis in axes.items()}
    prior["rv"] = weighed(stats.norm(3.1, 0.4), axes["rv"])
    axes, prior = axes | {"metallicity": listed}, prior | {"metallicity": even(listed)}
    return brute_force(model, seen, axes, prior, (OFFSETS, flat_mass))


def test_faint_clusters_too(averaged):
    seen = photometry(averaged, UNKNOWN, 3)
    assert_equal_posteriors(draws_of(averaged, seen), averaged_grid(averaged, seen), ("log_age", "ebv", "rv"))


def test_marginalised_nuisances_are_integrated_over(averaged, bright):
    assert averaged.network.parameters == ("log_age", "log_mass", "ebv")
    draws, grid, _ = bright
    assert_equal_posteriors(draws, grid, grid.values)
    for value in (0.004, 0.012, 0.03):
        share = (draws.weights[0] * np.isclose(draws.nuisances["metallicity"][0], value)).sum()
        wanted = grid.probability[grid.values["metallicity"] == value].sum()
        assert share == pytest.approx(wanted, abs=2 / np.sqrt(draws.efficiency[0] * DRAWS))


def test_surviving_mass_and_chi2_are_those_of_the_nuisances(averaged, bright):
    draws, grid, seen = bright
    columns = summary_columns(draws, averaged.network.boxes, averaged.table)
    surviving = averaged.table.surviving(grid.values["log_age"], grid.values["metallicity"])
    current = grid.values["log_mass"] + np.log10(surviving)
    order = np.argsort(current)
    median = current[order][np.searchsorted(np.cumsum(grid.probability[order]), 0.5)]
    std = grid.moments(current)[1]
    assert columns["log_mass_current_q50"][0] == pytest.approx(median, abs=0.15 * std)
    names = averaged.table.parameters
    at = {name: (draws.values | draws.nuisances)[name][0, :50] for name in names}
    model_flux = averaged.table.fluxes(at) * 10 ** (draws.values["log_mass"][0, :50, None] - 12)
    chi2 = ((seen[0] - model_flux) ** 2 / (seen[1] ** 2 + (0.05 * model_flux) ** 2)).sum(1)
    np.testing.assert_allclose(draws.chi2[0, :50], chi2, rtol=2e-3, atol=1e-3)


def test_marginalised_nuisances_are_no_columns(averaged):
    seen = photometry(averaged, UNKNOWN, 20)
    for certify in (True, False):
        posterior = averaged.posterior(*seen, distance_mpc=10.0, draws=50, certify=certify)
        assert set(posterior.draws) == {"log_age", "log_mass", "ebv"}
        assert not [name for name in posterior.summary.column_names if name.startswith(("rv", "metal"))]
        assert np.isfinite(posterior.summary["ppc_pvalue"][0].as_py())


def test_a_clusters_draws_do_not_depend_on_its_neighbours(averaged):
    seen = photometry(averaged, UNKNOWN, 20)
    two = [np.stack([values, 2 * values]) for values in seen]
    alone = averaged.posterior(*seen, distance_mpc=10.0, draws=200)
    together = averaged.posterior(*two, distance_mpc=10.0, draws=200)
    np.testing.assert_allclose(np.exp(alone.log_weights[0]), np.exp(together.log_weights[0]), atol=1e-5)
