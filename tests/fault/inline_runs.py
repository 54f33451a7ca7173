"""The tiny job run in this process: Dask has tests of its own, and a hundred broken files want no cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_job import JOB, write_catalogue

from batchflow.config import load_job
from batchflow.pipeline import Session, StageReport, run_stages
from batchflow.threads import threads

STAGES = ("mocks", "train", "infer", "fit", "validate")


def run_units(client, function, units, pool, on_done):
    """Run units here, one after the other."""
    for unit in units:
        on_done(unit, function(**unit.arguments))
    return []


@contextmanager
def nothing(*_) -> Iterator[None]:
    yield


@pytest.fixture(scope="session")
def inline() -> Iterator[None]:
    """Let stages run their units in this process, on one thread."""
    with threads(1), pytest.MonkeyPatch.context() as patch:
        for stage in STAGES:
            patch.setattr(f"batchflow.{stage}.run.run_units", run_units)
        for stage in ("mocks", "train", "validate"):
            patch.setattr(f"batchflow.{stage}.run.require", lambda *_: 1)
        for stage in ("infer", "fit"):
            patch.setattr(f"batchflow.{stage}.run.fastest_pool", lambda _: SimpleNamespace(resource="CPU"))
        patch.setattr("batchflow.train.run.workers_with", lambda *_: ["tcp://a:1"])
        patch.setattr("batchflow.train.run.listen", nothing)
        patch.setattr("batchflow.train.run.train_task", _train)
        patch.setattr(Session, "client", None)
        patch.setattr(Session, "memory", lambda _: {})
        yield


def _train(**arguments):
    from batchflow.train.task import train_model

    return train_model(**arguments, report=lambda _: None)


def write_job(folder: Path, **changes: str) -> Path:
    """The tiny job in a folder; its run folder beside it."""
    folder.mkdir(exist_ok=True, parents=True)
    write_catalogue(folder / "clusters.csv")
    text = JOB.replace('output = "run"', f'output = "{folder / "run"}"')
    for old, new in changes.items():
        text = text.replace(f"{old} = ", f"{old} = {new} # ")
    (folder / "job.toml").write_text(text, encoding="utf-8")
    return folder / "job.toml"


def run_inline(path: Path, names: tuple[str, ...] = STAGES, mode: str = "resume") -> dict[str, StageReport]:
    """Run stages of a job; what each did."""
    reports = run_stages(load_job(path), names, mode)
    assert not [report for report in reports if report.failures]
    if "report" not in names:
        page = path.parent / "run" / "report" / "index.html"
        page.parent.mkdir(exist_ok=True)
        page.write_text("</html>\n")  # what the comparison of runs looks for; the page has tests of its own
    return {report.stage: report for report in reports}


@pytest.fixture(scope="session")
def whole(inline, tmp_path_factory) -> Path:
    """The run folder of the tiny job, unbroken. Read it, never write in it."""
    path = write_job(tmp_path_factory.mktemp("whole"))
    run_inline(path)
    return path.parent / "run"


@pytest.fixture(scope="session")
def other(inline, tmp_path_factory) -> Path:
    """The same job with another seed."""
    path = write_job(tmp_path_factory.mktemp("other"), seed="4")
    run_inline(path)
    return path.parent / "run"


@pytest.fixture
def copied(whole, tmp_path) -> Path:
    """A copy of the unbroken run; its job lies beside it."""
    import shutil

    write_job(tmp_path)
    return Path(shutil.copytree(whole, tmp_path / "run"))
