"""Training: it learns, it resumes to the bit, it stops in time, it names what goes wrong."""

from __future__ import annotations

import json
import math
import subprocess
from dataclasses import replace

import pytest
import torch
from toy_mocks import toy_training, write_toy_shards

from batchflow.errors import UserError
from batchflow.flow.checkpoint import load_model, new_network
from batchflow.threads import Crew, threads
from batchflow.train.data import ShardSet
from batchflow.train.fit import CHECKPOINT_FOLDER, HISTORY_FILE, train
from batchflow.train.hands import hired
from batchflow.train.history import Record, read_history, write_history
from batchflow.train.optimise import Optimisation, one_cycle
from batchflow.train.parts import PART_ROWS, parts

TIMES = {"rows_per_second": 0.0, "seconds": 0.0}


class InterruptionError(Exception):
    """What a killed process looks like from within."""


def stop_at(step: int):
    def tell(progress) -> None:
        if progress.step == step:
            raise InterruptionError

    return tell


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return write_toy_shards(tmp_path_factory.mktemp("mocks"), (1500, 1500))


@pytest.fixture(scope="module")
def unbroken(paths, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, train(toy_training(paths, {}), folder)


def without_times(folder) -> list[Record]:
    return [record._replace(**TIMES) for record in read_history(folder / HISTORY_FILE)]


def test_figures_and_history_agree(unbroken):
    folder, figures = unbroken
    history = read_history(folder / HISTORY_FILE)
    assert figures["steps"] == history[-1].step == 2 * (2700 // 256)
    assert figures["rows"] == 256 * figures["steps"]
    assert figures["held_out_loss"] == history[-1].held_out_loss
    assert [record.epoch for record in history] == [1.0, 2.0]
    assert all(record.rows_per_second > 0 for record in history)
    assert load_model(folder).description["training"] == figures


def test_training_lowers_the_held_out_loss(paths, tmp_path):
    train(toy_training(paths, {"epochs": 12, "learning_rate": 1e-2}), tmp_path)
    history = read_history(tmp_path / HISTORY_FILE)
    assert history[-1].held_out_loss < history[0].held_out_loss - 0.3
    assert abs(history[-1].train_loss - history[-1].held_out_loss) < 0.5


def test_equal_seeds_give_equal_weights_and_others_do_not(paths, unbroken, tmp_path):
    checksum = load_model(unbroken[0]).weights_sha256
    train(toy_training(paths, {}), tmp_path / "again")
    assert load_model(tmp_path / "again").weights_sha256 == checksum
    train(toy_training(paths, {}, seed=2), tmp_path / "other")
    assert load_model(tmp_path / "other").weights_sha256 != checksum


@pytest.mark.parametrize("step", [1, 7, 10, 13])
def test_a_killed_training_goes_on_to_the_same_weights_and_history(paths, unbroken, tmp_path, step):
    often = toy_training(paths, {"checkpoint_seconds": 1e-9})
    with pytest.raises(InterruptionError):
        train(often, tmp_path, progress=stop_at(step))
    assert (tmp_path / CHECKPOINT_FOLDER).is_dir()
    steps = []
    train(often, tmp_path, progress=lambda progress: steps.append(progress.step))
    assert steps[0] == step + 1
    assert load_model(tmp_path).weights_sha256 == load_model(unbroken[0]).weights_sha256
    assert without_times(tmp_path) == without_times(unbroken[0])
    assert not (tmp_path / CHECKPOINT_FOLDER).exists()


def test_a_training_killed_twice_between_checkpoints_repeats_what_was_lost(paths, unbroken, tmp_path):
    def stop_late(progress) -> None:
        # No checkpoint is due after the third step: five steps are lost.
        if progress.step == 3:
            object.__setattr__(often.settings, "checkpoint_seconds", 1e9)
        if progress.step == 8:
            raise InterruptionError

    often = toy_training(paths, {"checkpoint_seconds": 1e-9})
    with pytest.raises(InterruptionError):
        train(often, tmp_path, progress=stop_late)
    steps = []
    train(often, tmp_path, progress=lambda progress: steps.append(progress.step))
    assert steps[0] == 4
    assert load_model(tmp_path).weights_sha256 == load_model(unbroken[0]).weights_sha256


def test_a_checkpoint_cut_short_is_not_used(paths, unbroken, tmp_path):
    often = toy_training(paths, {"checkpoint_seconds": 1e-9})
    with pytest.raises(InterruptionError):
        train(often, tmp_path, progress=stop_at(5))
    (tensors,) = (tmp_path / CHECKPOINT_FOLDER).glob("*.safetensors")
    tensors.write_bytes(tensors.read_bytes()[:-10])
    steps = []
    train(often, tmp_path, progress=lambda progress: steps.append(progress.step))
    assert steps[0] == 1
    assert load_model(tmp_path).weights_sha256 == load_model(unbroken[0]).weights_sha256


def test_a_checkpoint_of_other_settings_is_refused(paths, tmp_path):
    often = toy_training(paths, {"checkpoint_seconds": 1e-9})
    with pytest.raises(InterruptionError):
        train(often, tmp_path, progress=stop_at(2))
    with pytest.raises(UserError, match="other settings"):
        train(replace(often, fingerprint="another"), tmp_path)
    named = replace(often, fingerprint="another", description={"settings": {"train.batch": 7}})
    with pytest.raises(UserError, match=r"train\.batch: None there, 7 in the job"):
        train(named, tmp_path)


def test_mocks_of_another_prior_are_refused(paths, tmp_path):
    training = toy_training(paths, {})
    boxes = {"ebv": (0.0, 1.5), "log_age": (6.0, 10.0), "log_mass": (2.0, 7.0)}
    other = replace(training, specification=replace(training.specification, boxes=boxes))
    with pytest.raises(UserError, match="make the mocks again"):
        train(other, tmp_path)


def test_a_lost_history_does_not_lose_a_finished_training(paths, unbroken, tmp_path):
    often = toy_training(paths, {"checkpoint_seconds": 1e-9})
    with pytest.raises(InterruptionError):
        train(often, tmp_path, progress=stop_at(20))
    (tmp_path / HISTORY_FILE).unlink()
    assert train(often, tmp_path)["steps"] == 20
    assert load_model(tmp_path).weights_sha256 == load_model(unbroken[0]).weights_sha256


def test_a_time_limit_ends_training_with_the_learning_rate_at_zero(paths, tmp_path):
    settings = {"epochs": 10_000, "max_minutes": 5 / 60}
    figures = train(toy_training(paths, settings), tmp_path)
    assert 3.0 < figures["seconds"] < 15.0
    assert figures["steps"] < 100_000
    assert read_history(tmp_path / HISTORY_FILE)[-1].learning_rate < 1e-4


def test_a_time_limit_shorter_than_the_preparations_leaves_a_step(paths, tmp_path):
    figures = train(toy_training(paths, {"max_minutes": 1e-6}), tmp_path)
    assert figures["steps"] == 1
    assert math.isfinite(figures["train_loss"])


def test_a_loss_that_is_no_number_names_epoch_and_batch(paths, tmp_path, monkeypatch):
    original = Optimisation.step
    calls = []

    def poisoned(self, batch, fraction):
        calls.append(fraction)
        if len(calls) == 14:
            batch = batch._replace(unit=batch.unit * torch.nan)
        original(self, batch, fraction)

    monkeypatch.setattr(Optimisation, "step", poisoned)
    with pytest.raises(UserError, match=r"epoch 1, batch 3, .*train.learning_rate"):
        train(toy_training(paths, {}), tmp_path)
    assert not (tmp_path / "model.json").exists()


def test_losses_looked_at_late_still_name_the_first_bad_batch(paths, tmp_path):
    from batchflow.train.fit import _Fit

    fit = _Fit(toy_training(paths, {}), tmp_path, torch.device("cpu"), Crew(1))
    bad = fit.held_out._replace(unit=fit.held_out.unit * torch.nan)
    for step in range(5):
        fit.optimisation.step(bad if step == 2 else fit.held_out, 0.5)
    with pytest.raises(UserError, match="epoch 0, batch 12,"):
        fit.optimisation.check(epoch=0, batch=14)


def test_the_weights_are_the_same_to_the_last_digit_however_many_cores(tmp_path, monkeypatch):
    monkeypatch.setattr("batchflow.train.fit.SHARED_ROWS", 0)
    begun = count_processes(monkeypatch)
    paths = write_toy_shards(tmp_path, (6000,))
    found = []
    for number in (1, 2, 3):
        folder = tmp_path / str(number)
        with threads(number):
            train(toy_training(paths, {"epochs": 1, "batch": 3 * PART_ROWS}), folder)
        network = load_model(folder)
        found.append(network.density.state_dict())
    for name, weights in found[0].items():
        assert all(torch.equal(weights, other[name]) for other in found[1:]), name
    assert len(read_history(folder / HISTORY_FILE)) == 1
    assert len(begun) == 2 + 3
    assert all(process.poll() == 0 for process in begun)


def count_processes(monkeypatch):
    """List the processes that trainings begin, from now on."""
    begun = []
    real = subprocess.Popen
    monkeypatch.setattr(
        "batchflow.train.hands.subprocess.Popen",
        lambda *args, **kw: begun.append(real(*args, **kw)) or begun[-1],
    )
    return begun


def test_a_killed_process_is_a_message_and_training_goes_on_to_the_same_end(tmp_path, monkeypatch):
    monkeypatch.setattr("batchflow.train.fit.SHARED_ROWS", 0)
    begun = count_processes(monkeypatch)
    training = toy_training(
        write_toy_shards(tmp_path, (6000,)), {"epochs": 2, "batch": 2 * PART_ROWS, "checkpoint_seconds": 1e-9}
    )

    def kill(progress):
        if progress.step == 3:
            begun[1].kill()

    with threads(2):
        with pytest.raises(UserError, match=r"ended with status -9.*goes on from its last checkpoint"):
            train(training, tmp_path / "killed", progress=kill)
        assert all(process.poll() is not None for process in begun)
        train(training, tmp_path / "killed")
        train(training, tmp_path / "whole")
    killed, whole = (load_model(tmp_path / name).density.state_dict() for name in ("killed", "whole"))
    assert all(torch.equal(killed[name], weights) for name, weights in whole.items())


def test_short_trainings_and_small_batches_start_no_process(paths, tmp_path, monkeypatch):
    begun = count_processes(monkeypatch)
    with threads(2):
        train(toy_training(paths, {"epochs": 1}), tmp_path / "short")
        monkeypatch.setattr("batchflow.train.fit.SHARED_ROWS", 0)
        train(toy_training(paths, {"epochs": 1, "batch": PART_ROWS}), tmp_path / "small")
    assert begun == []


@pytest.mark.parametrize("rows", [1, 100, PART_ROWS, 2 * PART_ROWS - 1, 2 * PART_ROWS, 5000])
def test_the_parts_of_a_batch_are_all_of_it(rows):
    found = parts(rows, torch.device("cpu"))
    assert [row for part in found for row in range(part.start, part.stop)] == list(range(rows))
    assert max(part.stop - part.start for part in found) < 2 * PART_ROWS
    assert parts(rows, torch.device("cuda")) == [slice(0, rows)]


def test_an_error_in_a_core_s_part_comes_out():
    def work(item):
        if item == 2:
            raise UserError("two")
        return item

    crew = Crew(2)
    with pytest.raises(UserError, match="two"):
        crew.map(work, [1, 2, 3])
    with pytest.raises(UserError, match="two"):
        crew.begin(lambda: work(2)).result()
    assert crew.map(work, [5, 4, 3]) == [5, 4, 3]
    crew.close()


def test_streaming_and_resident_trainings_both_end(paths, tmp_path, monkeypatch):
    monkeypatch.setattr("batchflow.train.data.GROUP_BYTES", 1000 * 4 * 6)
    figures = train(toy_training(paths, {}), tmp_path)
    assert figures["steps"] == 2 * 2 * (1350 // 256)


def test_progress_is_told_after_every_step(paths, tmp_path):
    seen = []
    train(toy_training(paths, {"epochs": 1}), tmp_path, progress=seen.append)
    assert [progress.step for progress in seen] == list(range(1, 11))
    assert {progress.total_steps for progress in seen} == {10}
    assert seen[-1].fraction == 1.0
    assert seen[-1].record.step == 10


def test_the_rate_rises_then_falls_to_zero():
    rates = [one_cycle(i / 1000) for i in range(1001)]
    peak = rates.index(max(rates))
    assert rates[peak] == pytest.approx(1.0)
    assert 0 < rates[0] < 0.1
    assert rates[-1] == pytest.approx(0.0)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


def test_history_comes_back_as_written(tmp_path):
    records = [Record(10, 0.5, -1.0, -0.9, 1e-3, 5e4, 2.0), Record(20, 1.0, -1.2, -1.0, 5e-4, 6e4, 4.0)]
    write_history(tmp_path / HISTORY_FILE, records)
    assert read_history(tmp_path / HISTORY_FILE) == records
    assert read_history(tmp_path / "nothing.parquet") == []


def test_a_checkpoint_is_json_and_tensors_only(paths, tmp_path):
    often = toy_training(paths, {"checkpoint_seconds": 1e-9})
    with pytest.raises(InterruptionError):
        train(often, tmp_path, progress=stop_at(4))
    names = sorted(path.name for path in (tmp_path / CHECKPOINT_FOLDER).iterdir())
    assert names == ["state.json", "step-4.safetensors"]
    assert json.loads((tmp_path / CHECKPOINT_FOLDER / "state.json").read_text())["step"] == 4


def test_held_out_rows_are_asked_for_once(paths, tmp_path, monkeypatch):
    calls = []
    original = ShardSet.read_held_out
    monkeypatch.setattr(
        ShardSet, "read_held_out", lambda self, limit: calls.append(limit) or original(self, limit)
    )
    train(toy_training(paths, {"epochs": 1}), tmp_path)
    assert len(calls) == 1


def test_no_process_stays_when_one_cannot_begin(paths, monkeypatch):
    begun = []
    real = subprocess.Popen

    def begin(*args, **options):
        begun.append(real(*args, **options))
        if len(begun) == 2:
            begun[-1].kill()
        return begun[-1]

    monkeypatch.setattr("batchflow.train.hands.subprocess.Popen", begin)
    flow = new_network(toy_training(paths, {}).specification, 0).density.flow
    with pytest.raises(UserError, match="ended with status -9"), hired(2, flow, 2 * PART_ROWS):
        pass
    assert [process.poll() is None for process in begun] == [False, False]
