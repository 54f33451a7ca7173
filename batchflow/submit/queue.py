"""What the batch system says of jobs, and how to end them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from batchflow.errors import UserError

ENDED = frozenset(
    {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL"}
    | {"DEADLINE", "F", "X", "DONE", "EXIT", "REMOVED", "Terminated", "Error"}
)
"""States in which a job is over, of all batch systems."""


@dataclass(frozen=True)
class Queue:
    """How to ask one batch system."""

    ask: Callable[[Sequence[str]], list[str]]
    pattern: str
    """Of a line of the answer: groups ``id`` and ``state``."""
    words: Mapping[str, str] = field(default_factory=dict)
    """Names of states that the system numbers."""


QUEUES = {
    "slurm": Queue(
        lambda ids: ["squeue", "--noheader", "--states=all", f"--jobs={','.join(ids)}", "--format=%F|%T"],
        r"(?P<id>\d+)\|(?P<state>[A-Z_]+)",
    ),
    # Without the server's name, which `qstat` cuts short.
    "pbs": Queue(
        lambda ids: ["qstat", "-x", *ids],
        r"(?m)^(?P<id>\d+(\[\])?)\S*\s+\S+\s+\S+\s+\S+\s+(?P<state>[A-Z])\s",
    ),
    "lsf": Queue(
        lambda ids: ["bjobs", "-noheader", "-o", "jobid stat", *ids], r"(?P<id>\d+)\s+(?P<state>[A-Z]+)"
    ),
    "sge": Queue(lambda ids: ["qstat"], r"(?m)^\s*(?P<id>\d+)\s+[\d.]+\s+\S+\s+\S+\s+(?P<state>[A-Za-z]+)\s"),
    "htcondor": Queue(
        lambda ids: ["condor_q", *ids, "-autoformat:j", "JobStatus"],
        r"(?m)^(?P<id>\d+\.\d+)\s+(?P<state>\d)",
        {"1": "IDLE", "2": "RUNNING", "3": "REMOVED", "4": "COMPLETED", "5": "HELD", "7": "SUSPENDED"},
    ),
    "oar": Queue(
        lambda ids: ["oarstat", "-s", *(word for id_ in ids for word in ("-j", id_))],
        r"(?m)^(?P<id>\d+):\s+(?P<state>\w+)",
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
        Of `settings.cluster.BATCH_SYSTEMS`.
    ids : sequence of str
        Jobs.

    Returns
    -------
    dict of str to str, or None
        In the system's own words; None when it cannot be asked, or does not answer.
    """
    if not ids:
        return {}
    try:
        done = subprocess.run(  # noqa: S603 (a list, no shell; ids are the batch system's own)
            QUEUES[system].ask(ids), capture_output=True, text=True, timeout=ASK_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode and not GONE.search(done.stderr):
        return None
    return read_states(system, done.stdout)


def read_states(system: str, text: str) -> dict[str, str]:
    """State of each job in a batch system's answer; an array is over when each of its jobs is."""
    queue, found = QUEUES[system], dict[str, str]()
    for line in re.finditer(queue.pattern, text):
        state = queue.words.get(line["state"], line["state"])
        if is_over(found.get(line["id"])):
            found[line["id"]] = state
    return found


def is_over(state: str | None) -> bool:
    """Whether a job in a state will not run any more; a job that is not known has been over for a while."""
    return state is None or state in ENDED


def cancel(system: str, ids: Sequence[str]) -> None:
    """End jobs.

    Parameters
    ----------
    system : str
        Of `settings.cluster.BATCH_SYSTEMS`.
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
