"""Workers as batch jobs without a batch system: a stand-in for `sbatch` starts each script in the background.

What Slurm itself makes of them, tests/slurm sees. Here: certificates, file modes, secrets, and their end.
"""

import contextlib
import os
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

pytest.importorskip("dask_jobqueue")
pytest.importorskip("cryptography")

from strangers import assert_refused

from batchflow.cluster import CPU, Pool, connect, require, run_units
from batchflow.errors import UserError
from batchflow.plan import Unit
from batchflow.settings.cluster import ClusterSettings
from batchflow.workers import pools
from batchflow.workers.pools import REPLACEMENTS, STAYED_SECONDS, BatchCluster, PoolState
from batchflow.workers.security import temporary_folder

SITE = """
system = "slurm"
interface = "lo"
scratch = "{folder}"
secrets = "{folder}/secrets"
[cpu]
memory = "2GiB"
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """`sbatch` and `scancel` of one machine, and a site file for them; every job it left is ended."""
    commands = tmp_path / "bin"
    commands.mkdir()
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (commands / "sbatch").write_text(
        f'#!/bin/bash\nkept={scripts}/$$.sh; cp "${{@: -1}}" $kept\n'
        f"setsid bash $kept >>{tmp_path}/said.txt 2>&1 </dev/null & echo Submitted batch job $!\n"
    )
    (commands / "scancel").write_text('#!/bin/bash\nkill -TERM -- "-$1" 2>/dev/null\n')
    (commands / "squeue").write_text("#!/bin/bash\nexit 1\n")
    for command in commands.iterdir():
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    here = Path(__file__).parent  # functions of this file are imported by the workers
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (here.parents[1], here.parent, here))))
    site = tmp_path / "site.toml"
    site.write_text(SITE.format(folder=tmp_path))
    yield site
    for group in groups(scripts):
        os.killpg(group, signal.SIGKILL)


def groups(scripts):
    """Process groups of the jobs that still run."""
    command = ["ps", "-ww", "-eo", "pgid,args"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [line.split(None, 1) for line in found.splitlines() if str(scripts) in line]
    return {int(group) for group, _ in lines}


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def where(index):
    return index, os.getpid()


def test_workers_on_other_hosts_speak_tls_and_nobody_else_is_let_in(slurm, tmp_path):
    run = tmp_path / "run"
    old = os.umask(0o027)
    try:
        settings = ClusterSettings(site=str(slurm), dashboard="off", wait_minutes=1)
        results = []
        with connect(settings, run / "scratch") as client:
            require(client, CPU, 1)
            address = client.scheduler.address
            assert address.startswith("tls://127.0.0.1:")
            units = [Unit(f"u{i}", (), None, {"index": i}) for i in range(3)]
            assert run_units(client, where, units, Pool(CPU, 2), lambda _, value: results.append(value)) == []
            (folder,) = (tmp_path / "secrets").iterdir()
            assert mode(tmp_path / "secrets") == mode(folder) == 0o700
            assert {path.name: mode(path) for path in folder.iterdir()} == dict.fromkeys(
                ("ca.pem", "cert.pem", "key.pem"), 0o600
            )
            assert_refused(address)
            secret = (folder / "key.pem").read_text().splitlines()[1]
    finally:
        os.umask(old)
    assert sorted(index for index, _ in results) == [0, 1, 2]
    assert os.getpid() not in {pid for _, pid in results}
    assert not list((tmp_path / "secrets").iterdir())
    # Scripts, logs and run folder name the key's place, and hold nothing of it.
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(b"--tls-key" in path.read_bytes() for path in written)
    assert not [path for path in written if secret.encode() in path.read_bytes()]
    assert mode(run / "logs" / "workers") == 0o750
    assert mode(run / "logs" / "jobs.jsonl") == 0o640
    deadline = time.monotonic() + 30
    while groups(tmp_path / "scripts"):
        assert time.monotonic() < deadline, "a worker outlives its run"
        time.sleep(0.2)


def test_temporary_certificates_go_whatever_happens_and_old_ones_with_them(tmp_path):
    stale = tmp_path / "tls-stale"
    stale.mkdir()
    os.utime(stale, (0, 0))
    with contextlib.suppress(RuntimeError), temporary_folder(tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_a_site_without_a_worker_for_the_work_is_an_error_after_the_stated_time(slurm, tmp_path):
    slurm.write_text(slurm.read_text().replace("[cpu]", 'prologue = ["exit 0"]\n[cpu]'))
    settings = ClusterSettings(site=str(slurm), dashboard="off", wait_minutes=0.05)
    said = "no worker with the resource GPU=1 came in 0.05 minutes; see the queue"
    with connect(settings, tmp_path / "run" / "scratch") as client, pytest.raises(UserError, match=said):
        require(client, "GPU", settings.wait_minutes)


def test_a_program_of_the_batch_system_that_is_not_there_is_named(slurm, tmp_path, monkeypatch):
    """A job that could not be submitted may live on, in a traceback: the cluster closes all the same."""
    kept, give_up = [], BatchCluster._give_up

    def keep(cluster, message):
        kept.extend(cluster.workers.values())
        give_up(cluster, message)

    monkeypatch.setattr(BatchCluster, "_give_up", keep)
    settings = ClusterSettings(site=str(slurm), wait_minutes=1, dashboard="off", tls=False)
    wanted = pytest.raises(UserError, match=r"CPU=1 can come: .*sbatch")
    with monkeypatch.context() as here:
        here.setenv("PATH", str(tmp_path))
        with wanted, connect(settings, tmp_path / "run" / "scratch") as client:
            require(client, CPU, 1)
    assert len(kept) == 1


def test_a_certificate_that_is_absent_is_named(slurm, tmp_path):
    slurm.write_text(f'certificates = "{tmp_path}"\n' + slurm.read_text())
    settings = ClusterSettings(site=str(slurm), dashboard="off")
    with pytest.raises(UserError, match=r"holds no ca\.pem"), connect(settings, tmp_path / "run" / "scratch"):
        pass


def test_a_run_outlives_the_walltime_of_any_number_of_its_jobs():
    state = PoolState(came=True)
    for _ in range(100):
        state.lose(stayed=4 * 3600.0)
        assert not state.is_hopeless(most=1, jobs=0)
    assert state.lost == 100


def test_jobs_whose_workers_do_not_stay_are_given_up():
    state = PoolState(came=True)
    lost = 0
    while not state.is_hopeless(most=2, jobs=1):
        state.lose(stayed=STAYED_SECONDS / 10)
        lost += 1
    assert lost == 2 * REPLACEMENTS + 1


def test_a_pool_that_never_had_a_worker_is_given_up_when_all_its_jobs_are_over():
    state = PoolState()
    for left in reversed(range(REPLACEMENTS + 1)):
        assert not state.is_hopeless(most=20, jobs=left)
        state.lose(stayed=0.0)
    assert not state.is_hopeless(most=20, jobs=1)
    assert state.is_hopeless(most=20, jobs=0)


def wait_for_ever(index):
    time.sleep(300)


def test_work_whose_workers_are_gone_for_good_ends_with_what_is_wrong(slurm, tmp_path, monkeypatch):
    """The only worker job is killed, and the batch system takes no other."""
    monkeypatch.setattr(pools, "ASK_FIRST_SECONDS", 0.5)
    monkeypatch.setattr(pools, "TROUBLE_SECONDS", 0.5)
    settings = ClusterSettings(site=str(slurm), dashboard="off", wait_minutes=5, tls=False)
    with connect(settings, tmp_path / "run" / "scratch") as client:
        require(client, CPU, 1)
        (tmp_path / "bin" / "sbatch").write_text("#!/bin/bash\necho no more jobs for you >&2; exit 1\n")
        (tmp_path / "bin" / "squeue").write_text("#!/bin/bash\n")  # knows of no job any more
        for group in groups(tmp_path / "scripts"):
            os.killpg(group, signal.SIGKILL)
        units = [Unit("u", (), None, {"index": 0})]
        with pytest.raises(UserError, match=r"CPU=1 can come: .*no more jobs for you"):
            run_units(client, wait_for_ever, units, Pool(CPU, 2), lambda *_: None)
