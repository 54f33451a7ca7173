"""Summaries of weighted draws against closed forms."""

import numpy as np
import pytest
from scipy.stats import norm

from batchflow.infer.summary import find_modes, summarise, weighted_moments, weighted_quantiles

AGES = (6.0, 10.14)
RNG = np.random.default_rng(4)


def equal(n):
    return np.full(n, 1 / n)


def test_weights_and_repeats_are_the_same():
    draws = np.array([[3.0, 1.0, 2.0]])
    repeated = np.repeat(draws, [1, 2, 5], axis=1)
    weighted = weighted_moments(draws, np.array([[1, 2, 5]]) / 8)
    plain = weighted_moments(repeated, np.full((1, 8), 1 / 8))
    assert np.allclose(weighted, plain)


def test_importance_weighted_quantiles_are_those_of_the_target():
    draws = RNG.uniform(-6, 6, (2, 100_000))
    weights = norm.pdf(draws, 1.0, 0.5)
    weights /= weights.sum(1, keepdims=True)
    found = weighted_quantiles(draws, weights, [0.025, 0.16, 0.5, 0.84, 0.975])
    assert found == pytest.approx(
        np.tile(norm.ppf([0.025, 0.16, 0.5, 0.84, 0.975], 1.0, 0.5), (2, 1)), abs=0.02
    )
    summary = summarise(draws, weights)
    assert summary["mean"] == pytest.approx([1.0, 1.0], abs=0.01)
    assert summary["std"] == pytest.approx([0.5, 0.5], abs=0.01)


def test_a_draw_without_weight_is_never_a_quantile():
    draws = np.array([[-9.0, 1.0, 2.0, 99.0]])
    weights = np.array([[0.0, 0.6, 0.4, 0.0]])
    assert weighted_quantiles(draws, weights, [0.001, 0.5, 0.6001, 0.999]).tolist() == [[1.0, 1.0, 2.0, 2.0]]


def test_two_modes_are_found_with_weight_centre_and_width():
    young, old = RNG.normal([6.6, 0.6, 3.0], 0.08, (1400, 3)), RNG.normal([8.5, 0.1, 4.0], 0.08, (600, 3))
    modes = find_modes(np.concatenate([young, old]), equal(2000), AGES)
    assert modes.weights == pytest.approx([0.7, 0.3], abs=0.01)
    assert modes.centres == pytest.approx(np.array([[6.6, 0.6, 3.0], [8.5, 0.1, 4.0]]), abs=0.02)
    assert modes.widths == pytest.approx(np.full((2, 3), 0.08), rel=0.1)


@pytest.mark.parametrize("width", [0.02, 0.3, 1.0])
def test_one_broad_or_narrow_peak_is_one_mode(width):
    ages = np.clip(RNG.normal(8.0, width, 4000), *AGES)
    assert len(find_modes(ages[:, None], equal(4000), AGES).weights) == 1


@pytest.mark.parametrize("edge", AGES)
def test_a_peak_at_the_edge_of_the_prior_is_a_mode(edge):
    ages = edge + np.abs(RNG.normal(0, 0.1, 2000)) * (1 if edge == AGES[0] else -1)
    modes = find_modes(ages[:, None], equal(2000), AGES)
    assert modes.weights == pytest.approx([1.0])


def test_a_flat_posterior_is_one_mode():
    ages = RNG.uniform(*AGES, 20_000)
    assert len(find_modes(ages[:, None], equal(20_000), AGES).weights) == 1
