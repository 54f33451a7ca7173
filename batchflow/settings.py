"""The base of every section of a job file."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

Range = tuple[float, float]


class Settings(BaseModel):
    """Base of every section: frozen, no unknown keys, no silent conversion of strings."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
