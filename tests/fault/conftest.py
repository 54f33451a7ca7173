"""Fixtures of the fault tests; what they are made of is in `tiny_job.py`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny_job import JOB, batchflow, same_results, well, write_catalogue

__all__ = ["JOB", "batchflow", "same_results", "well", "write_catalogue"]


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A tiny job of this test's own; its run folder is `job.parent / "run"`, not there yet."""
    write_catalogue(tmp_path / "clusters.csv")
    (tmp_path / "job.toml").write_text(JOB, encoding="utf-8")
    return tmp_path / "job.toml"


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the tiny job, unbroken. Read it, never write in it."""
    folder = tmp_path_factory.mktemp("unbroken")
    write_catalogue(folder / "clusters.csv")
    (folder / "job.toml").write_text(JOB, encoding="utf-8")
    well(batchflow(folder / "job.toml"))
    return folder / "run"


@pytest.fixture
def finished(job: Path, unbroken: Path) -> Path:
    """A copy of the unbroken run in this test's own folder; `job` works in it."""
    return Path(shutil.copytree(unbroken, job.parent / "run"))
