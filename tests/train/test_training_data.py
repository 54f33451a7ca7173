"""Shards as batches: every row once an epoch, held-out rows never, bounded memory, a start anywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from toy_mocks import BANDS, toy_fluxes, write_toy_shards

from batchflow.errors import UserError
from batchflow.shards import write_table
from batchflow.train.data import Batches, ShardSet, open_shards

SIZES = (400, 300, 500, 350)


@pytest.fixture
def shards(tmp_path) -> ShardSet:
    return open_shards(write_toy_shards(tmp_path, SIZES), BANDS, held_out=0.1)


@pytest.fixture
def streamed(shards, monkeypatch) -> ShardSet:
    """The same shards with memory for two of them."""
    monkeypatch.setattr("batchflow.train.data.GROUP_BYTES", 800 * 4 * 6)
    return shards


def identities(batches) -> list[float]:
    return [value for mocks in batches for value in mocks.parameters[:, 0].tolist()]


def test_fluxes_are_per_unit_mass(shards):
    mocks = shards.read(1, slice(10, 60))
    age, _, ebv = mocks.parameters.numpy().T.astype(float)
    np.testing.assert_allclose(mocks.fluxes.numpy(), toy_fluxes(age, ebv), rtol=2e-5)


def test_held_out_rows_are_the_last_of_each_shard_and_never_trained_on(shards):
    held = [shards.read(i, shards.held_out_rows(i)) for i in range(4)]
    assert [len(part.parameters) for part in held] == [40, 30, 50, 35]
    apart = {value for part in held for value in part.parameters[:, 0].tolist()}
    trained = set(identities(Batches(shards, 50, seed=1, device="cpu").epoch(0)))
    assert not apart & trained
    last = pq.read_table(shards.paths[0])["log_age"].to_pylist()[-1]
    assert last in apart


def test_held_out_rows_come_from_every_shard_up_to_a_limit(shards):
    assert len(shards.read_held_out(1000).parameters) == 155
    few = shards.read_held_out(12)
    assert len(few.parameters) == 12
    wanted = {shards.read(i, shards.held_out_rows(i)).parameters[0, 0].item() for i in range(4)}
    assert wanted <= set(few.parameters[:, 0].tolist())


def test_of_many_shards_some_are_read_for_held_out_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("batchflow.train.data.HELD_OUT_SHARDS", 2)
    shards = open_shards(write_toy_shards(tmp_path, (50, 50, 50)), BANDS, held_out=0.1)
    expected = [shards.read(i, shards.held_out_rows(i)).parameters for i in (0, 2)]
    assert torch.equal(shards.read_held_out(100).parameters, torch.cat(expected))


@pytest.mark.parametrize("kind", ["shards", "streamed"])
def test_an_epoch_has_every_row_once_but_for_the_groups_last_batches(kind, request):
    shards = request.getfixturevalue(kind)
    batches = Batches(shards, 50, seed=1, device="cpu")
    seen = identities(batches.epoch(0))
    assert len(seen) == len(set(seen)) == 50 * batches.steps(0)
    assert shards.n_training - len(seen) < 50 * len(batches.groups(0))
    assert len(batches.groups(0)) == (1 if kind == "shards" else 2)


@pytest.mark.parametrize("kind", ["shards", "streamed"])
def test_epochs_differ_and_seeds_differ_and_keys_repeat(kind, request):
    shards = request.getfixturevalue(kind)
    batches = Batches(shards, 50, seed=1, device="cpu")
    first, second = identities(batches.epoch(0)), identities(batches.epoch(1))
    assert first != second
    assert first == identities(Batches(shards, 50, seed=1, device="cpu").epoch(0))
    assert first != identities(Batches(shards, 50, seed=2, device="cpu").epoch(0))


@pytest.mark.parametrize("start", [0, 1, 13, 20, 26])
def test_an_epoch_can_be_entered_anywhere(streamed, start):
    batches = Batches(streamed, 50, seed=3, device="cpu")
    whole = identities(batches.epoch(2))
    assert identities(batches.epoch(2, start)) == whole[50 * start :]


def test_no_more_than_two_groups_are_read_ahead(streamed, monkeypatch):
    read: list[int] = []
    original = ShardSet.read

    def counting(self, shard, rows):
        read.append(shard)
        return original(self, shard, rows)

    monkeypatch.setattr(ShardSet, "read", counting)
    batches = Batches(streamed, 50, seed=1, device="cpu")
    passed = batches.steps(0) - 1
    assert len(identities(batches.epoch(0, passed))) == 50
    assert set(read) == set(batches.groups(0)[-1])


def test_rows_of_different_shards_are_mixed(shards):
    first = next(iter(Batches(shards, 200, seed=1, device="cpu").epoch(0))).parameters[:, 0].tolist()
    origins = [set(shards.read(i, shards.training_rows(i)).parameters[:, 0].tolist()) for i in range(4)]
    shares = [sum(value in origin for value in first) for origin in origins]
    assert min(shares) > 20


def test_a_batch_is_never_larger_than_the_training_set(shards):
    batches = Batches(shards, 10**6, seed=1, device="cpu")
    assert batches.batch == shards.n_training
    assert batches.steps(0) == 1


def test_a_shard_of_one_row_is_held_out(tmp_path):
    shards = open_shards(write_toy_shards(tmp_path, (1, 50)), BANDS, held_out=0.02)
    assert shards.n_training == 49


def test_no_shards_is_the_users_mistake():
    with pytest.raises(UserError, match="no mock shards"):
        open_shards([], BANDS, 0.1)


def test_a_missing_shard_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere.parquet cannot be read"):
        open_shards([tmp_path / "nowhere.parquet"], BANDS, 0.1)


def test_a_shard_without_a_band_is_named(tmp_path):
    paths = write_toy_shards(tmp_path, (50,))
    with pytest.raises(UserError, match="lacks flux_acs_f606w"):
        open_shards(paths, (*BANDS, "acs_f606w"), 0.1)


@pytest.mark.parametrize("value", [np.nan, 0.0, np.inf])
def test_a_flux_that_is_none_is_found_with_its_row(tmp_path, value):
    (path,) = write_toy_shards(tmp_path, (50,))
    _spoil(path, value)
    shards = open_shards([path], BANDS, 0.1)
    with pytest.raises(UserError, match=r"1 of 50 rows .* the first at row 7"):
        shards.read(0, slice(0, 50))


def _spoil(path: Path, value: float) -> None:
    table = pq.read_table(path)
    place = table.schema.get_field_index("flux_wfc3_f438w")
    column = table.column(place).to_numpy().copy()
    column[7] = value
    write_table(path, table.set_column(place, table.schema.field(place), [column]), {})


def test_batches_are_tensors_in_single_precision(shards):
    mocks = next(iter(Batches(shards, 50, seed=1, device="cpu").epoch(0)))
    assert mocks.parameters.dtype == mocks.fluxes.dtype == torch.float32
