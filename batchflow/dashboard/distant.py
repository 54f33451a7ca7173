"""Page and metrics in the dashboard of a scheduler that somebody else runs: it is told how the run stands."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distributed import Client

from batchflow.dashboard.state import RunState, from_message, latest, tell

TELL_SECONDS = 1.0
HANDLER = "batchflow_state"


@contextmanager
def share(client: Client) -> Iterator[str | None]:
    """Have a distant scheduler's dashboard show this process's run for as long as the block runs.

    Parameters
    ----------
    client : distributed.Client
        Of the scheduler.

    Yields
    ------
    str or None
        Why it cannot: its dashboard is off, or batchflow is not installed where it runs.
    """
    try:
        problem = client.run_on_scheduler(install)
    except Exception as error:  # whatever a distant machine lacks; the run itself does not need it
        problem = f"{type(error).__name__}: {error}"
    if problem:
        yield problem
        return
    over = threading.Event()
    teller = threading.Thread(target=_tell_often, args=(client, over), daemon=True)
    teller.start()
    try:
        yield None
    finally:
        over.set()
        teller.join()


def _tell_often(client: Client, over: threading.Event) -> None:
    try:
        while not over.wait(TELL_SECONDS):
            _tell(client)
        _tell(client)
    except Exception:  # the scheduler has gone: the run itself will say so
        return


def _tell(client: Client) -> None:
    client.sync(getattr(client.scheduler, HANDLER), message=latest().message())


def install(dask_scheduler: Any = None) -> str | None:
    """On the scheduler: have the page and the metrics.

    Parameters
    ----------
    dask_scheduler : distributed.Scheduler
        Given by Dask.

    Returns
    -------
    str or None
        Why it cannot.
    """
    from tornado.ioloop import IOLoop

    application = dask_scheduler.http_application
    shown = [app for app in application.applications if hasattr(app, "app_paths")]
    if not shown:
        return "its dashboard is off"
    from distributed.dashboard.core import BokehApplication
    from distributed.dashboard.scheduler import template_variables

    from batchflow.dashboard import metrics, page

    def hear(message: dict[str, Any]) -> None:
        tell(dask_scheduler, from_message(message))

    # A handler of our own, as Dask's extensions have: `run_on_scheduler` would write a line of log each time.
    dask_scheduler.handlers[HANDLER] = hear
    tell(dask_scheduler, RunState())
    if any(path.endswith(page.PATH) for app in shown for path in app.app_paths):
        return None
    prefix = shown[0].prefix
    added = BokehApplication(
        {page.PATH: page.document}, dask_scheduler, prefix, template_variables(dask_scheduler)
    )
    application.add_application(added)
    added.initialize(IOLoop.current())
    added.start()
    options = {"dask_server": dask_scheduler}
    routes = [(f"{prefix.rstrip('/')}{url}", handler, options) for url, handler, _ in metrics.routes]
    application.add_handlers(".*", routes)
    return None
