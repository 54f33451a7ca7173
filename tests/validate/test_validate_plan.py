"""When the tables of the stage are made again."""

import pyarrow as pa
import pytest
from exact_models import make_job

from batchflow.paths import RunFolder
from batchflow.shards import write_table
from batchflow.validate import plan as validate_plan
from batchflow.validate.plan import fit_state, plan_validate
from batchflow.validate.say import print_summary


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path)


def write_fit(run, fingerprint):
    footer = {"stage": "fit", "unit": "u", "fingerprint": fingerprint, "settings": {}}
    write_table(run.root / "fit" / "galaxy=A" / "part-00000.parquet", pa.table({"x": [1]}), footer)


def test_a_new_classical_fit_is_compared_with(run):
    assert fit_state(run) == ""
    write_fit(run, "one")
    first = fit_state(run)
    write_fit(run, "two")
    assert "" != first != fit_state(run) != ""


def test_held_out_mocks_are_not_inferred_again_for_it(run, monkeypatch):
    """Made tables stay; only those of the catalogue, which a job without catalogues lacks, follow the fit."""
    monkeypatch.setattr(validate_plan, "read_description", lambda _: {"weights_sha256": "w"})
    job = make_job({"log_age": {"uniform": [6.0, 10.1]}})
    plan = plan_validate(job, run)
    assert [unit.key for unit in plan.wanted] == ["recovery"]
    for path in plan.wanted[0].paths:
        write_table(path, pa.table({"n": [1]}), plan.footer(plan.wanted[0]))
    write_fit(run, "one")
    assert plan_validate(job, run).complete
    plan.wanted[0].paths[0].unlink()
    assert not plan_validate(job, run).complete


def test_a_run_without_tables_prints_nothing(run, capsys):
    print_summary(run)
    assert capsys.readouterr().err == ""
