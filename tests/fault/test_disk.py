"""A disk that is full or read-only, a clock that is wrong: one message, and a rerun ends as if unbroken."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from inline_runs import (  # noqa: F401 - fixtures
    STAGES,
    copied,
    inline,
    run_inline,
    whole,
    write_job,
)
from tiny_job import same_results

from batchflow.config import load_job
from batchflow.errors import UserError
from batchflow.results.query import query
from batchflow.status import status_of

pytestmark = pytest.mark.fault
MADE_BY = {
    "mocks": "mocks",
    "train": "model",
    "infer": "posterior",
    "fit": "fit",
    "validate": "validation",
    "report": "report",
}


def mount(folder: Path, *options: str) -> None:
    """Mount, or skip: it takes root and a kernel that lets it."""
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount a small disk here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path):
    """A disk of its own, in memory, that ends with the test."""
    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip("mounting a small disk takes root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount(folder, "-t", "tmpfs", "-o", "size=16m", "tmpfs")
    yield folder
    # Lazily: a reader that failed may hold a file open until it is collected.
    subprocess.run(["umount", "-l", str(folder)], check=True)


def as_far_as(stage: str, whole: Path, run: Path) -> None:  # noqa: F811
    """Copy a run without what a stage, and those behind it, have made."""
    shutil.copytree(whole, run)
    gone = list(MADE_BY)[list(MADE_BY).index(stage) if stage in MADE_BY else 1 :]
    for name in (*map(MADE_BY.__getitem__, gone), *(("draws",) if "infer" in gone else ())):
        shutil.rmtree(run / name)
    if stage == "catalogue":
        shutil.rmtree(run / "catalogue")


def fill(folder: Path, left: int) -> Path:
    """Leave so many bytes free on a disk."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    os.truncate(path, max(0, path.stat().st_size - left))
    return path


@pytest.mark.parametrize("left", [0, 20_480])
@pytest.mark.parametrize("stage", ["catalogue", *MADE_BY])
def test_a_disk_that_fills_up(stage, left, disk, whole):  # noqa: F811
    job = write_job(disk)
    as_far_as(stage, whole, disk / "run")
    filler = fill(disk, left)
    with pytest.raises(UserError, match=r"No space left on device.*free space") as told:
        run_inline(job, (stage,) if stage in MADE_BY else ("infer",))
    assert str(disk) in str(told.value)
    assert not list((disk / "run").rglob(".*.tmp"))
    filler.unlink()
    run_inline(job, tuple(MADE_BY) if stage == "report" else STAGES)
    assert same_results(disk / "run", whole)


@pytest.mark.parametrize("stage", MADE_BY)
def test_a_run_folder_that_cannot_be_written(stage, disk, whole):  # noqa: F811
    job = write_job(disk)
    shutil.copytree(whole, disk / "run")
    shutil.rmtree(disk / "run" / MADE_BY[stage])
    mount(disk, "-o", "remount,ro")
    try:
        with pytest.raises(UserError, match=r"Read-only file system.*another output") as told:
            run_inline(job, (stage,))
        assert str(disk) in str(told.value)
    finally:
        mount(disk, "-o", "remount,rw")
    run_inline(job, tuple(MADE_BY) if stage == "report" else STAGES)
    assert same_results(disk / "run", whole)


def test_a_read_only_run_can_be_asked_all_the_same(disk, whole, tmp_path):  # noqa: F811
    job = write_job(disk)
    shutil.copytree(whole, disk / "run")
    mount(disk, "-o", "remount,ro")
    try:
        rows = query(disk / "run", "SELECT count(*) AS n FROM posterior")["n"][0].as_py()
        assert rows == 36
        assert {row["state"] for row in status_of(load_job(job))} == {"done"}
    finally:
        mount(disk, "-o", "remount,rw")


@pytest.mark.parametrize("year", [1971, 2099])
def test_files_of_another_time_are_as_good(year, copied, whole):  # noqa: F811
    """A clock that went back: files made before lie in the future, or in a far past."""
    then = (year - 1970) * 365.25 * 86400
    for path in [*copied.rglob("*"), copied.parent / "clusters.csv"]:
        os.utime(path, (then, then))
    reports = run_inline(copied.parent / "job.toml")
    assert {name: report.made for name, report in reports.items()} == dict.fromkeys(STAGES, 0)
    same_results(copied, whole)


@pytest.mark.parametrize("stage", STAGES)
def test_a_clock_that_jumps_back_in_a_stage(stage, copied, whole, monkeypatch):  # noqa: F811
    """Wall time goes back an hour at every look: what is measured and what is waited for must not."""
    clock = iter(range(0, -(10**9), -3600))
    real = time.time()
    monkeypatch.setattr(time, "time", lambda: real + next(clock))
    shutil.rmtree(copied / MADE_BY[stage])
    report = run_inline(copied.parent / "job.toml")[stage]
    monkeypatch.undo()
    assert report.made
    assert report.seconds >= 0
    same_results(copied, whole)


@pytest.mark.parametrize("after", STAGES[:-1])
def test_a_catalogue_that_is_replaced_between_stages(after, whole, tmp_path):  # noqa: F811
    """Same name, size and times: the checksum tells, and the old file brings the old results."""
    job = write_job(tmp_path)
    left = STAGES[STAGES.index(after) + 1 :]
    as_far_as(left[0], whole, tmp_path / "run")
    replace(tmp_path / "clusters.csv")
    with pytest.raises(UserError, match=r"(?s)clusters\.sha256: .* there, .* in the job.*--mode restart"):
        run_inline(job, left)
    put_back(tmp_path / "clusters.csv")
    run_inline(job)
    assert same_results(tmp_path / "run", whole)


@pytest.mark.parametrize("stage", STAGES[1:-1])
def test_a_catalogue_that_is_replaced_while_the_job_runs(stage, whole, tmp_path, monkeypatch):  # noqa: F811
    """The stage behind must not give the new file's name to what it makes of the old one."""
    job = write_job(tmp_path)
    from batchflow import pipeline

    real = pipeline.stage_function

    def then_replaced(name):
        def run(session):
            report = real(name)(session)
            if name == stage:
                replace(tmp_path / "clusters.csv")
            return report

        return run

    monkeypatch.setattr(pipeline, "stage_function", then_replaced)
    with pytest.raises(UserError, match=r"sha256: .* there, .* in the job"):
        run_inline(job)
    monkeypatch.undo()
    put_back(tmp_path / "clusters.csv")
    run_inline(job)
    assert same_results(tmp_path / "run", whole)


def replace(path: Path) -> None:
    """Put another file in a catalogue's place: one digit differs; size and times do not."""
    times = path.stat()
    text = path.read_text()
    place = text.rindex(",5.0,") + 1
    other_file = path.with_suffix(".new")
    path.with_suffix(".old").write_text(text)
    other_file.write_text(text[:place] + "6" + text[place + 1 :])
    os.utime(other_file, ns=(times.st_atime_ns, times.st_mtime_ns))
    other_file.replace(path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)


def put_back(path: Path) -> None:
    path.with_suffix(".old").replace(path)
