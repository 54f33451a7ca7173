"""Draws from the prior, and its density."""

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats
from scipy.stats import kstest

from batchflow.keys import generator
from batchflow.mocks.prior import draw, draw_prior, log_density, log_prior, log_prior_density, median
from batchflow.settings.prior import Distribution, PriorSettings

PRIOR = PriorSettings.model_validate({"log_age": {"uniform": [6.1, 10.14]}, "ebv": {"uniform": [0.0, 1.3]}})

# Each continuous shape and the same distribution by scipy.stats.
CONTINUOUS = {
    "uniform": ({"uniform": [2.0, 8.0]}, stats.uniform(2.0, 6.0)),
    "normal": ({"normal": [3.1, 0.3]}, stats.norm(3.1, 0.3)),
    "truncated": ({"truncated_normal": [3.1, 0.5, 2.5, 6.0]}, stats.truncnorm(-1.2, 5.8, 3.1, 0.5)),
    "one tail": ({"truncated_normal": [0.0, 0.2, 0.0, 1.5]}, stats.truncnorm(0.0, 7.5, 0.0, 0.2)),
    # dN/dM ~ M^-2 between 10^2 and 10^6: log10 M is exponential with rate ln 10, cut at 4 dex.
    "mass function": (
        {"power_law": [-2.0, 2.0, 6.0]},
        stats.truncexpon(4 * np.log(10), 2.0, 1 / np.log(10)),
    ),
    "flat in the logarithm": ({"power_law": [-1.0, 2.0, 6.0]}, stats.uniform(2.0, 4.0)),
}


def shape(values: dict[str, object]) -> Distribution:
    return Distribution.model_validate(values)


def test_draws_are_uniform_in_the_box_and_independent():
    drawn = draw_prior(PRIOR, 50_000, generator(1, "test"))
    for name, (low, high) in PRIOR.boxes().items():
        assert kstest(drawn[name], "uniform", (low, high - low)).pvalue > 1e-3
    assert np.abs(np.corrcoef(list(drawn.values())) - np.eye(3)).max() < 0.02


@pytest.mark.parametrize(("values", "expected"), CONTINUOUS.values(), ids=CONTINUOUS)
def test_draws_follow_the_shape(values, expected):
    drawn = draw(shape(values), 50_000, generator(3, "test"))
    assert kstest(drawn, expected.cdf).pvalue > 1e-3
    low, high = shape(values).box
    assert low <= drawn.astype(np.float64).min()
    assert drawn.astype(np.float64).max() <= high


@pytest.mark.parametrize(("values", "expected"), CONTINUOUS.values(), ids=CONTINUOUS)
def test_density_is_that_of_scipy(values, expected):
    low, high = shape(values).box
    inside = np.linspace(low, high, 41)[1:-1]
    # 6e-7 of a normal lies beyond its box.
    np.testing.assert_allclose(log_density(shape(values), inside), expected.logpdf(inside), atol=1e-6)
    outside = log_density(shape(values), [low - 0.01, high + 0.01, np.nan])
    assert outside[:2].tolist() == [-np.inf, -np.inf]
    assert np.isnan(outside[2])


@pytest.mark.parametrize(("values", "expected"), CONTINUOUS.values(), ids=CONTINUOUS)
def test_the_median_is_that_of_scipy(values, expected):
    assert median(shape(values)) == pytest.approx(expected.median(), abs=1e-6)


def test_of_listed_values_the_median_is_the_middle_one():
    assert median(shape({"choice": (0.02, 0.004, 0.008)})) == 0.008


def test_draws_of_a_power_law_have_its_slope():
    # Of M^-2 there are ten times as many clusters in each decade of mass below.
    drawn = draw(shape({"power_law": [-2.0, 2.0, 6.0]}), 200_000, generator(4, "test"))
    low, high = ((drawn >= edge).sum() - (drawn >= edge + 1).sum() for edge in (2, 3))
    assert low / high == pytest.approx(10, rel=0.05)


def test_choice_is_equally_probable():
    values = (0.004, 0.008, 0.02)
    drawn = draw(shape({"choice": values}), 30_000, generator(5, "test"))
    found, counts = np.unique(drawn, return_counts=True)
    assert found == pytest.approx(values, rel=1e-6)
    assert stats.chisquare(counts).pvalue > 1e-3
    np.testing.assert_allclose(log_density(shape({"choice": values}), found), -np.log(3))
    assert log_density(shape({"choice": values}), 0.005) == -np.inf


