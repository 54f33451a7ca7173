"""JSON files with a checksum of themselves: one that was cut short or altered counts as absent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchflow.plan import fingerprint
from batchflow.shards import write_json

CHECKSUM = "checksum"


def write_stamped(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file, atomically.

    Parameters
    ----------
    path : Path
        The file.
    values : mapping
        JSON-able.
    """
    plain = json.loads(json.dumps(dict(values)))
    write_json(path, plain | {CHECKSUM: fingerprint(plain)})


def read_stamped(path: Path) -> dict[str, Any] | None:
    """Read a file that `write_stamped` wrote.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict or None
        None when it is absent, cut short or altered.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return values if values.pop(CHECKSUM) == fingerprint(values) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
