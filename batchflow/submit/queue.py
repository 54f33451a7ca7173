"""What the batch system says of jobs, and how to end them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from batchflow.errors import UserError

ENDED = frozenset(
    {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL"}
    | {"DEADLINE", "F", "X", "DONE", "EXIT"}
)
"""States of Slurm, PBS and LSF in which a job is over."""


@dataclass(frozen=True)
class Queue:
    """How to ask one batch system."""

    ask: Callable[[Sequence[str]], list[str]]
    pattern: str
    """Of a line of the answer: groups ``id`` and ``state``."""


QUEUES = {
    "slurm": Queue(
        lambda ids: ["squeue", "--noheader", "--states=all", f"--jobs={','.join(ids)}", "--format=%A|%T"],
        r"(?P<id>\d+)\|(?P<state>[A-Z_]+)",
    ),
    "pbs": Queue(lambda ids: ["qstat", "-x", *ids], r"(?P<id>\d\S*)\s+\S+\s+\S+\s+\S+\s+(?P<state>[A-Z])\s"),
    "lsf": Queue(
        lambda ids: ["bjobs", "-noheader", "-o", "jobid stat", *ids], r"(?P<id>\d+)\s+(?P<state>[A-Z]+)"
    ),
}
CANCEL = {
    "slurm": "scancel",
    "pbs": "qdel",
    "lsf": "bkill",
    "sge": "qdel",
    "htcondor": "condor_rm",
    "oar": "oardel",
}

ASK_SECONDS = 30
GONE = re.compile(r"invalid job id|unknown job|not found|has finished", re.IGNORECASE)


def states(system: str, ids: Sequence[str]) -> dict[str, str] | None:
    """State of each job that the batch system still knows.

    Parameters
    ----------
    system : str
        Of `cluster_settings.BATCH_SYSTEMS`.
    ids : sequence of str
        Jobs.

    Returns
    -------
    dict of str to str, or None
        In the system's own words; None when it cannot be asked, or does not answer.
    """
    if system not in QUEUES or not ids:
        return None if ids else {}
    queue = QUEUES[system]
    try:
        done = subprocess.run(  # noqa: S603 (a list, no shell; ids are the batch system's own)
            queue.ask(ids), capture_output=True, text=True, timeout=ASK_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode and not GONE.search(done.stderr):
        return None
    return {found["id"]: found["state"] for found in re.finditer(queue.pattern, done.stdout)}


def is_over(state: str | None) -> bool:
    """Whether a job in a state will not run any more; a job that is not known has been over for a while."""
    return state is None or state in ENDED


def cancel(system: str, ids: Sequence[str]) -> None:
    """End jobs.

    Parameters
    ----------
    system : str
        Of `cluster_settings.BATCH_SYSTEMS`.
    ids : sequence of str
        Jobs; one that is over already is no error.

    Raises
    ------
    UserError
        When the batch system's command cannot be called.
    """
    if not ids:
        return
    try:
        subprocess.run(  # noqa: S603 (a list, no shell; ids are the batch system's own)
            [CANCEL[system], *ids], capture_output=True, text=True, timeout=ASK_SECONDS, check=False
        )
    except OSError as error:
        raise UserError(
            f"{CANCEL[system]} cannot be called here: {error.strerror}; try on a login node"
        ) from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{CANCEL[system]} does not answer; try again later") from None
