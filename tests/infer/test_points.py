"""Sobol's sequence under shifts: uniform, keyed, and more even than chance."""

import numpy as np
from scipy import stats

from batchflow.infer.points import points

KEYS = [(3, "infer", f"cluster {i}") for i in range(400)]


def test_each_number_is_uniform_and_each_key_its_own():
    found = points(KEYS, 64, 3).numpy()
    assert found.shape == (400, 64, 3)
    assert found.min() >= 0
    assert found.max() < 1
    # The k-th number of each key: independent uniforms over keys.
    for k in (0, 1, 63):
        for column in range(3):
            assert stats.kstest(found[:, k, column], "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(found[:-1, 0, 0], found[1:, 0, 0])[0, 1]) < 0.2
    assert abs(np.corrcoef(found[:, 0, 0], found[:, 0, 1])[0, 1]) < 0.2


def test_a_cluster_has_its_numbers_whatever_is_beside_and_after_it():
    found = points(KEYS[:5], 100, 3)
    assert (points(KEYS[3:4], 100, 3)[0] == found[3]).all()
    assert (points(KEYS[:5], 37, 3) == found[:, :37]).all()
    assert (points([(4, "infer", "cluster 3")], 100, 3)[0] != found[3]).any()
    assert (points([(3, "infer", "cluster 3", 1)], 100, 3)[0] != found[3]).any()


def test_every_interval_of_a_power_of_two_holds_its_share():
    found = points(KEYS[:20], 256, 4).numpy()
    for column in range(4):
        counts = np.stack([np.histogram(each[:, column], 64, (0, 1))[0] for each in found])
        assert (counts == 4).all()


def test_integrals_are_better_than_by_chance_and_unbiased():
    def integrand(unit):
        return np.sin(3 * unit[..., 0]) * np.exp(unit[..., 1]) + (unit.sum(-1) < 1.2)

    even = integrand(points(KEYS, 512, 3).numpy()).mean(1)
    chance = integrand(np.random.default_rng(0).random((400, 512, 3))).mean(1)
    assert even.std() < 0.3 * chance.std()
    exact = (1 - np.cos(3)) / 3 * (np.e - 1) + (1.2**3 - 3 * 0.2**3) / 6
    assert abs(even.mean() - exact) < 4 * even.std() / 20
