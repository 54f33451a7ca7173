"""`--set section.key=value`: settings from the command line, laid over the job file's."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import Any

from batchflow.errors import UserError


def apply_overrides(values: dict[str, Any], overrides: Sequence[str]) -> None:
    """Lay ``section.key=value`` settings over a job's, in place.

    Parameters
    ----------
    values : dict
        The job as TOML gives it; changed in place.
    overrides : sequence of str
        The value is TOML (``3``, ``true``, ``[1, 2]``); what is not is taken as a string.
        ``catalogue.0.path=x`` reaches into a list.

    Raises
    ------
    UserError
        When an override has no ``=`` or reaches into something that is no section.
    """
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {override!r}: expected section.key=value")
        *sections, last = key.strip().split(".")
        _set(_walk(values, sections, override), last, parse_value(text.strip()), override)


def parse_value(text: str) -> Any:
    """Read a TOML value; what is none is a string.

    Parameters
    ----------
    text : str
        For example ``3``, ``true``, ``[1.0, 2.0]`` or ``runs/here``.

    Returns
    -------
    object
        The value.
    """
    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return found["value"] if set(found) == {"value"} else text


def _walk(values: Any, sections: Sequence[str], override: str) -> Any:
    for section in sections:
        if isinstance(values, dict):
            values = values.setdefault(section, {})
        elif isinstance(values, list) and section.isdigit() and int(section) < len(values):
            values = values[int(section)]
        else:
            raise UserError(f"--set {override!r}: {section!r} is not in the job")
    return values


def _set(target: Any, key: str, value: Any, override: str) -> None:
    if isinstance(target, dict):
        target[key] = value
    elif isinstance(target, list) and key.isdigit() and int(key) < len(target):
        target[int(key)] = value
    else:
        raise UserError(f"--set {override!r}: {key!r} is not inside a section")
