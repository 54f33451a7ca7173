"""The members' disagreement, on draws whose spread is known."""

from __future__ import annotations

import numpy as np
import pytest

from batchflow.infer.disagreement import member_spread
from batchflow.infer.draw import Draws
from batchflow.schema import Flag

MEMBERS, N = 4, 4000


def made(shift: float, lost: int = 0) -> Draws:
    """Two clusters; in the second, member i's ages lie i x shift higher. Outside the prior: -inf."""
    rng = np.random.default_rng(1)
    age = rng.normal(8.0, 0.2, (2, N))
    age[1] += shift * (np.arange(N) % MEMBERS)
    log_weights = np.full((2, N), -np.log(N))
    log_weights[0, :lost] = -np.inf
    nan = np.full(2, np.nan)
    values = {"log_age": age, "ebv": rng.uniform(0, 1, (2, N))}
    return Draws(values, log_weights, log_weights, nan, nan, log_weights, nan, nuisances={})


def test_equal_members_differ_by_chance_alone():
    spread = member_spread(made(0.0), MEMBERS)
    assert (spread < 3 * 1.25 * np.sqrt(MEMBERS / N)).all()
    assert (spread > 0).all()


def test_members_apart_are_told_in_units_of_the_posteriors_width():
    spread = member_spread(made(0.3), MEMBERS)
    offsets = 0.3 * np.arange(MEMBERS)
    width = np.sqrt(0.2**2 + offsets.var())
    assert spread[1] == pytest.approx(offsets.std(ddof=1) / width, rel=0.05)
    assert spread[0] < 0.1


def test_draws_outside_the_prior_do_not_count_and_too_few_are_nan():
    assert member_spread(made(0.0, lost=2000), MEMBERS)[0] < 0.15
    found = member_spread(made(0.0, lost=N), MEMBERS)
    assert np.isnan(found[0])
    assert np.isfinite(found[1])


def test_one_member_has_nobody_to_disagree_with():
    assert np.isnan(member_spread(made(0.0), 1)).all()


def test_networks_have_no_part_in_the_grids_draws():
    method = np.array([0, Flag.GRID_POSTERIOR], np.int32)
    spread = member_spread(made(0.3)._replace(method=method), MEMBERS)
    assert np.isfinite(spread[0])
    assert np.isnan(spread[1])
