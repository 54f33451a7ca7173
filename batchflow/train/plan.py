"""Whether the trained model of a job is there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from batchflow import stages
from batchflow.config import Job
from batchflow.paths import RunFolder
from batchflow.plan import Plan, Unit, check_settings

MODEL_FILE, WEIGHTS_FILE = "model.json", "weights.safetensors"


def plan_train(job: Job, run: RunFolder) -> Plan:
    """One unit: the model.

    Parameters
    ----------
    job : Job
        The job.
    run : RunFolder
        Its run folder.

    Returns
    -------
    Plan
        The model is present when its description and its weights agree.

    Raises
    ------
    UserError
        When a model is there that was trained with other settings.
    """
    settings = stages.train_settings(job)
    unit = Unit("model", (run.model / WEIGHTS_FILE,), 0)
    described = read_description(run.model)
    if described is None or weights_checksum(run.model) != described.get("weights_sha256"):
        return Plan("train", settings, (unit,), frozenset())
    check_settings(run.model / MODEL_FILE, described.get("settings", {}), settings, "train")
    return Plan("train", settings, (unit,), frozenset({unit.key}))


def read_description(folder: Path) -> dict[str, Any] | None:
    """A model's JSON description; None when it is absent or broken."""
    try:
        found = json.loads((folder / MODEL_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def weights_checksum(folder: Path) -> str | None:
    """SHA-256 of a model's weights; None when they are absent."""
    try:
        return hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()
    except OSError:
        return None
