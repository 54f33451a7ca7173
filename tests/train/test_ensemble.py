"""Ensembles: the stage trains what is missing, and the model folder stands by itself."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import batchflow
from batchflow import stages
from batchflow.config import Job, parse_job
from batchflow.errors import UserError
from batchflow.flow.card import card_of
from batchflow.flow.checkpoint import load_model
from batchflow.flow.description import load_description, write_description
from batchflow.mocks.make import make_shard
from batchflow.mocks.plan import plan_mocks
from batchflow.paths import RunFolder
from batchflow.pipeline import Session
from batchflow.shards import write_table
from batchflow.train import run as stage
from batchflow.train.plan import plan_train
from batchflow.validate.plan import plan_validate
from batchflow.validate.run import validate_stage

MEMBERS = 3
FLUX, ERROR = [[1e-3, 1.2e-3], [2e-4, 4e-4]], [[5e-5, 6e-5], [2e-5, 3e-5]]


def make_job(folder: Path, **train: object) -> Job:
    values = {
        "name": "toy",
        "output": str(folder),
        "model": {"bands": ["wfc3_f336w", "wfc3_f555w"]},
        "prior": {"log_mass": {"uniform": [2.0, 8.0]}},
        "noise": {"depth": [-5.0, -4.0], "systematic": 0.05, "brightness": [0.0, 3.0]},
        "mocks": {"rows": 3000, "rows_per_shard": 1500},
        "flow": {"couplings": 3, "hidden": 16, "bins": 6, "encoder_layers": 1},
        "train": {"epochs": 2, "batch": 256, **train},
    }
    return parse_job(values, "test", folder)


def make_mocks(job: Job) -> None:
    plan = plan_mocks(job, RunFolder(job.output))
    for unit in plan.left:
        shard = {**unit.arguments, "rows": unit.rows}
        make_shard(str(unit.paths[0]), shard, dict(plan.settings), plan.footer(unit))


@pytest.fixture(scope="module")
def inline():
    """The stage without Dask: units run here, one after the other; their keys are kept."""
    ran: list[str] = []

    def run_units(client, function, units, pool, on_done):
        for unit in units:
            ran.append(unit.key)
            on_done(unit, function(**unit.arguments))
        return []

    @contextmanager
    def silent(*_):
        yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "run_units", run_units)
        patch.setattr(stage, "require", lambda *_: 1)
        patch.setattr(stage, "workers_with", lambda *_: ["tcp://a:1"])
        patch.setattr(stage, "listen", silent)
        yield ran


def train_stage(job: Job, mode: str = "resume"):
    session = SimpleNamespace(job=job, run=RunFolder(job.output), mode=mode, client=None, parts=[])
    return stage.train_stage(session)


@pytest.fixture(scope="module")
def trained(inline, tmp_path_factory):
    job = make_job(tmp_path_factory.mktemp("ensemble"), members=MEMBERS)
    make_mocks(job)
    report = train_stage(job)
    return job, report, list(inline)


@pytest.fixture
def copied(trained, tmp_path) -> Path:
    """The model folder alone, elsewhere."""
    shutil.copytree(RunFolder(trained[0].output).model, tmp_path / "copy")
    return tmp_path / "copy"


def test_each_member_is_a_unit_and_the_whole_one_more(trained):
    job, report, ran = trained
    assert ran == ["member-0", "member-1", "member-2"]
    assert (report.wanted, report.made, report.failures) == (4, 4, [])
    assert plan_train(job, RunFolder(job.output)).complete
    losses = [
        load_description(Path(job.output) / "model" / name)["training"]["held_out_loss"] for name in ran
    ]
    assert len(set(losses)) == MEMBERS
    assert report.figures["held_out_loss"] == pytest.approx(np.mean(losses))


def test_only_missing_members_are_trained(trained, inline, tmp_path):
    job = trained[0].model_copy(update={"output": tmp_path / "again"})
    shutil.copytree(trained[0].output, job.output)
    model = RunFolder(job.output).model
    whole = load_description(model)["weights_sha256"]
    (model / "member-1" / "model.json").unlink()
    (model / "model.json").unlink()
    inline.clear()
    assert train_stage(job).made == 2
    assert inline == ["member-1"]
    assert load_description(model)["weights_sha256"] == whole


def test_a_lost_description_is_put_together_again_without_training(trained, inline, tmp_path):
    job = trained[0].model_copy(update={"output": tmp_path / "again"})
    shutil.copytree(trained[0].output, job.output)
    model = RunFolder(job.output).model
    before = (model / "model.json").read_bytes()
    (model / "model.json").unlink()
    inline.clear()
    assert train_stage(job).made == 1
    assert inline == []
    assert (model / "model.json").read_bytes() == before


def test_another_number_of_members_is_another_training(trained):
    other = trained[0].model_copy(update={"train": make_job(Path("x"), members=2).train})
    with pytest.raises(UserError, match=r"train\.members: 3 there, 2 in the job"):
        plan_train(other, RunFolder(other.output))


def test_the_first_member_is_the_network_that_a_single_training_makes(trained, inline, tmp_path):
    job = make_job(tmp_path / "single")
    shutil.copytree(RunFolder(trained[0].output).mocks, RunFolder(job.output).mocks)
    inline.clear()
    report = train_stage(job)
    assert (inline, report.wanted, report.made) == (["model"], 1, 1)
    member = load_model(RunFolder(trained[0].output).model / "member-0")
    assert load_model(RunFolder(job.output).model).weights_sha256 == member.weights_sha256


def test_the_history_tells_the_members_apart(trained):
    table = pq.read_table(RunFolder(trained[0].output).history)
    assert sorted(set(table["member"].to_pylist())) == [0, 1, 2]


def test_the_mixture_is_the_mean_of_the_members_densities(trained):
    model = RunFolder(trained[0].output).model
    whole = load_model(model)
    singles = [load_model(model / f"member-{i}") for i in range(MEMBERS)]
    theta, seen, survey = _some(whole)
    apart = torch.stack([single.log_prob(theta, seen, survey).double() for single in singles])
    expected = apart.exp().mean(0).log()
    torch.testing.assert_close(whole.log_prob(theta, seen, survey).double(), expected, rtol=0, atol=1e-5)
    assert (apart[0] - apart[1]).abs().max() > 0.01


def test_draws_come_with_the_mixtures_density(trained):
    whole = load_model(RunFolder(trained[0].output).model)
    _, seen, survey = _some(whole)
    theta, log_q = whole.sample(seen, survey, _uniform(99))
    error = (whole.log_prob(theta, seen, survey) - log_q).abs()
    assert error.median() < 1e-4
    assert error.max() < 0.05


@pytest.mark.parametrize("draws", [1, 2, 100])
def test_weights_of_any_number_of_draws_are_unbiased(trained, draws):
    """The mean of f / q is the integral of f; here f is the first member's own density: 1."""
    model = RunFolder(trained[0].output).model
    whole, first = load_model(model), load_model(model / "member-0")
    _, seen, survey = _some(whole)
    sets = 6000 // draws
    seen, survey = type(seen)(*(column[:1].expand(sets, -1) for column in seen)), survey[:1].expand(sets)
    base = torch.rand(sets, draws, 3, generator=torch.Generator().manual_seed(4))
    theta, log_q = whole.sample(seen, survey, base)
    ratio = (first.log_prob(theta, seen, survey) - log_q).double().exp()
    assert float(ratio.mean()) == pytest.approx(1.0, abs=0.03)
    assert ratio.max() < min(draws, MEMBERS) * 1.1


