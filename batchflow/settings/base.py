"""The base of every section of a job file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from batchflow.errors import nearest
from batchflow.physics.bands import known_bands

Range = tuple[float, float]
GridUse = Literal["auto", "never", "fallback", "summary", "always"]
"""What the exact grid is used for."""


class Settings(BaseModel):
    """Base of every section: frozen, no unknown keys, no silent conversion of strings."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def without_unused(settings: Mapping[str, Any], unused: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out options that are not used: a job without them keeps its fingerprint.

    Parameters
    ----------
    settings : mapping
        A section, as it is written.
    unused : mapping
        By option, the value that says so.
    """
    return {name: value for name, value in settings.items() if unused.get(name, ...) != value}


def _check_band(value: Any, info: ValidationInfo) -> str:
    """Take the name of a shipped band, or of a curve of the job's own (`context` or an earlier field)."""
    own = (info.context or {}).get("curves", ()) if isinstance(info.context, dict) else ()
    known = (*known_bands(), *own, *(info.data.get("curves") or ()))
    if (band := str(value)) not in known:
        raise ValueError(f"unknown band {band!r}; {nearest(band, known)}")
    return band


Band = Annotated[str, Field(min_length=1), BeforeValidator(_check_band)]
