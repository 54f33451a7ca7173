"""Progress in the terminal, and news from the workers."""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import pyarrow as pa
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from batchflow.dashboard.state import RunState, latest
from batchflow.errors import UserError
from batchflow.plan import Plan, Unit
from batchflow.settings.cluster import ClusterSettings
from batchflow.shards import read_table
from batchflow.workers.sites import load_site

CONSOLE = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 120)
"""Everything said to a person goes to standard error; standard output is for results."""


EFFICIENCY_SECONDS = 0.2


class Advance(Protocol):
    """Reports progress of a stage."""

    def __call__(self, done: float, note: str = "") -> None:
        """Say that `done` units in all are done, and something about the last."""


@contextmanager
def progress(stage: str, total: float, present: float = 0.0) -> Iterator[Advance]:
    """Show a bar while a stage runs; only in a terminal.

    Parameters
    ----------
    stage : str
        Its name.
    total : float
        Units, or steps.
    present : float
        Those of an earlier run.

    Yields
    ------
    Advance
        To be called as the work goes on.
    """
    columns = (
        TextColumn("{task.description:>10}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=CONSOLE, disable=not CONSOLE.is_terminal) as bar:
        task = bar.add_task(stage, total=total, note="")
        state = latest().begin(stage, total, present)

        def advance(done: float, note: str = "") -> None:
            state.done = done
            bar.update(task, completed=done, note=note)

        yield advance
        state.ended = time.monotonic()


@contextmanager
def count_units(stage: str, plan: Plan) -> Iterator[Callable[[Unit, Any], None]]:
    """Show how many units of a plan are done.

    Parameters
    ----------
    stage : str
        Its name.
    plan : Plan
        What is wanted and what is there.

    Yields
    ------
    callable
        To be called with each unit and its result as it ends.
    """
    done = len(plan.present)
    state = latest()
    if stage == "infer":
        state.count_galaxies((unit.key for unit in plan.wanted), plan.present)
    look = _EfficiencyReader(state)
    with progress(stage, len(plan.wanted), done) as advance:
        advance(done)

        def count(unit: Unit, _: Any) -> None:
            nonlocal done
            done += 1
            advance(done, unit.key)
            if stage == "infer":
                state.finish_part(unit.key)
                look(unit)

        yield count


class _EfficiencyReader:
    """Reads the efficiencies of finished parts for the page, seldom enough to cost nothing."""

    def __init__(self, state: RunState) -> None:
        self._state, self._last = state, 0.0

    def __call__(self, unit: Unit) -> None:
        if time.monotonic() - self._last < EFFICIENCY_SECONDS:
            return
        # The page is no reason for a run to end: another machine may have a part before it shows here.
        with contextlib.suppress(OSError, pa.ArrowException, UserError):
            table = read_table(unit.paths[0], ["efficiency"])
            self._state.add_efficiencies(table["efficiency"].to_numpy())
        self._last = time.monotonic()


def send(topic: str, message: dict[str, Any]) -> None:
    """Send a small message from a task to the client; without a worker, do nothing.

    Parameters
    ----------
    topic : str
        What it is about.
    message : dict
        Small values.
    """
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:  # a plain call, outside Dask
        return
    worker.log_event(topic, message)


@contextmanager
def listen(client: Any, topic: str, handler: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Hear the messages of a topic for as long as the block runs.

    Parameters
    ----------
    client : distributed.Client
        Whose workers send.
    topic : str
        What to hear.
    handler : callable
        Called with each message.
    """
    state = latest()

    def hear(event: tuple[float, dict[str, Any]]) -> None:
        state.hear(event[1])
        handler(event[1])

    client.subscribe_topic(topic, hear)
    try:
        yield
    finally:
        client.unsubscribe_topic(topic)


def say_dashboard(cluster: ClusterSettings, link: str) -> None:
    """Say where the dashboard is, and how to reach it from one's own desk.

    Parameters
    ----------
    cluster : ClusterSettings
        The job's.
    link : str
        The dashboard's address.
    """
    if cluster.dashboard_address is None:
        CONSOLE.print("dashboard off")
        return
    CONSOLE.print(f"dashboard {link}", soft_wrap=True)
    login = load_site(cluster).login if cluster.is_batch else None
    if cluster.is_batch or cluster.site == "allocation":
        CONSOLE.print(f"          from your own machine: {ssh_hint(link, login)}", soft_wrap=True)


def ssh_hint(link: str, login: str | None = None) -> str:
    """How to see a dashboard from one's own desk.

    Parameters
    ----------
    link : str
        The dashboard's address, such as ``http://127.0.0.1:8787/status``.
    login : str, optional
        Name of the login node.

    Returns
    -------
    str
        An ssh command that brings it to the same address here.
    """
    host, _, port = link.split("//", 1)[-1].split("/", 1)[0].rpartition(":")
    through = f"-J {login or 'LOGIN_NODE'} "
    return f"ssh -N -L {port}:{host}:{port} {through}{socket.gethostname()}"
