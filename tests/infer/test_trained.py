"""A trained network's weighted draws: against brute force, and calibrated over mocks of the prior.

The network is a small one, trained for a minute: the certificates must hold for a mediocre one too. Its
draws are looked at by themselves (no grid has a part in them) and as they are delivered by default.
"""

from __future__ import annotations

from typing import NamedTuple

import brute_grid
import numpy as np
import pytest
import torch
from brute_grid import BANDS, DEPTH, DISTANCE, NAMES, PRIOR, SYSTEMATIC, Seen, legus, mocks
from exact_models import job_of, train_job

from batchflow.infer.clusters import Clusters, from_arrays
from batchflow.infer.draw import Draws, Options, Rescue, draw_posteriors
from batchflow.infer.posterior import Model
from batchflow.infer.summary import weighted_quantiles
from batchflow.physics.engine import open_engine
from batchflow.schema import QUANTILES, Flag
from batchflow.validate.calibrate import rank_of_truth
from batchflow.validate.uniformity import smooth_ranks, uniformity

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TRAINING = {
    "flow": {"couplings": 6, "hidden": 64, "bins": 12, "encoder_layers": 2},
    "train": {"epochs": 4, "batch": 512, "learning_rate": 5e-3},
}
ROWS = 200_000
MANY = 8192
"""Draws that are compared with brute force: quantiles of fewer err too much to tell."""
LEVELS = list(QUANTILES.values())
WAYS = {"weights alone": None, "no grid": Rescue(grid="never"), "fallback": Rescue(grid="fallback"), "default": Rescue()}


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    job = job_of({
        "model": {"bands": list(BANDS)},
        "prior": {"log_mass": {"uniform": PRIOR.boxes()["log_mass"]}},
        "noise": {"depth": DEPTH, "systematic": SYSTEMATIC},
        **TRAINING,
    })
    return train_job(tmp_path_factory.mktemp("trained"), job, ROWS)


@pytest.fixture(scope="session")
def engine():
    return open_engine({"bands": BANDS})


def clusters_of(seen: Seen) -> Clusters:
    return from_arrays(seen.flux, seen.error, DISTANCE, len(BANDS))


class Compared(NamedTuple):
    """Draws of clusters that a model fits, held against their exact quantiles."""

    efficiency: np.ndarray
    pull: np.ndarray
    """Weight below an exact quantile less its probability, over the standard error that the weights give;
    (n_clusters, n_parameters, n_probabilities)."""
    off: np.ndarray
    """Worst end of the 68 % interval over its width, (n_clusters, n_parameters)."""


def compare(model: Model, seen: Seen, rescue: Rescue | None) -> Compared:
    draws = draw_posteriors(model.proposal, clusters_of(seen), Options(MANY, True, 1, rescue))
    exact = brute_grid.exact_quantiles(open_engine({"bands": BANDS}), seen, LEVELS)
    known = (draws.pvalue > 0.001) & (draws.efficiency * MANY > 100)
    return Compared(draws.efficiency[known], _pulls(draws, exact)[known], _off(draws, exact)[known])
