"""The settings that matter to each stage: what its fingerprint is made of, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from batchflow.catalogue.cds_readme import find_readme
from batchflow.catalogue.files import checksum, find_files
from batchflow.config import Job, parse_job
from batchflow.errors import UserError
from batchflow.settings.catalogue import CatalogueSettings

FORMAT = 1
"""Raised when the meaning of a run's files changes, so that old files are told apart."""


def mocks_settings(job: Job) -> dict[str, Any]:
    """Settings that decide what is in a mock shard; the number of rows only decides how many shards."""
    return {
        "format": FORMAT,
        "seed": job.seed,
        "model": job.model.model_dump(mode="json"),
        "prior": job.prior.model_dump(mode="json"),
        "mocks": {"rows_per_shard": job.mocks.rows_per_shard},
    } | _curve_settings(job)


def catalogue_settings(job: Job) -> dict[str, Any]:
    """Settings that decide what is in the normalised catalogue, the files' checksums among them."""
    return {
        "format": FORMAT,
        "bands": list(job.model.bands),
        "rows_per_part": job.infer.rows_per_part,
        "catalogue": {entry.survey: _entry_settings(entry) for entry in job.catalogue},
    } | (_curve_settings(job) if any(entry.foreground_ebv for entry in job.catalogue) else {})


def train_settings(job: Job) -> dict[str, Any]:
    """Settings that decide the trained model: those of the mocks, and the noise of the catalogues."""
    catalogue = catalogue_settings(job)["catalogue"]
    return (
        mocks_settings(job)
        | {
            "mocks": job.mocks.model_dump(mode="json"),
            "noise": job.noise.model_dump(mode="json"),
            "flow": job.flow.model_dump(mode="json"),
            "train": job.train.model_dump(mode="json", exclude={"checkpoint_seconds"}),
            "catalogue": catalogue,
        }
        | _own_systematics(job)
    )


def infer_settings(job: Job, model: str) -> dict[str, Any]:
    """Settings that decide the posterior of a cluster.

    Parameters
    ----------
    job : Job
        The job.
    model : str
        Checksum of the model's weights.

    Returns
    -------
    dict
        JSON-able.
    """
    return {
        "format": FORMAT,
        "seed": job.seed,
        "bands": list(job.model.bands),
        "prior": job.prior.model_dump(mode="json"),
        "infer": job.infer.model_dump(mode="json", exclude={"rows_per_part"}),
        "catalogue": catalogue_settings(job)["catalogue"],
        "weights": model,
    }


def fit_settings(job: Job) -> dict[str, Any]:
    """Settings that decide the classical fit of a cluster; no trained model is among them."""
    return (
        {
            "format": FORMAT,
            "seed": job.seed,
            "model": job.model.model_dump(mode="json"),
            "prior": job.prior.model_dump(mode="json"),
            "noise": job.noise.model_dump(mode="json"),
            "fit": job.fit.model_dump(mode="json", exclude={"enabled"}),
            "min_efficiency": job.infer.min_efficiency,
            "catalogue": catalogue_settings(job)["catalogue"],
        }
        | _own_systematics(job)
        | _curve_settings(job)
    )


def validate_settings(job: Job, model: str) -> dict[str, Any]:
    """Settings that decide the calibration and the comparison."""
    return infer_settings(job, model) | {"validate": job.validate_.model_dump(mode="json")}


def _own_systematics(job: Job) -> dict[str, Any]:
    """Systematic errors of single catalogues, where any has its own; their photometry is the same."""
    found = {entry.survey: entry.systematic for entry in job.catalogue if entry.systematic is not None}
    return {"systematic": found} if found else {}


def _curve_settings(job: Job) -> dict[str, Any]:
    """Checksums of the job's own throughput curves, where it has any."""
    for name, path in job.model.curves.items():
        if not path.is_file():
            raise UserError(f"model.curves.{name} = {str(path)!r} is not there; expected a throughput curve")
    found = {name: checksum(path) for name, path in job.model.curves.items()}
    return {"curves": found} if found else {}


def _entry_settings(entry: CatalogueSettings) -> dict[str, Any]:
    files = find_files(entry.paths)
    others = find_files(entry.sed_paths) if entry.sed_paths else ()
    settings = entry.model_dump(
        mode="json", exclude={"path", "sed_path", "name", "systematic"}, exclude_none=True
    )
    settings["sha256"] = [checksum(path) for path in files]
    if len(files) > 1:
        settings["files"] = [path.name for path in files]
    if readmes := sorted({readme for path in files if (readme := find_readme(path))}):
        settings["readme_sha256"] = [checksum(path) for path in readmes]
    if others:
        settings["sed_sha256"] = [checksum(path) for path in others]
    return settings


def resolved(job: Job) -> dict[str, Any]:
    """The job with every default filled in, as TOML can hold it."""
    return job.model_dump(mode="json", by_alias=True, exclude_none=True)


def from_resolved(values: dict[str, Any], source: str) -> Job:
    """Inverse of `resolved`: paths are absolute already."""
    return parse_job(values, source, Path("/"))
