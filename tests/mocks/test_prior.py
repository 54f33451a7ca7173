"""Draws from the prior."""

import numpy as np
import pytest
from scipy.stats import kstest

from batchflow.config import PriorSettings
from batchflow.keys import generator
from batchflow.mocks.prior import draw_prior, log_prior_density

PRIOR = PriorSettings.model_validate({"log_age": {"uniform": [6.1, 10.14]}, "ebv": {"uniform": [0.0, 1.3]}})


def test_draws_are_uniform_in_the_box_and_independent():
    drawn = draw_prior(PRIOR, 50_000, generator(1, "test"))
    for name, (low, high) in PRIOR.boxes().items():
        assert kstest(drawn[name], "uniform", (low, high - low)).pvalue > 1e-3
    assert np.abs(np.corrcoef(list(drawn.values())) - np.eye(3)).max() < 0.02


def test_rounding_to_single_precision_never_leaves_the_box():
    # 0.1 and 10.14 are not single-precision numbers: rounded to nearest, one lies outside the box.
    narrow = PriorSettings.model_validate({"log_age": {"uniform": [10.139999, 10.14]}})
    drawn = draw_prior(narrow, 100_000, generator(2, "test"))["log_age"].astype(np.float64)
    assert drawn.min() >= 10.139999
    assert drawn.max() <= 10.14


def test_the_density_is_one_over_the_volume():
    assert log_prior_density(PRIOR.boxes()) == pytest.approx(-np.log(4.04 * 6.0 * 1.3))
