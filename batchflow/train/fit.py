"""Fitting a flow to mock shards, with a history, a time limit, and checkpoints to go on from.

Nothing in the loop waits for the device: losses are summed there and looked at with each record.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch

from batchflow.errors import UserError
from batchflow.flow.checkpoint import new_network, save_model
from batchflow.flow.density import Batch, Specification, with_mass
from batchflow.flow.description import HISTORY, HISTORY_FILE
from batchflow.flow.features import make_features
from batchflow.keys import key
from batchflow.physics.torch_table import TorchFluxTable
from batchflow.settings.train import TrainSettings
from batchflow.threads import Crew, crew
from batchflow.train import resume
from batchflow.train.assemble import CHECKPOINT_FOLDER
from batchflow.train.data import Batches, Mocks, ShardSet, joined
from batchflow.train.hands import hired
from batchflow.train.history import Record, write_history
from batchflow.train.optimise import Optimisation
from batchflow.train.parts import parts
from batchflow.train.patience import Patience
from batchflow.train.prepare import prepare
from batchflow.train.simulate import simulate

HELD_OUT_ROWS = 16_384
"""Held-out mocks that each record looks at; always the same ones, with the same noise."""
BATCHES_AT_ONCE = 8
"""Batches whose photometry is simulated together: its many small operations then cost half."""
ROWS_AT_ONCE = 4096
"""Held-out mocks evaluated together."""
RECORD_STEPS = 250
"""Steps between records; there is at least one record an epoch."""
SHARED_ROWS = 250_000
"""Rows of a whole training from which on it is worth the seconds that further processes take to start."""


@dataclass(frozen=True)
class Training:
    """All that decides what comes out of a training."""

    specification: Specification
    shards: ShardSet
    fluxes: TorchFluxTable
    """The model's, of the network's parameters but the mass."""
    settings: TrainSettings
    seed: int
    fingerprint: str
    """Of the settings: a checkpoint with another one is refused."""
    description: dict[str, Any] = field(default_factory=dict)
    """Kept in ``model.json``: settings, engine."""


class TrainingProgress(NamedTuple):
    """Told after every step."""

    step: int
    total_steps: int
    fraction: float
    """Of the training that is done, by steps or by time."""
    record: Record | None
    """The newest record."""


def train(
    training: Training,
    folder: Path,
    device: str | torch.device = "cpu",
    progress: Callable[[TrainingProgress], None] | None = None,
) -> dict[str, float]:
    """Train a network and write its model folder; go on from a checkpoint where there is one.

    Parameters
    ----------
    training : Training
        What to train, on what, how.
    folder : Path
        The model folder; the history grows in it, and checkpoints under ``checkpoint/``.
    device : str or torch.device
        Where to train.
    progress : callable, optional
        Called after every step; an exception from it ends the training, to be resumed.

    Returns
    -------
    dict of str to float
        Figures: steps, epochs, rows, seconds, rows_per_second, train_loss and held_out_loss [nat], weights.

    Raises
    ------
    UserError
        When a shard cannot be used, a checkpoint belongs to other settings, the file system refuses, or
        the loss is not finite.
    """
    if training.shards.parameters != training.specification.parameters:
        raise UserError(
            f"the mocks have the parameters {', '.join(training.shards.parameters)}, the prior has "
            f"{', '.join(training.specification.parameters)}; make the mocks again: batchflow mocks JOB"
        )
    with crew(torch.device(device)) as threaded:
        fit = _Fit(training, Path(folder), torch.device(device), threaded)
        fit.run(progress or (lambda _: None))
    fit.network.description = training.description | {"training": fit.figures(), HISTORY: fit.records}
    save_model(fit.folder, fit.network)
    resume.remove_checkpoint(fit.folder / CHECKPOINT_FOLDER)
    return fit.figures()


class _Fit:
    """A training under way."""

    def __init__(self, training: Training, folder: Path, device: torch.device, threaded: Crew) -> None:
        self.begun = time.monotonic()
        self.crew = threaded
        self.training, self.folder, self.device = training, folder, device
        settings, seed = training.settings, training.seed
        self.settings = training.description.get("settings", {})
        saved = resume.read_checkpoint(folder / CHECKPOINT_FOLDER, training.fingerprint, self.settings)
        self.network = new_network(training.specification, key(seed, "train", "weights"))
        if saved is None:
            prepare(self.network, training.shards, seed, training.fluxes)
        self.network.density.to(device)
        self.noise = self.network.noise_on(device)
        self.optimisation = Optimisation(self.network.density.flow, settings.learning_rate)
        self.batches = Batches(training.shards, settings.batch, seed, device)
        self.epoch_steps = [self.batches.steps(epoch) for epoch in range(settings.epochs)]
        self.held_out_loss = float("nan")
        self.step = 0
        self.recorded = (0, 0.0)
        self.records: list[Record] = []
        self.patience = Patience(settings.patience)
        self.saved = time.monotonic()
        if saved is not None:
            self._restore(saved)
        self.held_out = self._simulated(training.shards.read_held_out(HELD_OUT_ROWS).to(device), "held out")

    def run(self, progress: Callable[[TrainingProgress], None]) -> None:
        """Train to the end of the last epoch or of the time."""
        flow, batch = self.network.density.flow, self.batches.batch
        with hired(self._worthwhile_hands(), flow, batch) as hands:
            self.optimisation.share(hands)
            self._run(progress)
        if not self.records:  # resumed at the very end, and the history is gone
            self._record(self._place(self.step - 1))
        self.held_out_loss = self.patience.settle(self.records[-1].held_out_loss, self.network.density)

    def _run(self, progress: Callable[[TrainingProgress], None]) -> None:
        # A step at least, however short the time: a network without one has no losses to tell.
        done = self._fraction() if self.step else 0.0
        while done < 1:
            epoch, start = self._place(self.step)
            for batch, examples in enumerate(self._examples(epoch, start), start=start):
                self.optimisation.step(examples, done)
                self.step += 1
                done = self._fraction()
                self._note(epoch, batch, done)
                done = 1.0 if self.patience.exhausted else done
                newest = self.records[-1] if self.records else None
                progress(TrainingProgress(self.step, sum(self.epoch_steps), done, newest))
                if done >= 1:
                    break

    def _worthwhile_hands(self) -> int:
        """Processes to share each step among; none for a step of one part, or a short training."""
        rows, number = sum(self.epoch_steps) * self.batches.batch, len(parts(self.batches.batch, self.device))
        return min(self.crew.number, number) if rows >= SHARED_ROWS else 0

    def figures(self) -> dict[str, float]:
        """What came out, as numbers."""
        last, rows = self.records[-1], self.step * self.batches.batch
        weights = sum(weight.numel() for weight in self.network.density.parameters())
        return {
            "steps": self.step,
            "epochs": last.epoch,
            "rows": rows,
            "seconds": last.seconds,
            "rows_per_second": rows / max(last.seconds, 1e-9),
            "train_loss": last.train_loss,
            "held_out_loss": self.held_out_loss,
            "weights": weights,
        }

    def _examples(self, epoch: int, start: int) -> Iterator[Batch]:
        """Those of each batch from `start` on, however training came there."""
        first = start - start % BATCHES_AT_ONCE
        blocks = self._blocks(epoch, first)
        ahead = self.crew.begin(partial(next, blocks, None))
        while (block := ahead.result()) is not None:
            # The next ones are simulated meanwhile.
            ahead = self.crew.begin(partial(next, blocks, None))
            n_rows = len(block.unit)
            for begin in range(max(0, start - first) * self.batches.batch, n_rows, self.batches.batch):
                yield block.rows(slice(begin, begin + self.batches.batch))
            first += BATCHES_AT_ONCE

    def _blocks(self, epoch: int, first: int) -> Iterator[Batch]:
        """Those of several batches at once, from batch `first` on."""
        batches = self.batches.epoch(epoch, first)
        while block := list(islice(batches, BATCHES_AT_ONCE)):
            yield self._simulated(joined(block), f"{epoch}/{first}")
            first += len(block)

    def _simulated(self, mocks: Mocks, unit: str) -> Batch:
        """Mocks as they are observed with the random numbers of a unit."""
        chance = torch.Generator(self.device).manual_seed(key(self.training.seed, "train", unit))
        simulation = simulate(mocks.fluxes, self.noise, chance)
        features = make_features(self.noise, simulation.seen, simulation.survey)
        theta = with_mass(mocks.parameters, self.network.parameters, simulation.log_mass)
        return self.network.density.batch(theta, features)

    def _place(self, step: int) -> tuple[int, int]:
        """Epoch of a step, and the batch in it."""
        epoch = 0
        while step >= self.epoch_steps[epoch]:
            step -= self.epoch_steps[epoch]
            epoch += 1
        return epoch, step

    def _seconds(self) -> float:
        return time.monotonic() - self.begun

    def _fraction(self) -> float:
        if self.patience.exhausted:
            return 1.0
        limit = self.training.settings.max_minutes
        timed = self._seconds() / (60 * limit) if limit else 0.0
        return min(1.0, max(self.step / sum(self.epoch_steps), timed))

    def _note(self, epoch: int, batch: int, done: float) -> None:
        """Look at the losses, record, save: each when it is due."""
        if self.device.type == "cpu":
            self.optimisation.check(epoch, batch)
        ended = batch + 1 == self.epoch_steps[epoch]
        if ended or done >= 1 or (batch + 1) % RECORD_STEPS == 0:
            self.optimisation.check(epoch, batch)
            self._record((epoch, batch))
        if ended:
            self.patience.look(self.records[-1].held_out_loss, self.network.density)
        if time.monotonic() - self.saved >= self.training.settings.checkpoint_seconds:
            self.optimisation.check(epoch, batch)
            self._save()

    def _record(self, place: tuple[int, int]) -> None:
        epoch, batch = place
        train_loss, held_out_loss = self.optimisation.take_loss(), self._held_out_loss()
        seconds = self._seconds()
        steps, elapsed = self.step - self.recorded[0], seconds - self.recorded[1]
        rate = steps * self.batches.batch / max(elapsed, 1e-9)
        passes = epoch + (batch + 1) / self.epoch_steps[epoch]
        record = Record(self.step, passes, train_loss, held_out_loss, self.optimisation.rate, rate, seconds)
        self.records.append(record)
        self.recorded = (self.step, seconds)
        write_history(self.folder / HISTORY_FILE, self.records)

    def _held_out_loss(self) -> float:
        n_rows = len(self.held_out.unit)
        places = range(0, n_rows, ROWS_AT_ONCE)
        found = self.crew.map(self._loss_of, [slice(at, at + ROWS_AT_ONCE) for at in places])
        return sum(found) / n_rows

    def _loss_of(self, rows: slice) -> float:
        """Summed loss of some held-out mocks [nat]."""
        with torch.no_grad():
            return float(self.network.density.flow.loss(*self.held_out.rows(rows)))

    def _save(self) -> None:
        """Write a checkpoint."""
        losses = {"loss_sum": self.optimisation.loss_sum, "loss_steps": self.optimisation.steps}
        state = {
            "step": self.step,
            "seconds": self._seconds(),
            "recorded": self.recorded,
            "records": self.records,
            "fingerprint": self.training.fingerprint,
            "settings": self.settings,
        }
        best, state["patience"] = self.patience.pack()
        tensors = resume.pack(self.network.density, self.optimisation.optimiser) | losses | best
        resume.write_checkpoint(self.folder / CHECKPOINT_FOLDER, resume.Checkpoint(tensors, state))
        self.saved = time.monotonic()

    def _restore(self, saved: resume.Checkpoint) -> None:
        """Stand where a checkpoint stood."""
        resume.unpack(saved.tensors, self.network.density, self.optimisation.optimiser)
        self.optimisation.loss_sum.copy_(saved.tensors["loss_sum"])
        self.optimisation.steps.copy_(saved.tensors["loss_steps"])
        self.patience.unpack(saved.tensors, saved.state["patience"])
        self.step = saved.state["step"]
        self.begun = time.monotonic() - saved.state["seconds"]
        self.recorded = tuple(saved.state["recorded"])
        self.records = [Record(*values) for values in saved.state["records"]]
