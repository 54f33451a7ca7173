"""Maps of the unit interval: inverse, derivative, monotony, ends."""

from __future__ import annotations

import pytest
import torch

from batchflow.flow.spline import parameter_count, transform

BINS = 8
KINDS = ("spline", "affine")


def raw_parameters(kind: str, rows: int, scale: float | None = None) -> torch.Tensor:
    # A line in the logit saturates where a spline does not: gentler parameters.
    scale = scale or (1.5 if kind == "spline" else 0.4)
    generator = torch.Generator().manual_seed(3)
    shape = (rows, parameter_count(kind, BINS))
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


def places(rows: int) -> torch.Tensor:
    return torch.rand(rows, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_the_inverse_undoes_the_map(kind):
    x, raw = places(500).clamp(0.01, 0.99), raw_parameters(kind, 500)
    y, log_slope = transform(kind, x, raw)
    back, log_slope_back = transform(kind, y, raw, inverse=True)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-7)
    torch.testing.assert_close(log_slope_back, -log_slope, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inverse", [False, True])
def test_the_log_slope_is_that_of_autograd(kind, inverse):
    x, raw = places(300).clamp(0.01, 0.99).requires_grad_(), raw_parameters(kind, 300)
    y, log_slope = transform(kind, x, raw, inverse)
    (slope,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(log_slope.exp(), slope, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inverse", [False, True])
def test_maps_are_monotone_from_0_to_1(kind, inverse):
    raw = raw_parameters(kind, 20).unsqueeze(1)
    x = torch.linspace(0, 1, 1001, dtype=torch.float64)
    y, _ = transform(kind, x.expand(20, -1), raw.expand(-1, 1001, -1), inverse)
    assert (y.diff(dim=1) >= 0).all()
    assert (y[:, 10:-10].diff(dim=1) > 0).all()
    assert y.min() >= 0
    assert y.max() <= 1
    if kind == "spline":
        torch.testing.assert_close(y[:, 0], torch.zeros(20, dtype=torch.float64))
        torch.testing.assert_close(y[:, -1], torch.ones(20, dtype=torch.float64))


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_of_zero_are_the_identity(kind):
    x = places(100)
    y, log_slope = transform(kind, x, torch.zeros(100, parameter_count(kind, BINS), dtype=torch.float64))
    torch.testing.assert_close(y, x, rtol=0, atol=2e-6)
    torch.testing.assert_close(log_slope, torch.zeros_like(x), rtol=0, atol=2e-6)


def test_a_spline_passes_through_its_knots():
    # Two bins of widths 0.25, 0.75 and heights 0.6, 0.4 by hand, but for the least bin size.
    widths, heights = torch.tensor([0.25, 0.75]).log(), torch.tensor([0.6, 0.4]).log()
    raw = torch.cat([widths, heights, torch.zeros(3)]).double()
    y, _ = transform("spline", torch.tensor([0.25], dtype=torch.float64), raw.unsqueeze(0))
    assert y.item() == pytest.approx(0.6, abs=3e-4)


def test_single_precision_stays_inside_with_extreme_parameters():
    raw = raw_parameters("spline", 2000, scale=30).float()
    x = places(2000).float()
    for inverse in (False, True):
        y, log_slope = transform("spline", x, raw, inverse)
        assert y.isfinite().all()
        assert log_slope.isfinite().all()
        assert ((y >= 0) & (y <= 1)).all()
