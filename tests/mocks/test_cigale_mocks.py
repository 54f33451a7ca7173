"""Mocks by the engine `cigale`: what a row records, and the table made by workers once."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from batchflow import stages
from batchflow.config import Job, load_job
from batchflow.errors import UserError
from batchflow.mocks.flux_table import (
    TABLE_FILE,
    finish_table,
    is_finished,
    make_part,
    open_table,
    plan_table,
)
from batchflow.mocks.make import make_shard
from batchflow.mocks.plan import check_installation, plan_mocks
from batchflow.paths import RunFolder
from batchflow.physics.engine import _opened, open_engine
from batchflow.physics.table import FluxTable
from batchflow.pipeline import run_stages
from batchflow.plan import Plan
from batchflow.shards import read_footer

JOB = """
name = "t"
output = "{folder}/run"
seed = 3
[model]
engine = "cigale"
bands = ["wfc3_f336w", "wfc3_f555w"]
[model.cigale]
{cigale}
[prior]
log_age = {{uniform = [6.2, 9.0]}}
ebv = {{uniform = [0.0, 1.0]}}
[noise]
depth = [-5.3, -4.3]
[mocks]
rows = 600
rows_per_shard = 300
[cluster]
cpu_workers = 1
dashboard = "127.0.0.1:0"
"""
TABLE = 'evaluate = "table"\nnodes = {log_age = [6.0, 9.2, 40], ebv = [0.0, 1.0, 51]}'


def load(folder: Path, cigale: str = "") -> Job:
    path = folder / "job.toml"
    path.write_text(JOB.format(folder=folder, cigale=cigale))
    return load_job(path)


def table_plan(job: Job) -> Plan:
    return plan_table(job, RunFolder(job.output))


def make_parts(plan: Plan) -> list[str]:
    for unit in plan.left:
        make_part(str(unit.paths[0]), unit.arguments["span"], plan.settings["model"], plan.footer(unit))
    return [str(unit.paths[0]) for unit in plan.wanted]


def test_a_row_records_the_age_that_cigale_used(new_cigale: str, tmp_path: Path) -> None:
    job = load(tmp_path)
    path = tmp_path / "shard.parquet"
    make_shard(str(path), {"index": 0, "rows": 300}, stages.mocks_settings(job), {"unit": "x"})
    table = pq.read_table(path)
    engine = open_engine(job.model)
    grid = engine.steps["log_age"].values.astype(np.float32)
    ages = table["log_age"].to_numpy()
    assert np.isin(ages, grid).all()
    assert 6.2 <= ages.min() < ages.max() <= 9.0
    wanted = engine.fluxes({name: table[name].to_numpy() for name in ("log_age", "ebv")})
    wanted *= 10 ** table["log_mass"].to_numpy().astype(float)[:, None]
    for column, band in zip(wanted.T, job.model.bands, strict=True):
        np.testing.assert_allclose(table[f"flux_{band}"].to_numpy(), column, rtol=1e-6)
    footer, _ = read_footer(path) or ({}, 0)
    assert footer["engine"]["pcigale"]["version"] == "double"
    assert footer["engine"]["pcigale"]["database"]


def test_whole_job_with_a_table(new_cigale: str, tmp_path: Path) -> None:
    job = load(tmp_path, TABLE)
    (report,) = run_stages(job, ["mocks"], "resume")
    assert (report.made, report.failures) == (2, [])
    run = RunFolder(job.output)
    table = FluxTable.load(run.flux_table / TABLE_FILE)
    assert table.notes["interpolation_error_mag"] < 0.002
    assert len(list(run.flux_table.glob("part-*.parquet"))) == len(table_plan(job).wanted) > 1
    rows = pq.read_table(run.shard(1))
    wanted = table.fluxes({name: rows[name].to_numpy() for name in ("log_age", "ebv")})
    found = rows["flux_wfc3_f555w"].to_numpy() / 10 ** rows["log_mass"].to_numpy().astype(float)
    np.testing.assert_allclose(found, wanted[:, 1], rtol=1e-6)
    footer, _ = read_footer(run.shard(1)) or ({}, 0)
    assert footer["engine"]["interpolation_error_mag"] == table.notes["interpolation_error_mag"]
    assert footer["engine"]["pcigale"]["version"] == "double"

    before = (run.flux_table / TABLE_FILE).stat().st_mtime_ns
    run.shard(0).unlink()
    (again,) = run_stages(job, ["mocks"], "resume")
    assert again.made == 1
    assert (run.flux_table / TABLE_FILE).stat().st_mtime_ns == before

    np.testing.assert_array_equal(open_table(job, run).log_flux, table.log_flux)


def test_resume_with_another_cigale_is_refused(
    new_cigale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = load(tmp_path)
    run = RunFolder(job.output)
    run_stages(job, ["mocks"], "resume")
    run.shard(0).unlink()
    _opened.cache_clear()
    monkeypatch.setattr("pcigale.__version__", "2025.0")
    before = run.shard(1).read_bytes()
    with pytest.raises(UserError, match=r"pcigale\.version: 'double' there, '2025\.0' in the job") as caught:
        run_stages(job, ["mocks"], "resume")
    assert "shard-00001" in str(caught.value)
    assert "--mode restart" in str(caught.value)
    assert not run.shard(0).exists()
    assert run.shard(1).read_bytes() == before
    # Where the mocks are whole nothing is made, and no CIGALE is asked: training may be on another machine.
    assert plan_mocks(job, run).wanted[1].key in plan_mocks(job, run).present


def test_a_worker_with_another_database_is_found_out(new_cigale: str, tmp_path: Path) -> None:
    job = load(tmp_path)
    unit = plan_mocks(job, RunFolder(job.output)).wanted[0]
    path = str(unit.paths[0])
    make_shard(path, {"index": 0, "rows": 300}, stages.mocks_settings(job), {"unit": unit.key})
    here = open_engine(job.model).describe()["pcigale"]
    check_installation([unit], here)
    with pytest.raises(UserError, match=r"pcigale\.database: '\w+' there, 'other' in the job"):
        check_installation([unit], here | {"database": "other"})


def test_without_a_saved_table_the_engine_computes_one(new_cigale: str, tmp_path: Path) -> None:
    job = load(tmp_path, TABLE)
    found = open_table(job, RunFolder(job.output))
    np.testing.assert_array_equal(found.log_flux, open_engine(job.model).table().log_flux)


def test_parts_that_are_there_are_not_made_again(new_cigale: str, tmp_path: Path) -> None:
    job = load(tmp_path, TABLE)
    plan = table_plan(job)
    make_parts(plan)
    assert table_plan(job).complete
    cut = plan.wanted[1].paths[0]
    cut.write_bytes(cut.read_bytes()[:100])
    assert [unit.key for unit in table_plan(job).left] == [plan.wanted[1].key]


def test_the_last_part_takes_what_is_left(new_cigale: str, tmp_path: Path) -> None:
    wanted = table_plan(load(tmp_path, TABLE)).wanted
    spans = [unit.arguments["span"] for unit in wanted]
    assert spans[0][0] == 0
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    assert [unit.rows for unit in wanted] == [stop - start for start, stop in spans]


def test_parts_of_another_chain_or_database_are_refused(
    new_cigale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_parts(table_plan(load(tmp_path, TABLE)))
    with pytest.raises(UserError, match=r"model.cigale.imf: None there, 'salpeter' in the job"):
        table_plan(load(tmp_path, TABLE + '\nimf = "salpeter"'))
    monkeypatch.setattr("pcigale.__version__", "newer")
    with pytest.raises(UserError, match=r"pcigale.version: 'double' there, 'newer' in the job"):
        table_plan(load(tmp_path, TABLE))


def test_a_coarse_table_is_not_written(new_cigale: str, tmp_path: Path) -> None:
    job = load(tmp_path, 'evaluate = "table"\nnodes = {ebv = [0.0, 1.0, 3]}')
    plan = table_plan(job)
    path = tmp_path / TABLE_FILE
    with pytest.raises(UserError, match=r"give more in model\.cigale\.nodes"):
        finish_table(make_parts(plan), str(path), dict(plan.settings))
    assert not path.exists()


def test_a_finished_table_is_known_by_its_settings(new_cigale: str, tmp_path: Path) -> None:
    plan = table_plan(load(tmp_path, TABLE))
    path = tmp_path / TABLE_FILE
    assert not is_finished(path, plan)
    error = finish_table(make_parts(plan), str(path), dict(plan.settings))
    assert 0 < error < 0.002
    assert is_finished(path, plan)
    other = Plan(plan.stage, {**plan.settings, "seed": 4}, plan.wanted, plan.present)
    assert not is_finished(path, other)
    path.write_bytes(path.read_bytes()[:50])
    assert not is_finished(path, plan)
