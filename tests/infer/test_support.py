"""Clusters unlike the training are told apart, and those like it are not."""

import numpy as np
import pytest

from batchflow.infer.clusters import Clusters
from batchflow.infer.support import outside_training
from batchflow.mocks.estimate import explicit_noise
from batchflow.mocks.noise import NoiseModel

BANDS = ("a", "b")
NOISE = NoiseModel(
    bands=BANDS,
    surveys=("s",),
    depth=np.array([[1.0, 2.0]]),
    photon=np.array([[0.1, 0.1]]),
    fractional=np.array([[0.03, 0.03]]),
    scatter=np.array([[0.1, 0.1]]),
    correlation=np.array([0.5]),
    brightness=np.array([[0.2, 3.0]]),
    systematic=0.05,
    limit_fraction=np.array([0.5]),
)


def clusters(flux, error, survey="s", limit=False):
    flux, error = np.atleast_2d(np.array(flux, float)), np.atleast_2d(np.array(error, float))
    masks = np.full(flux.shape, limit)
    return Clusters(flux, error, masks, np.ones(len(flux)), ["x"] * len(flux), [survey] * len(flux))


def test_clusters_drawn_from_the_noise_model_are_inside():
    rng = np.random.default_rng(1)
    true = 10 ** rng.uniform(0.2, 3.0, (2000, 1)) * np.array([[1.0, 1.0]])
    factor = 10 ** (0.1 * rng.standard_normal(true.shape))
    own = NOISE.select(np.zeros(2000, int))
    flux = true + own.terms_from_factor(factor).variance(true) ** 0.5 * rng.standard_normal(true.shape)
    outside = outside_training(clusters(flux, own.reported_error(flux, factor)), NOISE)
    # The brightest may be scattered over the top; nothing else may be called strange.
    assert outside.mean() < 0.02


@pytest.mark.parametrize(
    ("flux", "error"),
    [
        ([1e5, 1e5], [3e3, 3e3]),  # brighter than any
        ([30.0, 30.0], [40.0, 2.7]),  # an error ten times too large
        ([30.0, 30.0], [0.1, 2.7]),  # and one far too small
    ],
)
def test_strange_clusters_are_flagged(flux, error):
    assert outside_training(clusters(flux, error), NOISE).tolist() == [True]


def test_a_faint_cluster_an_unknown_survey_and_an_unmeasured_one_are_not():
    assert not outside_training(clusters([0.5, -1.0], [1.0, 2.0]), NOISE).any()
    assert not outside_training(clusters([1e9, 1e9], [1.0, 2.0], survey="other"), NOISE).any()
    assert not outside_training(clusters([np.nan, np.nan], [np.nan, np.nan]), NOISE).any()
    assert not outside_training(clusters([3.0, 6.0], [1.0, 2.0], limit=True), NOISE).any()


@pytest.mark.parametrize(
    ("log_error", "outside"), [(-3.99, False), (-3.5, False), (-2.9, True), (-5.2, True)]
)
def test_a_job_without_a_catalogue_covers_the_depths_that_it_names(log_error, outside):
    noise = explicit_noise(BANDS, (-5.0, -3.0), 0.05)
    error = 10.0**log_error
    found = outside_training(clusters([30 * error] * 2, [error] * 2, survey="default"), noise)
    assert found.tolist() == [outside]


def test_a_limit_does_not_make_a_cluster_strange_but_its_error_may():
    rows = clusters([[300.0, 6.0], [300.0, 600.0]], [[9.2, 2.0], [9.2, 200.0]])
    limited = Clusters(
        rows.flux, rows.error, np.array([[False, True]] * 2), rows.distance_mpc, rows.keys, rows.surveys
    )
    assert outside_training(limited, NOISE).tolist() == [False, True]


def test_an_error_below_the_floor_is_used_as_the_floor_unless_it_is_nonsense():
    flux, floor = 1000.0, 30.0
    rows = clusters([[flux, flux]] * 3, [[floor, floor], [0.8 * floor, floor], [0.2 * floor, floor]])
    assert outside_training(rows, NOISE).tolist() == [False, False, True]
