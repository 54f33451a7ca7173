"""The fluxes within the network are those of the table that the mocks were made with."""

import numpy as np
import pytest
import torch
from toy_mocks import BANDS, BOXES, toy_fluxes, toy_table

from batchflow.flow.model_fluxes import ModelFluxes
from batchflow.physics.torch_table import TorchFluxTable

AXES = ("log_age", "ebv")


def filled() -> ModelFluxes:
    found = ModelFluxes(AXES, len(BANDS))
    found.fill(TorchFluxTable.from_table(toy_table(), torch.device("cpu")))
    return found


def test_they_are_the_physics_own():
    rng = np.random.default_rng(1)
    age, ebv = rng.uniform(*BOXES["log_age"], (6, 50)), rng.uniform(*BOXES["ebv"], (6, 50))
    found = filled()(torch.tensor(np.stack([age, ebv], -1), dtype=torch.float32))
    expected = np.log10(toy_fluxes(age.ravel(), ebv.ravel())).reshape(6, 50, 3)
    # The table's nodes are 0.05 dex apart; the toy's light bends by 0.1 sin(3 log_age).
    np.testing.assert_allclose(found.numpy(), expected, atol=3e-4)


def test_a_table_of_any_size_is_loaded_with_the_weights():
    values = torch.rand(20, 2) + torch.tensor([7.0, 0.2])
    empty = ModelFluxes(AXES, len(BANDS))
    assert torch.equal(empty(values), torch.zeros(20, 3))
    empty.load_state_dict(filled().state_dict())
    assert torch.equal(empty(values), filled()(values))


def test_a_table_of_other_parameters_is_refused():
    with pytest.raises(ValueError, match=r"expected \('ebv', 'log_age'\)"):
        ModelFluxes(("ebv", "log_age"), 3).fill(TorchFluxTable.from_table(toy_table(), torch.device("cpu")))
