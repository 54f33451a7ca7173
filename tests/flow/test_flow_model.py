"""The flow on the unit cube: a density, its draws, and nothing outside."""

from __future__ import annotations

import pytest
import torch

from batchflow.flow.model import ConditionalFlow, coupling_order
from batchflow.settings.train import FlowSettings

KINDS = ("spline", "affine")


def random_flow(kind: str, n_parameters: int, couplings: int = 6) -> ConditionalFlow:
    """A flow far from the identity, in double precision."""
    torch.manual_seed(5)
    settings = FlowSettings(kind=kind, couplings=couplings, hidden=16, bins=6, encoder_layers=2)
    flow = ConditionalFlow(4, n_parameters, settings).double()
    with torch.no_grad():
        for coupling in flow.couplings:
            coupling.raw.weight *= 8 if kind == "spline" else 4
    return flow


def context_of(flow: ConditionalFlow, rows: int) -> torch.Tensor:
    with torch.no_grad():
        return flow.encode(torch.randn(rows, 4, generator=torch.Generator().manual_seed(6)).double())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_parameters", [1, 2, 3, 5, 8])
def test_log_prob_of_draws_is_the_one_that_came_with_them(kind, n_parameters):
    flow = random_flow(kind, n_parameters)
    context = context_of(flow, 7)
    base = torch.rand(7, 50, n_parameters, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        unit, log_prob = flow.transport(base, context)
        again = flow.log_prob(unit, context.unsqueeze(1))
    assert unit.shape == (7, 50, n_parameters)
    assert ((unit >= 0) & (unit <= 1)).all()
    torch.testing.assert_close(again, log_prob, rtol=0, atol=1e-5)
    assert log_prob.std() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_the_density_integrates_to_one(kind):
    flow = random_flow(kind, 2)
    steps = 200
    axis = (torch.arange(steps).double() + 0.5) / steps
    grid = torch.cartesian_prod(axis, axis)
    context = context_of(flow, 2)
    for own in context:
        with torch.no_grad():
            density = flow.log_prob(grid, own.expand(len(grid), *own.shape)).exp()
        assert density.max() > 1.5
        assert density.mean().item() == pytest.approx(1.0, abs=5e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_parameters", [3, 5, 8])
def test_the_density_integrates_to_one_over_many_parameters(kind, n_parameters):
    flow = random_flow(kind, n_parameters, couplings=n_parameters)
    sobol = torch.quasirandom.SobolEngine(n_parameters, scramble=True, seed=3)
    points = sobol.draw(2**15, dtype=torch.float64)
    with torch.no_grad():
        log_prob = flow.log_prob(points, context_of(flow, 1).expand(len(points), -1, -1))
    assert log_prob.std() > 0.15
    assert log_prob.exp().mean().item() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_parameters", [3, 5, 8])
def test_the_jacobian_is_that_of_autograd(kind, n_parameters):
    flow = random_flow(kind, n_parameters)
    context = context_of(flow, 1)
    base = torch.rand(1, 1, n_parameters, generator=torch.Generator().manual_seed(8)).double()
    _, log_prob = flow.transport(base, context)
    jacobian = torch.autograd.functional.jacobian(lambda z: flow.transport(z, context)[0].flatten(), base)
    _, log_volume = torch.linalg.slogdet(jacobian.reshape(n_parameters, n_parameters))
    assert log_prob.item() == pytest.approx(-log_volume.item(), abs=1e-8)


def test_the_first_coordinate_is_moved_once_and_the_others_in_turn():
    assert coupling_order(6, 3) == [0, 1, 2, 1, 2, 1]
    assert coupling_order(1, 1) == [0]


@pytest.mark.parametrize("n_parameters", [1, 2, 3, 8])
def test_every_coordinate_is_moved_however_few_couplings_are_asked_for(n_parameters):
    assert set(coupling_order(2, n_parameters)) == set(range(n_parameters))
