"""Whether the trained model of a job is there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchflow import stages
from batchflow.config import Job
from batchflow.errors import UserError
from batchflow.flow.description import (
    HISTORY,
    HISTORY_FILE,
    MODEL_FILE,
    REFERENCE_FILE,
    WEIGHTS_FILE,
    joint_checksum,
    load_description,
)
from batchflow.paths import RunFolder
from batchflow.physics.table import TABLE_FILE
from batchflow.plan import Plan, Unit, check_settings
from batchflow.seal import is_intact
from batchflow.shards import read_footer
from batchflow.train.history import history_key

BESIDE = {TABLE_FILE: "flux_table_sha256", REFERENCE_FILE: "reference_sha256"}
"""Files of a model besides the network, by the key of their checksum in its description."""
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
    present = {unit.key for unit in units if _is_present(unit.paths[0].parent, settings)}
    if _is_present(run.model, settings) and len(present) == len(members):
        present.add(WHOLE)
    if not _is_complete(run.model, members[0] if members else ""):
        # The task of the first member writes what all of them share; it does not train what is trained.
        present -= {WHOLE, *members[:1]}
    whole = Unit(WHOLE, (run.model / (MODEL_FILE if members else WEIGHTS_FILE),), 0)
    return Plan("train", settings, (*units, whole), frozenset(present))


def member_name(index: int) -> str:
    """Name of a member's folder in the model folder of an ensemble."""
    return f"member-{index}"


def _is_present(folder: Path, settings: Mapping[str, Any]) -> bool:
    return is_trained(folder, settings) and _has_history(folder)


def _has_history(folder: Path) -> bool:
    """Whether the history is whole and of this network, or could not be written again."""
    described, path = read_description(folder) or {}, folder / HISTORY_FILE
    footer, _ = read_footer(path) or ({}, 0)
    if "members" in described:
        return is_intact(path) and footer.get("of") == described["weights_sha256"]
    return HISTORY not in described or (
        is_intact(path) and footer.get("of") == history_key(described[HISTORY])
    )


def is_trained(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Whether the network of a folder is there, whole, and of these settings.

    Parameters
    ----------
    folder : Path
        Of a model, or of a member.
    settings : mapping
        As `stages.train_settings` gives them.

    Returns
    -------
    bool
        False when weights and description are not those that were written together.

    Raises
    ------
    OtherSettingsError
        When it was trained with other settings.
    """
    described = read_description(folder)
    if described is None or weights_checksum(folder) != described.get("weights_sha256"):
        return False
    check_settings(folder / MODEL_FILE, described.get("settings", {}), settings, "train")
    return True


def _is_complete(folder: Path, member: str) -> bool:
    """Whether flux table and reference are those that the network was trained with."""
    described = read_description(folder / member) or {}
    return all(_sha256(folder / name) == described[key] for name, key in BESIDE.items() if key in described)


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def read_description(folder: Path) -> dict[str, Any] | None:
    """A model's JSON description; None when it is absent, cut short or altered."""
    try:
        return load_description(folder)
    except UserError:
        return None


def weights_checksum(folder: Path) -> str | None:
    """SHA-256 of a model's weights, of all its members'; None when they are absent."""
    try:
        named = (read_description(folder) or {}).get("members")
        if named is None:
            return _sha256(folder / WEIGHTS_FILE)
        files = [folder / Path(entry["folder"]).name / WEIGHTS_FILE for entry in named]
        return joint_checksum([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])
    except (OSError, KeyError, TypeError):
        return None
