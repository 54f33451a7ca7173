"""Mock shards as tensors: streamed in groups that fit in memory, shuffled by key.

An epoch goes over the shards in an order of its own, a group of them at a time; the rows of a group
are mixed. A training set that is one group stays in memory, on the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from batchflow.errors import UserError
from batchflow.keys import generator, key
from batchflow.schema import flux_column
from batchflow.shards import read_table

GROUP_BYTES = 2**30
"""Memory for one group of shards; while one is trained on, the next is read."""
BYTES_PER_VALUE = 4
HELD_OUT_SHARDS = 64
"""Shards that held-out rows are read from at most: reading a few rows costs as much as reading all."""


class Mocks(NamedTuple):
    """Rows of a training set."""

    parameters: Tensor
    """Parameters in their units, shape (n, n_parameters); log_mass is not used in training."""
    fluxes: Tensor
    """Noise-free flux densities [mJy] of 1 Msun formed at 10 pc, shape (n, n_bands)."""

    def rows(self, index: Tensor) -> Mocks:
        """Some of the rows."""
        return Mocks(self.parameters[index], self.fluxes[index])

    def to(self, device: torch.device | str) -> Mocks:
        """The same rows on a device."""
        return Mocks(self.parameters.to(device), self.fluxes.to(device))


@dataclass(frozen=True)
class ShardSet:
    """Mock shards with the part of each that is kept from training."""

    paths: tuple[Path, ...]
    sizes: tuple[int, ...]
    """Rows of each shard."""
    parameters: tuple[str, ...]
    bands: tuple[str, ...]
    held_out: float
    """Share of each shard's rows, its last, that is kept from training."""

    def training_rows(self, shard: int) -> slice:
        """Rows of a shard to train on."""
        return slice(0, self._first_kept(shard))

    def held_out_rows(self, shard: int) -> slice:
        """Rows of a shard kept from training: at least one, and its last."""
        return slice(self._first_kept(shard), self.sizes[shard])

    def _first_kept(self, shard: int) -> int:
        return max(0, self.sizes[shard] - max(1, round(self.held_out * self.sizes[shard])))

    @cached_property
    def n_training(self) -> int:
        """Rows to train on in all shards together."""
        return sum(self.training_rows(shard).stop for shard in range(len(self.sizes)))

    @property
    def group_rows(self) -> int:
        """Rows of a group at most, but for one shard that is larger."""
        return GROUP_BYTES // (BYTES_PER_VALUE * (len(self.parameters) + len(self.bands)))

    def read(self, shard: int, rows: slice) -> Mocks:
        """Read some rows of a shard.

        Raises
        ------
        UserError
            When a value is not finite or a flux is not positive.
        """
        fluxes = [flux_column(band) for band in self.bands]
        table = read_table(self.paths[shard], [*self.parameters, *fluxes])
        table = table.slice(rows.start, rows.stop - rows.start)
        parameters = _matrix(table, self.parameters)
        values = _matrix(table, fluxes)
        _check(parameters, values, self.paths[shard])
        mass = parameters[:, self.parameters.index("log_mass")].astype(np.float64)
        values = (values / (10.0**mass)[:, None]).astype(np.float32)
        return Mocks(torch.from_numpy(parameters), torch.from_numpy(values))

    def read_held_out(self, limit: int) -> Mocks:
        """Held-out rows, a like number of each shard, `limit` together or fewer.

        Parameters
        ----------
        limit : int
            Rows wanted at most.

        Returns
        -------
        Mocks
            The same rows on every call; of many shards, `HELD_OUT_SHARDS` are read.
        """
        chosen = range(0, len(self.paths), -(-len(self.paths) // HELD_OUT_SHARDS))
        parts, left = [], limit
        for place, shard in enumerate(chosen):
            kept = self.held_out_rows(shard)
            share = min(kept.stop - kept.start, -(-left // (len(chosen) - place)))
            if share:
                parts.append(self.read(shard, slice(kept.start, kept.start + share)))
            left -= share
        return joined(parts)


def open_shards(
    paths: Sequence[Path], bands: Sequence[str], held_out: float, parameters: Sequence[str] | None = None
) -> ShardSet:
    """Look at the footers of mock shards.

    Parameters
    ----------
    paths : sequence of Path
        Parquet files of `schema.mocks_schema`.
    bands : sequence of str
        Bands to read.
    held_out : float
        Share of each shard's rows to keep from training.
    parameters : sequence of str, optional
        Parameters to read, those that are inferred; default all that the shards have.

    Returns
    -------
    ShardSet
        Nothing but footers has been read.

    Raises
    ------
    UserError
        When there is no shard, one cannot be read, or lacks a column.
    """
    if not paths:
        raise UserError("no mock shards to train on; make them first: batchflow mocks JOB")
    schemas = [_footer(path) for path in paths]
    names = schemas[0][0]
    known = tuple(name for name in names if not name.startswith("flux_"))
    parameters = known if parameters is None else tuple(parameters)
    wanted = [*parameters, *map(flux_column, bands)]
    for path, (found, _) in zip(paths, schemas, strict=True):
        if missing := [name for name in (*wanted, "log_mass") if name not in found]:
            raise UserError(f"mock shard {path} lacks {', '.join(missing)}; make the mocks again")
    sizes = tuple(rows for _, rows in schemas)
    shards = ShardSet(tuple(map(Path, paths)), sizes, parameters, tuple(bands), held_out)
    if shards.n_training < 1:
        raise UserError(f"{sum(sizes)} mocks leave none to train on; set mocks.rows higher")
    return shards


class Batches:
    """The batches of each epoch, by key: which rows are in which depends on nothing else."""

    def __init__(self, shards: ShardSet, batch: int, seed: int, device: torch.device | str) -> None:
        self._shards = shards
        self._seed = seed
        self._device = device
        self._resident: Mocks | None = None
        self.batch = min(batch, shards.n_training)

    def groups(self, epoch: int) -> list[list[int]]:
        """Shards of an epoch in the order they are read, in groups that fit in memory."""
        order = generator(self._seed, "train", "shards", epoch).permutation(len(self._shards.paths))
        groups: list[list[int]] = [[]]
        for shard in map(int, order):
            held = self._rows(groups[-1])
            if held >= self.batch and held + self._rows([shard]) > self._shards.group_rows:
                groups.append([])
            groups[-1].append(shard)
        return groups

    def steps(self, epoch: int) -> int:
        """Number of batches of an epoch; rows that do not fill a group's last batch sit it out."""
        return sum(self._rows(group) // self.batch for group in self.groups(epoch))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Mocks]:
        """Batches of an epoch on the device.

        Parameters
        ----------
        epoch : int
            From 0.
        start : int
            How many batches to pass over; groups that only they fill are not read.

        Yields
        ------
        Mocks
            `batch` rows each.
        """
        groups = self.groups(epoch)
        steps = [self._rows(group) // self.batch for group in groups]
        first = 0
        while first < len(groups) and start >= steps[first]:
            start -= steps[first]
            first += 1
        for place, rows in enumerate(self._loaded(groups[first:]), start=first):
            order = self._order(epoch, place, rows)
            for step in range(start, steps[place]):
                yield rows.rows(order[step * self.batch : (step + 1) * self.batch])
            start = 0

    def _rows(self, group: Sequence[int]) -> int:
        return sum(self._shards.training_rows(shard).stop for shard in group)

    def _order(self, epoch: int, place: int, rows: Mocks) -> Tensor:
        chance = torch.Generator().manual_seed(key(self._seed, "train", "rows", epoch, place))
        return torch.randperm(rows.fluxes.shape[0], generator=chance).to(self._device)

    def _loaded(self, groups: Sequence[list[int]]) -> Iterator[Mocks]:
        """Rows of each group; the next group is read while one is used."""
        if len(groups) == 1 and len(groups[0]) == len(self._shards.paths):
            self._resident = self._resident or self._load(sorted(groups[0]))
            yield self._resident
            return
        with ThreadPoolExecutor(1) as reader:
            ahead: list[Future[Mocks]] = [reader.submit(self._load, group) for group in groups[:1]]
            for place in range(len(groups)):
                rows = ahead.pop().result()
                if place + 1 < len(groups):
                    ahead.append(reader.submit(self._load, groups[place + 1]))
                yield rows

    def _load(self, group: Sequence[int]) -> Mocks:
        parts = [self._shards.read(shard, self._shards.training_rows(shard)) for shard in group]
        return joined(parts).to(self._device)


def joined(parts: Sequence[Mocks]) -> Mocks:
    """Rows of several sets in one."""
    return Mocks(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def _footer(path: Path) -> tuple[list[str], int]:
    """Column names and number of rows of a Parquet file."""
    try:
        metadata = pq.read_metadata(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"mock shard {path} cannot be read ({error}); make the mocks again") from None
    return metadata.schema.to_arrow_schema().names, metadata.num_rows


def _matrix(table: pa.Table, names: Sequence[str]) -> NDArray[np.float32]:
    columns = [table.column(name).to_numpy() for name in names]
    return np.stack(columns, axis=1).astype(np.float32, copy=False)


def _check(parameters: NDArray[np.float32], fluxes: NDArray[np.float32], path: Path) -> None:
    bad = ~(np.isfinite(parameters).all(axis=1) & (np.isfinite(fluxes) & (fluxes > 0)).all(axis=1))
    if bad.any():
        raise UserError(
            f"mock shard {path}: {int(bad.sum())} of {bad.size} rows hold a parameter that is not finite "
            f"or a flux that is not positive, the first at row {int(bad.argmax())}; make the mocks again"
        )
