"""The JSON file of a model folder, with a checksum of itself; needs no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from batchflow.errors import UserError
from batchflow.shards import write_json

FORMAT = "batchflow model 2"
WEIGHTS_FILE, MODEL_FILE = "weights.safetensors", "model.json"
REFERENCE_FILE, HISTORY_FILE = "reference.safetensors", "history.parquet"
HISTORY = "history"
"""Key of the training's history: the Parquet file can be written again from it."""
CHECKSUM = "description_sha256"


def write_description(folder: Path, values: Mapping[str, Any]) -> None:
    """Write a model's JSON file, stamped with its checksum.

    Parameters
    ----------
    folder : Path
        The model folder.
    values : mapping
        JSON-able.

    Raises
    ------
    UserError
        When the file system refuses.
    """
    plain = json.loads(json.dumps(dict(values)))
    plain.pop(CHECKSUM, None)
    write_json(folder / MODEL_FILE, plain | {CHECKSUM: _checksum(plain)})


def load_description(folder: Path) -> dict[str, Any]:
    """Read a model's JSON file and make sure that it is as it was written.

    Parameters
    ----------
    folder : Path
        The model folder.

    Returns
    -------
    dict
        What `write_description` was given.

    Raises
    ------
    UserError
        When the file is absent, cut short, altered or of another format.
    """
    path = folder / MODEL_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: no trained model here; run batchflow train JOB") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}; train again or copy the folder anew") from None
    found = values.get("format") if isinstance(values, dict) else None
    if found != FORMAT:
        raise UserError(f"{path}: format is {found!r}, expected {FORMAT!r}; train again with this version")
    stamped = values.pop(CHECKSUM, None)
    if stamped != (actual := _checksum(values)):
        raise UserError(
            f"{path}: its contents have the SHA-256 {actual}, it says {stamped}: it was altered; "
            "train again or copy the folder anew"
        )
    return dict(values)


def joint_checksum(checksums: Sequence[str]) -> str:
    """One checksum for the weights of all members of an ensemble."""
    return hashlib.sha256("\n".join(checksums).encode()).hexdigest()


def _checksum(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
