"""The page `batchflow` in Dask's dashboard."""

from __future__ import annotations

from typing import Any

import numpy as np
from bokeh.layouts import column, gridplot
from bokeh.models import ColumnDataSource, DataRange1d, FactorRange, Range1d
from bokeh.models.widgets import Div
from bokeh.plotting import figure

from batchflow.dashboard.state import EFFICIENCY_BINS, RunState, StageState, shown

PATH = "/batchflow"
REFRESH_MILLISECONDS = 500
GALAXIES_SHOWN = 40
BLUE, ORANGE, GREY = "#1f77b4", "#ff7f0e", "#dddddd"
COUNTS = ("done", "left", "failed", "units / s")
CELL = "padding: 4px 18px 4px 0; text-align: right"


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
    first = snapshot(shown(scheduler), {})
    sources = {name: ColumnDataSource(name=name, data=data) for name, data in first.items()}
    # Not Bokeh's own table: it draws a row once, and numbers that change in it are not seen.
    stages = Div(text="", name="stages", sizing_mode="stretch_width")
    plots = (
        losses(sources["losses"]),
        efficiencies(sources["efficiencies"]),
        galaxies(sources),
        memory(sources),
    )
    grid = gridplot([list(plots[:2]), list(plots[2:])], sizing_mode="stretch_width", toolbar_location=None)

    def update() -> None:
        state = shown(scheduler)
        stages.text = stage_table(state)
        for name, data in snapshot(state, memory_by_worker(scheduler)).items():
            sources[name].data = data
        for name in ("galaxies", "memory"):
            names = list(reversed(sources[name].data["name"]))
            doc.get_model_by_name(f"{name}_range").update(factors=names)

    doc.title = "batchflow"
    doc.add_root(column(stages, grid, sizing_mode="stretch_width"))
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
        Columns of ``losses``, ``efficiencies``, ``galaxies`` and ``memory``.
    """
    edges = np.linspace(0.0, 1.0, EFFICIENCY_BINS + 1)
    unfinished_first = sorted(state.galaxies.items(), key=lambda pair: (pair[1][0] == pair[1][1], pair[0]))
    galaxies_ = [(name[:40], *pair) for name, pair in unfinished_first[:GALAXIES_SHOWN]]
    return {
        "losses": _columns(("percent", "train", "held_out"), list(state.losses)),
        "efficiencies": {"count": state.efficiencies, "low": edges[:-1], "high": edges[1:]},
        "galaxies": _columns(("name", "done", "wanted"), galaxies_),
        "memory": _columns(("name", "mebibytes"), sorted(memory.items())),
    }


def memory_by_worker(scheduler: Any) -> dict[str, float]:
    """Memory of each worker's process as it last told the scheduler [MiB]."""
    return {str(worker.name): worker.memory.process / 2**20 for worker in scheduler.workers.values()}


def stage_table(state: RunState) -> str:
    """Stages with their units done, left and failed, rates and time left.

    Parameters
    ----------
    state : RunState
        Of the run.

    Returns
    -------
    str
        HTML; the run's name is escaped.
    """
    heads = "".join(f"<th style='{CELL}'>{text}</th>" for text in ("stage", "", *COUNTS, "time left"))
    rows = "".join(_stage_row(name, item) for name, item in state.stages.items())
    table = f"<table style='border-collapse: collapse'><tr>{heads}</tr>{rows}</table>"
    return f"<b>{_plain(state.name)}</b>{table}"


def _stage_row(name: str, item: StageState) -> str:
    share = 100 * min(1.0, item.done / item.wanted) if item.wanted else 100.0
    bar = f"<div style='width: 200px; background: {GREY}'><div style='width: {share:.1f}%; height: 10px; "
    bar += f"background: {BLUE}'></div></div>"
    left = _duration(item.eta) if item.left and item.ended is None else f"took {_duration(item.seconds)}"
    counts = (f"{item.done:,.0f}", f"{item.left:,.0f}", f"{item.failed:,}", f"{item.rate:,.2f}")
    cells = "".join(f"<td style='{CELL}'>{text}</td>" for text in (_plain(name), bar, *counts, left))
    return f"<tr class='stage'>{cells}</tr>"


def losses(source: ColumnDataSource) -> figure:
    """Training and held-out loss."""
    plot = _figure("Training", "share of the training [%]", "loss [nats]", x_range=Range1d(start=0, end=102))
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
