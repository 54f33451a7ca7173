"""Which batch jobs belong to a run: one JSON line each, appended as they are submitted."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

LEDGER = "jobs.jsonl"


@dataclass(frozen=True)
class BatchJob:
    """A batch job of a run."""

    id: str
    system: str
    kind: Literal["driver", "worker"]
    name: str
    """The stages of a driver, the name of a worker."""
    time: float
    """When it was submitted [s since 1970]."""


def ledger_path(run: Path) -> Path:
    """Where the jobs of a run folder are listed."""
    return run / "logs" / LEDGER


def remember(path: Path, id_: str, system: str, kind: Literal["driver", "worker"], name: str) -> None:
    """Append a job to a run's list.

    Parameters
    ----------
    path : Path
        From `ledger_path`.
    id_ : str
        As the batch system calls it.
    system : str
        The batch system.
    kind : {"driver", "worker"}
        What it does.
    name : str
        Stages of a driver, name of a worker.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(asdict(BatchJob(id_, system, kind, name, time.time())))
    with path.open("a", encoding="utf-8") as handle:  # one short write: whole, or cut and skipped below
        handle.write(line + "\n")


def remembered(path: Path) -> list[BatchJob]:
    """Jobs of a run, in the order of their submission; none when nothing was submitted."""
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(BatchJob(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return found
