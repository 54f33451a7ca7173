"""What the benchmarks share: commands watched to their end, and figures as JSON at the end of the output."""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

BANDS = ("wfc3_f275w", "wfc3_f336w", "wfc3_f438w", "wfc3_f555w", "wfc3_f814w")
LOOK_SECONDS = 0.25
"""Between looks at the memory of processes; the kernel keeps each one's peak meanwhile."""


class Watched(NamedTuple):
    """A command that has ended."""

    wall_s: float
    cpu_s: float
    """Of all its processes."""
    client_mib: float
    """Peak memory of its first process: client, scheduler and nannies."""
    workers_mib: list[float]
    """Peak memory of each worker, the largest first."""
    client_over_time: list[float]
    """Memory of the first process, looked at now and then [MiB]."""


def batchflow(*words: str) -> list[str]:
    """The command line of batchflow, by this very Python."""
    return [sys.executable, "-m", "batchflow", *words]


def watch(command: Sequence[str]) -> Watched:
    """Run a command to its end; its output is shown only when it fails."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        peaks, course = _look_on(process)
        if process.returncode:
            output.seek(0)
            sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{output.read()[-4000:]}")
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    client = peaks.pop(process.pid, 0.0)
    return Watched(wall, cpu, client, sorted(peaks.values(), reverse=True), course)


def _look_on(process: subprocess.Popen[Any]) -> tuple[dict[int, float], list[float]]:
    """Peak of every process [MiB] by id, and what the first one has as time goes by."""
    peaks, course = dict[int, float](), list[float]()
    while process.poll() is None:
        for pid, (now, peak) in _tree(process.pid).items():
            peaks[pid] = max(peaks.get(pid, 0.0), peak)
            if pid == process.pid:
                course.append(now)
        time.sleep(LOOK_SECONDS)
    step = max(1, len(course) // 20)
    return peaks, [round(value) for value in course[::step]]


def _tree(root: int) -> dict[int, tuple[float, float]]:
    """Memory and its peak [MiB] of a process and its descendants, by process id."""
    parents, found = dict[int, int](), dict[int, tuple[float, float]]()
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
            command = status.with_name("cmdline").read_text()
        except OSError:
            continue
        pid = int(status.parent.name)
        parents[pid] = int(lines["PPid"])
        if "VmRSS" in lines and "resource_tracker" not in command:
            now, peak = (int(lines[key].split()[0]) / 1024 for key in ("VmRSS", "VmHWM"))
            found[pid] = now, peak
    mine, last = {root}, 0
    while len(mine) > last:
        last = len(mine)
        mine |= {pid for pid, parent in parents.items() if parent in mine}
    return {pid: value for pid, value in found.items() if pid in mine}


def cpu_seconds(work: Callable[[], Any]) -> float:
    """Seconds of the processor, of all threads of this process, that a piece of work takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def wall_seconds(work: Callable[[], Any]) -> float:
    """Seconds on the clock."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def rounded(value: Any) -> Any:
    """Five figures, however deep; numbers that are none become null, for JSON has no NaN."""
    if isinstance(value, dict):
        return {str(key): rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def report(figures: dict[str, Any]) -> None:
    """Print figures as JSON, the last thing that a benchmark prints."""
    print(json.dumps(rounded(figures), indent=1), flush=True)


def read_report(output: str) -> dict[str, Any]:
    """The JSON object that an output ends with.

    Raises
    ------
    ValueError
        When it does not end with one.
    """
    start = ("\n" + output).rfind("\n{")
    if start < 0:
        raise ValueError(f"no JSON at the end of the output: {output[-300:]!r}")
    found: dict[str, Any] = json.loads(output[start:])
    return found
