"""[cluster] of a job: where the work is done."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from batchflow.errors import nearest
from batchflow.settings.base import Settings

BATCH_SYSTEMS = ("slurm", "pbs", "lsf", "sge", "htcondor", "oar")
SITES = ("local", "address", "allocation", *BATCH_SYSTEMS)

HANG_MINUTES = 120.0
"""How long a unit may go without progress: far longer than any that has been seen."""
MINUTES, QUEUE_MINUTES = 5.0, 1440.0
"""How long to wait for a worker: of this machine, and of a batch system, where a job may queue for a day."""


class ClusterSettings(Settings):
    """[cluster]: where the work is done."""

    site: str = Field(
        "local", description=f"{', '.join(SITES)}, or the path of a site file (.toml), see deploy/sites"
    )
    address: str | None = Field(None, description='scheduler of site = "address", e.g. tcp://127.0.0.1:8786')
    scheduler_file: Path | None = Field(
        None, description='file that names the scheduler, for site = "address" or "allocation"'
    )
    cpu_workers: PositiveInt | None = Field(
        None, description="worker processes; default: one a core, at a batch site what the site's file says"
    )
    gpu_workers: PositiveInt | None = Field(
        None, description="worker processes with the resource GPU=1; default: 1, at a batch site its file's"
    )
    memory_limit: str = Field("auto", description="of each worker, e.g. 4GiB")
    dashboard: str = Field(
        "127.0.0.1:8787", description='address of the dashboard; any free port if taken; "off" for none'
    )
    tls: bool | None = Field(
        None, description="encrypted, authenticated connections; default: where workers are on other hosts"
    )
    in_flight: PositiveInt = Field(3, description="units in flight per worker")
    wait_minutes: PositiveFloat = Field(
        MINUTES,
        description=f"how long to wait for a worker that is needed; default {MINUTES:g}, "
        f"at a batch site {QUEUE_MINUTES:g}",
    )
    hang_minutes: PositiveFloat = Field(
        HANG_MINUTES,
        description="how long a unit may go without progress; its worker is then ended, and the unit tried "
        "again, three times in all",
    )

    @field_validator("site")
    @classmethod
    def _known(cls, site: str) -> str:
        if site not in SITES and not site.endswith(".toml"):
            raise ValueError(f"{nearest(site, SITES)}; or give the path of a site file, sites/mine.toml")
        return site

    @field_validator("dashboard")
    @classmethod
    def _host_and_port(cls, dashboard: str) -> str:
        if dashboard != "off" and not re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[\w.-]*):\d{1,5}", dashboard):
            raise ValueError('expected host:port, such as 127.0.0.1:8787, or "off"')
        return dashboard

    @model_validator(mode="after")
    def _address(self) -> ClusterSettings:
        if self.site == "address" and (self.address is None) == (self.scheduler_file is None):
            raise ValueError('site = "address" needs address = "tcp://host:port" or a scheduler_file')
        if self.site != "address" and self.address is not None:
            raise ValueError('address = "tcp://host:port" goes with site = "address" only')
        if self.tls and self.site == "address" and not (self.address or "tls://").startswith("tls://"):
            raise ValueError(f"tls = true needs a scheduler at tls://host:port, not {self.address!r}")
        if self.site == "allocation" and self.scheduler_file is None:
            raise ValueError('site = "allocation" needs scheduler_file: `batchflow submit` gives it')
        return self

    @model_validator(mode="after")
    def _patience(self) -> ClusterSettings:
        if self.is_batch and "wait_minutes" not in self.model_fields_set:
            object.__setattr__(self, "wait_minutes", QUEUE_MINUTES)
        return self

    @property
    def is_batch(self) -> bool:
        """Whether workers are jobs of a batch system."""
        return self.site in BATCH_SYSTEMS or self.site.endswith(".toml")

    @property
    def dashboard_address(self) -> str | None:
        """Where the dashboard listens; None when it is off."""
        return None if self.dashboard == "off" else self.dashboard

    def located(self, folder: Path) -> ClusterSettings:
        """Resolve the path of a site file against the job file's folder."""
        if not self.site.endswith(".toml"):
            return self
        return self.model_copy(update={"site": str((folder / Path(self.site).expanduser()).resolve())})
