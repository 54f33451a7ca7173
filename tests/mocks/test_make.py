"""Mock shards: what is in them, and that they come out the same whoever makes them."""

import os
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchflow import stages
from batchflow.config import load_job
from batchflow.errors import UserError
from batchflow.mocks import run as stage
from batchflow.mocks.make import make_shard, mock_table
from batchflow.mocks.plan import plan_mocks
from batchflow.paths import RunFolder
from batchflow.physics.embedded import EmbeddedEngine
from batchflow.physics.engine import open_engine
from batchflow.shards import read_footer

JOB = """
name = "t"
output = "{output}"
seed = 3
[model]
bands = ["wfc3_f336w", "wfc3_f555w"]
[mocks]
rows = 2500
rows_per_shard = 1000
"""


@pytest.fixture
def job(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(JOB.format(output=tmp_path / "run"))
    return load_job(path)


def make(job, folder: Path, index: int, rows: int = 1000) -> pa.Table:
    path = folder / f"shard-{index}.parquet"
    make_shard(str(path), {"index": index, "rows": rows}, stages.mocks_settings(job), {"unit": "x"})
    return pq.read_table(path)


def test_the_last_shard_takes_what_is_left(job):
    plan = plan_mocks(job, RunFolder(job.output))
    assert [unit.rows for unit in plan.wanted] == [1000, 1000, 500]
    assert plan.present == frozenset()


def test_fluxes_are_the_engines_times_the_mass(job, tmp_path):
    table = make(job, tmp_path, 0)
    engine = open_engine(job.model)
    wanted = engine.fluxes({name: table[name].to_numpy() for name in ("log_age", "ebv")})
    wanted *= 10 ** table["log_mass"].to_numpy().astype(float)[:, None]
    for i, band in enumerate(job.model.bands):
        assert np.allclose(table[f"flux_{band}"].to_numpy(), wanted[:, i], rtol=1e-6)
    assert table.schema.field("flux_wfc3_f336w").metadata[b"unit"] == b"mJy"
    assert read_footer(tmp_path / "shard-0.parquet")[0]["engine"]["engine"] == "embedded"


def test_a_shard_depends_on_its_key_alone(job, tmp_path):
    first, again, other = make(job, tmp_path, 0), make(job, tmp_path, 0), make(job, tmp_path, 1)
    assert first.equals(again)
    assert not set(first["log_age"].to_pylist()) & set(other["log_age"].to_pylist())
    assert make(job, tmp_path, 0, rows=500)["log_age"].to_pylist() != other["log_age"].to_pylist()[:500]


def test_a_mock_without_flux_is_refused_not_stored_as_not_observed(job):
    class Gap(EmbeddedEngine):
        def fluxes(self, parameters):
            fluxes = super().fluxes(parameters)
            fluxes[1] = np.nan
            return fluxes

    parameters = {"log_age": np.array([7.0, 8.5, 9.0]), "log_mass": np.full(3, 4.0), "ebv": np.full(3, 0.25)}
    single = {name: column.astype(np.float32) for name, column in parameters.items()}
    with pytest.raises(UserError, match=r"no flux for 1 of 3 mocks, first at log_age = 8\.5, ebv = 0\.25"):
        mock_table(Gap(job.model.bands), single)


def test_mocks_that_failed_are_not_counted_in_the_rate(job, monkeypatch):
    def half(client, function, units, pool, on_done):
        time.sleep(0.1)
        return [(unit.key, "its worker died") for unit in units[:2]]

    monkeypatch.setattr(stage, "require", lambda *_: 1)
    monkeypatch.setattr(stage, "run_units", half)
    session = SimpleNamespace(job=job, run=RunFolder(job.output), mode="resume", client=None)
    report = stage.mocks_stage(session)
    assert report.made == 1
    # The last shard alone: 500 rows in a tenth of a second, and not 2500.
    assert 1000 < report.figures["mocks_per_second"] < 6000


def test_a_full_disk_is_the_users_to_mend(job, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=False, capture_output=True
        ).returncode
    )
    if not mounted:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        with pytest.raises(UserError, match="No space left on device"):
            make(job, disk, 0, rows=100_000)
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True)
