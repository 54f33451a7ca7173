"""Simulated photometry: the survey's noise, brightness, masks; and no leak of the truth (law 5)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from toy_mocks import plain_noise, toy_fluxes, toy_noise, toy_parameters

from batchflow.flow.features import noise_terms, on_device
from batchflow.mocks.noise import NoiseModel
from batchflow.train.simulate import BROADENING, MISSING_ROWS, OUTLIERS, simulate

ROWS = 40_000


def seen_by(noise: NoiseModel, rows: int = ROWS, seed: int = 1):
    values = toy_parameters(rows, seed=seed)
    fluxes = torch.from_numpy(toy_fluxes(values["log_age"], values["ebv"]))
    tensors = on_device(noise, "cpu", torch.float64)
    return fluxes, simulate(fluxes, tensors, torch.Generator().manual_seed(seed))


def true_fluxes(fluxes, simulation):
    return fluxes * (10.0**simulation.log_mass).unsqueeze(1)


def test_equal_generators_give_equal_photometry():
    _, first = seen_by(toy_noise(), 500)
    _, second = seen_by(toy_noise(), 500)
    for one, other in zip(first.seen, second.seen, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(first.log_mass, second.log_mass)


def test_brightness_is_uniform_over_each_surveys_range():
    noise = toy_noise()
    fluxes, simulation = seen_by(noise)
    depth = torch.from_numpy(noise.depth)[simulation.survey]
    brightness = (true_fluxes(fluxes, simulation) / depth).nan_to_num(0.0).amax(1).log10()
    for survey, (low, high) in enumerate(noise.brightness):
        chosen = brightness[simulation.survey == survey].numpy()
        assert abs(len(chosen) / ROWS - 0.5) < 0.02
        shares = np.histogram(chosen, bins=10, range=(low, high))[0] / len(chosen)
        assert shares.sum() == pytest.approx(1.0)
        assert np.abs(shares - 0.1).max() < 0.015


def test_a_band_that_the_survey_lacks_is_never_measured():
    _, simulation = seen_by(toy_noise())
    wide = simulation.survey == 1
    assert not simulation.seen.measured[wide, 2].any()
    assert simulation.seen.measured[~wide, 2].float().mean() > 0.8


def test_some_rows_lose_bands_but_never_all_and_whatever_the_fluxes():
    fluxes, simulation = seen_by(toy_noise())
    deep = simulation.survey == 0
    counts = simulation.seen.measured[deep].sum(1)
    assert counts.min() == 1
    assert (counts < 3).double().mean().item() == pytest.approx(MISSING_ROWS, abs=0.01)
    assert ((counts == 1).sum() / (counts == 2).sum()).item() == pytest.approx(1.0, abs=0.15)
    bright = true_fluxes(fluxes, simulation)[deep].log10()
    for band in range(3):
        kept = simulation.seen.measured[deep, band]
        both = bright[kept, band].mean(), bright[~kept, band].mean()
        assert abs(both[0] - both[1]) < 5 * bright[:, band].std() / math.sqrt(int((~kept).sum()))


BY_SURVEY_AND_BAND = np.array([[0.02, 0.3, 0.05], [0.2, 0.0, 0.1], [0.05, 0.05, 0.05]])


@pytest.mark.parametrize("systematic", [0.05, BY_SURVEY_AND_BAND])
def test_noise_has_the_variance_of_the_model(systematic):
    noise = toy_noise(limit_fraction=np.zeros(2), systematic=systematic)
    fluxes, simulation = seen_by(noise)
    true, seen = true_fluxes(fluxes, simulation), simulation.seen
    # xi is recovered from what is reported, so the model's variance at the TRUE flux is known exactly.
    terms = noise_terms(on_device(noise, "cpu", torch.float64), seen, simulation.survey)
    pulls = (seen.flux - true) / terms.variance(true).sqrt()
    pull = pulls[seen.measured].numpy()
    assert pull.mean() == pytest.approx(0.0, abs=0.015)
    assert pull.std() == pytest.approx(1.0, abs=0.015)
    assert (np.abs(pull) < 1.959964).mean() == pytest.approx(0.95, abs=0.005)
    for survey, band in zip(*np.nonzero(np.isfinite(noise.depth)), strict=True):
        own = (simulation.survey == survey) & seen.measured[:, band]
        assert pulls[own, band].std().item() == pytest.approx(1.0, abs=0.03)


def factors(noise: NoiseModel) -> tuple[torch.Tensor, torch.Tensor]:
    """log10 xi as it can be read off flux and error, of rows with all bands; and their true fluxes."""
    fluxes, simulation = seen_by(noise)
    terms = noise_terms(on_device(noise, "cpu", torch.float64), simulation.seen, simulation.survey)
    log_factor = 0.5 * terms.background.log10() - torch.from_numpy(noise.depth)[simulation.survey].log10()
    whole = simulation.seen.measured.all(1)
    return log_factor[whole], true_fluxes(fluxes, simulation)[whole]


def test_factors_have_the_scatter_and_correlation_of_the_survey():
    one = np.ones((1, 3))
    log_factor, _ = factors(plain_noise(scatter=0.2 * one, correlation=np.array([0.6])))
    assert log_factor.std(0).tolist() == pytest.approx([0.2 * BROADENING] * 3, rel=0.02)
    correlation = torch.corrcoef(log_factor.T)
    assert correlation[0, 1:].tolist() == pytest.approx([0.6, 0.6], abs=0.02)


def test_factors_are_correlated_pair_by_pair():
    wanted = np.array([[1.0, 0.2, 0.5], [0.2, 1.0, 0.8], [0.5, 0.8, 1.0]])
    log_factor, _ = factors(plain_noise(correlation=wanted[None]))
    assert torch.corrcoef(log_factor.T).numpy() == pytest.approx(wanted, abs=0.02)


def test_outliers_reach_as_far_as_the_survey_does_and_no_further():
    reach = np.array([[1.0, 1.0, 1.5]])
    log_factor, true = factors(plain_noise(scatter=np.full((1, 3), 0.02), reach=reach))
    assert log_factor.abs().amax(0).tolist() == pytest.approx(reach[0].tolist(), rel=0.02)
    strange = (log_factor.abs() > 0.2).double()
    share = (1 - (1 - OUTLIERS) ** 2) * (1 - 0.2 / reach[0])
    assert strange.mean(0).tolist() == pytest.approx(share.tolist(), abs=0.006)
    # Whole objects and single bands alike, and never because of the flux (law 5).
    assert strange.prod(1).mean().item() == pytest.approx(OUTLIERS * 0.8, abs=0.006)
    for band in range(3):
        pair = torch.stack([strange[:, band], true[:, band].log10()])
        assert abs(torch.corrcoef(pair)[0, 1]) < 0.02


def test_uniform_factors_have_the_scatter_as_their_standard_deviation():
    log_factor, _ = factors(plain_noise(scatter=np.full((1, 3), 0.25), scatter_shape="uniform"))
    half = 0.25 * math.sqrt(3)
    assert log_factor.abs().max().item() == pytest.approx(half, abs=1e-3)
    assert log_factor.std(0).tolist() == pytest.approx([0.25] * 3, rel=0.02)
    assert torch.equal(log_factor.argsort(0)[:, 0], log_factor.argsort(0)[:, 2])


def test_the_reported_error_tells_nothing_of_the_true_flux_beyond_the_noisy_one():
    noise = plain_noise(photon=np.full((1, 3), 2e-6), fractional=np.full((1, 3), 0.05), systematic=0.0)
    log_factor, true = factors(noise)
    # If errors followed the true flux, the factor read off (F, e) would follow F / f.
    for band in range(3):
        pair = torch.stack([log_factor[:, band], true[:, band].log10()])
        assert abs(torch.corrcoef(pair)[0, 1]) < 0.02


def test_limits_hide_the_flux_of_undetected_bands_only():
    noise = toy_noise(limit_fraction=np.array([0.0, 1.0]))
    _, simulation = seen_by(noise)
    seen, wide = simulation.seen, simulation.survey == 1
    assert not seen.limit[~wide].any()
    assert not (seen.limit & ~seen.measured).any()
    detected = wide.unsqueeze(1) & seen.measured & ~seen.limit
    assert seen.limit[wide].any()
    torch.testing.assert_close(seen.flux[seen.limit], 3 * seen.error[seen.limit])
    # With every undetected band a limit, no band is left below three times an empty aperture's error.
    terms = noise_terms(on_device(noise, "cpu", torch.float64), seen, simulation.survey)
    assert (seen.flux[detected] >= 2.999 * terms.background.sqrt()[detected]).all()


def test_the_share_of_limits_is_the_surveys():
    counts = []
    for share in (0.5, 1.0):
        _, simulation = seen_by(toy_noise(limit_fraction=np.array([0.0, share])))
        counts.append(int(simulation.seen.limit.sum()))
    assert counts[0] / counts[1] == pytest.approx(0.5, abs=0.05)
