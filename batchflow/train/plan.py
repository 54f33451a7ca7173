"""Whether the trained model of a job is there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchflow import stages
from batchflow.config import Job
from batchflow.flow.description import MODEL_FILE, WEIGHTS_FILE, joint_checksum
from batchflow.paths import RunFolder
from batchflow.plan import Plan, Unit, check_settings

WHOLE = "model"
"""Key of the unit that an ensemble's members are put together in, and of a single model."""


def plan_train(job: Job, run: RunFolder) -> Plan:
    """One unit: the model; for an ensemble, one a member and the whole.

    Parameters
    ----------
    job : Job
        The job.
    run : RunFolder
        Its run folder.

    Returns
    -------
    Plan
        A model is present when its description and its weights agree.

    Raises
    ------
    UserError
        When a model is there that was trained with other settings.
    """
    settings = stages.train_settings(job)
    members = [] if job.train.members == 1 else [member_name(i) for i in range(job.train.members)]
    units = [Unit(name, (run.model / name / WEIGHTS_FILE,), 0) for name in members]
    present = {unit.key for unit in units if _is_trained(unit.paths[0].parent, settings)}
    if _is_trained(run.model, settings) and len(present) == len(members):
        present.add(WHOLE)
    whole = Unit(WHOLE, (run.model / (MODEL_FILE if members else WEIGHTS_FILE),), 0)
    return Plan("train", settings, (*units, whole), frozenset(present))


def member_name(index: int) -> str:
    """Name of a member's folder in the model folder of an ensemble."""
    return f"member-{index}"


def _is_trained(folder: Path, settings: Mapping[str, Any]) -> bool:
    described = read_description(folder)
    if described is None or weights_checksum(folder) != described.get("weights_sha256"):
        return False
    check_settings(folder / MODEL_FILE, described.get("settings", {}), settings, "train")
    return True


def read_description(folder: Path) -> dict[str, Any] | None:
    """A model's JSON description; None when it is absent or broken."""
    try:
        found = json.loads((folder / MODEL_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def weights_checksum(folder: Path) -> str | None:
    """SHA-256 of a model's weights, of all its members'; None when they are absent."""
    try:
        named = (read_description(folder) or {}).get("members")
        if named is None:
            return hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()
        files = [folder / Path(entry["folder"]).name / WEIGHTS_FILE for entry in named]
        return joint_checksum([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])
    except (OSError, KeyError, TypeError):
        return None
