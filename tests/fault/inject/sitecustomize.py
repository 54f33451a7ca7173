"""Brings faults into a program under test, and into its workers; does nothing unless the environment says so.

`FAULTS` are lines of an action and a pattern, such as ``kill */mocks/shard-00001.parquet``: whoever writes
such a file meets the fault when all of it is written, but not yet under its name. `FAULT_MARKS` is a folder
that counts how often that was, `FAULT_TIMES` how often each may be (once, unless it says otherwise).
"""

from __future__ import annotations

import fnmatch
import importlib.abc
import importlib.util
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any


def _eat() -> None:
    eaten = [b"x" * 50_000_000 for _ in range(60)]
    time.sleep(600)
    del eaten


_kept: list[bytes] = []


def _leak() -> None:
    """Keep 85 % of 1 GiB, together with what a worker that makes mocks has anyway."""
    _kept.append(b"x" * 620_000_000)


ACTIONS: dict[str, Callable[[], object]] = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "kill-client": lambda: os.kill(os.getppid(), signal.SIGKILL),
    "term-client": lambda: os.kill(os.getppid(), signal.SIGTERM),
    # What Ctrl-C does: everyone in the terminal's group is told.
    "interrupt-all": lambda: os.killpg(os.getpgid(0), signal.SIGINT),
    "term-all": lambda: os.killpg(os.getpgid(0), signal.SIGTERM),
    "hang": lambda: time.sleep(600),
    "hang-with-the-lock": lambda: re.match("(a*)*b", "a" * 60),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "eat": _eat,
    "leak": _leak,
    "kill-scheduler": lambda: os.kill(int(os.environ["FAULT_SCHEDULER"]), signal.SIGKILL),
}


def _strikes(fault: int) -> bool:
    """Whether this is one of the first times of a fault."""
    for time_ in range(int(os.environ.get("FAULT_TIMES", "1"))):
        try:
            Path(os.environ["FAULT_MARKS"], f"fault-{fault}-{time_}").touch(exist_ok=False)
        except FileExistsError:
            continue
        return True
    return False


def _with_faults(shards: ModuleType) -> None:
    faults = [line.split(" ", 1) for line in os.environ["FAULTS"].splitlines()]
    write_atomic: Any = shards.write_atomic

    def faulty(path: Path, write: Callable[[Path], None]) -> None:
        def write_and_meet(temporary: Path) -> None:
            write(temporary)
            for place, (action, pattern) in enumerate(faults):
                if fnmatch.fnmatch(str(path), pattern) and _strikes(place):
                    ACTIONS[action]()

        write_atomic(path, write_and_meet)

    shards.write_atomic = faulty  # type: ignore[attr-defined]  # a module's own name


class _Changing(importlib.abc.MetaPathFinder):
    """Changes a module as it is imported."""

    def __init__(self, module: str, change: Callable[[ModuleType], None]) -> None:
        self.module, self.change = module, change

    def find_spec(self, name: str, path: Sequence[str] | None, target: object = None) -> ModuleSpec | None:
        if name != self.module:
            return None
        sys.meta_path.remove(self)  # the next search is for the module as it is
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def run_and_change(module: ModuleType) -> None:
            run(module)
            self.change(module)

        spec.loader.exec_module = run_and_change  # type: ignore[method-assign]  # of this one module
        return spec


if "FAULT_MARKS" in os.environ:
    # As in a terminal: a shell's background ignores Ctrl-C, and its children with it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "FAULTS" in os.environ:
        sys.meta_path.insert(0, _Changing("batchflow.shards", _with_faults))
