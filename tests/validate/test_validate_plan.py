"""When the tables of the stage are made again."""

from types import SimpleNamespace

import pyarrow as pa
import pytest
from exact_models import make_job

from batchflow.catalogue.partition import Part
from batchflow.paths import RunFolder
from batchflow.shards import write_table
from batchflow.validate import plan as validate_plan
from batchflow.validate.plan import plan_validate
from batchflow.validate.say import print_summary


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path)


def write_fit(run, fingerprint, galaxy="A"):
    footer = {"stage": "fit", "unit": "u", "fingerprint": fingerprint, "settings": {}}
    write_table(run.root / "fit" / f"galaxy={galaxy}" / "part-00000.parquet", pa.table({"x": [1]}), footer)


@pytest.fixture
def described(monkeypatch):
    monkeypatch.setattr(validate_plan, "read_description", lambda _: {"weights_sha256": "w"})


def test_a_new_classical_fit_is_compared_with(run, described, monkeypatch):
    """The objects of its part, and what sums up all parts, are other units; those of other parts are not."""
    monkeypatch.setattr(validate_plan.stages, "validate_settings", lambda *_: {})
    job = SimpleNamespace(catalogue=("any",))
    parts = [
        Part(name, run.catalogue / f"galaxy={name}" / "part-00000.parquet", 1, "1", "1") for name in "AB"
    ]

    def keys():
        return [unit.key for unit in plan_validate(job, run, parts).wanted]

    seen = [keys()]
    for made in ("one", "two"):
        write_fit(run, made)
        seen.append(keys())
    recovery, first, second, together = zip(*seen, strict=True)
    assert (len(set(recovery)), len(set(first)), len(set(second)), len(set(together))) == (1, 3, 1, 3)


def test_held_out_mocks_are_not_inferred_again_for_it(run, described):
    """Made tables stay; only those of the catalogue, which a job without catalogues lacks, follow the fit."""
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
