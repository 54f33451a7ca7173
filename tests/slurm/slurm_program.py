"""The program, as the Slurm tests call it."""

import subprocess
import sys


def batchflow(*arguments, timeout=400, check=True):
    """Run the program; its result."""
    command = [sys.executable, "-m", "batchflow", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if check:
        assert done.returncode == 0, done.stderr
    return done
