"""Resume is wanted minus present."""

import pyarrow as pa
import pytest

from batchflow.errors import UserError
from batchflow.plan import Plan, Unit, apply_mode, fingerprint, make_plan
from batchflow.shards import write_table

SETTINGS = {"seed": 1, "model": {"bands": ["a", "b"], "rv": 3.1}}


def units(folder, rows=2):
    return [Unit(f"u{i}", (folder / f"{i}.parquet",), rows) for i in range(3)]


def make(folder, index, settings=SETTINGS, rows=2):
    unit = units(folder)[index]
    footer = Plan("mocks", settings, (), frozenset()).footer(unit)
    write_table(unit.paths[0], pa.table({"x": list(range(rows))}), footer)


def test_only_what_is_absent_is_left(tmp_path):
    make(tmp_path, 1)
    plan = make_plan("mocks", SETTINGS, units(tmp_path))
    assert [unit.key for unit in plan.left] == ["u0", "u2"]
    assert not plan.complete


def test_the_order_of_settings_and_of_files_does_not_matter(tmp_path):
    make(tmp_path, 2)
    turned = {"model": {"rv": 3.1, "bands": ["a", "b"]}, "seed": 1}
    assert fingerprint(turned) == fingerprint(SETTINGS)
    plan = make_plan("mocks", turned, reversed(units(tmp_path)))
    assert plan.present == {"u2"}


def test_a_file_of_another_length_or_unit_is_made_again(tmp_path):
    make(tmp_path, 0, rows=1)
    make(tmp_path, 1)
    (tmp_path / "1.parquet").rename(tmp_path / "2.parquet")
    assert make_plan("mocks", SETTINGS, units(tmp_path)).present == frozenset()


def test_a_truncated_file_is_made_again(tmp_path):
    make(tmp_path, 0)
    path = tmp_path / "0.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    assert make_plan("mocks", SETTINGS, units(tmp_path)).present == frozenset()


def test_other_settings_are_an_error_that_names_them(tmp_path):
    make(tmp_path, 0)
    changed = {"seed": 1, "model": {"bands": ["a", "b"], "rv": 4.0}}
    with pytest.raises(UserError, match=r"model\.rv: 3\.1 there, 4\.0 in the job") as caught:
        make_plan("mocks", changed, units(tmp_path))
    assert "seed" not in str(caught.value)
    assert "--mode restart" in str(caught.value)


def test_modes(tmp_path):
    make(tmp_path, 0)
    plan = make_plan("mocks", SETTINGS, units(tmp_path))
    cleared = []
    assert apply_mode(lambda: plan, "resume", lambda: cleared.append(1)) is plan
    assert apply_mode(lambda: None, "restart", lambda: cleared.append(1)) is None
    with pytest.raises(UserError, match="1 of 3 units are there"):
        apply_mode(lambda: plan, "refuse", lambda: cleared.append(1))
    assert not cleared
    assert apply_mode(lambda: plan, "restart", lambda: cleared.append(1)).present == frozenset()
    assert cleared


def test_restart_does_what_the_error_of_other_settings_advises(tmp_path):
    changed = {"seed": 1}

    def find():
        return make_plan("mocks", changed, units(tmp_path))

    def clear():
        for unit in units(tmp_path):
            for path in unit.paths:
                path.unlink(missing_ok=True)

    make(tmp_path, 0)
    for mode in ("resume", "refuse"):
        with pytest.raises(UserError, match="--mode restart"):
            apply_mode(find, mode, clear)
    assert len(apply_mode(find, "restart", clear).left) == 3
