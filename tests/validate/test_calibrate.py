"""Calibration figures on posteriors that are right, and on ones that are wrong in a known way."""

import numpy as np
import pytest

from batchflow.validate.calibrate import coverage, rank_of_truth, recovery, robust_scatter

RNG = np.random.default_rng(5)
N, D = 4000, 400


def posteriors(width=1.0, shift=0.0):
    """Truths N(0, 1) seen with noise N(0, 1): the exact posterior is N(x / 2, 1 / sqrt 2)."""
    truth = RNG.normal(size=N)
    seen = truth + RNG.normal(size=N)
    draws = seen[:, None] / 2 + shift + width * RNG.normal(size=(N, D)) / np.sqrt(2)
    return draws, np.full((N, D), 1 / D), truth


def row(width=1.0, shift=0.0):
    draws, weights, truth = posteriors(width, shift)
    return recovery({"x": draws}, weights, {"x": truth}).to_pylist()[0]


def test_a_right_posterior_is_calibrated():
    found = row()
    assert found["coverage_68"] == pytest.approx(0.68, abs=0.03)
    assert found["coverage_95"] == pytest.approx(0.95, abs=0.015)
    assert found["bias"] == pytest.approx(0.0, abs=0.05)
    assert found["scatter"] == pytest.approx(1 / np.sqrt(2), rel=0.06)
    assert found["rank_pvalue"] > 1e-3


def test_a_narrow_or_shifted_posterior_is_found_out():
    assert row(width=0.6)["coverage_68"] < 0.55
    assert row(width=0.6)["rank_pvalue"] < 1e-6
    shifted = row(shift=0.3)
    assert shifted["bias"] == pytest.approx(0.3, abs=0.05)
    assert shifted["rank_pvalue"] < 1e-6


def test_ranks_use_the_weights():
    draws = np.array([[0.0, 1.0, 2.0]])
    assert rank_of_truth(draws, np.array([[0.5, 0.3, 0.2]]), np.array([1.5])) == pytest.approx([0.8])


def test_robust_scatter_is_sigma_for_a_gaussian_and_ignores_outliers():
    values = RNG.normal(3.0, 2.0, 100_000)
    values[:1000] = 1e6
    assert robust_scatter(values) == pytest.approx(2.0, rel=0.03)


def test_coverage_of_uniform_ranks():
    assert coverage(np.linspace(0, 1, 100_001), 0.68) == pytest.approx(0.68, abs=1e-4)
