"""What was run: the job, the versions, the figures of the stages, the model's card."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from typing import Any

from batchflow import __version__
from batchflow.config import STAGES, Job
from batchflow.errors import UserError
from batchflow.flow.card import card_of
from batchflow.report.content import NOTHING, Absence, Block, Listing, Markdown, Section, pairs, shown
from batchflow.report.data import ReportData

OWN = ("seconds", "made", "peak_memory_mib")
MOST_CATALOGUES = 40


def what_ran(data: ReportData) -> Section:
    """Job, versions, and what every stage took."""
    return Section("What was run", [_job(data), *_catalogues(data.job), _stages(data), _where(data)])


def model_card_section(data: ReportData) -> Section:
    """The model in words."""
    title = "The trained model"
    if data.description is None:
        return Section(title, [Absence("This run holds no trained model.")])
    try:
        card = card_of(data.folder.root)
    except UserError as error:
        return Section(title, [Absence(f"The model's card cannot be written: {error}")])
    return Section(title, [Markdown("The model's card: bands, prior, noise, training, limits", card)])


def file_date(data: ReportData) -> str:
    """When the newest of the run's results was written."""
    folders = (data.folder.posterior, data.folder.validation, data.folder.model, data.folder.mocks)
    times = [path.stat().st_mtime for folder in folders for path in folder.rglob("*.parquet")]
    if not times:
        return "unknown"
    return datetime.fromtimestamp(max(times), UTC).strftime("%Y-%m-%d %H:%M UTC")


def _job(data: ReportData) -> Block:
    versions = (data.description or {}).get("versions", {})
    found = {
        "run folder": str(data.folder.root),
        "results written": file_date(data),
        "report made with": f"batchflow {__version__}, Python {platform.python_version()}",
    }
    if isinstance(versions, dict) and versions:
        found["model made with"] = ", ".join(f"{name} {text}" for name, text in sorted(versions.items()))
    if data.job is None:
        return pairs(found | {"job": "job.toml is absent or of another version"}, "The run.")
    return pairs({"job": data.job.name, **found, **_settings(data.job)}, "The job and its settings.")


def _settings(job: Job) -> dict[str, str]:
    priors = {f"prior of {name}": shape.words for name, shape in job.prior.distributions().items()}
    return {
        "seed": str(job.seed),
        "engine": job.model.engine,
        "bands": ", ".join(job.model.bands),
        "extinction": f"{job.model.extinction}, R(V) = {job.model.rv:g}",
        "metallicity": f"{job.model.metallicity:g}",
        **priors,
        "unreported error": f"{job.noise.systematic:g} of the flux, in quadrature",
        "mocks": f"{job.mocks.rows:,}",
    }


def _catalogues(job: Job | None) -> list[Block]:
    if job is None or not job.catalogue:
        return [Absence("The job has no catalogue.")]
    rows = [(entry.survey, entry.format, ", ".join(map(str, entry.paths))) for entry in job.catalogue]
    left_out = max(0, len(rows) - MOST_CATALOGUES)
    return [Listing("Catalogues.", ("name", "format", "files"), tuple(rows[:MOST_CATALOGUES]), left_out)]


def _stages(data: ReportData) -> Block:
    if not data.stages:
        return Absence("logs/stages.json is absent: what the stages took is not known.")
    names = [name for name in STAGES if name in data.stages]
    names += [name for name in data.stages if name not in names]
    rows = tuple(_stage(name, data.stages[name]) for name in names)
    return Listing(
        "Stages: the last time that each did something.",
        ("stage", "took", "units made", "peak memory of a process [MiB]", "figures"),
        rows,
    )


def _stage(name: str, figures: dict[str, Any]) -> tuple[object, ...]:
    memory = figures.get("peak_memory_mib") or {}
    peak = max(memory.values(), default=None) if isinstance(memory, dict) else None
    others = {key: value for key, value in figures.items() if key not in OWN and not isinstance(value, dict)}
    said = "; ".join(f"{key.replace('_', ' ')} {shown(value)}" for key, value in others.items())
    return name, _duration(figures.get("seconds")), figures.get("made"), peak, said


def _duration(seconds: Any) -> str:
    if not isinstance(seconds, int | float):
        return NOTHING
    minutes, rest = divmod(float(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:.0f} h {minutes:02.0f} min"
    return f"{minutes:.0f} min {rest:02.0f} s" if minutes else f"{rest:.1f} s"


def _where(data: ReportData) -> Block:
    run = str(data.folder.root)
    return pairs(
        {
            "all summaries": f"{run}/posterior",
            "all draws": f"{run}/draws",
            "ask": f"batchflow query {run} SQL, with the tables posterior, draws, catalogue, ...",
            "columns and flags": f"batchflow flags {run}; README, What comes out",
        },
        "Where the results lie.",
    )
