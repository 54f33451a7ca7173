"""`ood_pvalue`: as many false alarms as it says, and alarms where something is wrong."""

import dataclasses

import numpy as np
import pytest
import torch
from toy_mocks import BANDS, toy_fluxes, toy_noise, write_toy_shards

from batchflow.errors import UserError
from batchflow.flow.features import Features, make_features, on_device
from batchflow.infer.ood import error_pvalues
from batchflow.infer.reference import (
    colour_pvalues,
    distances,
    load_reference,
    make_reference,
    save_reference,
)
from batchflow.train.data import open_shards
from batchflow.train.simulate import simulate

NOISE = toy_noise()
TENSORS = on_device(NOISE, "cpu", torch.float32)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    paths = write_toy_shards(tmp_path_factory.mktemp("mocks"), (20_000, 20_000))
    return make_reference(open_shards(paths, BANDS, 0.4), NOISE, seed=1)


def simulated(rows, seed):
    """New mocks of the same physics, seen by the same surveys."""
    rng = np.random.default_rng(seed)
    fluxes = toy_fluxes(rng.uniform(6, 10, rows), rng.uniform(0, 1.5, rows))
    chance = torch.Generator().manual_seed(seed)
    return simulate(torch.from_numpy(fluxes).float(), TENSORS, chance)


def colours(reference, simulation, **changes):
    seen = simulation.seen._replace(**changes)
    return colour_pvalues(reference, make_features(TENSORS, seen, simulation.survey)).numpy()


def errors(simulation, factor=1.0):
    seen = simulation.seen._replace(error=simulation.seen.error * factor)
    return error_pvalues(seen, simulation.survey.numpy(), NOISE)


def test_false_alarms_are_as_rare_as_stated(reference):
    simulation = simulated(100_000, seed=7)
    found = colours(reference, simulation)
    # Calibration and test sample each count some 100 mocks beyond 0.001, whose own scatter is 10 %.
    for level, tolerance in ((0.1, 0.1), (0.01, 0.2), (0.001, 0.4)):
        assert (found < level).mean() < level * (1 + tolerance)
    three = (simulation.seen.measured.sum(1) == 3).numpy()
    assert (found[three] < 0.1).mean() == pytest.approx(0.1, rel=0.1)
    assert (found[three] < 0.001).mean() == pytest.approx(0.001, rel=0.6)


def test_errors_are_judged_by_their_known_distribution():
    found = errors(simulated(100_000, seed=8))
    # Upper bounds: an allowance for rounding makes the test a little shy.
    assert (found < 0.001).mean() < 0.001
    assert 0.02 < (found < 0.1).mean() < 0.1


def test_errors_far_from_the_surveys_are_found():
    simulation = simulated(4000, seed=9)
    whole = (simulation.seen.measured.sum(1) >= 2).numpy() & (simulation.survey == 0).numpy()
    for factor in (5.0, 0.2):
        assert (errors(simulation, factor)[whole] < 0.001).mean() > 0.9


def test_outliers_that_training_knows_are_no_strangers():
    reach = np.where(np.isfinite(NOISE.depth), 1.5, np.nan)
    wide = dataclasses.replace(NOISE, reach=reach)
    rng = np.random.default_rng(11)
    fluxes = torch.from_numpy(toy_fluxes(rng.uniform(6, 10, 50_000), rng.uniform(0, 1.5, 50_000))).float()
    found = simulate(fluxes, on_device(wide, "cpu", torch.float32), torch.Generator().manual_seed(3))
    pvalues = error_pvalues(found.seen, found.survey.numpy(), wide)
    assert (pvalues < 0.001).mean() < 0.001
    unaware = error_pvalues(found.seen, found.survey.numpy(), NOISE)
    assert (unaware < 0.001).mean() > 0.02


def test_the_distance_does_not_depend_on_the_neighbours(reference):
    features = make_features(TENSORS, simulated(1000, seed=5).seen, simulated(1000, seed=5).survey)
    whole = distances(reference.fluxes, features)
    for start, stop in ((0, 1), (3, 10), (500, 700), (999, 1000)):
        part = distances(reference.fluxes, Features(*(column[start:stop] for column in features)))
        assert torch.equal(part, whole[start:stop])


def test_errors_of_an_unknown_survey_are_not_judged():
    simulation = simulated(5, seed=1)
    assert np.isnan(error_pvalues(simulation.seen, np.full(5, -1), NOISE)).all()


def test_a_colour_that_no_model_has_is_found(reference):
    # Three bands, two parameters: the third band follows from the other two, unless dust can mend it.
    simulation = simulated(20_000, seed=10)
    bright = (simulation.seen.measured.sum(1) == 3) & (simulation.seen.flux > 30 * 3e-5).all(1)
    scale = torch.tensor([1.0, 10**0.6, 1.0])
    wrong = colours(
        reference, simulation, flux=simulation.seen.flux * scale, error=simulation.seen.error * scale
    )
    right = colours(reference, simulation)
    assert (wrong[bright.numpy()] < 0.001).mean() > 0.5
    assert (right[bright.numpy()] < 0.001).mean() < 0.005


def test_neither_distance_nor_brightness_matters_to_colours(reference):
    simulation = simulated(2000, seed=11)
    noise = on_device(toy_noise(depth=NOISE.depth * 100, photon=NOISE.photon * 100), "cpu", torch.float32)
    seen = simulation.seen
    nearer = make_features(
        noise, seen._replace(flux=seen.flux * 100, error=seen.error * 100), simulation.survey
    )
    found = colour_pvalues(reference, nearer).numpy()
    # Above one half the least distances, those of rounding, decide: there nothing hangs on them.
    wanted = np.minimum(colours(reference, simulation), 0.5)
    assert np.minimum(found, 0.5) == pytest.approx(wanted, rel=0.05, abs=0.005)


def test_the_distance_is_the_least_chi_square_over_references_and_brightness(reference):
    features = make_features(TENSORS, *_rows(simulated(40, seed=12)))
    found = distances(reference.fluxes, features).double()
    flux, weight = features.flux.double(), features.weight.double()
    weight = weight / (1 + 0.03**2 * flux**2 * weight)
    model = reference.fluxes.double()
    scale = ((weight * flux) @ model.T).clamp(min=0) / (weight @ (model**2).T)
    residual = flux[:, None] - scale[..., None] * model
    wanted = (weight[:, None] * residual**2).sum(-1).amin(1)
    assert found.numpy() == pytest.approx(wanted.numpy(), rel=1e-2, abs=0.02)


def test_a_reference_comes_back_and_a_broken_one_is_named(reference, tmp_path):
    path = save_reference(tmp_path, reference)
    assert all(torch.equal(a, b) for a, b in zip(load_reference(tmp_path), reference, strict=True))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match="cannot be read"):
        load_reference(tmp_path)


def _rows(simulation):
    return simulation.seen, simulation.survey
