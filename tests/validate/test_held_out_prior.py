"""Held-out mocks follow the prior on the mass, whatever its shape."""

from types import SimpleNamespace

import numpy as np
import torch
from scipy import stats

from batchflow.flow.features import Observations
from batchflow.settings.prior import Distribution
from batchflow.train.simulate import Simulation
from batchflow.validate.held_out import _follow_prior, _inside_training

MASSES = np.random.default_rng(4).uniform(1.0, 9.0, 40_000)
EVERYWHERE = np.ones(MASSES.shape, dtype=bool)


def kept(among=EVERYWHERE, **shape):
    return MASSES[_follow_prior(MASSES, among, Distribution.model_validate(shape), seed=1)]


def test_a_flat_prior_keeps_all_inside():
    assert set(kept(uniform=(2.0, 8.0))) == set(MASSES[(MASSES >= 2.0) & (MASSES <= 8.0)])


def test_a_normal_prior_and_a_mass_function_are_followed():
    assert stats.kstest(kept(normal=(5.0, 0.5)), stats.norm(5.0, 0.5).cdf).pvalue > 1e-3
    found = kept(power_law=(-2.0, 2.0, 6.0))
    assert len(found) > 1000
    exact = stats.truncexpon(4 * np.log(10), 2.0, 1 / np.log(10))
    assert stats.kstest(found, exact.cdf).pvalue > 1e-3


def test_rows_that_are_out_for_another_reason_stay_out():
    heavy = MASSES > 4.0
    found = kept(heavy, power_law=(-2.0, 2.0, 6.0))
    assert found.min() > 4.0
    # The densest of those that are left is kept surely, not one in a hundred.
    assert len(found) > 0.2 * (heavy & (MASSES < 5.0)).sum()


def test_mocks_are_chosen_by_detections_alone():
    """What lies behind a limit is not seen: nothing then bounds the mass, but the training's own range."""
    flux = torch.tensor([[1.0, 20.0]]).repeat(3, 1)
    limit = torch.tensor([[False, False], [False, True], [True, True]])
    seen = Observations(flux, torch.ones_like(flux), torch.ones_like(limit), limit)
    noise = SimpleNamespace(depth=torch.ones(1, 2), brightness=np.array([[0.0, 4.0]]))
    network = SimpleNamespace(noise=noise, noise_on=lambda _: noise)
    nothing = torch.zeros(3, dtype=torch.int64)
    found = _inside_training(Simulation(seen, nothing, nothing), network)
    assert found.tolist() == [True, False, False]
