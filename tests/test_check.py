"""What `check` says of a job's parameters."""

import shutil
from collections import namedtuple

import pytest

from batchflow.check import examine, problems
from batchflow.config import load_job

HEAD = """
name = "c"
output = "{folder}/run"
[model]
bands = ["wfc3_f275w", "wfc3_f555w"]
{model}
[noise]
depth = [-5.3, -4.3]
[prior]
"""


def job(tmp_path, prior="", model=""):
    path = tmp_path / "job.toml"
    path.write_text(HEAD.format(folder=tmp_path, model=model) + prior)
    return load_job(path)


NUISANCES = """
log_mass = {power_law = [-2.0, 2.0, 7.0]}
ebv = {truncated_normal = [0.2, 0.25, 0.0, 1.5]}
metallicity = {choice = [0.004, 0.02]}
rv = {normal = [3.1, 0.1], marginalise = true}
covering = {uniform = [0.0, 0.5]}
"""


def test_parameters_are_described_by_what_becomes_of_them(tmp_path):
    found = job(tmp_path, NUISANCES)
    assert problems(found) == []
    said = examine(found).description
    assert said["inferred"].split("; ") == [
        "log_age uniform 6 to 10.14",
        "log_mass power law of slope -2 from 2 to 7",
        "ebv normal 0.2 +- 0.25 from 0 to 1.5",
        "covering uniform 0 to 0.5",
    ]
    assert said["marginalised"] == "metallicity 0.004 or 0.02; rv normal 3.1 +- 0.1"
    assert said["fixed"] == "log_u -2.5"
    assert said["engine"] == "embedded, extinction CCM89"


def test_fixed_parameters_are_those_that_the_prior_leaves(tmp_path):
    said = examine(job(tmp_path, "metallicity = {fixed = 0.008}", model="rv = 3.5")).description
    assert said["fixed"] == "metallicity 0.008; rv 3.5; covering 0"
    assert said["marginalised"] == "none"


def test_of_cigale_its_own_modules_and_values_are_said(tmp_path, new_cigale):
    text = 'engine = "cigale"\nextinction = "F99"'
    said = examine(job(tmp_path, model=text)).description
    assert said["engine"].startswith("cigale, direct: ssp bc03_ssp")
    assert "F99" not in " ".join(said.values())
    assert "bc03_ssp.metallicity 0.02" in said["fixed"]


def test_a_job_for_an_absent_cigale_is_described_all_the_same(tmp_path):
    assert examine(job(tmp_path, model='engine = "cigale"')).description["engine"] == "cigale, direct"


def test_a_marginalised_parameter_beyond_the_engine_is_a_problem(tmp_path):
    (problem,) = problems(job(tmp_path, "metallicity = {choice = [0.004, 0.02, 0.2]}"))
    assert "metallicity = 0.2" in problem


def test_too_many_combinations_are_a_problem(tmp_path):
    listed = ", ".join(f"{0.001 * (i + 1):.3f}" for i in range(17))
    prior = f"metallicity = {{choice = [{listed}]}}\nrv = {{normal = [3.1, 0.1], marginalise = true}}"
    (problem,) = problems(job(tmp_path, prior))
    assert "prior.metallicity and prior.rv takes 272 likelihoods a draw; expected 256 at most" in problem
    assert "`choice`" in problem


@pytest.mark.parametrize("shape", ["{uniform = [2.5, 4.0]}", "{uniform = [2.5, 4.0], marginalise = true}"])
def test_mocks_take_the_space_of_every_drawn_parameter(tmp_path, shape):
    from batchflow.check import _mock_bytes

    assert _mock_bytes(job(tmp_path, f"rv = {shape}")) == 4 * 500_000 * (4 + 2)


def test_mocks_that_are_there_need_no_more_space(tmp_path, monkeypatch):
    Disk = namedtuple("Disk", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(5_000_000))
    found = job(tmp_path)
    (problem,) = problems(found)
    assert "mocks.rows = 500,000 need 10 MB more" in problem
    assert f"{tmp_path} has 5 MB free: free space, or choose another output" in problem
    mocks = tmp_path / "run" / "mocks"
    mocks.mkdir(parents=True)
    for index in range(found.mocks.rows // found.mocks.rows_per_shard - 1):
        (mocks / f"shard-{index:05d}.parquet").touch()
    assert problems(found) == []


def test_a_job_without_a_grid_says_so_and_can_not_ask_for_one(tmp_path):
    found = job(tmp_path, NUISANCES)
    assert examine(found).description["exact grid"] == (
        "none: metallicity, rv marginalised; quantiles come from weighted draws"
    )
    asked = found.model_copy(update={"infer": found.infer.model_copy(update={"grid": "summary"})})
    (problem,) = problems(asked)
    assert 'infer.grid = "summary"' in problem
    assert "metallicity, rv marginalised" in problem
    many = job(tmp_path, "metallicity = {uniform = [0.01, 0.03]}\nrv = {uniform = [2.5, 4.0]}")
    assert examine(many).description["exact grid"].startswith("none: 5 parameters; ")
    assert examine(job(tmp_path)).description["exact grid"] == "for the quantiles of every cluster"
    four = examine(job(tmp_path, "rv = {uniform = [2.5, 4.0]}")).description
    assert four["exact grid"] == "where more draws do not suffice; other quantiles come from weighted draws"
