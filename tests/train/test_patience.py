"""Early stopping: it stops, it keeps the best weights, and a killed training stops where it would have."""

from __future__ import annotations

import math

import pytest
import torch
from toy_mocks import toy_training, write_toy_shards

from batchflow.flow.checkpoint import load_model
from batchflow.settings.train import TrainSettings
from batchflow.train.fit import HISTORY_FILE, train
from batchflow.train.history import read_history
from batchflow.train.patience import Patience

STILL = {"epochs": 40, "patience": 2, "learning_rate": 1e-12}
"""Nothing is learned, so that the first epoch stays the best."""


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return write_toy_shards(tmp_path_factory.mktemp("mocks"), (1500,))


def line(*losses: float) -> tuple[Patience, torch.nn.Module]:
    patience, model = Patience(2), torch.nn.Linear(1, 1, bias=False)
    for epoch, loss in enumerate(losses):
        with torch.no_grad():
            model.weight.fill_(float(epoch))
        patience.look(loss, model)
    return patience, model


def test_it_counts_epochs_without_a_lower_loss():
    assert not line(3.0, 2.0, 2.1, 1.9, 2.0)[0].exhausted
    assert line(3.0, 2.0, 2.1, 2.0)[0].exhausted
    assert line(3.0, 2.0, 2.0 - 1e-6, 2.0 - 2e-6)[0].exhausted
    assert line(3.0, math.nan, math.nan)[0].exhausted


def test_the_best_weights_come_back_and_only_where_they_are_better():
    patience, model = line(3.0, 2.0, 2.5, 2.4)
    assert patience.settle(2.4, model) == 2.0
    assert model.weight.item() == 1.0
    patience, model = line(3.0, 2.0, 2.5)
    assert patience.settle(1.9, model) == 1.9
    assert model.weight.item() == 2.0


def test_training_stops_when_nothing_gets_better(paths, tmp_path):
    figures = train(toy_training(paths, STILL), tmp_path)
    history = read_history(tmp_path / HISTORY_FILE)
    assert figures["epochs"] == 3.0
    assert figures["held_out_loss"] == history[0].held_out_loss
    without = train(toy_training(paths, STILL | {"epochs": 5, "patience": None}), tmp_path / "patient")
    assert without["epochs"] == 5.0


def test_a_training_that_learns_is_not_stopped(paths, tmp_path):
    figures = train(toy_training(paths, {"epochs": 6, "patience": 2, "learning_rate": 5e-3}), tmp_path)
    assert figures["epochs"] == 6.0


@pytest.mark.parametrize("step", [4, 9, 15])
def test_a_killed_training_stops_where_it_would_have(paths, tmp_path, step):
    class KilledError(Exception):
        pass

    def kill(progress) -> None:
        if progress.step == step:
            raise KilledError

    whole = train(toy_training(paths, STILL), tmp_path / "whole")
    often = toy_training(paths, STILL | {"checkpoint_seconds": 1e-9})
    if step < whole["steps"]:
        with pytest.raises(KilledError):
            train(often, tmp_path / "killed", progress=kill)
    again = train(often, tmp_path / "killed")
    assert again["steps"] == whole["steps"]
    assert again["held_out_loss"] == whole["held_out_loss"]
    checksums = {load_model(tmp_path / name).weights_sha256 for name in ("whole", "killed")}
    assert len(checksums) == 1


def test_settings_that_are_not_used_do_not_change_a_fingerprint():
    assert not {"patience", "members"} & set(TrainSettings().model_dump(mode="json"))
    assert TrainSettings(patience=3).model_dump(mode="json")["patience"] == 3