def test_a_copied_folder_gives_the_runs_posteriors(trained, copied):
    found = [batchflow.open_model(path).posterior(FLUX, ERROR, distance_mpc=5.0, draws=60, seed=1)
             for path in (trained[0].output, copied)]  # fmt: skip
    np.testing.assert_array_equal(found[0].draws["log_age"], found[1].draws["log_age"])
    spread = found[1].summary["member_spread"].to_numpy()
    assert np.isfinite(spread).all()
    assert (spread > 0).all()
    assert np.isfinite(found[1].summary["efficiency"].to_numpy()).all()


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json"])
def test_an_altered_member_is_refused(copied, name):
    path = copied / "member-1" / name
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="member-1"):
        batchflow.open_model(copied)


def test_a_member_of_another_ensemble_is_refused(copied):
    shutil.rmtree(copied / "member-1")
    shutil.copytree(copied / "member-2", copied / "member-1")
    with pytest.raises(UserError, match="is not the member"):
        batchflow.open_model(copied)


@pytest.mark.parametrize("name", ["../member-1", "member-1/../../x", "/tmp/member-0", "other"])
def test_no_other_folder_is_followed(copied, name):
    values = load_description(copied)
    values["members"][1]["folder"] = name
    write_description(copied, values)
    with pytest.raises(UserError, match="no folder of an ensemble"):
        batchflow.open_model(copied)


