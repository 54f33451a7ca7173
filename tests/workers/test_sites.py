"""Site files and the scripts made of them: text, asserted; a hostile value never reaches a script."""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("dask_jobqueue")

from batchflow.errors import UserError
from batchflow.settings.cluster import BATCH_SYSTEMS, ClusterSettings
from batchflow.submit.queue import is_over, read_states
from batchflow.submit.ranks import role
from batchflow.submit.script import Driver, allocation_job, dependency, driver_job
from batchflow.workers.batch_site import pool_plans, worker_scripts
from batchflow.workers.jobs import harmless, lifetime_seconds, outer_environment
from batchflow.workers.pools import _specification
from batchflow.workers.sites import load_site, parse_site, seconds, size_bytes

SITES = Path(__file__).resolve().parents[2] / "deploy" / "sites"
SLURM = {
    "system": "slurm",
    "interface": "ib0",
    "scratch": "$TMPDIR",
    "cpu": {"queue": "short", "account": "abc", "cores": 8, "processes": 8, "memory": "16GiB", "most": 3},
    "gpu": {"queue": "fast", "directives": ["--gres=gpu:1"], "walltime": "1-00:00:00"},
}


def site(**changes):
    return parse_site({**SLURM, **changes}, "test")


@pytest.mark.parametrize("path", sorted(SITES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_shipped_sites_are_valid_and_make_scripts(path, tmp_path):
    found = load_site(ClusterSettings(site=str(path)))
    scripts = worker_scripts(found, tmp_path)
    assert set(scripts) == ({"gpu"} if found.cpu is None else {"cpu", "gpu"})
    assert all("--lifetime" in text and "dask_worker" in text for text in scripts.values())


def test_a_worker_script_says_what_the_site_says(tmp_path):
    scripts = worker_scripts(site(), tmp_path)
    cpu, gpu = scripts["cpu"].splitlines(), scripts["gpu"].splitlines()
    assert {"#SBATCH -p short", "#SBATCH -A abc", "#SBATCH --cpus-per-task=8", "#SBATCH --mem=16G"} <= set(
        cpu
    )
    assert {"#SBATCH -p fast", "#SBATCH --gres=gpu:1", "#SBATCH -t 24:00:00"} <= set(gpu)
    words = shlex.split(cpu[-1])
    assert words[words.index("--resources") + 1] == "CPU=1"
    assert words[words.index("--nworkers") + 1] == "8"
    assert words[words.index("--local-directory") + 1] == "$TMPDIR"
    assert words[words.index("--interface") + 1] == "ib0"
    assert "GPU=1" in shlex.split(gpu[-1])


@pytest.mark.parametrize("system", BATCH_SYSTEMS)
def test_every_batch_system_has_two_pools_and_a_driver(system, tmp_path):
    found = parse_site({"system": system, "cpu": {}, "driver": {"memory": "1GiB"}}, "test")
    scripts = worker_scripts(found, tmp_path)
    assert "CPU=1" in scripts["cpu"]
    assert "GPU=1" in scripts["gpu"]
    driver = Driver("run", tmp_path / "job.toml", ("run",), "resume", tmp_path)
    assert "batchflow run" in str(driver_job(found, driver).job_script())


SAID = {
    "slurm": [
        "#SBATCH -p q",
        "#SBATCH -A me",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH --mem=8G",
        "#SBATCH -t 36:00:00",
    ],
    "pbs": [
        *("#PBS -q q", "#PBS -A me", "#PBS -l select=1:ncpus=4:mem=8192MB", "#PBS -l walltime=36:00:00"),
        *("#PBS -S /bin/bash", "#PBS -o LOGS/", "#PBS -J 1-3"),
    ],
    "lsf": ['#BSUB -P "me"', "#BSUB -q q", "#BSUB -n 4", '#BSUB -R "span[hosts=1]"', "#BSUB -W 36:00"],
    "sge": [
        *("#$ -q q", "#$ -P me", "#$ -l h_rt=36:00:00", "#$ -S /bin/bash", "#$ -pe smp 4", "#$ -o LOGS/"),
        "#$ -t 1-3",
    ],
    "htcondor": ["accounting_group = me", "+MaxRuntime = 129600", "RequestCpus = MY.DaskWorkerCores"],
    "oar": [
        *("#OAR -q q", "#OAR --project me", "#OAR -l /nodes=1/core=4,walltime=36:00:00"),
        *("#OAR -O LOGS/%jobname%-%jobid%.out", "#OAR -E LOGS/%jobname%-%jobid%.err"),
    ],
}
"""Directives by the manuals of the systems."""


@pytest.mark.parametrize("system", BATCH_SYSTEMS)
def test_each_system_is_asked_in_its_own_words(system, tmp_path):
    pool = {
        "cores": 4,
        "processes": 2,
        "memory": "8GiB",
        "walltime": "1-12:00:00",
        "account": "me",
        "most": 3,
    }
    pool |= {} if system == "htcondor" else {"queue": "q"}
    pool |= {"directives": ["-pe smp 4"]} if system == "sge" else {}
    pool |= {"array": system in ("pbs", "sge")}
    found = parse_site({"system": system, "cpu": pool, "prologue": ["module load x"]}, "test")
    script = worker_scripts(found, tmp_path)["cpu"]
    for line in SAID[system]:
        assert line.replace("LOGS", str(tmp_path)) in script.splitlines()
    assert "--nworkers 2 " in script
    assert "module load x" in script
    if system in ("pbs", "sge"):
        assert "cpu-0-${" in script


def test_every_array_job_of_several_processes_has_a_name(tmp_path):
    found = site(cpu={"cores": 2, "processes": 2, "most": 3, "array": True})
    (plan, _) = pool_plans(found, tmp_path)
    made = _specification(plan, "cpu-7", 3)
    assert made["group"] == ["-1-0", "-1-1", "-2-0", "-2-1", "-3-0", "-3-1"]
    assert "--array=1-3" in made["options"]["job_extra_directives"]
    assert made["options"]["worker_extra_args"][-1] == '--name "cpu-7-${SLURM_ARRAY_TASK_ID}"'
    assert "group" not in _specification(replace(plan, processes=1), "cpu-8", 1)


@pytest.mark.parametrize(
    ("system", "said", "id_"),
    [
        ("slurm", "Submitted batch job 77\n", "77"),
        ("pbs", "77.server\n", "77"),
        ("pbs", "77[].server\n", "77[]"),
        ("lsf", "Job <77> is submitted to queue <q>.\n", "77"),
        ("sge", 'Your job-array 77.1-3:1 ("name") has been submitted\n', "77"),
        ("htcondor", "1 job(s) submitted to cluster 77.\n", "77.0"),
        ("oar", "[ADMISSION RULE] Modify resource\nOAR_JOB_ID=77\n", "77"),
    ],
)
def test_the_id_of_a_job_is_what_the_system_is_asked_with(system, said, id_, tmp_path):
    found = parse_site({"system": system}, "test")
    driver = Driver("run", tmp_path / "job.toml", ("run",), "resume", tmp_path)
    assert driver_job(found, driver)._job_id_from_submit_output(said) == id_


def test_workers_of_a_site_without_cpus_do_both_kinds_of_work(tmp_path):
    scripts = worker_scripts(site(cpu=None), tmp_path)
    words = shlex.split(scripts["gpu"].splitlines()[-1])
    assert words[words.index("--resources") + 1] == "GPU=1 CPU=1"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cpu": {"queue": "a; rm -rf /"}}, "cpu.queue"),
        ({"cpu": {"account": "$(id)"}}, "cpu.account"),
        ({"gpu": {"directives": ["--x\ntouch /tmp/y"]}}, "gpu.directives.0"),
        ({"prologue": ["module load x\nrm"]}, "prologue.0"),
        ({"scratch": "/tmp; id"}, "scratch"),
        ({"scratch": "$(id)"}, "scratch"),
        ({"interface": "-x"}, "interface"),
        ({"cpu": {"walltime": "4 hours"}}, "cpu.walltime"),
        ({"cpu": {"memory": "lots"}}, "cpu.memory"),
        ({"cpu": {"processes": 4, "cores": 2}}, "need as many cores"),
        ({"cpu": {"least": 2}}, "least = 2 is more than most = 1"),
        ({"cpu": {"quue": "x"}}, "did you mean 'queue'"),
        ({"system": "lsf", "cpu": {"array": True}}, "cpu.array = true is known for slurm, pbs, sge"),
        ({"system": "htcondor", "cpu": {}}, "gpu.queue = 'fast': HTCondor has none"),
        ({"gpu": {"resource_spec": "select=1"}}, "gpu.resource_spec is known for pbs, sge, oar"),
        ({"system": "sge", "driver": {"cores": 2}}, 'directives = ["-pe smp 2"]'),
    ],
)
def test_what_cannot_stand_in_a_script_is_refused_by_name(changes, words):
    with pytest.raises(UserError, match=re.escape(words)):
        site(**changes)


