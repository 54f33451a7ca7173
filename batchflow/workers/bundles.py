"""How many units make one task: so many that Dask's own time for a task does not tell."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from batchflow.plan import Unit

TASK_SECONDS = 1.0
"""A task costs client, scheduler and worker some 12 ms of the processor (measured)."""
LEAST_SECONDS = 0.2
"""Bundles get smaller towards the end, so that all workers end together; below this there is no gain."""


class Bundles:
    """Hands out units, those that take a moment in bundles.

    Parameters
    ----------
    units : iterable of Unit
        In their order.
    single : bool
        Hand them out one by one, whatever they take.
    """

    def __init__(self, units: Iterable[Unit], single: bool = False) -> None:
        self._waiting, self._single = deque(units), single
        self._rows_per_second = 0.0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def take(self, tasks: int) -> list[Unit]:
        """The units of the next task.

        Parameters
        ----------
        tasks : int
            How many may be in flight: so many bundles and more are made of what waits, while they last.

        Returns
        -------
        list of Unit
            One, or several that together take `TASK_SECONDS` at most, going by the last ones.
        """
        share = len(self._waiting) // (2 * tasks)
        bundle = [self._waiting.popleft()]
        rows = _rows(bundle[0])
        while self._waiting and not self._single:
            following = rows + _rows(self._waiting[0])
            if following > self._rows_per_second * (TASK_SECONDS if len(bundle) < share else LEAST_SECONDS):
                break
            bundle.append(self._waiting.popleft())
            rows = following
        return bundle

    def took(self, bundle: list[Unit], seconds: float) -> None:
        """Learn how long units take.

        Parameters
        ----------
        bundle : list of Unit
            Of a task that ended.
        seconds : float
            What they took together.
        """
        self._rows_per_second = sum(map(_rows, bundle)) / max(seconds, 1e-6)

    def give_back(self, bundle: list[Unit]) -> None:
        """One of these failed: they are handed out again, and from now on all one by one."""
        self._waiting.extendleft(reversed(bundle))
        self._single = True


def _rows(unit: Unit) -> int:
    return unit.rows or 1
