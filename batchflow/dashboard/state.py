"""What the driver knows of its run while it runs: kept in memory, read by the page and the metrics.

The driver's thread writes, the scheduler's thread reads; each value is replaced whole. A scheduler in another
process is told by messages.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

EFFICIENCY_BINS = 20
LOSSES_KEPT = 2000


@dataclass
class StageState:
    """A stage at work."""

    wanted: float
    present: float
    """Done before this run began."""
    done: float = 0.0
    """Those of earlier runs among them."""
    failed: int = 0
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None

    @property
    def left(self) -> float:
        """Units to be done; failed ones are not."""
        return max(0.0, self.wanted - self.done - self.failed)

    @property
    def seconds(self) -> float:
        """Since the stage began, or how long it took [s]."""
        return (self.ended or time.monotonic()) - self.started

    @property
    def rate(self) -> float:
        """Units a second of this run."""
        return (self.done - self.present) / self.seconds if self.seconds > 0 else 0.0

    @property
    def eta(self) -> float | None:
        """Time that is left [s]; None when nothing is known."""
        return self.left / self.rate if self.rate > 0 else None


@dataclass
class RunState:
    """A run at work."""

    name: str = ""
    stages: dict[str, StageState] = field(default_factory=dict)
    losses: deque[tuple[float, float, float]] = field(default_factory=lambda: deque(maxlen=LOSSES_KEPT))
    """Percent of the training, training loss, held-out loss [nats]; NaN where not known."""
    galaxies: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Parts done and wanted of each galaxy."""
    efficiencies: np.ndarray = field(default_factory=lambda: np.zeros(EFFICIENCY_BINS, dtype=np.int64))
    """Clusters in equal bins of efficiency from 0 to 1."""

    def begin(self, stage: str, wanted: float, present: float) -> StageState:
        """Note that a stage begins."""
        state = StageState(wanted, present, done=present)
        self.stages = {**self.stages, stage: state}
        return state

    def fail(self, units: int = 1) -> None:
        """Note units of the latest stage that failed."""
        if self.stages:
            list(self.stages.values())[-1].failed += units

    def hear(self, message: dict[str, float]) -> None:
        """Note a message of the training."""
        if "train_loss" in message or "held_out_loss" in message:
            values = (
                100 * message.get("fraction", 0.0),
                message.get("train_loss"),
                message.get("held_out_loss"),
            )
            self.losses.append(tuple(np.nan if value is None else float(value) for value in values))  # type: ignore[arg-type]  # three of them

    def count_galaxies(self, wanted: Iterable[str], present: Iterable[str]) -> None:
        """Note the parts of each galaxy, by their units' keys ``galaxy/part``."""
        found: dict[str, tuple[int, int]] = {}
        there = set(present)
        for key in wanted:
            done, all_ = found.get(galaxy := key.rpartition("/")[0], (0, 0))
            found[galaxy] = (done + (key in there), all_ + 1)
        self.galaxies = found

    def finish_part(self, key: str) -> None:
        """Note that a part of a galaxy is done."""
        if (galaxy := key.rpartition("/")[0]) in self.galaxies:
            done, all_ = self.galaxies[galaxy]
            self.galaxies = {**self.galaxies, galaxy: (done + 1, all_)}

    def add_efficiencies(self, values: np.ndarray) -> None:
        """Note efficiencies of clusters; NaN, those not inferred, do not count."""
        known = values[np.isfinite(values)]
        self.efficiencies = self.efficiencies + np.histogram(known, EFFICIENCY_BINS, (0.0, 1.0))[0]

    def message(self) -> dict[str, Any]:
        """Plain values of it; times are lengths, since no two machines' clocks begin alike."""
        return {
            "name": self.name,
            "stages": {
                name: (one.wanted, one.present, one.done, one.failed, one.seconds, one.ended is not None)
                for name, one in self.stages.items()
            },
            "losses": list(self.losses),
            "galaxies": self.galaxies,
            "efficiencies": self.efficiencies.tolist(),
        }


def from_message(message: dict[str, Any]) -> RunState:
    """The state that `RunState.message` was made of."""
    state, now = RunState(message["name"]), time.monotonic()
    for name, (wanted, present, done, failed, seconds, over) in message["stages"].items():
        started = now - seconds
        state.stages[name] = StageState(wanted, present, done, failed, started, now if over else None)
    state.losses.extend(tuple(values) for values in message["losses"])
    state.galaxies = {name: tuple(pair) for name, pair in message["galaxies"].items()}
    state.efficiencies = np.array(message["efficiencies"], dtype=np.int64)
    return state


_latest = RunState()
_told: WeakKeyDictionary[Any, RunState] = WeakKeyDictionary()


def latest() -> RunState:
    """The state of the run that this process drives; empty when it drives none."""
    return _latest


def reset(name: str) -> RunState:
    """Begin the state of a new run."""
    global _latest  # noqa: PLW0603 (a process drives one run at a time, and the page has no other way to it)
    _latest = RunState(name)
    return _latest


def shown(scheduler: Any) -> RunState:
    """The state that a scheduler's dashboard shows: what a distant driver told it, or this process's own."""
    return _told.get(scheduler, _latest)


def tell(scheduler: Any, state: RunState) -> None:
    """Have a scheduler's dashboard show a state."""
    _told[scheduler] = state
