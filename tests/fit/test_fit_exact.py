"""The exact posterior without a network is the one that inference has with one."""

import json

import numpy as np
import pytest
import torch
from exact_models import SYSTEMATIC, brute_force, cells, make_job, photometry, train_model
from fit_models import COARSE, MPC, catalogue, fitter, observe, one_thread

from batchflow import schema, stages
from batchflow.fit.exact import draw_exact, exact_proposal
from batchflow.fit.part import fit_clusters
from batchflow.fit.prepare import NOISE_FILE, prepare_fit
from batchflow.infer.cells import COARSE as CELLS
from batchflow.infer.clusters import Clusters
from batchflow.infer.draw import Options, Rescue, draw_posteriors
from batchflow.infer.nuisance import GRID_AXES, why_no_grid
from batchflow.mocks.noise import ARRAYS, NoiseModel
from batchflow.schema import Flag
from batchflow.settings.prior import PriorSettings

PRIOR = {
    "log_age": {"uniform": (7.0, 9.0)},
    "log_mass": {"uniform": (2.0, 7.0)},
    "ebv": {"uniform": (0.0, 0.6)},
}
TRUTH = {"log_age": 8.1, "ebv": 0.25, "log_mass": 4.5}

_one_thread = pytest.fixture(autouse=True)(one_thread)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A poor network: what it knows must not matter."""
    return train_model(tmp_path_factory.mktemp("poor"), PRIOR, rows=2000)


def clusters(model):
    seen = [photometry(model, TRUTH, signal) for signal in (5.0, 20.0)]
    flux, error = (np.stack(values) for values in zip(*seen, strict=True))
    return Clusters(flux, error, np.zeros(flux.shape, bool), np.full(2, MPC), ["G/0", "G/1"], ["default"] * 2)


def test_draws_are_those_of_inference_bit_for_bit(model):
    proposal = exact_proposal(model.table, model.network.noise, model.prior, torch.device("cpu"))
    found = draw_exact(proposal, clusters(model), 300, seed=3)
    way = Rescue(max_draws=300, grid="always")
    other = draw_posteriors(model.proposal, clusters(model), Options(300, True, 3, way))
    for name, values in other.values.items():
        np.testing.assert_array_equal(found.values[name], values)
    np.testing.assert_array_equal(found.log_weights, other.log_weights)
    np.testing.assert_array_equal(found.log_evidence, other.log_evidence)
    assert (found.method == Flag.GRID_POSTERIOR).all()


def test_moments_are_those_of_brute_force(model):
    proposal = exact_proposal(model.table, model.network.noise, model.prior, torch.device("cpu"))
    found = draw_exact(proposal, clusters(model), 2000, seed=3)
    axes = {"log_age": cells(7.0, 9.0, 200), "ebv": cells(0.0, 0.6, 120)}
    prior = {name: np.full(axis.size, 1 / axis.size) for name, axis in axes.items()}
    mass = np.arange(-1.0, 1.0, 0.02), lambda log_mass: np.where((log_mass > 2) & (log_mass < 7), 0.2, 0.0)
    assert SYSTEMATIC == 0.05
    for row in range(2):
        seen = clusters(model).flux[row], clusters(model).error[row]
        exact = brute_force(model, seen, axes, prior, mass)
        assert found.log_evidence[row] == pytest.approx(exact.log_evidence, abs=0.05)
        for name in axes:
            mean, std = exact.moments(exact.values[name])
            own = (found.weights[row] * found.values[name][row]).sum()
            assert own == pytest.approx(mean, abs=0.1 * std)


def test_noise_model_is_the_one_of_the_network(model, tmp_path):
    """Of one job, training and fit have one and the same, through JSON and back."""
    job = make_job(PRIOR)
    prepare_fit(stages.resolved(job), str(tmp_path), [])
    found = NoiseModel.from_dict(json.loads((tmp_path / NOISE_FILE).read_text()))
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(found, name), getattr(model.network.noise, name))


def test_table_has_both_answers_and_says_what_is_missing():
    own = fitter({"draws": 100})
    missing = [*((1, band) for band in range(5)), (2, 0), (2, 1), (2, 2)]
    seen = observe(own.table, limits=[(0, 0)], missing=missing, log_age=7.5, ebv=0.1)
    seen.distance_mpc[3] = np.nan
    table, seconds = fit_clusters(own, catalogue(seen), seed=1, least=0.05)
    assert table.schema.equals(schema.fit_schema(["log_age", "log_mass", "ebv"]))
    assert table["object_id"].to_pylist() == [str(i) for i in range(6)]
    assert set(seconds) == {"classical", "exact"}
    fitted = [True, False, True, False, True, True]
    for name in ("best_log_age", "bayes_log_mass_std", "log_mass_q50", "log_evidence"):
        assert np.isfinite(table[name].to_numpy()).tolist() == fitted
    modes = table["mode_weight"].to_pylist()
    assert [each is not None and sum(each) > 0.8 for each in modes] == fitted
    # Two bands are fewer than three parameters; one band missing is not.
    freedom = [True, False, False, False, True, True]
    assert np.isfinite(table["best_reduced_chi2"].to_numpy()).tolist() == freedom
    assert table["best_n_bands"].to_pylist() == [5, 0, 2, 5, 5, 5]
    flags = table["flags"].to_numpy()
    assert ((flags & Flag.FEW_BANDS) > 0).tolist() == [False, True, True, False, False, False]
    assert ((flags & Flag.NOT_INFERRED) > 0).tolist() == [False, True, False, True, False, False]
    assert ((flags & Flag.NO_DISTANCE) > 0).tolist() == [False, False, False, True, False, False]
    assert ((flags & Flag.NO_BAND) > 0).tolist() == [False, True, False, False, False, False]
    assert flags[0] & Flag.UPPER_LIMIT


def test_without_the_exact_posterior_its_columns_are_null():
    own = fitter({"exact": False})
    table, _ = fit_clusters(own, catalogue(observe(own.table)), seed=1, least=0.05)
    assert table.schema.equals(schema.fit_schema(["log_age", "log_mass", "ebv"]))
    assert table["log_age_q50"].null_count == table["n_modes"].null_count == 6
    assert table["best_log_age"].null_count == 0


def test_a_marginalised_parameter_is_fitted_but_has_no_columns():
    vary = {"metallicity": (0.008, 0.02)}
    own = fitter(prior={"metallicity": {"choice": (0.008, 0.02)}}, vary=vary)
    assert own.models.names == ("log_age", "ebv", "metallicity")
    assert sorted(set(own.models.values[2].tolist())) == [0.008, 0.02]
    seen = observe(own.table, missing=[(0, 0)], log_age=7.5, ebv=0.1)
    table, _ = fit_clusters(own, catalogue(seen), seed=1, least=0.05)
    assert table.schema.equals(schema.fit_schema(["log_age", "log_mass", "ebv"]))
    assert table["log_age_q50"].null_count == 6
    # Four bands less four parameters.
    assert np.isnan(table["best_reduced_chi2"].to_numpy()).tolist() == [True] + 5 * [False]


def test_four_parameters_have_an_exact_posterior():
    vary = {"metallicity": (0.004, 0.05)}
    own = fitter({"draws": 50, "steps": {"ebv": 0.25}}, {"metallicity": {"uniform": (0.004, 0.05)}}, vary)
    table, _ = fit_clusters(own, catalogue(observe(own.table, 2)), seed=1, least=0.05)
    assert table.schema.equals(schema.fit_schema(["log_age", "log_mass", "ebv", "metallicity"]))
    assert np.isfinite(table["metallicity_q50"].to_numpy()).all()
    assert (np.abs(table["log_mass_q50"].to_numpy() - table["best_log_mass"].to_numpy()) < 1).all()


def test_grids_end_where_the_cells_do():
    assert max(CELLS) == GRID_AXES
    assert not why_no_grid(PriorSettings())
    four = {name: {"uniform": limits} for name, limits in {"rv": (2.5, 4), "covering": (0, 1)}.items()}
    assert why_no_grid(PriorSettings.model_validate(four | {"metallicity": {"uniform": (0.004, 0.05)}}))
    assert why_no_grid(PriorSettings.model_validate({"metallicity": {"choice": (0.004, 0.02)}}))
    assert COARSE["steps"]
