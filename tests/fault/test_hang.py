"""Units that hang, on a real local cluster with small units."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from batchflow.cluster import CPU, Pool, connect, run_units
from batchflow.plan import Unit
from batchflow.settings.cluster import ClusterSettings
from batchflow.workers.dispatch import _Order, _work
from batchflow.workers.local_site import existing_client
from batchflow.workers.watch import Limit, UnwantedError, alive, watched

pytestmark = pytest.mark.fault

HANG_MINUTES = 0.05
SETTINGS = ClusterSettings(cpu_workers=2, dashboard="off", hang_minutes=HANG_MINUTES)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with connect(SETTINGS, tmp_path_factory.mktemp("run") / "scratch") as client:
        client.wait_for_workers(3, timeout=120)
        yield client


def hang_at_two(index):
    if index == 2:
        time.sleep(600)
    return index


def slow_but_alive(index):
    for _ in range(12):
        time.sleep(HANG_MINUTES * 60 / 6)
        alive()
    return index


def work_until_unwanted(index, folder):
    try:
        while True:
            time.sleep(0.1)
            Path(folder, "at-work").touch()
            alive()
    except UnwantedError as error:
        Path(folder, "ended").write_text(str(error))


def units(number, **arguments):
    return [Unit(f"a/u{i}", (), None, {"index": i, **arguments}) for i in range(number)]


def wait_for(path):
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.05)


@pytest.mark.fault(3)
def test_a_unit_that_always_hangs_is_set_aside_and_the_others_are_done(client):
    done = []
    failures = run_units(client, hang_at_two, units(4), Pool(CPU, 2), lambda unit, value: done.append(value))
    assert sorted(done) == [0, 1, 3]
    ((unit, reason),) = failures
    assert unit == "a/u2"
    assert f"no progress for {HANG_MINUTES:g} minutes (cluster.hang_minutes), 3 times; set aside" in reason
    trace = Path(reason.split("; ")[-1].removesuffix(" says where it hung")).read_text()
    assert trace.count("a/u2: no progress") == 3
    assert "in hang_at_two" in trace


@pytest.mark.fault(0)
def test_a_unit_that_says_it_is_alive_may_take_as_long_as_it_needs(client):
    done = []
    assert (
        run_units(client, slow_but_alive, units(1), Pool(CPU, 2), lambda _, value: done.append(value)) == []
    )
    assert done == [0]


def test_a_unit_whose_client_has_gone_ends(client, tmp_path):
    """Else a training would keep its GPU for hours after a Ctrl-C, where the workers stay."""
    address = ClusterSettings(site="address", address=client.scheduler.address)

    limit, arguments = Limit(1.0, str(tmp_path)), {"index": 0, "folder": str(tmp_path)}
    with existing_client(address) as other:
        future = other.submit(
            _work, _Order(work_until_unwanted, [("u", arguments)], limit), resources={CPU: 1}
        )
        wait_for(tmp_path / "at-work")
        assert not future.done()
    wait_for(tmp_path / "ended")
    assert (tmp_path / "ended").read_text() == "nobody waits for u any more"


@pytest.mark.fault(0)
def test_outside_a_worker_nothing_is_watched():
    alive()
    assert watched(lambda a: a + 1, "u", {"a": 1}, Limit(1.0, "nowhere")) == 2
    alive()
