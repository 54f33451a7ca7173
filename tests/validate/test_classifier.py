"""The classifier two-sample test on samples whose best accuracy is known."""

import numpy as np
import pytest
from scipy.stats import norm

from batchflow.validate.classifier import two_sample_accuracy

N = 500


def normal(rng, n=N, shift=0.0, width=1.0, dimensions=3):
    return rng.normal(shift, width, (n, dimensions))


def accuracies(make, turns=24, **second):
    found = []
    for seed in range(turns):
        rng = np.random.default_rng(seed)
        one, two = normal(rng), make(rng, **second)
        ones = (np.ones(len(one)), np.ones(len(two)))
        found.append(two_sample_accuracy(one, two, ones, rng))
    return np.array(found)


def test_alike_samples_can_not_be_told_apart():
    found = accuracies(normal)
    assert found.mean() == pytest.approx(0.5, abs=3 * 0.016 / np.sqrt(len(found)) + 0.002)


def test_a_known_shift_gives_the_bayes_accuracy():
    shift = 1.0
    found = accuracies(lambda rng: normal(rng) + np.array([shift, 0, 0]))
    assert found.mean() == pytest.approx(norm.cdf(shift / 2), abs=0.02)


def test_a_narrow_and_a_two_humped_posterior_are_told():
    assert accuracies(normal, turns=8, width=0.6).mean() > 0.62
    assert (
        accuracies(
            lambda rng: normal(rng) + rng.choice([-1.5, 1.5], (N, 1)) * np.array([1, 0, 0]), turns=8
        ).mean()
        > 0.6
    )


def test_weights_make_unlike_samples_alike():
    """Draws of N(0, 1.5) weighted to N(0, 1)."""
    found, bare = [], []
    for seed in range(16):
        rng = np.random.default_rng(seed)
        one, two = normal(rng), normal(rng, width=1.5)
        weights = norm.pdf(two).prod(1) / norm.pdf(two, scale=1.5).prod(1)
        found.append(two_sample_accuracy(one, two, (np.ones(N), weights), rng))
        bare.append(two_sample_accuracy(one, two, (np.ones(N), np.ones(N)), rng))
    assert np.mean(found) == pytest.approx(0.5, abs=0.02)
    assert np.mean(bare) > 0.58


def test_units_do_not_matter():
    rng = np.random.default_rng(3)
    one, two = normal(rng), normal(rng, shift=0.5)
    weights = (np.ones(N), np.ones(N))
    plain = two_sample_accuracy(one, two, weights, np.random.default_rng(1))
    turn = np.array([[1e3, 0, 0], [5e2, 1e3, 0], [0, 0, 1e-6]])
    turned = two_sample_accuracy(one @ turn, two @ turn, weights, np.random.default_rng(1))
    assert turned == pytest.approx(plain, abs=0.003)


@pytest.mark.filterwarnings("ignore")
def test_it_is_as_sharp_as_sbis():
    torch, theirs = pytest.importorskip("torch"), pytest.importorskip("sbi.utils.metrics")
    for shift in (0.0, 0.6):
        ours, sbis = [], []
        for seed in range(3):
            rng = np.random.default_rng(seed)
            one, two = normal(rng), normal(rng) + np.array([shift, 0, 0])
            ours.append(two_sample_accuracy(one, two, (np.ones(N), np.ones(N)), rng))
            sbis.append(float(theirs.c2st(torch.tensor(one), torch.tensor(two), seed=seed)))
        assert np.mean(ours) == pytest.approx(np.mean(sbis), abs=0.03)
        assert np.mean(ours) > np.mean(sbis) - 0.015
