"""Progress in the terminal, and news from the workers."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from batchflow.cluster_settings import ClusterSettings
from batchflow.plan import Plan, Unit
from batchflow.sites import load_site

CONSOLE = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 120)
"""Everything said to a person goes to standard error; standard output is for results."""


class Advance(Protocol):
    """Reports progress of a stage."""

    def __call__(self, done: float, note: str = "") -> None:
        """Say that `done` units in all are done, and something about the last."""


@contextmanager
def progress(stage: str, total: float) -> Iterator[Advance]:
    """Show a bar while a stage runs; only in a terminal.

    Parameters
    ----------
    stage : str
        Its name.
    total : float
        Units, or steps.

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
        yield lambda done, note="": bar.update(task, completed=done, note=note)


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
    with progress(stage, len(plan.wanted)) as advance:
        advance(done)

        def count(unit: Unit, _: Any) -> None:
            nonlocal done
            done += 1
            advance(done, unit.key)

        yield count


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
    client.subscribe_topic(topic, lambda event: handler(event[1]))
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
