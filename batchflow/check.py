"""Everything that can be known to be wrong with a job before anything runs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchflow.catalogue.files import check_files, check_input, find_files
from batchflow.catalogue.read import CatalogueReader
from batchflow.config import Job
from batchflow.errors import UserError
from batchflow.infer.nuisance import grid_use, why_no_grid
from batchflow.paths import RunFolder
from batchflow.settings.catalogue import CatalogueSettings
from batchflow.settings.prior import NUISANCES

BYTES_PER_VALUE = 4
LARGEST = 200_000_000
"""Bytes of a catalogue that `check` reads to its end."""


GRID_WORDS = {
    "never": "never; quantiles come from weighted draws",
    "fallback": "where more draws do not suffice; other quantiles come from weighted draws",
    "summary": "for the quantiles of every cluster",
    "always": "for every cluster, in place of the network",
}


@dataclass(frozen=True)
class Report:
    """What `batchflow check` found out."""

    problems: list[str]
    """One message a problem; empty when the job can start."""
    description: dict[str, Any]
    """What the job will do: label to text."""


def examine(job: Job) -> Report:
    """Look at everything of a job that can be wrong, and say what it will do; each catalogue is read once.

    Parameters
    ----------
    job : Job
        A job whose settings are valid each for itself.

    Returns
    -------
    Report
        Catalogues whose files have more than `LARGEST` bytes in all are read to the end of their first piece
        only, and the description says so.
    """
    found = _settings_problems(job)
    clusters = {}
    for entry in job.catalogue:
        try:
            clusters[entry.survey] = _look(entry, job)
        except UserError as error:
            found.append(str(error))
    return Report(found + _shared_files(job), _describe(job, clusters))


def problems(job: Job) -> list[str]:
    """What is wrong with a job, its catalogues' content left aside: `run` reads that itself, before all else.

    Parameters
    ----------
    job : Job
        A job whose settings are valid each for itself.

    Returns
    -------
    list of str
        One message a problem.
    """
    found = _settings_problems(job)
    for entry in job.catalogue:
        try:
            for path in find_files([*entry.paths, *entry.sed_paths]):
                check_input(path)
        except UserError as error:
            found.append(f"{error} (paths in a job file are relative to the job file)")
    return found + _shared_files(job)


def _shared_files(job: Job) -> list[str]:
    try:
        check_files(job.catalogue)
    except UserError as error:
        # A pattern without a file has been told of already.
        return [str(error)] if "two catalogues" in str(error) else []
    return []


def _settings_problems(job: Job) -> list[str]:
    from batchflow.fit.preset import fit_problems

    wrong = _prior_problems(job)
    found = [*_output_problems(job), *wrong, *_grid_problems(job), *_noise_problems(job)]
    # The nodes of the fit follow from the prior: what is wrong with it need not be said twice.
    return [*found, *(fit_problems(job) if not wrong else [])]


def _look(entry: CatalogueSettings, job: Job) -> str:
    """Number of clusters of a catalogue, in words."""
    reader = CatalogueReader(entry, job.model.bands, job.model.curves)
    pieces = reader.pieces()
    files = find_files(entry.paths)
    for path in files:
        check_input(path)
    size = sum(path.stat().st_size for path in files)
    if size > LARGEST:
        next(pieces, None)
        return f"more than {reader.tally.n_rows:,} ({size / 1e9:.1f} GB; only its beginning was read)"
    for _ in pieces:
        continue
    return f"{reader.tally.n_rows:,}"


def _describe(job: Job, clusters: Mapping[str, str]) -> dict[str, Any]:
    priors = job.prior.distributions()
    inferred, averaged = (
        "; ".join(f"{name} {shape.words}" for name, shape in priors.items() if shape.inferred is wanted)
        for wanted in (True, False)
    )
    return {
        "run folder": str(job.output.resolve()),
        "engine": _engine_in_words(job),
        "bands": " ".join(job.model.bands),
        "inferred": inferred,
        "marginalised": averaged or "none",
        "fixed": _fixed_in_words(job) or "none",
        "exact grid": _grid_in_words(job),
        "mocks": f"{job.mocks.rows:,} ({_mock_bytes(job) / 1e9:.2f} GB)",
        "clusters": ", ".join(f"{name} {count}" for name, count in clusters.items()) or "none",
        "fit": _fit_in_words(job),
    }


def _fit_in_words(job: Job) -> str:
    from batchflow.fit.preset import describe_fit

    try:
        return describe_fit(job)
    except UserError:  # among the problems already
        return "none"


def _grid_in_words(job: Job) -> str:
    if why := why_no_grid(job.prior):
        return f"{why}; quantiles come from weighted draws"
    return GRID_WORDS[grid_use(job.infer.grid, len(job.prior.boxes()))]


def _grid_problems(job: Job) -> list[str]:
    why = why_no_grid(job.prior)
    if not why or job.infer.grid in ("auto", "never", "fallback"):
        return []
    return [
        f'infer.grid = "{job.infer.grid}", but this job can have no exact grid ({why}); expected '
        '"auto", "fallback" or "never", or no marginalised and at most four inferred parameters'
    ]


def _engine_in_words(job: Job) -> str:
    if job.model.engine != "cigale":
        return f"{job.model.engine}, extinction {job.model.extinction}"
    modules = _cigale(job).get("modules", [])
    return f"cigale, {job.model.cigale.evaluate}" + (f": {' '.join(modules)}" if modules else "")


def _fixed_in_words(job: Job) -> str:
    """Parameters of the stars and the dust that are neither inferred nor marginalised."""
    if job.model.engine == "cigale":
        return "; ".join(
            f"{module}.{name} {value}"
            for module, values in _cigale(job).get("values", {}).items()
            for name, value in values.items()
            if name.lower() in NUISANCES
        )
    values = {name: getattr(job.model, name) for name in NUISANCES if name not in job.model.vary}
    if values.get("covering") != 0:
        values["log_u"] = job.model.log_u
    return "; ".join(f"{name} {value:g}" for name, value in values.items())


def _cigale(job: Job) -> dict[str, Any]:
    """What CIGALE says of itself; nothing where it is missing, which `problems` reports."""
    from batchflow.physics.engine import open_engine

    try:
        return open_engine(job.model).describe()
    except UserError:
        return {}


def _output_problems(job: Job) -> list[str]:
    root = job.output.resolve()
    try:
        root.exists()
    except OSError as error:
        return [f"output = {str(job.output)!r}: {error.strerror}"]
    if root.exists() and not root.is_dir():
        return [f"output = {str(job.output)!r} is a file; give a folder"]
    parent = next(folder for folder in (root, *root.parents) if folder.exists())
    if not os.access(parent, os.W_OK):
        return [f"output = {str(job.output)!r}: {parent} is not writable"]
    return _space_problems(job, parent)


def _space_problems(job: Job, disk: Path) -> list[str]:
    """Whether the mocks that are not there yet have room; the rest of a run is small beside them."""
    there = len(list(RunFolder(job.output.resolve()).mocks.glob("shard-*.parquet")))
    left = max(0.0, 1 - there * job.mocks.rows_per_shard / job.mocks.rows)
    need = left * _mock_bytes(job)
    free = shutil.disk_usage(disk).free
    if need <= free:
        return []
    return [
        f"mocks.rows = {job.mocks.rows:,} need {need / 1e6:,.0f} MB more; {disk} has {free / 1e6:,.0f} MB "
        "free: free space, or choose another output"
    ]


def _mock_bytes(job: Job) -> float:
    return BYTES_PER_VALUE * job.mocks.rows * (len(job.prior.ranges()) + len(job.model.bands))


def _prior_problems(job: Job) -> list[str]:
    from batchflow.physics.engine import open_engine

    try:
        limits = open_engine(job.model).limits
    except UserError as error:
        return [f"[model]: {error}"]
    boxes = job.prior.ranges()
    found = [f"prior.{name} is missing: the engine varies it" for name in limits if name not in boxes]
    found += _marginal_problems(job)
    for name, (least, most) in limits.items():
        low, high = boxes.get(name, (least, most))
        if low < least or high > most:
            reach = f"[{least:.6g}, {most:.6g}]"
            found.append(f"prior.{name} = [{low:g}, {high:g}] goes beyond what the engine has, {reach}")
    return found


def _marginal_problems(job: Job) -> list[str]:
    from batchflow.infer.nuisance import MAX_EVALUATIONS, Nuisances

    averaged = Nuisances(job.prior.marginalised())
    if (found := averaged.evaluations) <= MAX_EVALUATIONS:
        return []
    named = " and ".join(f"prior.{name}" for name in averaged.shapes)
    return [
        f"marginalising {named} takes {found} likelihoods a draw; expected {MAX_EVALUATIONS} at most: "
        "list fewer values in `choice`, or infer one of them (uniform, without marginalise)"
    ]


def _noise_problems(job: Job) -> list[str]:
    if job.catalogue or job.noise.depth:
        return []
    return [
        "no [[catalogue]] and no noise.depth: the network would not know the errors to expect; "
        "add a catalogue, or noise.depth = [-5.3, -4.3] (log10 mJy)"
    ]
