"""Everything that can be known to be wrong with a job before anything runs."""

from __future__ import annotations

import os
import shutil
from typing import Any

from batchflow.catalogue.read import read_catalogue
from batchflow.config import CatalogueSettings, Job
from batchflow.errors import UserError
from batchflow.prior_settings import NUISANCES

BYTES_PER_VALUE = 4


def problems(job: Job) -> list[str]:
    """What is wrong with a job.

    Parameters
    ----------
    job : Job
        A job whose settings are valid each for itself.

    Returns
    -------
    list of str
        One message a problem; empty when the job can start.
    """
    found = [*_output_problems(job), *_prior_problems(job), *_noise_problems(job)]
    for entry in job.catalogue:
        found += _catalogue_problems(entry, job)
    return found


def describe_job(job: Job) -> dict[str, Any]:
    """What a job will do, in a few words each.

    Parameters
    ----------
    job : Job
        A job without problems.

    Returns
    -------
    dict
        Label to text.
    """
    priors = job.prior.distributions()
    inferred, averaged = (
        "; ".join(f"{name} {shape.words}" for name, shape in priors.items() if shape.inferred is wanted)
        for wanted in (True, False)
    )
    rows = {entry.survey: read_catalogue(entry, job.model.bands).num_rows for entry in job.catalogue}
    clusters = ", ".join(f"{name} {count:,}" for name, count in rows.items())
    return {
        "run folder": str(job.output.resolve()),
        "engine": _engine_in_words(job),
        "bands": " ".join(job.model.bands),
        "inferred": inferred,
        "marginalised": averaged or "none",
        "fixed": _fixed_in_words(job) or "none",
        "mocks": f"{job.mocks.rows:,} ({_mock_bytes(job) / 1e9:.2f} GB)",
        "clusters": clusters or "none",
    }


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
    if root.exists() and not root.is_dir():
        return [f"output = {str(job.output)!r} is a file; give a folder"]
    parent = next(folder for folder in (root, *root.parents) if folder.exists())
    if not os.access(parent, os.W_OK):
        return [f"output = {str(job.output)!r}: {parent} is not writable"]
    free = shutil.disk_usage(parent).free
    if free < (need := _mock_bytes(job)):
        return [
            f"mocks.rows = {job.mocks.rows:,} need {need / 1e9:.1f} GB; {parent} has {free / 1e9:.1f} GB free"
        ]
    return []


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


def _catalogue_problems(entry: CatalogueSettings, job: Job) -> list[str]:
    try:
        table = read_catalogue(entry, job.model.bands)
    except UserError as error:
        return [str(error)]
    if table.num_rows == 0:
        return [
            f"catalogue {entry.survey!r}: no row left of {entry.paths[0].name} (classes = {entry.classes})"
        ]
    return []
