"""What a training is told of the model's fluxes."""

import numpy as np
import torch

from batchflow.physics.table import FluxTable
from batchflow.settings.prior import PriorSettings
from batchflow.train.task import model_fluxes


def test_fluxes_are_over_the_posteriors_parameters_with_marginalised_ones_at_their_middle():
    rng = np.random.default_rng(3)
    nodes = (np.linspace(6.0, 10.2, 9), np.linspace(0.0, 2.0, 5), np.linspace(2.0, 6.0, 17))
    log_flux = rng.normal(size=(9, 5, 17, 2))
    table = FluxTable(("log_age", "ebv", "rv"), nodes, ("a", "b"), log_flux, np.zeros(9))
    prior = PriorSettings.model_validate({"rv": {"uniform": (2.5, 3.9), "marginalise": True}})
    found = model_fluxes(table, prior)
    assert found.parameters == ("log_age", "ebv")
    age, ebv = rng.uniform(6.0, 10.14, 100), rng.uniform(0.0, 1.5, 100)
    values = {"log_age": torch.tensor(age).float(), "ebv": torch.tensor(ebv).float()}
    expected = np.log(table.fluxes({"log_age": age, "ebv": ebv, "rv": 3.2}))
    np.testing.assert_allclose(found(values).numpy(), expected, atol=1e-4)
