"""The page `batchflow` in Dask's dashboard."""

from __future__ import annotations

from typing import Any

import numpy as np
from bokeh.layouts import column, gridplot
from bokeh.models import ColumnDataSource, DataRange1d, FactorRange
from bokeh.models.widgets import DataTable, Div, NumberFormatter, TableColumn
from bokeh.plotting import figure

from batchflow.dashboard.state import EFFICIENCY_BINS, RunState, latest

PATH = "/batchflow"
REFRESH_MILLISECONDS = 500
GALAXIES_SHOWN = 40
BLUE, ORANGE, GREY = "#1f77b4", "#ff7f0e", "#dddddd"


def install() -> None:
    """Have the page in the dashboards of schedulers that are made from now on."""
    from distributed.dashboard import scheduler as dask_pages

    if PATH not in dask_pages.applications:
        dask_pages.applications[PATH] = document


def document(scheduler: Any, extra: dict[str, Any], doc: Any) -> None:
    """Make the page for one reader.

    Parameters
    ----------
    scheduler : distributed.Scheduler
        Whose workers are shown.
    extra : dict
        Variables of Dask's page template.
    doc : bokeh.document.Document
        To be filled.
    """
    from distributed.dashboard.components.scheduler import env

    pages = extra.get("pages", [])
    if PATH.strip("/") not in pages:
        pages.insert(0, PATH.strip("/"))
    sources = {name: ColumnDataSource(name=name, data=data) for name, data in snapshot(latest(), {}).items()}
    heading = Div(text="", name="heading")
    plots = (
        losses(sources["losses"]),
        efficiencies(sources["efficiencies"]),
        galaxies(sources),
        memory(sources),
    )
    grid = gridplot([list(plots[:2]), list(plots[2:])], sizing_mode="stretch_width", toolbar_location=None)

    def update() -> None:
        state = latest()
        heading.text = f"<b>{_plain(state.name)}</b>"
        for name, data in snapshot(state, memory_by_worker(scheduler)).items():
            sources[name].data = data
        for name in ("galaxies", "memory"):
            names = list(reversed(sources[name].data["name"]))
            doc.get_model_by_name(f"{name}_range").update(factors=names)

    doc.title = "batchflow"
    doc.add_root(column(heading, stage_table(sources["stages"]), grid, sizing_mode="stretch_width"))
    update()
    doc.template = env.get_template("simple.html")
    doc.template_variables.update(extra)
    doc.add_periodic_callback(update, REFRESH_MILLISECONDS)


def snapshot(state: RunState, memory: dict[str, float]) -> dict[str, dict[str, Any]]:
    """What the page shows, as columns.

    Parameters
    ----------
    state : RunState
        Of the run.
    memory : dict of str to float
        Of each worker [MiB].

    Returns
    -------
    dict of str to dict
        Columns of ``stages``, ``losses``, ``efficiencies``, ``galaxies`` and ``memory``.
    """
    rows = [
        (name, item.done, item.left, item.failed, item.rate, _duration(item.eta if item.left else 0.0))
        for name, item in state.stages.items()
    ]
    edges = np.linspace(0.0, 1.0, EFFICIENCY_BINS + 1)
    shown = sorted(state.galaxies.items(), key=lambda pair: (pair[1][0] == pair[1][1], pair[0]))[
        :GALAXIES_SHOWN
    ]
    return {
        "stages": _columns(("stage", "done", "left", "failed", "rate", "eta"), rows),
        "losses": _columns(("percent", "train", "held_out"), list(state.losses)),
        "efficiencies": {"count": state.efficiencies, "low": edges[:-1], "high": edges[1:]},
        "galaxies": _columns(("name", "done", "wanted"), [(name[:40], *pair) for name, pair in shown]),
        "memory": _columns(("name", "mebibytes"), sorted(memory.items())),
    }


def memory_by_worker(scheduler: Any) -> dict[str, float]:
    """Memory of each worker's process as it last told the scheduler [MiB]."""
    return {str(worker.name): worker.memory.process / 2**20 for worker in scheduler.workers.values()}


def stage_table(source: ColumnDataSource) -> DataTable:
    """Stages with their units done, left and failed, rates and time left."""
    count = NumberFormatter(format="0,0")
    columns = [
        TableColumn(field="stage", title="stage"),
        *(TableColumn(field=name, title=name, formatter=count) for name in ("done", "left", "failed")),
        TableColumn(field="rate", title="units / s", formatter=NumberFormatter(format="0,0.00")),
        TableColumn(field="eta", title="time left"),
    ]
    return DataTable(
        source=source, columns=columns, index_position=None, height=180, sizing_mode="stretch_width"
    )


def losses(source: ColumnDataSource) -> figure:
    """Training and held-out loss."""
    plot = _figure("Training", "share of the training [%]", "loss [nats]")
    plot.line("percent", "train", source=source, legend_label="training", color=BLUE)
    plot.scatter("percent", "train", source=source, legend_label="training", color=BLUE, size=4)
    plot.scatter("percent", "held_out", source=source, legend_label="held out", color=ORANGE)
    return plot


def efficiencies(source: ColumnDataSource) -> figure:
    """Clusters by efficiency so far."""
    plot = _figure("Efficiency so far", "effective draws / draws", "clusters")
    plot.quad(left="low", right="high", top="count", bottom=0, source=source, color=BLUE, line_color="white")
    return plot


def galaxies(sources: dict[str, ColumnDataSource]) -> figure:
    """Parts done of each galaxy; unfinished galaxies first."""
    plot = _bars("Galaxies", "parts", "galaxies_range")
    plot.hbar(y="name", right="wanted", height=0.7, source=sources["galaxies"], color=GREY)
    plot.hbar(y="name", right="done", height=0.7, source=sources["galaxies"], color=BLUE)
    return plot


def memory(sources: dict[str, ColumnDataSource]) -> figure:
    """Memory of each worker."""
    plot = _bars("Memory", "MiB", "memory_range")
    plot.hbar(y="name", right="mebibytes", height=0.7, source=sources["memory"], color=BLUE)
    return plot


def _bars(title: str, x: str, names: str) -> figure:
    """A figure of horizontal bars, one a name; `names` is the range that the page fills."""
    return _figure(title, x, "", y_range=FactorRange(factors=["-"], name=names), x_range=DataRange1d(start=0))


def _figure(title: str, x: str, y: str, **options: Any) -> figure:
    return figure(title=title, x_axis_label=x, y_axis_label=y, height=260, tools="", **options)


def _columns(names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> dict[str, list[Any]]:
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


def _plain(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
