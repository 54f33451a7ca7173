"""Features: scale-free, blind to what must not be seen, and the noise terms behind them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from toy_mocks import plain_noise, toy_noise, toy_photometry

from batchflow.flow.features import Observations, make_features, noise_terms, on_device


def double_noise(noise=None):
    return on_device(noise or toy_noise(), "cpu", torch.float64)


def surveys(rows: int, index: int = 0) -> torch.Tensor:
    return torch.full((rows,), index, dtype=torch.int64)


@pytest.mark.parametrize("factor", [1e-6, 0.3, 2.0, 1e7])
def test_features_do_not_change_with_the_scale(factor):
    seen = toy_photometry(200)
    scaled = seen._replace(flux=seen.flux * factor, error=seen.error * factor)
    before = make_features(double_noise(), seen, surveys(200))
    after = make_features(double_noise(), scaled, surveys(200))
    for name in ("colour", "signal", "measured", "limit", "flux", "weight"):
        torch.testing.assert_close(getattr(after, name), getattr(before, name), rtol=1e-9, atol=1e-9)
    shift = after.log_brightness - before.log_brightness
    torch.testing.assert_close(shift, torch.full_like(shift, math.log10(factor)), rtol=0, atol=1e-9)


def test_nothing_is_read_where_not_measured_nor_the_flux_of_a_limit():
    seen = toy_photometry(300)
    hidden = ~seen.measured | seen.limit
    noisy = torch.where(hidden, torch.nan, seen.flux), torch.where(seen.measured, seen.error, torch.nan)
    blinded = Observations(*noisy, seen.measured, seen.limit)
    for survey in (0, 1, -1):
        before = make_features(double_noise(), seen, surveys(300, survey))
        after = make_features(double_noise(), blinded, surveys(300, survey))
        for one, other in zip(before, after, strict=True):
            assert not one.isnan().any()
            assert torch.equal(one, other)


def test_colour_is_the_flux_ratio_where_the_signal_is_strong():
    flux = torch.tensor([[8.0, 2.0, 1.0]], dtype=torch.float64)
    seen = Observations(flux, flux * 1e-4, flux > 0, flux < 0)
    noise = double_noise(plain_noise(systematic=1e-4))
    features = make_features(noise, seen, surveys(1))
    ratio = (features.colour[0, 0] - features.colour[0, 1]).exp()
    assert ratio.item() == pytest.approx(4.0, rel=1e-6)
    assert 10 ** features.log_brightness.item() == pytest.approx(16 ** (1 / 3), rel=1e-6)


def test_the_error_of_an_unknown_survey_is_taken_at_its_word():
    seen = toy_photometry(100)
    terms = noise_terms(double_noise(), seen, surveys(100, -1))
    background = torch.where(seen.measured, seen.error**2, 1.0)
    torch.testing.assert_close(terms.background, background)
    assert (terms.photon == 0).all()
    torch.testing.assert_close(terms.fractional, torch.full_like(terms.fractional, 0.05**2))


def test_terms_give_back_the_reported_error_at_the_observed_flux():
    seen = toy_photometry(200)
    flux = seen.flux.clip(min=0)
    # Errors as the survey reports them, so that the fractional part never exceeds the whole.
    factor = torch.full_like(flux, 1.3)
    error = toy_noise_reported(flux, factor)
    seen = Observations(flux, error, torch.ones_like(seen.measured), torch.zeros_like(seen.limit))
    terms = noise_terms(double_noise(), seen, surveys(200))
    expected = error**2 + (0.05 * flux) ** 2
    torch.testing.assert_close(terms.variance(flux), expected, rtol=1e-9, atol=0)


def toy_noise_reported(flux: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return double_noise().select(surveys(len(flux))).reported_error(flux, factor)


def test_arrays_and_tensors_of_noise_give_the_same_terms():
    seen = toy_photometry(50)
    from_tensors = noise_terms(double_noise(), seen, surveys(50))
    from_arrays = noise_terms(toy_noise(), seen, surveys(50))
    for one, other in zip(from_tensors, from_arrays, strict=True):
        assert torch.equal(one, other)


def test_a_row_of_limits_only_has_the_brightness_of_its_limits():
    error = torch.tensor([[1e-5, 4e-5, 2e-5]], dtype=torch.float64)
    mask = torch.tensor([[True, True, False]])
    seen = Observations(3 * error, error, mask, mask)
    features = make_features(double_noise(plain_noise()), seen, surveys(1))
    assert features.log_brightness.item() == pytest.approx(math.log10(2e-5))
    assert (features.flux == 0).all()
    assert (features.weight > 0).tolist() == mask.tolist()


def test_a_survey_that_is_not_known_gets_the_jobs_systematic_error():
    systematic = np.array([[0.3, 0.3, 0.3], [0.2, 0.2, 0.2], [0.05, 0.1, 0.0]])
    noise = toy_noise(systematic=systematic)
    seen = toy_photometry(50)
    terms = noise_terms(noise, seen, torch.full((50,), -1))
    assert terms.fractional[0].tolist() == pytest.approx((systematic[2] ** 2).tolist())
    assert torch.equal(terms.background, torch.where(seen.measured, seen.error, 1.0) ** 2)