def test_a_folder_with_blanks_is_refused_before_anything_is_submitted():
    with pytest.raises(UserError, match="cannot stand in a batch script"):
        harmless(Path("/home/me/my runs/a"))
    assert harmless(Path("/home/me/runs/a-1")) == "/home/me/runs/a-1"


def test_the_job_file_of_a_driver_is_one_word_whatever_its_name(tmp_path):
    name = "it's $(touch x); `y`.toml"
    driver = Driver("run", tmp_path / name, ("run",), "resume", tmp_path)
    line = driver_job(site(), driver).job_script().splitlines()[-1]
    assert str(tmp_path / name) in shlex.split(line)


def test_dependencies_and_their_ids():
    def of(system, after, success):
        return dependency(system, Driver("r", Path("j"), ("run",), "resume", Path("l"), after, success))

    assert of("slurm", "12", True) == ["--dependency=afterok:12", "--kill-on-invalid-dep=yes"]
    assert of("slurm", "12", False) == ["--dependency=afterany:12"]
    assert of("pbs", "12.server", True) == ["-W depend=afterok:12.server"]
    assert of("slurm", None, True) == []
    with pytest.raises(UserError, match="is no job id"):
        of("slurm", "12; id", True)
    with pytest.raises(UserError, match="knows no dependent jobs"):
        of("htcondor", "12", True)


