"""The posterior network: exact densities in physical units, and the scale symmetry (law 6)."""

from __future__ import annotations

import math

import pytest
import torch
from toy_mocks import BANDS, BOXES, toy_photometry, toy_specification

from batchflow.flow.checkpoint import PosteriorNetwork, new_network
from batchflow.flow.features import Observations
from batchflow.settings.train import FlowSettings


@pytest.fixture(scope="module")
def network() -> PosteriorNetwork:
    """Not trained, but far from uniform, with scales that are not 1."""
    made = new_network(toy_specification(), seed=3)
    with torch.no_grad():
        for coupling in made.density.flow.couplings:
            coupling.raw.weight *= 5
        made.density.mass_centre.fill_(0.3)
        made.density.mass_spread.fill_(1.7)
    return made


def observed(rows: int) -> tuple[Observations, torch.Tensor]:
    seen = toy_photometry(rows)
    single = seen._replace(flux=seen.flux.float(), error=seen.error.float())
    return single, torch.arange(rows) % 3 - 1


def uniform(rows: int, draws: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(rows, draws, 3, generator=torch.Generator().manual_seed(seed))


def test_log_prob_of_draws_is_the_one_that_came_with_them(network):
    seen, survey = observed(60)
    theta, log_q = network.sample(seen, survey, uniform(60, 100))
    again = network.log_prob(theta, seen, survey)
    assert theta.shape == (60, 100, 3)
    torch.testing.assert_close(again, log_q, rtol=0, atol=5e-3)
    assert (again - log_q).abs().median() < 1e-5


def test_all_but_the_mass_lie_in_their_boxes(network):
    seen, survey = observed(60)
    theta, _ = network.sample(seen, survey, uniform(60, 200))
    for place, (name, (low, high)) in enumerate(BOXES.items()):
        if name != "log_mass":
            assert theta[..., place].min() >= low
            assert theta[..., place].max() <= high
            assert theta[..., place].std() > 0.1 * (high - low)


def test_the_density_integrates_to_one_in_physical_units(network):
    seen, survey = observed(2)
    theta, _ = network.sample(seen, survey, uniform(2, 2000))
    steps = 44
    for row in range(2):
        low, high = theta[row, :, 1].quantile(torch.tensor([0.002, 0.998]))
        ranges = (BOXES["log_age"], (low.item() - 0.5, high.item() + 0.5), BOXES["ebv"])
        axes = [lo + (hi - lo) * (torch.arange(steps) + 0.5) / steps for lo, hi in ranges]
        volume = math.prod((hi - lo) / steps for lo, hi in ranges)
        grid = torch.cartesian_prod(*axes).unsqueeze(0)
        one = seen.rows(slice(row, row + 1))
        log_prob = network.log_prob(grid, one, survey[row : row + 1])
        assert float(log_prob.double().exp().sum() * volume) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("factor", [2.0**-20, 1e-3, 7.0])
def test_scaled_photometry_gives_shifted_draws(network, factor):
    seen, survey = observed(40)
    scaled = seen._replace(flux=seen.flux * factor, error=seen.error * factor)
    theta, log_q = network.sample(seen, survey, uniform(40, 50))
    shifted, log_q_shifted = network.sample(scaled, survey, uniform(40, 50))
    expected = theta + torch.tensor([0.0, math.log10(factor), 0.0])
    torch.testing.assert_close(shifted, expected, rtol=0, atol=3e-4)
    assert (shifted - expected).abs().median() < 2e-6
    assert (log_q_shifted - log_q).abs().median() < 1e-5


def test_draws_do_not_depend_on_the_other_objects(network):
    seen, survey = observed(50)
    base = uniform(50, 400)
    together, _ = network.sample(seen, survey, base)
    alone, _ = network.sample(seen.rows(slice(7, 8)), survey[7:8], base[7:8])
    torch.testing.assert_close(alone[0], together[7], rtol=0, atol=1e-3)


def test_draws_at_the_ends_of_the_base_are_finite(network):
    seen, survey = observed(20)
    base = torch.stack([torch.zeros(20, 3), torch.full((20, 3), 1 - 2**-24)], 1)
    theta, log_q = network.sample(seen, survey, base)
    assert theta.isfinite().all()
    assert log_q.isfinite().all()


def test_it_knows_what_it_is_of(network):
    assert network.bands == BANDS
    assert network.parameters == tuple(BOXES)
    assert network.boxes == BOXES
    assert network.noise.surveys == ("deep", "wide")
    assert network.noise_on("cpu").depth.dtype == torch.float32


def test_a_network_of_five_parameters_puts_the_mass_where_it_belongs():
    specification = toy_specification(flow=FlowSettings(couplings=5, hidden=8, bins=4, encoder_layers=1))
    boxes = {"metallicity": (0.0, 1.0), "rv": (2.0, 6.0), **BOXES}
    wide = new_network(type(specification)(BANDS, boxes, specification.flow, specification.noise), seed=1)
    seen, survey = observed(10)
    theta, log_q = wide.sample(seen, survey, torch.rand(10, 30, 5))
    assert ((theta[..., 1] >= 2) & (theta[..., 1] <= 6)).all()
    torch.testing.assert_close(wide.log_prob(theta, seen, survey), log_q, rtol=0, atol=5e-3)
