"""Noise that the job gives itself: the reference problem's, by the formula written out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from batchflow.config import load_job, parse_job
from batchflow.errors import UserError
from batchflow.flow.features import on_device
from batchflow.mocks.estimate import explicit_noise
from batchflow.train.simulate import simulate
from batchflow.train.task import make_noise

BANDS = ("wfc3_f275w", "wfc3_f555w", "wfc3_f814w")
REFERENCE = Path(__file__).parents[1] / "benchmarks" / "reference.toml"


def test_the_reference_problem_is_the_one_asked_for():
    job = load_job(REFERENCE)
    boxes = {"log_age": (6.0, 10.14), "log_mass": (2.5, 7.0), "ebv": (0.0, 1.5)}
    assert job.prior.boxes() == boxes
    assert job.model.bands == ("wfc3_f275w", "wfc3_f336w", "wfc3_f438w", "wfc3_f555w", "wfc3_f814w")
    assert (job.model.metallicity, job.model.extinction, job.model.rv) == (0.02, "CCM89", 3.1)
    noise = make_noise(job, [])
    assert noise.explicit
    np.testing.assert_array_equal(noise.systematic, 0)
    np.testing.assert_array_equal(noise.fractional, 0.05)


def test_reported_errors_and_recovered_variances_follow_the_formula():
    noise = explicit_noise(BANDS, (-5.3, -4.3), 0.0, fractional=0.05)
    rng = np.random.default_rng(1)
    depth = 10 ** rng.uniform(-5.3, -4.3, (400, 1))
    flux = depth * 10 ** rng.uniform(-1, 3, (400, 3)) * rng.choice([-1, 1], (400, 3), p=[0.1, 0.9])
    true = np.abs(flux)
    own = noise.select(np.zeros(400, dtype=int))
    error = own.reported_error(flux, depth / noise.depth[0])
    np.testing.assert_allclose(error, np.hypot(depth, 0.05 * flux.clip(min=0)), rtol=1e-4)
    variance = own.terms(flux, error).variance(true)
    np.testing.assert_allclose(variance, depth**2 + (0.05 * true) ** 2, rtol=2e-3)


def test_simulated_depths_are_log_uniform_and_common_to_the_bands():
    noise = explicit_noise(BANDS, (-5.3, -4.3), 0.0, fractional=0.05, brightness=(-0.3, 6.2))
    fluxes = torch.ones(20_000, 3, dtype=torch.float64)
    chance = torch.Generator().manual_seed(0)
    found = simulate(fluxes, on_device(noise, "cpu", torch.float64), chance)
    seen = found.seen
    complete = seen.measured.all(1)
    flux, error = seen.flux[complete], seen.error[complete]
    depth = (error**2 - (0.05 * flux.clip(min=0)) ** 2).sqrt()
    log_depth = depth.log10()
    assert (log_depth.amax(1) - log_depth.amin(1)).max() < 1e-3
    quartiles = log_depth[:, 0].quantile(torch.tensor([0.02, 0.25, 0.5, 0.75, 0.98], dtype=torch.float64))
    expected = -5.3 + torch.tensor([0.02, 0.25, 0.5, 0.75, 0.98], dtype=torch.float64)
    torch.testing.assert_close(quartiles, expected, rtol=0, atol=0.06)
    bright = (fluxes[:, 0] * 10**found.log_mass / noise.depth[0, 0]).log10()
    assert bright.min() == pytest.approx(-0.3, abs=0.01)
    assert bright.max() == pytest.approx(6.2, abs=0.01)


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        ({"fractional": 0.05}, "fractional needs depth"),
        ({"brightness": [0.0, 3.0]}, "brightness needs depth"),
        ({"depth": [-4.0, -5.0]}, "depth = .* is empty"),
        ({"depth": [-5.0, -4.0], "brightness": [3.0, 0.0]}, "brightness = .* is empty"),
    ],
)
def test_noise_that_makes_no_sense_is_refused(noise, message):
    values = {"name": "a", "output": "a", "model": {"bands": list(BANDS)}, "noise": noise}
    with pytest.raises(UserError, match=message):
        parse_job(values, "test", Path())