def test_the_allocation_has_a_rank_for_each_role(tmp_path):
    found = site(allocation={"cpu_workers": 5, "gpu_workers": 2, "memory": "3GiB", "cores": 2})
    driver = Driver("run", tmp_path / "job.toml", ("run",), "resume", tmp_path)
    script = allocation_job(found, driver).job_script()
    lines = script.splitlines()
    assert {"#SBATCH --ntasks=8", "#SBATCH --cpus-per-task=2", "#SBATCH --mem-per-cpu=1536M"} <= set(lines)
    assert "#SBATCH -n 1" not in lines
    assert "srun --ntasks=8" in lines[-1]
    roles = [role(rank, 5, 2) for rank in range(9)]
    assert roles == ["driver", *["CPU"] * 5, *["GPU"] * 2, "none"]
    with pytest.raises(UserError, match="pbs has none"):
        allocation_job(site(system="pbs"), driver)


def test_walltimes_and_sizes():
    assert seconds("04:00:00") == 14400
    assert seconds("1-12:30:15") == 131415
    assert seconds("02:30") == 9000
    assert size_bytes("16GiB") == 16 * 2**30
    assert size_bytes("1.5 GB") == 1_500_000_000
    with pytest.raises(ValueError, match="half a minute"):
        seconds("00:00:10")


@pytest.mark.parametrize("walltime", ["00:00:30", "00:10:00", "04:00:00", "3-00:00:00"])
def test_a_worker_ends_before_its_job_does(walltime):
    lifetime, stagger = lifetime_seconds(walltime)
    assert lifetime - stagger > 0
    assert lifetime + stagger < seconds(walltime)


def test_a_job_submitted_from_a_job_does_not_inherit_it():
    outer = {"SLURM_JOB_ID": "7", "SLURM_MEM_PER_NODE": "1", "SLURM_CONF": "/c", "PATH": "/bin"}
    outer |= {"PBS_JOBID": "9", "PBS_SERVER": "s", "SBATCH_ACCOUNT": "a"}
    kept = {"SLURM_CONF": "/c", "PATH": "/bin", "PBS_SERVER": "s", "SBATCH_ACCOUNT": "a"}
    assert outer_environment(outer) == kept


