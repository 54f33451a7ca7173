"""One rank of an allocation: the driver, a CPU worker or a GPU worker, by its number.

Called by `srun` in the script of `batchflow submit --single-allocation`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from batchflow.shards import write_text
from batchflow.workers.jobs import WORKER_ENVIRONMENT
from batchflow.workers.security import CA, CERT, KEY

WAIT_SECONDS = 300.0


def role(rank: int, cpu_workers: int, gpu_workers: int) -> Literal["driver", "CPU", "GPU", "none"]:
    """What a rank is: the first drives, the last have the GPUs.

    Parameters
    ----------
    rank : int
        From 0.
    cpu_workers, gpu_workers : int
        How many of each.

    Returns
    -------
    {"driver", "CPU", "GPU", "none"}
        "none" for ranks beyond them.
    """
    if rank == 0:
        return "driver"
    if rank <= cpu_workers:
        return "CPU"
    return "GPU" if rank <= cpu_workers + gpu_workers else "none"


def worker_command(found: dict[str, Any], name: str, resource: str, options: argparse.Namespace) -> list[str]:
    """Command of a Dask worker that finds its scheduler.

    Parameters
    ----------
    found : dict
        From the scheduler file: ``address``, and ``tls``, the folder of the certificates, or None.
    name : str
        Of the worker.
    resource : str
        "CPU" or "GPU".
    options : argparse.Namespace
        Of this program.

    Returns
    -------
    list of str
        Program and arguments.
    """
    command = [sys.executable, "-m", "distributed.cli.dask_worker", found["address"], "--name", name]
    command += ["--nthreads", "1", "--resources", f"{resource}=1", "--no-dashboard", "--death-timeout", "60"]
    command += [
        "--memory-limit",
        options.memory.replace(" ", ""),
        "--local-directory",
        _expanded(options.scratch),
    ]
    command += ["--interface", options.interface] if options.interface else []
    if tls := found["tls"]:
        command += [
            "--tls-ca-file",
            f"{tls}/{CA}",
            "--tls-cert",
            f"{tls}/{CERT}",
            "--tls-key",
            f"{tls}/{KEY}",
        ]
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what this rank is for.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line's when not given.

    Returns
    -------
    int
        Exit status: the driver's own; 0 for workers, whose end is the driver's doing.
    """
    options = _parser().parse_args(arguments)
    cpu, gpu = options.workers
    rank = int(os.environ.get("SLURM_PROCID", "0"))
    file = Path(options.logs) / f"scheduler-{os.environ.get('SLURM_JOB_ID', os.getpid())}.json"
    mine = role(rank, cpu, gpu)
    if mine == "driver":
        return _drive(options, file)
    if mine != "none" and (found := _scheduler(file))["address"]:
        command = worker_command(found, f"{mine.lower()}-{rank}", mine, options)
        subprocess.run(command, check=False, env=os.environ | WORKER_ENVIRONMENT)  # noqa: S603 (a list, no shell)
    return 0


def _drive(options: argparse.Namespace, file: Path) -> int:
    environment = os.environ | {
        "BATCHFLOW_SECRETS": _expanded(options.secrets),
        "BATCHFLOW_INTERFACE": options.interface,
    }
    command = [sys.executable, "-m", "batchflow", "run", options.job, "--mode", options.mode]
    command += ["--set", "cluster.site=allocation", "--set", f"cluster.scheduler_file={file}"]
    done = subprocess.run(command, check=False, env=environment)  # noqa: S603 (a list, no shell)
    # A run with nothing left to do never made a scheduler: the other ranks need not wait for one.
    write_text(file, json.dumps({"address": None}))
    return done.returncode


def _scheduler(file: Path) -> dict[str, Any]:
    """What the driver says of its scheduler; its address is None when there is none to wait for."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if file.is_file():
            found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            return found
        time.sleep(0.5)
    return {"address": None}


def _expanded(path: str) -> str:
    return str(Path(os.path.expandvars(path)).expanduser())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="batchflow.submit.ranks", description=__doc__)
    parser.add_argument("--workers", nargs=2, type=int, required=True, metavar=("CPU", "GPU"))
    for name in ("memory", "scratch", "secrets", "interface", "logs", "mode"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("job")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
