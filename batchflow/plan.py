"""What is wanted, what is there, what is left: pure, so that it can be printed before anything runs."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from batchflow.errors import UserError
from batchflow.made import made
from batchflow.seal import MOST_READ, damaged
from batchflow.shards import place_of, read_footer

LOG = logging.getLogger("batchflow")
Mode = Literal["resume", "restart", "refuse"]


def fingerprint(settings: Mapping[str, Any]) -> str:
    """A short digest of settings.

    Parameters
    ----------
    settings : mapping
        JSON-able.

    Returns
    -------
    str
        Sixteen hexadecimal digits.
    """
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as ``section.key``: value.

    Parameters
    ----------
    settings : mapping
        Nested mappings; lists stay as they are.
    prefix : str
        Put before every key.

    Returns
    -------
    dict
        One level deep.
    """
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


@dataclass(frozen=True)
class Unit:
    """A piece of work: one file, or one each in several tables, named by what it is."""

    key: str
    """What it is, for messages: ``shard-00003``, ``NGC0628/part-00000``."""
    paths: tuple[Path, ...]
    """The files that the unit leaves behind."""
    rows: int | None = None
    """Rows that each file must have; None when that is not known beforehand."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Small values for the worker, by the names of its function's arguments."""


@dataclass(frozen=True)
class Plan:
    """The units of a stage and which of them are there."""

    stage: str
    settings: Mapping[str, Any]
    wanted: tuple[Unit, ...]
    present: frozenset[str]

    @property
    def left(self) -> tuple[Unit, ...]:
        """Units still to be made, in order."""
        return tuple(unit for unit in self.wanted if unit.key not in self.present)

    @property
    def complete(self) -> bool:
        """Whether nothing is left."""
        return not self.left

    def rows_made(self, failed: Iterable[str]) -> int:
        """Rows of the units that were left, those apart whose keys are given."""
        lost = set(failed)
        return sum(unit.rows or 0 for unit in self.left if unit.key not in lost)

    def footer(self, unit: Unit) -> dict[str, Any]:
        """Provenance for the files of a unit."""
        return {
            "stage": self.stage,
            "unit": unit.key,
            "fingerprint": self._fingerprint,
            "settings": self._flat,
            "made": self._made,
        }

    @cached_property
    def _made(self) -> dict[str, Any]:
        return made()

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint(self.settings)

    @cached_property
    def _flat(self) -> dict[str, Any]:
        """One for all units: their number must not tell in memory."""
        return flatten(self.settings)


Found = TypeVar("Found", Plan, Plan | None)


class OtherSettingsError(UserError):
    """What is there was made with other settings."""


def make_plan(stage: str, settings: Mapping[str, Any], wanted: Iterable[Unit]) -> Plan:
    """See which units are there.

    Parameters
    ----------
    stage : str
        Name of the stage.
    settings : mapping
        The settings that matter to it.
    wanted : iterable of Unit
        All its units.

    Returns
    -------
    Plan
        A unit whose file is absent, truncated or of another length is left to be made.

    Raises
    ------
    OtherSettingsError
        When a file was made with other settings: the message names them.
    """
    units = tuple(wanted)
    present = frozenset(unit.key for unit in units if _is_present(unit, stage, settings))
    return Plan(stage, settings, units, present)


def apply_mode(find: Callable[[], Found], mode: Mode, clear: Callable[[], None]) -> Found:
    """Plan a stage, and obey `--mode`.

    Parameters
    ----------
    find : callable
        Makes the plan from what is on disk; None where it cannot be made yet.
    mode : {"resume", "restart", "refuse"}
        Go on; begin anew, whatever settings the files there were made with; or refuse when anything is there.
    clear : callable
        Removes what the stage left behind.

    Returns
    -------
    Plan or None
        With nothing present after "restart"; without the units of damaged files after "resume"; None where
        `find` gives it, and nothing was removed.

    Raises
    ------
    UserError
        In mode "refuse" when anything is there; in mode "resume" when it was made with other settings.
    """
    try:
        plan = find()
    except OtherSettingsError:
        if mode != "restart":
            raise
        clear()
        return find()
    if plan is None:
        return plan
    if mode == "refuse" and plan.present:
        raise UserError(
            f"{plan.stage}: {len(plan.present)} of {len(plan.wanted)} units are there already; "
            "use --mode resume to go on or --mode restart to begin anew"
        )
    if mode == "restart":
        clear()
        return replace(plan, present=frozenset())
    return without_damaged(plan)


def without_damaged(plan: Plan, most: int | None = MOST_READ) -> Plan:
    """The plan that makes damaged files anew.

    Parameters
    ----------
    plan : Plan
        Of a stage.
    most : int, optional
        Bytes: where the files that are there are more, only their footers are looked at; None for no limit.

    Returns
    -------
    Plan
        Units with a file that is not as it was written are not present; all are named in the log.
    """
    there = {path: unit.key for unit in plan.wanted if unit.key in plan.present for path in unit.paths}
    found = damaged((path for path in there if path.suffix == ".parquet"), most)
    for path in found:
        LOG.warning("%s is damaged, and is made anew", path)
    return replace(plan, present=plan.present - {there[path] for path in found}) if found else plan


def _is_present(unit: Unit, stage: str, settings: Mapping[str, Any]) -> bool:
    footers = [read_footer(path) for path in unit.paths]
    found = [item for item in footers if item is not None]
    for path, (footer, _) in zip(unit.paths, found, strict=False):
        check_settings(path, footer.get("settings", {}), settings, stage)
    return len(found) == len(unit.paths) and all(
        unit.rows in (None, rows) and footer.get("unit") == unit.key and is_in_place(path, footer)
        for path, (footer, rows) in zip(unit.paths, found, strict=True)
    )


def is_in_place(path: Path, footer: Mapping[str, Any]) -> bool:
    """Whether a file bears the name that it was written under."""
    return footer.get("file", place_of(path)) == place_of(path)


def check_settings(path: Path, found: Mapping[str, Any], settings: Mapping[str, Any], stage: str) -> None:
    """Compare the settings in a footer with the job's.

    Parameters
    ----------
    path : Path
        The file, for the message.
    found : mapping
        Flat settings from its footer.
    settings : mapping
        The job's, nested.
    stage : str
        Name of the stage.

    Raises
    ------
    OtherSettingsError
        Naming each setting that differs, with both values.
    """
    if lines := differences(found, settings):
        raise OtherSettingsError(
            f"{path} was made with other settings:\n  "
            + "\n  ".join(lines)
            + f"\nuse --mode restart to make the stage {stage} anew, or another output folder"
        )


def differences(found: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """Lines that name settings which differ, the first eight, with both values.

    Parameters
    ----------
    found : mapping
        Flat settings, as a footer has them.
    settings : mapping
        The job's, nested.

    Returns
    -------
    list of str
        Empty where they are the same.
    """
    wanted = json.loads(json.dumps(flatten(settings)))
    differing = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
    return [f"{key}: {found.get(key)!r} there, {wanted.get(key)!r} in the job" for key in differing[:8]]
