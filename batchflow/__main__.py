"""`python -m batchflow` is the same program as `batchflow`."""

from batchflow.cli import main

main()
