"""From a job to finished stages: lock, plan, cluster, figures."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import tomli_w

from batchflow import stages
from batchflow.catalogue.partition import Part
from batchflow.config import Job
from batchflow.dashboard.state import reset
from batchflow.errors import UserError
from batchflow.monitor import CONSOLE, say_dashboard
from batchflow.paths import RunFolder
from batchflow.plan import Mode, OtherSettingsError
from batchflow.shards import sweep, write_bytes, write_json, write_text

LOG = logging.getLogger("batchflow")
CATALOGUE_STAGES = {"train", "infer", "fit", "validate"}
"""Stages that need the normalised catalogue."""

PERFORMANCE = "performance.html"
"""Dask's own report of what every worker did when; in the run's logs."""


@dataclass
class StageReport:
    """What a stage did."""

    stage: str
    wanted: int
    made: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    """Unit and reason."""
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass
class Session:
    """A job at work: its run folder, and a Dask client made when first needed."""

    job: Job
    run: RunFolder
    mode: Mode
    stack: ExitStack

    @cached_property
    def client(self) -> Any:
        """The Dask client; the dashboard's address is printed when it is made."""
        from batchflow.cluster import connect

        client = self.stack.enter_context(connect(self.job.cluster, self.run.root / "scratch"))
        say_dashboard(self.job.cluster, client.dashboard_link)
        if self.job.cluster.dashboard_address:
            self.stack.enter_context(recorded(client, self.run.logs / PERFORMANCE))
        return client

    @cached_property
    def parts(self) -> list[Part]:
        """The normalised catalogue, made when first needed."""
        from batchflow.catalogue.ingest import ensure_catalogue

        return ensure_catalogue(self.job, self.run, self.mode)

    def check_catalogue(self) -> None:
        """See that the catalogue is still the one that this session began with.

        Raises
        ------
        UserError
            When one of its files was replaced since, or its parts were.
        """
        from batchflow.catalogue.index import find_catalogue

        if self.job.catalogue and find_catalogue(self.job, self.run) != self.parts:
            raise UserError(f"{self.run.catalogue} was changed while the job ran; run the job again")

    def memory(self) -> dict[str, float]:
        """Peak memory of each process so far [MiB]; empty when no cluster was needed."""
        from batchflow.cluster import peak_memory

        return peak_memory(self.client) if "client" in self.__dict__ else {}


Stage = Callable[[Session], StageReport]


@contextmanager
def open_session(job: Job, mode: Mode) -> Iterator[Session]:
    """Take hold of a job's run folder.

    Parameters
    ----------
    job : Job
        The job.
    mode : {"resume", "restart", "refuse"}
        What to do with what is there.

    Yields
    ------
    Session
        Nobody else works in the folder as long as the block runs.

    Raises
    ------
    UserError
        When the folder cannot be made, or somebody works in it.
    """
    run = RunFolder(job.output.resolve())
    try:
        run.logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output = {str(job.output)!r}: cannot make {run.logs}: {error.strerror}") from error
    with _lock(run.root), _log_file(run.logs), ExitStack() as stack:
        _sweep(run)
        stack.enter_context(_described(run, job))
        reset(job.name)
        # The last to be called: the workers must have gone before what they leave goes.
        stack.callback(_sweep, run)
        stack.callback(shutil.rmtree, run.root / "scratch", ignore_errors=True)
        yield Session(job, run, mode, stack)


@contextmanager
def _described(run: RunFolder, job: Job) -> Iterator[None]:
    """Have the job in its folder; that of before again, where what is there was made with other settings."""
    before = run.job.read_bytes() if run.job.is_file() else None
    write_text(run.job, tomli_w.dumps(stages.resolved(job)))
    try:
        yield
    except OtherSettingsError:
        if before is not None:
            write_bytes(run.job, before)
        raise


def _sweep(run: RunFolder) -> None:
    """Remove half-written files; not those of commands that write beside a run at work, such as reweight."""
    sweep(run.root, deep=False)
    for folder in run.written:
        sweep(folder)


@contextmanager
def recorded(client: Any, path: Path) -> Iterator[None]:
    """Write Dask's own report of what the workers do meanwhile.

    Parameters
    ----------
    client : distributed.Client
        Need not be the default of the process.
    path : Path
        An HTML file.
    """
    from distributed import performance_report

    report = performance_report(filename=str(path))
    # It asks for the current client, at its beginning and at its end.
    with client.as_current():
        report.__enter__()
    try:
        yield
    finally:
        with client.as_current():
            report.__exit__(None, None, None)


def run_stages(job: Job, names: Sequence[str], mode: Mode) -> list[StageReport]:
    """Run stages of a job in order.

    Parameters
    ----------
    job : Job
        The job.
    names : sequence of str
        Of `config.STAGES`.
    mode : {"resume", "restart", "refuse"}
        What to do with what is there.

    Returns
    -------
    list of StageReport
        One a stage; a stage that left units behind ends the list.
    """
    reports: list[StageReport] = []
    CONSOLE.print(f"run folder {job.output.resolve()}")
    with open_session(job, mode) as session:
        if job.catalogue and CATALOGUE_STAGES & set(names):
            # Whatever is wrong deep in a file comes out before any worker starts.
            _ = session.parts
        for name in names:
            if name in CATALOGUE_STAGES:
                session.check_catalogue()
            reports.append(_timed(name, stage_function(name), session))
            if reports[-1].failures:
                break
    return reports


def stage_function(name: str) -> Stage:
    """The stage of a name: ``<name>_stage`` in ``batchflow.<name>.run``, imported only when wanted."""
    function: Stage = getattr(import_module(f"batchflow.{name}.run"), f"{name}_stage")
    return function


def _timed(name: str, stage: Stage, session: Session) -> StageReport:
    LOG.info("%s begins", name)
    start = time.perf_counter()
    report = stage(session)
    report.seconds = time.perf_counter() - start
    report.figures["peak_memory_mib"] = session.memory()
    _record(session.run.logs / "stages.json", report)
    left = f", {len(report.failures)} failed" if report.failures else ""
    line = f"{name}: {report.made} of {report.wanted} units made{left} in {report.seconds:.1f} s"
    figures = "".join(f"; {text}" for text in _shown(report.figures))
    CONSOLE.print(f"[bold]{line}[/bold]{figures}", soft_wrap=True)
    LOG.info("%s; %s", line, report.figures)
    for unit, reason in report.failures:
        LOG.error("%s %s failed: %s", name, unit, reason)
    return report


def _shown(figures: dict[str, Any]) -> list[str]:
    plain = {key: value for key, value in figures.items() if isinstance(value, int | float | str)}
    return [
        f"{key} {value:,.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in plain.items()
    ]


def _record(path: Path, report: StageReport) -> None:
    """Keep the last figures of every stage that did something, for the report."""
    found: Any = None
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
    known: dict[str, Any] = found if isinstance(found, dict) else {}
    if report.made or report.stage not in known:
        known[report.stage] = {"seconds": report.seconds, "made": report.made, **report.figures}
        write_json(path, known)


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    path = root / ".lock"
    try:
        handle = path.open("a")
    except OSError as error:
        raise UserError(
            f"cannot take hold of {root}: {path}: {error.strerror}; remove it, or choose another output"
        ) from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"{root} is in use by another batchflow; wait for it, or choose another output"
            ) from None
        yield


@contextmanager
def _log_file(folder: Path) -> Iterator[None]:
    path = folder / "batchflow.log"
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}; free it, or choose another output"
        ) from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        handler.close()
