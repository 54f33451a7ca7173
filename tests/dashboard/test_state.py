"""What page and metrics are made of."""

import json
import re
import time

import numpy as np
import pytest

from batchflow.dashboard.metrics import metrics_text
from batchflow.dashboard.page import snapshot, stage_table
from batchflow.dashboard.state import RunState, from_message, latest, reset
from batchflow.monitor import count_units
from batchflow.plan import Plan, Unit


def busy_state():
    state = RunState("a run")
    mocks = state.begin("mocks", 10, 4)
    mocks.started = time.monotonic() - 2.0
    mocks.done = 8
    state.fail()
    state.count_galaxies(["A/p0", "A/p1", "b/c/p0"], ["A/p0"])
    state.finish_part("b/c/p0")
    state.hear({"fraction": 0.25, "train_loss": -1.5})
    state.add_efficiencies(np.array([0.01, 0.52, 0.53, 1.0, np.nan]))
    return state


def test_rates_count_this_run_only_and_failed_units_are_not_left():
    stage = busy_state().stages["mocks"]
    assert stage.left == 1
    assert stage.rate == pytest.approx(2.0, rel=0.05)
    assert stage.eta == pytest.approx(0.5, rel=0.05)
    assert RunState().begin("x", 3, 0).eta is None


def test_galaxies_and_efficiencies_are_counted():
    state = busy_state()
    assert state.galaxies == {"A": (1, 2), "b/c": (1, 1)}
    assert state.efficiencies.sum() == 4
    assert [state.efficiencies[place] for place in (0, 10, 19)] == [1, 2, 1]


def test_a_part_that_does_not_show_here_yet_is_counted_and_ends_no_run(tmp_path):
    state = reset("a run")
    unit = Unit("A/part-00000", (tmp_path / "part-00000.parquet",))
    with count_units("infer", Plan("infer", {}, (unit,), frozenset())) as on_done:
        on_done(unit, None)
    assert state.galaxies == {"A": (1, 1)}
    assert state.efficiencies.sum() == 0


def test_the_page_shows_them():
    shown = snapshot(busy_state(), {"cpu-0": 100.0})
    assert shown["galaxies"] == {"name": ["A", "b/c"], "done": [1, 1], "wanted": [2, 1]}
    assert shown["losses"]["percent"] == [25.0]
    assert shown["memory"] == {"name": ["cpu-0"], "mebibytes": [100.0]}
    assert all(len({len(column) for column in table.values()}) == 1 for table in shown.values())


def test_the_table_of_stages_has_their_numbers_and_escapes_names():
    state = busy_state()
    state.name = "<script>"
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", stage_table(state))
    assert cells[0] == "mocks"
    assert cells[1:4] == ["8", "1", "1"]
    assert float(cells[4]) == pytest.approx(2.0, rel=0.05)
    assert "<script>" not in stage_table(state)
    state.stages["mocks"].ended = state.stages["mocks"].started + 3661
    assert "took 1:01:01" in stage_table(state)


def test_a_distant_scheduler_is_told_the_same():
    state = busy_state()
    state.begin("train", 10, 0).ended = time.monotonic()
    heard = from_message(json.loads(json.dumps(state.message())))
    assert metrics_text(heard, {}).count("batchflow_stage_rate") == 4
    for name, stage in state.stages.items():
        other = heard.stages[name]
        assert (other.done, other.left, other.failed) == (stage.done, stage.left, stage.failed)
        assert other.seconds == pytest.approx(stage.seconds, abs=0.2)
    assert heard.stages["mocks"].ended is None
    assert heard.stages["train"].ended is not None
    assert heard.galaxies == state.galaxies
    assert list(heard.efficiencies) == list(state.efficiencies)
    np.testing.assert_array_equal(list(heard.losses), list(state.losses))


def test_metrics_are_prometheus_text():
    state = busy_state()
    state.begin('in"fer\n\\', 2, 0)
    text = metrics_text(state, {"cpu-0": 1.0})
    assert 'batchflow_stage_units_done{stage="mocks"} 8' in text
    assert 'batchflow_stage_units_failed{stage="mocks"} 1' in text
    assert 'batchflow_worker_memory_bytes{worker="cpu-0"} 1048576' in text
    assert r'{stage="in\"fer\n\\"}' in text
    assert "batchflow_galaxies_finished 1" in text
    buckets = [int(value) for value in re.findall(r"efficiency_bucket\{.*\} (\d+)", text)]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 4
    line = re.compile(r'^(# (HELP|TYPE) .+|batchflow_\w+(\{\w+="([^"\\\n]|\\.)*"\})? (NaN|nan|[-+.\de]+))$')
    assert [text_line for text_line in text.splitlines() if not line.match(text_line)] == []


def test_metrics_parse_with_prometheus_own_parser():
    parser = pytest.importorskip("prometheus_client.parser")
    families = {
        item.name: item for item in parser.text_string_to_metric_families(metrics_text(busy_state(), {}))
    }
    assert families["batchflow_efficiency"].type == "histogram"
    assert families["batchflow_stage_units_done"].samples[0].value == 8


def test_each_run_begins_with_a_state_of_its_own():
    state = reset("one")
    state.begin("mocks", 1, 0)
    assert latest() is state
    assert reset("two").stages == {}
