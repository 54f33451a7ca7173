"""The lattice that continuous nuisances are averaged on."""

import numpy as np
import pytest
from scipy import stats

from batchflow.infer.nuisance import POINTS, Nuisances
from batchflow.settings.prior import PriorSettings

RV = {"truncated_normal": (3.1, 0.3, 2.5, 4.0), "marginalise": True}
COVERING = {"uniform": (0.0, 1.0), "marginalise": True}
METALLICITY = {"uniform": (0.004, 0.03), "marginalise": True}
RNG = np.random.default_rng(2)


def nuisances(**shapes):
    return Nuisances(PriorSettings.model_validate(shapes).marginalised())


def test_counts_points_and_combinations():
    assert not nuisances()
    assert nuisances().evaluations == 1
    assert nuisances(rv=RV).evaluations == 16
    found = nuisances(rv=RV, covering={"choice": (0.0, 0.5)}, metallicity={"choice": (0.004, 0.008, 0.02)})
    assert found.evaluations == 16 * 6
    assert {tuple(sorted(values.items())) for values in found.combinations} == {
        (("covering", c), ("metallicity", z)) for c in (0.0, 0.5) for z in (0.004, 0.008, 0.02)
    }
    assert nuisances(rv=RV, covering=COVERING, metallicity=METALLICITY).evaluations == POINTS[3]


def test_every_point_is_distributed_as_the_prior():
    found = nuisances(rv=RV, covering=COVERING)
    shift = RNG.random((20_000, 2))
    for point in found.lattice[[0, 13, 31]]:
        values = found.at(point, shift)
        assert stats.kstest(values["rv"], stats.truncnorm(-2, 3, 3.1, 0.3).cdf).pvalue > 1e-3
        assert stats.kstest(values["covering"], "uniform").pvalue > 1e-3
        assert abs(np.corrcoef(values["rv"], values["covering"])[0, 1]) < 0.03


def test_the_average_is_unbiased_however_narrow_the_likelihood():
    # A likelihood forty times narrower than the prior: far less than a step of the lattice, 1/16.
    found, width = nuisances(covering=COVERING), 0.01
    shift = RNG.random((40_000, 1))
    likelihood = [
        np.exp(-0.5 * ((found.at(point, shift)["covering"] - 0.37) / width) ** 2) for point in found.lattice
    ]
    estimate = np.mean(likelihood, axis=0)
    exact = width * np.sqrt(2 * np.pi)
    assert estimate.mean() == pytest.approx(exact, rel=0.02)
    # Even steps h: relative second moment h / (2 sqrt(pi) width), as far as neighbours do not overlap.
    assert (estimate**2).mean() / exact**2 == pytest.approx((1 / 16) / (2 * np.sqrt(np.pi) * width), rel=0.03)


@pytest.mark.parametrize("shapes", [{"rv": RV}, {"rv": RV, "covering": COVERING}])
def test_even_points_beat_random_ones(shapes):
    found, shape = nuisances(**shapes), (3000, len(shapes))

    def likelihood(point, shift):
        at = found.at(point, shift)
        return np.exp(-0.5 * sum(((values - values.mean()) / values.std()) ** 2 for values in at.values()))

    shift = RNG.random(shape)
    even = np.mean([likelihood(point, shift) for point in found.lattice], axis=0)
    nowhere = np.zeros(len(shapes))
    chance = np.mean([likelihood(nowhere, RNG.random(shape)) for _ in found.lattice], axis=0)
    assert even.std() < 0.3 * chance.std()
    assert even.mean() == pytest.approx(chance.mean(), rel=0.02)
