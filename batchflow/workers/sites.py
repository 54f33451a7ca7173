"""A site: what a batch system wants to know about the jobs that become workers, from one small file.

Values end up in job scripts, so each is checked to be a harmless word; only `prologue` is shell by intent.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from batchflow.errors import UserError, nearest
from batchflow.settings.base import Settings
from batchflow.settings.cluster import BATCH_SYSTEMS, ClusterSettings

ARRAYS = {
    "slurm": ("--array=1-{count}", "SLURM_ARRAY_TASK_ID"),
    "pbs": ("-J 1-{count}", "PBS_ARRAY_INDEX"),
    "sge": ("-t 1-{count}", "SGE_TASK_ID"),
}
"""Directive of a job array and the variable of its index, from 1, by batch system."""

WITH_RESOURCE_SPEC = ("pbs", "sge", "oar")


def _word(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.:@%+,=/-]*", value):
        raise ValueError("expected letters, digits and _.:@%+,=/- only: it becomes part of a job script")
    return value


def _line(value: str) -> str:
    if not value.isprintable() or not value.strip():
        raise ValueError("expected one line of text")
    return value


def _folder(value: str) -> str:
    if not re.fullmatch(r"(\$[A-Z_]+|\$\{[A-Z_]+\}|~)?[A-Za-z0-9_./-]*", value) or not value:
        raise ValueError("expected a path such as /scratch/me or $TMPDIR, without other special characters")
    return value


def _memory(value: str) -> str:
    if not re.fullmatch(r"\d+(\.\d+)? ?[KMGT]i?B", value):
        raise ValueError("expected a size such as 16GiB")
    return value


def seconds(walltime: str) -> int:
    """Seconds of ``[D-]HH:MM:SS`` or ``HH:MM``.

    Parameters
    ----------
    walltime : str
        As batch systems write it.

    Returns
    -------
    int
        Its length [s].

    Raises
    ------
    ValueError
        When it is written otherwise, or is less than half a minute.
    """
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):([0-5]\d)(?::([0-5]\d))?", walltime)
    if found is None:
        raise ValueError('expected hours:minutes:seconds, such as "04:00:00" or "1-12:00:00"')
    days, hours, minutes, rest = (int(part or 0) for part in found.groups())
    total = ((24 * days + hours) * 60 + minutes) * 60 + rest
    if total < 30:
        raise ValueError("expected half a minute at least")
    return total


def size_bytes(size: str) -> int:
    """Bytes of a size such as ``16GiB``, as `Memory` has checked it."""
    found = re.fullmatch(r"([\d.]+) ?([KMGT])(i?)B", size)
    number, power, binary = found.groups() if found else ("0", "K", "")
    return int(float(number) * (1024 if binary else 1000) ** (1 + "KMGT".index(power)))


def _walltime(value: str) -> str:
    seconds(value)
    return value


Word = Annotated[str, AfterValidator(_word)]
Line = Annotated[str, AfterValidator(_line)]
Folder = Annotated[str, AfterValidator(_folder)]
Memory = Annotated[str, AfterValidator(_memory)]
Walltime = Annotated[str, AfterValidator(_walltime)]


class JobSettings(Settings):
    """What any batch job needs."""

    queue: Word | None = Field(None, description="queue or partition; default: the system's")
    account: Word | None = Field(None, description="account or project to charge")
    walltime: Walltime = Field("04:00:00", description="of one job, [days-]hours:minutes:seconds")
    cores: PositiveInt = Field(1, description="cores of one job")
    memory: Memory = Field("4GiB", description="memory of one job")
    directives: tuple[Line, ...] = Field((), description='further directives, e.g. "--gres=gpu:1"')
    resource_spec: Line | None = Field(
        None, description="PBS, SGE, OAR: the resources in the system's words, in place of cores and memory"
    )


class DriverSettings(JobSettings):
    """[driver]: the job that plans, and holds the Dask scheduler and client."""


class AllocationSettings(JobSettings):
    """[allocation]: driver and workers in one Slurm job, for sites whose compute nodes may not submit."""

    cpu_workers: PositiveInt = Field(4, description="ranks that are CPU workers; cores, memory are of a rank")
    gpu_workers: PositiveInt = Field(1, description="ranks that are GPU workers")

    @property
    def megabytes(self) -> int:
        """Memory of one core [MiB]."""
        return max(1, size_bytes(self.memory) // self.cores // 2**20)


class PoolSettings(JobSettings):
    """[cpu] or [gpu]: jobs that become workers."""

    processes: PositiveInt = Field(1, description="worker processes of one job")
    least: int = Field(0, ge=0, description="jobs kept while the run lasts, whether there is work or not")
    most: PositiveInt = Field(1, description="jobs at once, at most")
    idle_minutes: PositiveFloat = Field(1.0, description="without work for so long, jobs above `least` end")
    array: bool = Field(False, description="submit jobs that are wanted together as one job array")

    @model_validator(mode="after")
    def _limits(self) -> PoolSettings:
        if self.least > self.most:
            raise ValueError(f"least = {self.least} is more than most = {self.most}")
        if self.processes > self.cores:
            raise ValueError(f"processes = {self.processes} need as many cores; cores = {self.cores}")
        return self


class SiteSettings(Settings):
    """A site file."""

    system: Literal["slurm", "pbs", "lsf", "sge", "htcondor", "oar"] = Field(description="the batch system")
    interface: Word | None = Field(None, description="network interface that workers and driver share")
    scratch: Folder = Field("/tmp", description="fast disk of each node, e.g. $TMPDIR")  # noqa: S108 (the default of every system)
    prologue: tuple[Line, ...] = Field((), description='shell lines before the program, e.g. "module load x"')
    login: Word | None = Field(
        None, description="name of the login node, for the hint how to see the dashboard"
    )
    may_submit: bool = Field(True, description="whether compute nodes may submit jobs; false: one allocation")
    certificates: Folder | None = Field(
        None, description="folder with ca.pem, cert.pem and key.pem for TLS; default: temporary ones a run"
    )
    secrets: Folder = Field(
        "~/.cache/batchflow", description="shared folder for temporary certificates, 0700"
    )
    driver: DriverSettings = DriverSettings()
    allocation: AllocationSettings = AllocationSettings()
    cpu: PoolSettings | None = Field(None, description="the CPU pool; without one the GPU jobs do its work")
    gpu: PoolSettings = PoolSettings()

    @model_validator(mode="after")
    def _of_the_system(self) -> SiteSettings:
        for name in ("driver", "cpu", "gpu"):
            if (settings := getattr(self, name)) and (problem := _unknown_to(self.system, settings)):
                raise ValueError(f"{name}.{problem}")
        return self


def _unknown_to(system: str, settings: JobSettings) -> str | None:
    """What the batch system does not know, which would be passed over in silence."""
    if isinstance(settings, PoolSettings) and settings.array and system not in ARRAYS:
        return f"array = true is known for {', '.join(ARRAYS)}, not {system}"
    if system == "htcondor" and settings.queue:
        return f"queue = {settings.queue!r}: HTCondor has none; say what the job needs in directives"
    if settings.resource_spec and system not in WITH_RESOURCE_SPEC:
        return f"resource_spec is known for {', '.join(WITH_RESOURCE_SPEC)}, not {system}; use directives"
    words = (*settings.directives, settings.resource_spec or "")
    if system == "sge" and settings.cores > 1 and not any(word.startswith("-pe ") for word in words):
        return (
            f"cores = {settings.cores}: Grid Engine gives one unless a parallel environment is asked for; "
            f'directives = ["-pe smp {settings.cores}"] (`qconf -spl` lists their names)'
        )
    return None


def load_site(cluster: ClusterSettings) -> SiteSettings:
    """Settings of the site that a job names.

    Parameters
    ----------
    cluster : ClusterSettings
        Whose site is a batch system or a site file.

    Returns
    -------
    SiteSettings
        ``cpu_workers`` and ``gpu_workers`` of the job bound its pools.

    Raises
    ------
    UserError
        When the file is absent or something in it is wrong.
    """
    if cluster.site in BATCH_SYSTEMS:
        return bounded(parse_site({"system": cluster.site, "cpu": {"most": 4}}, cluster.site), cluster)
    path = Path(cluster.site)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"cluster.site = {cluster.site!r}: no such file; examples are in deploy/sites"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"cluster.site = {cluster.site!r} cannot be read: {error}") from None
    return bounded(parse_site(values, str(path)), cluster)


def parse_site(values: dict[str, Any], source: str) -> SiteSettings:
    """Validate a site's settings.

    Parameters
    ----------
    values : dict
        As TOML gives them.
    source : str
        Where they come from, for messages.

    Returns
    -------
    SiteSettings
        Valid each for itself.

    Raises
    ------
    UserError
        Naming every wrong key.
    """
    try:
        return SiteSettings.model_validate(values)
    except ValidationError as error:
        lines = [_explain(dict(item)) for item in error.errors()]
        raise UserError(f"{source}: " + "\n  ".join(lines)) from None


def bounded(site: SiteSettings, cluster: ClusterSettings) -> SiteSettings:
    """Limit the pools of a site to the numbers of workers that a job asks for."""
    wanted = {"cpu": cluster.cpu_workers, "gpu": cluster.gpu_workers}
    pools = {name: _limit(getattr(site, name), count) for name, count in wanted.items()}
    return site.model_copy(update=pools)


def _limit(pool: PoolSettings | None, workers: int | None) -> PoolSettings | None:
    if pool is None or workers is None:
        return pool
    most = max(1, -(-workers // pool.processes))
    return pool.model_copy(update={"most": most, "least": min(pool.least, most)})


def _explain(item: dict[str, Any]) -> str:
    key = ".".join(map(str, item["loc"])) or "the site"
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        fields: dict[str, type[Settings]] = {
            "driver": DriverSettings,
            "allocation": AllocationSettings,
            "cpu": PoolSettings,
            "gpu": PoolSettings,
        }
        known = fields.get(str(item["loc"][0]), SiteSettings) if len(item["loc"]) > 1 else SiteSettings
        return f"unknown key {key}; {nearest(str(item['loc'][-1]), known.model_fields)}"
    if item["type"] == "missing":
        return f"{key} is missing"
    # A rule between several keys: what is wrong is in the message, and the whole file would hide it.
    where = f"{key}: " if item["loc"] else ""
    return f"{where}{message}" if isinstance(item["input"], dict) else f"{key} = {item['input']!r}: {message}"
