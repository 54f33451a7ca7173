"""The mass coordinate: least squares, and the fold of the real line."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from batchflow.flow.mass import Scaled, fold, mass_frame, unfold
from batchflow.mocks.noise import NoiseTerms


def test_fold_is_the_distribution_function_of_students_t():
    place = torch.linspace(-50, 50, 201, dtype=torch.float64)
    unit, log_slope = fold(place)
    np.testing.assert_allclose(unit.numpy(), stats.t(2).cdf(place.numpy()), rtol=1e-9)
    np.testing.assert_allclose(log_slope.exp().numpy(), stats.t(2).pdf(place.numpy()), rtol=1e-9)


def test_unfold_undoes_fold():
    place = torch.linspace(-30, 30, 101, dtype=torch.float64)
    unit, log_slope = fold(place)
    back, log_slope_back = unfold(unit)
    torch.testing.assert_close(back, place, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(log_slope_back, log_slope, rtol=1e-9, atol=1e-9)


def test_the_ends_unfold_to_finite_places():
    place, log_slope = unfold(torch.tensor([0.0, 1.0]))
    assert place.isfinite().all()
    assert log_slope.isfinite().all()


def constant(flux: torch.Tensor, variance: torch.Tensor) -> Scaled:
    """Fluxes whose variances do not depend on the model."""
    return Scaled(flux, variance, torch.zeros_like(flux))


def test_a_strong_signal_gives_the_least_squares_mass_and_its_error():
    log_flux = torch.tensor([[6.0, 5.5, 5.0]], dtype=torch.float64)
    mass, error = 4.2 - 12.0, torch.tensor([[1.0, 0.8, 0.5]], dtype=torch.float64) * 1e-4
    flux = 10.0 ** (log_flux + mass)
    # Independent: numpy's weighted linear fit of the amplitude.
    model, weight = (10.0**log_flux).numpy()[0], (1 / error.numpy()[0] ** 2)
    amplitude = (weight * model * flux.numpy()[0]).sum() / (weight * model**2).sum()
    sigma = (weight * model**2).sum() ** -0.5
    frame = mass_frame(log_flux, constant(flux, error**2))
    assert frame.centre.item() == pytest.approx(math.log10(amplitude), abs=1e-4)
    assert frame.width.item() == pytest.approx(sigma / amplitude / math.log(10), rel=1e-2)


def test_no_signal_gives_the_mass_of_about_one_sigma():
    log_flux, variance = torch.zeros(1, 3, dtype=torch.float64), torch.full((1, 3), 0.25, dtype=torch.float64)
    for flux, below in ((0.0, 0.0), (-5.0, 1.0)):
        frame = mass_frame(log_flux, constant(torch.full((1, 3), flux, dtype=torch.float64), variance))
        assert frame.centre.item() == pytest.approx(math.log10(12**-0.5) - below / math.log(10))
        assert frame.width.item() == pytest.approx(1 / math.log(10))


def test_a_band_without_weight_does_not_count():
    log_flux = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    flux = torch.tensor([[1.0, 10.0, 77.0]], dtype=torch.float64)
    variance = torch.tensor([[0.01, 0.01, torch.inf]], dtype=torch.float64)
    with_band = mass_frame(log_flux, constant(flux, variance))
    without = mass_frame(log_flux[:, :2], constant(flux[:, :2], variance[:, :2]))
    torch.testing.assert_close(with_band.centre, without.centre)
    torch.testing.assert_close(with_band.width, without.width)


def test_the_mass_is_that_of_the_greatest_likelihood_with_variances_at_the_models_fluxes():
    generator = torch.Generator().manual_seed(2)
    colours = torch.randn(40, 4, generator=generator, dtype=torch.float64) * 0.2
    terms = NoiseTerms(*(torch.full((40, 4), value, dtype=torch.float64) for value in (0.3, 0.0, 0.05**2)))
    true = 10 ** (colours + 1.5)
    noise = torch.randn(40, 4, generator=generator, dtype=torch.float64)
    flux = true + noise * terms.variance(true).sqrt()
    frame = mass_frame(colours, Scaled(flux, terms.background, terms.fractional))
    # Independent: the likelihood itself, on a fine grid of masses.
    masses = frame.centre[:, None] + frame.width[:, None] * torch.linspace(-6, 6, 4001, dtype=torch.float64)
    model = 10 ** (colours[:, None] + masses[..., None])
    variance = NoiseTerms(*(term[:, None] for term in terms)).variance(model)
    likelihood = (-0.5 * ((flux[:, None] - model).square() / variance + variance.log())).sum(-1).softmax(-1)
    mean = (likelihood * masses).sum(-1)
    spread = (likelihood * (masses - mean[:, None]).square()).sum(-1).sqrt()
    assert ((frame.centre - mean).abs() < 0.05 * spread).all()
    torch.testing.assert_close(frame.width, spread, rtol=0.05, atol=0)
