"""The section [fit]: the grid it means, the preset, and what is refused."""

import numpy as np
import pytest
import tomli_w

from batchflow import stages
from batchflow.check import examine, problems
from batchflow.config import STAGES, load_job
from batchflow.errors import UserError
from batchflow.fit.grid import check_size, grid_nodes
from batchflow.fit.preset import fit_problems, own_nodes
from batchflow.submit.run import SEPARATE

JOB = """
name = "f"
output = "{folder}/run"
[model]
bands = ["wfc3_f275w", "wfc3_f555w"]
{model}
[noise]
depth = [-5.3, -4.3]
{rest}
"""


def job(tmp_path, rest="", model=""):
    path = tmp_path / "job.toml"
    path.write_text(JOB.format(folder=tmp_path, model=model, rest=rest))
    return load_job(path)


def nodes(found):
    return grid_nodes(found.fit, found.prior, own_nodes(found.model))


def test_default_grid_is_the_librarys_ages_and_hundredths_of_a_magnitude(tmp_path):
    found = nodes(job(tmp_path))
    assert found["log_age"][[0, -1]] == pytest.approx([6.0, 10.14])
    own = own_nodes(job(tmp_path).model)["log_age"]
    assert set(found["log_age"][1:-1]) <= set(own)
    np.testing.assert_allclose(found["ebv"], np.arange(151) / 100)


def test_nuisances_have_nodes(tmp_path):
    rest = """
[prior]
metallicity = {choice = [0.02, 0.008]}
rv = {uniform = [2.5, 4.5]}
covering = {uniform = [0.0, 0.5], marginalise = true}
[fit]
steps = {rv = 0.5}
nodes = {ebv = [0.0, 0.5, 1.0]}
"""
    found = nodes(job(tmp_path, rest))
    assert found["metallicity"].tolist() == [0.008, 0.02]
    assert found["rv"].tolist() == [2.5, 3.0, 3.5, 4.0, 4.5]
    assert found["ebv"].tolist() == [0.0, 0.5, 1.0]
    np.testing.assert_allclose(found["covering"], np.linspace(0, 0.5, 5))


def test_preset_is_the_grid_of_phangs(tmp_path):
    found = job(tmp_path, '[fit]\npreset = "phangs"')
    assert problems(found) == []
    ages = 10 ** nodes(found)["log_age"] / 1e6
    np.testing.assert_allclose(ages[:10], np.arange(1, 11), rtol=1e-5)
    assert len(ages) == 110
    assert ages[[10, -1]] == pytest.approx([11, 13750], rel=1e-5)
    assert found.fit.degrees_of_freedom == "cigale"


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ("metallicity = 0.008", "metallicity = 0.008"),
        ("covering = 0.5", "covering = 0.5"),
        ('extinction = "G23"', "extinction = 'G23'"),
        ("rv = 2.7", "rv = 2.7"),
    ],
)
def test_preset_refuses_another_model(tmp_path, model, named):
    (found,) = fit_problems(job(tmp_path, '[fit]\npreset = "phangs"', model))
    assert named in found
    assert "phangs" in found
    assert fit_problems(job(tmp_path, "", model)) == []


def test_preset_refuses_a_model_that_varies(tmp_path):
    rest = '[fit]\npreset = "phangs"\n[prior]\nrv = {uniform = [2.5, 4.0]}'
    assert "a rv that varies" in fit_problems(job(tmp_path, rest))[0]


def test_preset_and_nodes_of_ones_own_are_refused(tmp_path):
    with pytest.raises(UserError, match="sets nodes; leave one of the two out"):
        job(tmp_path, '[fit]\npreset = "phangs"\nnodes = {ebv = [0.0, 1.0]}')


def test_what_cannot_be_is_said(tmp_path):
    with pytest.raises(UserError, match=r"nodes.ebv must increase; found \[0.5, 0.5\]"):
        job(tmp_path, "[fit]\nnodes = {ebv = [0.5, 0.5]}")
    (beyond,) = problems(job(tmp_path, "[fit]\nnodes = {ebv = [0.0, 9.0]}"))
    assert "[0 ... 9] goes beyond what the model has, [0, 2]" in beyond
    (stranger,) = problems(job(tmp_path, "[fit]\nnodes = {rv = [2.0, 3.0]}"))
    assert "does not vary rv; expected log_age, ebv" in stranger
    (large,) = problems(job(tmp_path, "[fit]\nsteps = {log_age = 0.0001, ebv = 0.0001}"))
    assert "621,056,401 models (41401 log_age x 15001 ebv)" in large
    assert "fewer values in fit.nodes" in large
    assert problems(job(tmp_path, "[fit]\nenabled = false\nsteps = {ebv = 0.000001}")) == []


def test_size_grows_with_models_and_bands():
    axes = {"log_age": np.arange(1000.0), "ebv": np.arange(2500.0)}
    assert check_size(axes, 5) == 2_500_000
    with pytest.raises(UserError, match="GiB"):
        check_size(axes, 12)


def test_resolved_job_is_the_same_job(tmp_path):
    found = job(tmp_path, '[fit]\npreset = "phangs"\nadditional_error = 0.1')
    path = tmp_path / "resolved.toml"
    path.write_text(tomli_w.dumps(stages.resolved(found)))
    again = load_job(path)
    assert again.fit == found.fit
    assert stages.fit_settings(again) == stages.fit_settings(found)
    assert hash(again.fit) == hash(found.fit)


def test_fit_settings_matter_to_the_fit_alone(tmp_path):
    one, two = job(tmp_path), job(tmp_path, "[fit]\ndraws = 50\nadditional_error = 0.1")
    assert stages.fit_settings(one) != stages.fit_settings(two)
    assert stages.mocks_settings(one) == stages.mocks_settings(two)
    assert stages.train_settings(one) == stages.train_settings(two)
    assert stages.infer_settings(one, "w") == stages.infer_settings(two, "w")
    assert stages.validate_settings(one, "w") == stages.validate_settings(two, "w")
    off = job(tmp_path, "[fit]\nenabled = false")
    assert stages.fit_settings(off) == stages.fit_settings(one)


def test_a_run_without_the_fit(tmp_path):
    assert job(tmp_path).stages == STAGES
    assert "fit" not in job(tmp_path, "[fit]\nenabled = false").stages
    assert sum(SEPARATE, ()) == STAGES


def test_check_says_what_will_be_fitted(tmp_path):
    said = examine(job(tmp_path, "[fit]\nsteps = {log_age = 1.0, ebv = 0.5}")).description["fit"]
    assert said == "20 models (5 log_age x 4 ebv); exact posterior"
    rest = "[prior]\nmetallicity = {choice = [0.008, 0.02]}"
    assert "no exact posterior: marginalised" in examine(job(tmp_path, rest)).description["fit"]
