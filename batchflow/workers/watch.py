"""A bound on the time without progress, kept by the worker that does a unit of work."""

from __future__ import annotations

import faulthandler
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchflow.paths import escape

LOOK_SECONDS = 1.0
_own = threading.local()


class UnwantedError(Exception):
    """Nobody waits for the unit any more: who asked for it has gone."""


@dataclass(frozen=True)
class Limit:
    """How long a unit may go without progress, and where it is written down if it does."""

    minutes: float
    folder: str

    def trace(self, unit: str) -> Path:
        """File that says where a unit hung."""
        return Path(self.folder, f"{escape(unit)}.txt")


@dataclass
class _Watch:
    """Looks at a unit from a thread of its own."""

    unit: str
    limit: Limit
    is_wanted: Callable[[], bool]
    seen: float = field(default_factory=time.monotonic)
    unwanted: bool = False
    ended: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        seconds = 60 * self.limit.minutes
        while not self.ended.wait(min(LOOK_SECONDS, seconds / 10)):
            self.unwanted = not self.is_wanted()
            if time.monotonic() - self.seen > seconds:
                self._end_process()

    def _end_process(self) -> None:
        """Nothing else ends a thread that hangs; the scheduler gives the unit to another worker."""
        try:
            path = self.limit.trace(self.unit)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                now = time.strftime("%Y-%m-%d %H:%M:%S")
                file.write(
                    f"{now} {self.unit}: no progress for {self.limit.minutes:g} minutes; it was here:\n"
                )
                file.flush()
                faulthandler.dump_traceback(file, all_threads=True)
        finally:
            os._exit(1)


def watched(
    function: Callable[..., Any],
    unit: str,
    arguments: Mapping[str, Any],
    limit: Limit,
    is_wanted: Callable[[], bool] = lambda: True,
) -> Any:
    """Call a function; end this process when it makes no progress for too long.

    Parameters
    ----------
    function : callable
        Does the work; may call `alive`.
    unit : str
        What it makes.
    arguments : mapping
        Of the function, by name.
    limit : Limit
        How long, and where the place at which it hung is written down.
    is_wanted : callable
        Whether somebody still waits for it; asked once a second.

    Returns
    -------
    object
        What the function returns.
    """
    watch = _Watch(unit, limit, is_wanted)
    threading.Thread(target=watch.look, name=f"watch {unit}", daemon=True).start()
    _own.watch = watch
    try:
        return function(**arguments)
    finally:
        _own.watch = None
        watch.ended.set()


def alive() -> None:
    """Say that the unit at work in this thread has come further; outside `watched`, do nothing.

    Raises
    ------
    UnwantedError
        When nobody waits for the unit any more, so that it ends here.
    """
    watch: _Watch | None = getattr(_own, "watch", None)
    if watch is None:
        return
    watch.seen = time.monotonic()
    if watch.unwanted:
        raise UnwantedError(f"nobody waits for {watch.unit} any more")
