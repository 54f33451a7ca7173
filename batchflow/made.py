"""How a file came about: the command, the date and the versions of the libraries; nothing of the machine."""

from __future__ import annotations

import platform
import shlex
import sys
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = (
    *("batchflow", "astropy", "dask", "distributed", "duckdb", "dust_extinction", "numpy", "pcigale"),
    *("pyarrow", "safetensors", "scipy", "torch"),
)
"""What has a part in the numbers, or in how they are written."""


def made() -> dict[str, Any]:
    """How what is written now comes about.

    Returns
    -------
    dict
        ``command`` (empty where Python was used without the command line), ``date`` (UTC) and
        ``versions`` of the libraries that are installed.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"command": command(), "date": now, "versions": dict(versions())}


def command() -> str:
    """The command line, as one would type it again; empty outside the program `batchflow`."""
    program = Path(sys.argv[0]) if sys.argv else Path()
    if program.name == "batchflow" or program.match("batchflow/__main__.py"):
        return shlex.join(["batchflow", *sys.argv[1:]])
    return ""


@cache
def versions() -> tuple[tuple[str, str], ...]:
    """Name and version of each library that is there, and of Python."""
    return (*filter(None, map(_version, LIBRARIES)), ("python", platform.python_version()))


def _version(name: str) -> tuple[str, str] | None:
    try:
        return name, version(name)
    except PackageNotFoundError:
        return None
