"""The likelihood against SciPy, and the table against the NumPy one."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from batchflow.flow.features import Observations
from batchflow.infer.likelihood import Photometry, chi_square, log_likelihood
from batchflow.mocks.noise import NoiseTerms
from batchflow.physics.engine import open_engine
from batchflow.physics.torch_table import TorchFluxTable

RNG = np.random.default_rng(3)
N, D, B = 4, 6, 3


@pytest.fixture
def case():
    flux, background = RNG.lognormal(0, 1, (N, B)), RNG.lognormal(-3, 0.3, (N, B))
    photon, fractional = RNG.lognormal(-4, 0.3, (N, B)), np.full((N, B), 0.05**2)
    measured, limit = np.ones((N, B), bool), np.zeros((N, B), bool)
    measured[1, 2], limit[2, 0] = False, True
    model = RNG.lognormal(0, 1, (N, D, B))
    return flux, (background, photon, fractional), measured, limit, model


def photometry(case):
    flux, terms, measured, limit, _ = case
    tensors = [torch.as_tensor(np.where(measured, flux, np.nan)), torch.zeros(N, B, dtype=torch.float64)]
    seen = Observations(*tensors, torch.as_tensor(measured), torch.as_tensor(limit))
    return Photometry(seen, NoiseTerms(*map(torch.as_tensor, terms)))


def test_gaussian_at_the_models_variance_and_cumulative_normal_for_limits(case):
    flux, (a, p, k), measured, limit, model = case
    sigma = np.sqrt(a[:, None] + p[:, None] * model + k[:, None] * model**2)
    gauss = norm.logpdf(flux[:, None], model, sigma)
    below = norm.logcdf(flux[:, None], model, sigma)
    wanted = np.where(measured[:, None], np.where(limit[:, None], below, gauss), 0.0).sum(-1)
    found = log_likelihood(photometry(case), torch.as_tensor(np.log(model)))
    assert np.allclose(found.numpy(), wanted, rtol=1e-10)


def test_chi_square_counts_detections_only(case):
    flux, (a, p, k), measured, limit, model = case
    sigma = np.sqrt(a[:, None] + p[:, None] * model + k[:, None] * model**2)
    terms = ((flux[:, None] - model) / sigma) ** 2
    wanted = np.where((measured & ~limit)[:, None], terms, 0.0).sum(-1)
    assert np.allclose(chi_square(photometry(case), torch.as_tensor(np.log(model))).numpy(), wanted)


def test_the_torch_table_is_the_numpy_table():
    engine = open_engine({"bands": ["wfc3_f275w", "wfc3_f555w"]})
    ages, ebv = RNG.uniform(6.0, 10.14, 2000), RNG.uniform(0.0, 1.5, 2000)
    ages[:2], ebv[:2] = (6.0, 10.14), (0.0, 1.5)
    table = TorchFluxTable.from_table(engine.table(), torch.device("cpu"))
    found = table({"log_age": torch.as_tensor(ages).float(), "ebv": torch.as_tensor(ebv).float()})
    wanted = np.log(engine.fluxes({"log_age": ages, "ebv": ebv}))
    # Single precision of a log flux near -20 is 2e-6; a place in the table is as exact as log_age, 5e-7.
    assert np.abs(found.numpy() - wanted).max() < 1e-4


def test_the_torch_table_mixes_gas_as_the_numpy_table_does():
    engine = open_engine(
        {"bands": ["wfc3_f336w", "wfc3_f555w"], "vary": {"rv": [2.5, 4.0], "covering": [0, 1]}}
    )
    values = {
        "log_age": RNG.uniform(6.0, 7.2, 500),
        "ebv": RNG.uniform(0.0, 1.5, 500),
        "rv": RNG.uniform(2.5, 4.0, 500),
        "covering": RNG.uniform(0.0, 1.0, 500),
    }
    columns = {name: torch.as_tensor(column).float() for name, column in values.items()}
    wanted = np.log(engine.fluxes(values))
    plain = TorchFluxTable.from_table(engine.table(), torch.device("cpu"))
    assert np.abs(plain(columns).numpy() - wanted).max() < 1e-4
    kept = TorchFluxTable.from_table(engine.table(), torch.device("cpu"), last=("covering",))
    assert np.abs(kept.local(columns, 1)(columns).numpy() - wanted).max() < 1e-4
    third = TorchFluxTable.from_table(engine.table(), torch.device("cpu"), at={"covering": 1 / 3})
    fixed = np.log(engine.fluxes(values | {"covering": 1 / 3}))
    # Mixed at the nodes, then interpolated, not the other way round: measured 3e-4 between two ages.
    assert np.abs(third(columns).numpy() - fixed).max() < 1e-3