def test_another_flux_table_is_refused(copied):
    content = bytearray((copied / "flux_table.safetensors").read_bytes())
    content[-1] ^= 1
    (copied / "flux_table.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="flux table"):
        batchflow.open_model(copied)


def test_the_card_says_what_an_astronomer_asks(trained, copied):
    card = (copied / "README.md").read_text()
    assert card == card_of(copied) == card_of(trained[0].output)
    for words in (
        "equal mixture of 3 networks",
        "`wfc3_f336w` | 3354",
        "| `log_mass` | log10 of the mass of stars formed | dex(solMass) | uniform 2 to 8 | yes |",
        "BC03 (2016)",
        "Bruzual & Charlot 2003",
        "open_model",
        "wfc3_f555w 31.6",
        "1 to 1e+03",
        "| 5 |",
        "Not measured",
        "MIT",
        "torch",
    ):
        assert words in card
    loss = load_description(copied)["training"]["held_out_loss"]
    assert f"{loss:,.6g} nat" in card


def test_a_validated_models_card_holds_its_calibration_and_no_others(trained, tmp_path, monkeypatch):
    job, run = trained[0], RunFolder(tmp_path / "run")
    shutil.copytree(RunFolder(job.output).model, run.model)
    monkeypatch.setattr("batchflow.validate.run.print_summary", lambda _: None)
    plan = plan_validate(job, run)
    (unit,) = plan.wanted
    row = {"parameter": "log_age", "n": 7, "bias": 0.0, "scatter": 0.1, "coverage_68": 0.6789}
    row |= {"coverage_95": 0.95, "rank_pvalue": 0.5, "efficiency": 0.87}
    for path in unit.paths:
        write_table(path, pa.Table.from_pylist([row]), plan.footer(unit))
    with ExitStack() as stack:
        validate_stage(Session(job, run, "resume", stack))
    card = (run.model / "README.md").read_text()
    assert "| log_age | 7 |" in card
    assert "Median efficiency of the draws: 0.87" in card
    assert card == card_of(run.root)
    batchflow.open_model(run.root)
    sent = shutil.copytree(run.model, tmp_path / "sent")
    assert card == card_of(sent)
    found = load_description(sent)
    write_description(sent, found | {"training": found["training"] | {"held_out_loss": -1.0}})
    assert "Not measured" in card_of(sent)
    write_description(run.model, load_description(run.model) | {"weights_sha256": "another"})
    assert "Not measured" in card_of(run.root)


def test_a_card_of_nothing_says_so(tmp_path):
    with pytest.raises(UserError, match="no trained model here"):
        card_of(tmp_path)
    with pytest.raises(UserError, match="is no folder"):
        card_of(tmp_path / "absent")


def test_settings_of_the_run_are_those_of_the_job(trained):
    settings = load_description(RunFolder(trained[0].output).model)["settings"]
    assert settings == json.loads(json.dumps(_flat(stages.train_settings(trained[0]))))


def _flat(settings):
    from batchflow.plan import flatten

    return flatten(settings)


def _uniform(draws: int) -> torch.Tensor:
    return torch.rand(2, draws, 3, generator=torch.Generator().manual_seed(0))


def _some(network):
    from batchflow.infer.clusters import from_arrays
    from batchflow.infer.draw import observations

    seen, survey = observations(from_arrays(FLUX, ERROR, 5.0, 2), network)
    theta, _ = network.sample(seen, survey, _uniform(40))
    return theta, seen, survey
