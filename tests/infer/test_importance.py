"""Weights turn draws from a proposal into draws from the target."""

import math

import pytest
import torch

from batchflow.infer.importance import inside, weigh
from batchflow.infer.table import evidence_error


def normal_log_density(x, mean, sigma):
    return -0.5 * ((x - mean) / sigma) ** 2 - math.log(sigma) - 0.5 * math.log(2 * math.pi)


def test_evidence_moments_and_efficiency_of_known_gaussians():
    # Proposal N(0, 1), target Z N(0.5, 0.7): evidence Z; efficiency 1 / E_q[(p/q)^2], both closed forms.
    mean, sigma, evidence, n = 0.5, 0.7, 3.0, 200_000
    x = torch.randn(1, n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weighted = weigh(normal_log_density(x, mean, sigma) + math.log(evidence), normal_log_density(x, 0.0, 1.0))
    weights = weighted.log_weights.exp()
    assert weights.sum().item() == pytest.approx(1.0)
    assert (weights * x).sum().item() == pytest.approx(mean, abs=0.01)
    assert weighted.log_evidence.item() == pytest.approx(math.log(evidence), abs=0.01)
    second_moment = math.exp(mean**2 / (2 - sigma**2)) / (sigma * math.sqrt(2 - sigma**2))
    assert weighted.efficiency.item() == pytest.approx(1 / second_moment, rel=0.02)


def test_equal_densities_are_fully_efficient():
    x = torch.randn(3, 50)
    assert torch.allclose(weigh(x - 2.0, x).efficiency, torch.ones(3))


def test_a_cluster_without_any_weight_says_so():
    target = torch.tensor([[-math.inf, -math.inf], [-math.inf, 0.0], [math.nan, 0.0]])
    weighted = weigh(target, torch.zeros(3, 2))
    assert weighted.efficiency.isnan().tolist() == [True, False, False]
    assert weighted.efficiency[1:].tolist() == [0.5, 0.5]
    assert weighted.log_weights[0].exp().tolist() == pytest.approx([0.5, 0.5])


def test_a_box_is_closed():
    values = torch.tensor([1.9, 2.0, 5.0, 8.0, 8.1])
    assert inside(values, 2.0, 8.0).tolist() == [-math.inf, 0.0, 0.0, 0.0, -math.inf]


def test_the_error_of_the_evidence_is_its_scatter_over_repeats():
    # 2000 repeats of 400 draws: the scatter itself is known to 1.6 %.
    x = torch.randn(2000, 400, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    weighted = weigh(normal_log_density(x, 0.3, 0.8), normal_log_density(x, 0.0, 1.0))
    error = evidence_error(weighted.efficiency.numpy(), 400)
    assert error.mean() == pytest.approx(weighted.log_evidence.std().item(), rel=0.08)
    pulls = weighted.log_evidence.numpy() / error
    assert (abs(pulls) < 1).mean() == pytest.approx(0.683, abs=0.04)


def test_perfect_weights_leave_no_error_and_lost_clusters_no_number():
    assert evidence_error([1.0], 100).tolist() == [0.0]
    assert math.isnan(evidence_error([math.nan], 100)[0])
    assert math.isnan(evidence_error([1.0], 1)[0])


def test_weights_sum_to_one_however_bad_the_fit():
    """Single precision holds no ratio of 10^9 to better than 64: of their differences it does."""
    x = torch.linspace(0, 3, 100)[None]
    near, far = weigh(x, torch.zeros(1, 100)), weigh(torch.full((1, 100), -1e9), torch.zeros(1, 100))
    for weighted in (near, far):
        assert weighted.log_weights.exp().sum().item() == pytest.approx(1.0, rel=1e-5)
    assert far.efficiency.item() == pytest.approx(1.0, rel=1e-5)
