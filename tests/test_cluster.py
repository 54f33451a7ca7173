"""A real local cluster: resources, failures, bounds."""

import os
import signal
import time
from pathlib import Path

import pytest
from strangers import assert_refused

from batchflow.cluster import (
    CPU,
    GPU,
    Pool,
    connect,
    peak_memory,
    require,
    run_units,
    workers_with,
)
from batchflow.errors import UserError
from batchflow.machine import WORKER_VARIABLES
from batchflow.plan import Unit
from batchflow.settings.cluster import ClusterSettings
from batchflow.workers.local_site import local_workers

SETTINGS = ClusterSettings(cpu_workers=2, gpu_workers=1, dashboard="127.0.0.1:0")


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with connect(SETTINGS, tmp_path_factory.mktemp("scratch")) as client:
        client.wait_for_workers(3, timeout=60)
        yield client


def units(**arguments):
    return [Unit(f"u{i}", (), None, {"index": i, **arguments}) for i in range(6)]


def double(index):
    return 2 * index


def fail_at_three(index):
    if index == 3:
        raise ValueError("three is wrong")
    return index


def full_disk(index):
    raise UserError(f"disk full at {index}")


def die_at_two(index, folder):
    if index == 2:
        Path(folder, f"death-{time.time_ns()}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return index


def where(index):
    from distributed import get_worker

    return get_worker().name


def count_started(index, folder):
    Path(folder, str(index)).touch()
    time.sleep(0.05)
    return index


ON_CPU = Pool(CPU, 2)


def collect(client, function, pool=ON_CPU, **arguments):
    results = {}
    failures = run_units(
        client, function, units(**arguments), pool, lambda unit, value: results.update({unit.key: value})
    )
    return results, failures


def test_every_unit_is_done_once(client):
    results, failures = collect(client, double)
    assert results == {f"u{i}": 2 * i for i in range(6)}
    assert failures == []


def test_cpu_work_stays_off_the_gpu_worker_and_the_other_way(client):
    assert set(collect(client, where)[0].values()) <= {"cpu-0", "cpu-1"}
    assert set(collect(client, where, Pool(GPU, 2))[0].values()) == {"gpu-0"}


def test_a_unit_that_fails_is_named_and_the_rest_is_done(client):
    results, failures = collect(client, fail_at_three)
    assert sorted(results) == ["u0", "u1", "u2", "u4", "u5"]
    assert failures == [("u3", "ValueError: three is wrong")]


def test_a_users_error_ends_the_stage(client):
    with pytest.raises(UserError, match="disk full"):
        collect(client, full_disk)


def test_a_unit_that_kills_three_workers_is_set_aside(client, tmp_path):
    results, failures = collect(client, die_at_two, Pool(CPU, 1), folder=str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 3
    assert sorted(results) == ["u0", "u1", "u3", "u4", "u5"]
    assert [unit for unit, _ in failures] == ["u2"]
    assert "worker died 3 times" in failures[0][1]
    client.wait_for_workers(3, timeout=60)  # the nanny brings the last one back


def test_units_in_flight_are_bounded(client, tmp_path, monkeypatch):
    monkeypatch.setattr("batchflow.workers.bundles.LEAST_SECONDS", 0.0)  # these take no time at all
    seen = []
    run_units(
        client,
        count_started,
        [Unit(f"u{i}", (), None, {"index": i, "folder": str(tmp_path)}) for i in range(12)],
        Pool(GPU, 2),
        lambda unit, value: seen.append(len(list(tmp_path.iterdir()))),
    )
    # When the n-th result is seen, at most two more units have been handed out.
    assert all(started <= place + 3 for place, started in enumerate(seen))


def test_what_the_scheduler_remembers_does_not_grow_with_the_units(client):
    def limits(dask_scheduler):
        messages = [comm.recent_message_log.maxlen for comm in dask_scheduler.stream_comms.values()]
        return [*messages, dask_scheduler.transition_log.maxlen]

    found = client.run_on_scheduler(limits)
    assert len(found) == 4  # three workers, and the scheduler's own
    assert all(limit is not None and limit <= 100 for limit in found)


def test_a_resource_that_nobody_has_is_an_error_and_not_a_wait(client):
    assert require(client, GPU, 0.1) == 1
    with pytest.raises(UserError, match="no worker with the resource TPU=1"):
        require(client, "TPU", 0.01)


def test_everything_listens_on_loopback_only(client):
    addresses = [client.scheduler.address, *workers_with(client, CPU), *workers_with(client, GPU)]
    assert len(addresses) == 4
    assert all(address.startswith("tcp://127.0.0.1:") for address in addresses)
    assert client.dashboard_link.startswith("http://127.0.0.1:")


def test_memory_of_every_process_is_known(client):
    assert {"client", "gpu-0"} <= set(peak_memory(client))
    assert all(10 < value < 100_000 for value in peak_memory(client).values())


def test_an_existing_scheduler_is_used_and_an_absent_one_named(client, tmp_path):
    address = client.scheduler.address
    with connect(ClusterSettings(site="address", address=address), tmp_path) as other:
        assert len(workers_with(other, CPU)) == 2
    absent = ClusterSettings(site="address", address="tcp://127.0.0.1:9", wait_minutes=0.02)
    with pytest.raises(UserError, match="no scheduler answers"), connect(absent, tmp_path):
        pass


def test_other_accounts_of_a_shared_machine_are_kept_out_with_tls(tmp_path):
    settings = ClusterSettings(cpu_workers=1, dashboard="off", tls=True)
    with connect(settings, tmp_path) as client:
        assert require(client, CPU, 1) == 1
        addresses = [client.scheduler.address, *workers_with(client, CPU)]
        assert all(address.startswith("tls://127.0.0.1:") for address in addresses)
        assert collect(client, double)[1] == []
        assert_refused(addresses[0])
    with pytest.raises(ValueError, match="tls = true needs a scheduler at tls://"):
        ClusterSettings(site="address", address="tcp://127.0.0.1:8786", tls=True)


def test_worker_names_say_what_they_are(tmp_path):
    names = local_workers(ClusterSettings(cpu_workers=3, gpu_workers=2), tmp_path)
    assert sorted(names) == ["cpu-0", "cpu-1", "cpu-2", "gpu-0", "gpu-1"]


def test_workers_have_the_environment_that_makes_training_fast(client):
    found = client.run(lambda: dict(os.environ))
    assert found
    assert all(environment.items() >= WORKER_VARIABLES.items() for environment in found.values())
