"""SOAP against what it is made of: Adam where there is no basis, and no change of coordinates changes it."""

import torch
from torch import nn

from batchflow.train.soap import BETAS, TINY, WEIGHT_DECAY, Soap


def steps(weight: nn.Parameter, slopes: list[torch.Tensor], rate: float = 0.01) -> torch.Tensor:
    optimiser = Soap([weight], rate)
    for slope in slopes:
        weight.grad = slope
        optimiser.step()
    return weight.detach()


def test_a_vector_moves_as_adam_moves_it():
    generator = torch.Generator().manual_seed(1)
    slopes = [torch.randn(7, generator=generator, dtype=torch.float64) for _ in range(25)]
    start = torch.randn(7, generator=generator, dtype=torch.float64)
    other = nn.Parameter(start.clone())
    adam = torch.optim.AdamW([other], lr=0.01, betas=BETAS, eps=TINY, weight_decay=WEIGHT_DECAY)
    for slope in slopes:
        other.grad = slope
        adam.step()
    torch.testing.assert_close(steps(nn.Parameter(start.clone()), slopes), other.detach())


def test_a_badly_scaled_turned_valley_is_crossed_where_adam_creeps():
    """Least squares whose curvatures differ 10^4-fold along directions that no weight points to."""
    generator = torch.Generator().manual_seed(2)
    basis = torch.linalg.qr(torch.randn(16, 16, generator=generator, dtype=torch.float64)).Q
    curvature = basis @ torch.diag(torch.logspace(-4, 0, 16, dtype=torch.float64)) @ basis.T
    aim = torch.randn(8, 16, generator=generator, dtype=torch.float64)

    def left(make) -> float:
        weight = nn.Parameter(torch.zeros(8, 16, dtype=torch.float64))
        optimiser = make(weight)
        for step in range(400):
            optimiser.param_groups[0]["lr"] = 0.03 * (1 - step / 400)
            weight.grad = ((weight - aim) @ curvature).detach()
            optimiser.step()
        return float((((weight - aim) @ curvature) * (weight - aim)).sum().detach())

    adam = left(lambda w: torch.optim.AdamW([w], lr=0.03, betas=BETAS, weight_decay=WEIGHT_DECAY))
    assert left(lambda w: Soap([w], 0.03)) < adam / 3


def test_a_state_taken_and_given_back_goes_on_to_the_last_digit():
    generator = torch.Generator().manual_seed(3)
    slopes = [torch.randn(5, 6, generator=generator) for _ in range(30)]
    start = torch.randn(5, 6, generator=generator)
    whole = steps(nn.Parameter(start.clone()), slopes)
    weight = nn.Parameter(start.clone())
    first = Soap([weight], 0.01)
    for slope in slopes[:13]:
        weight.grad = slope
        first.step()
    second = Soap([weight], 0.01)
    second.load_state_dict(first.state_dict())
    for slope in slopes[13:]:
        weight.grad = slope
        second.step()
    assert torch.equal(weight.detach(), whole)