def test_the_number_of_workers_of_a_job_bounds_the_pool():
    path = str(SITES / "slurm.toml")
    found = load_site(ClusterSettings(site=path, cpu_workers=40, gpu_workers=1))
    assert found.cpu is not None
    assert (found.cpu.most, found.gpu.most) == (3, 1)
    assert load_site(ClusterSettings(site=path)).gpu.most == 2


def test_a_site_that_is_not_there_is_named():
    with pytest.raises(UserError, match=r"nowhere.toml.*examples are in deploy/sites"):
        load_site(ClusterSettings(site="/nowhere.toml"))
    with pytest.raises(ValueError, match="did you mean 'slurm'"):
        ClusterSettings(site="slrm")


def test_a_batch_site_waits_for_its_queue_and_a_laptop_does_not():
    assert ClusterSettings().wait_minutes == 5
    assert ClusterSettings(site="slurm").wait_minutes == 1440
    assert ClusterSettings(site="slurm", wait_minutes=3.0).wait_minutes == 3


def test_states_are_read_from_what_the_systems_print():
    printed = {
        # 13 is an array: one of its jobs is over, one runs.
        "slurm": (
            "12|RUNNING\n13|CANCELLED\n13|RUNNING\n14|FAILED\n",
            {"12": "RUNNING", "13": "RUNNING", "14": "FAILED"},
        ),
        "lsf": ("12 RUN\n13 DONE\n", {"12": "RUN", "13": "DONE"}),
        "pbs": (
            "Job id  Name  User  Time Use S Queue\n------ ---- ---- ---- -\n12.srv run me 00:01:02 R workq\n"
            "13[].a-long-nam* run me 0 B workq\n",
            {"12": "R", "13[]": "B"},
        ),
        "sge": (
            "job-ID  prior   name       user  state submit/start at     queue  slots ja-task-ID\n-----\n"
            "      1 0.55500 batchflow- me    r     11/23/2026 03:40:21 all.q@h    2\n"
            "      2 0.00000 batchflow- me    hqw   11/23/2026 03:40:21            1\n",
            {"1": "r", "2": "hqw"},
        ),
        "htcondor": ("7.0 2\n8.0 5\n", {"7.0": "RUNNING", "8.0": "HELD"}),
        "oar": ("7: Running\n8: Terminated\n", {"7": "Running", "8": "Terminated"}),
    }
    for system, (text, expected) in printed.items():
        assert read_states(system, text) == expected
    assert set(printed) == set(BATCH_SYSTEMS)
    assert is_over("CANCELLED")
    assert is_over(None)
    assert not is_over("PENDING")


def test_dry_run_prints_every_script_and_writes_nothing(tmp_path):
    job = Path(__file__).resolve().parents[2] / "jobs" / "quickstart.toml"
    sets = ["--set", f"output={tmp_path / 'run'}", "--set", f"cluster.site={SITES / 'slurm.toml'}"]
    command = [sys.executable, "-m", "batchflow", "submit", str(job), "--dry-run", *sets]
    done = subprocess.run([*command, "--after", "77"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    titles = [line for line in done.stdout.splitlines() if line.startswith("###")]
    assert titles == ["### driver: run", "### worker: cpu", "### worker: gpu"]
    assert "#SBATCH --dependency=afterany:77" in done.stdout
    assert not (tmp_path / "run").exists()
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    assert [f"### {title}" for title in json.loads(done.stdout)] == titles
    done = subprocess.run(
        [*command[:-2], "--set", "cluster.site=local"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "is no batch system" in done.stderr


def test_no_list_of_jobs_is_a_users_error(tmp_path):
    for command in ("jobs", "cancel"):
        done = subprocess.run(
            [sys.executable, "-m", "batchflow", command, str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert "no batch job was submitted" in done.stderr


def test_the_ledger_survives_a_line_cut_short(tmp_path):
    from batchflow.submit.ledger import ledger_path, remember, remembered

    path = ledger_path(tmp_path)
    remember(path, "7", "slurm", "driver", "run")
    with path.open("a") as handle:
        handle.write('{"id": "8", "sys\n')
    remember(path, "9", "slurm", "worker", "cpu-0")
    assert [item.id for item in remembered(path)] == ["7", "9"]
    assert json.loads(path.read_text().splitlines()[0])["system"] == "slurm"