def test_a_choice_is_drawn_as_the_density_knows_it():
    # In single precision 0.02 lies below 0.02, and 0.05 above 0.05.
    edges = shape({"choice": (0.02, 0.05)})
    np.testing.assert_allclose(log_density(edges, draw(edges, 100, generator(6, "test"))), -np.log(2))


def test_rounding_to_single_precision_never_leaves_the_box():
    # 0.1 and 10.14 are not single-precision numbers: rounded to nearest, one lies outside the box.
    narrow = PriorSettings.model_validate({"log_age": {"uniform": [10.139999, 10.14]}})
    drawn = draw_prior(narrow, 100_000, generator(2, "test"))["log_age"].astype(np.float64)
    assert drawn.min() >= 10.139999
    assert drawn.max() <= 10.14


def test_the_density_is_one_over_the_volume():
    assert log_prior_density(PRIOR.boxes()) == pytest.approx(-np.log(4.04 * 6.0 * 1.3))
    middle = {name: np.full(3, sum(box) / 2) for name, box in PRIOR.boxes().items()}
    assert log_prior(PRIOR, middle) == pytest.approx(np.full(3, log_prior_density(PRIOR.boxes())))


def test_the_joint_density_is_the_sum():
    prior = PriorSettings.model_validate(
        {"log_mass": {"power_law": [-2, 2, 6]}, "rv": {"normal": [3.1, 0.2]}}
    )
    values = {"log_mass": np.array([3.0, 5.0, 7.0]), "rv": np.array([3.1, 3.2, 3.1])}
    apart = [log_density(getattr(prior, name), value) for name, value in values.items()]
    np.testing.assert_allclose(log_prior(prior, values), sum(apart))
    assert log_prior(prior, values)[2] == -np.inf


def test_nuisances_are_drawn_and_inferred_as_the_job_says():
    prior = PriorSettings.model_validate(
        {
            "metallicity": {"choice": [0.004, 0.02]},
            "rv": {"uniform": [2.5, 4.0], "marginalise": True},
            "covering": {"uniform": [0.0, 1.0]},
        }
    )
    assert list(draw_prior(prior, 5, generator(6, "t"))) == [
        *("log_age", "log_mass", "ebv"),
        *("metallicity", "rv", "covering"),
    ]
    assert list(prior.boxes()) == ["log_age", "log_mass", "ebv", "covering"]


def test_a_fixed_nuisance_is_no_column():
    prior = PriorSettings.model_validate({"rv": {"fixed": 4.0}})
    assert list(prior.distributions()) == list(prior.boxes()) == ["log_age", "log_mass", "ebv"]


def test_draws_of_one_parameter_do_not_depend_on_the_shape_of_later_ones():
    more = PriorSettings.model_validate({"covering": {"uniform": [0.0, 1.0]}})
    plain = draw_prior(PriorSettings(), 100, generator(7, "t"))
    found = draw_prior(more, 100, generator(7, "t"))
    assert all((found[name] == plain[name]).all() for name in plain)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "no shape given; expected one of uniform, normal"),
        ({"uniform": [0, 1], "normal": [0, 1]}, "uniform and normal given"),
        ({"uniform": [2, 1]}, "low < high"),
        ({"normal": [3.1, 0]}, "standard deviation must be positive"),
        ({"truncated_normal": [3.1, -1, 2, 6]}, "standard deviation must be positive"),
        ({"truncated_normal": [3.1, 0.1, 6, 2]}, "low < high"),
        ({"truncated_normal": [3.1, 0.1, 4, 5]}, "keeps nothing within 5 standard deviations"),
        ({"power_law": [-2, 6, 2]}, "low < high"),
        ({"choice": []}, "at least 1 item"),
        ({"choice": [1, 1]}, "names a value twice"),
        ({"unifrom": [0, 1]}, "unifrom"),
    ],
)
def test_a_wrong_shape_is_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        shape(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"log_mass": {"fixed": 4.0}}, "log_mass is always inferred"),
        ({"ebv": {"uniform": [0, 1], "marginalise": True}}, "ebv is always inferred"),
        ({"log_age": {"choice": [7.0, 8.0]}}, "log_age is always inferred"),
        ({"rv": {"power_law": [-2, 2, 4]}}, "a power law is for log_mass and log_age"),
    ],
)
def test_a_shape_that_a_parameter_cannot_have_is_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        PriorSettings.model_validate(values)
