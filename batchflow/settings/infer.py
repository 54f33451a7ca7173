"""Settings of the posteriors, and of how they are checked on mocks."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from batchflow.settings.base import GridUse, Settings


class InferSettings(Settings):
    """[infer]: posterior draws for the catalogue."""

    draws: PositiveInt = Field(500, description="posterior draws a cluster")
    rows_per_part: PositiveInt = Field(2000, description="clusters in one part file")
    certify: bool = Field(True, description="weight the draws to the exact posterior")
    min_efficiency: float = Field(
        0.05,
        ge=0,
        le=1,
        description="rescue clusters whose efficiency is below; flag those that stay below",
    )
    max_draws: PositiveInt = Field(
        4096, description="draws that a rescued cluster's summary is made from; `draws` of them are stored"
    )
    grid: GridUse = Field(
        "auto",
        description="exact grid posterior: never; where more draws do not suffice (fallback); for the mean, "
        "deviation and quantiles of every cluster besides (summary); or in place of the network's draws "
        "(always). auto: summary with three parameters, else fallback. "
        "A job with marginalised or more than four parameters has none",
    )


class ValidateSettings(Settings):
    """[validate]: calibration on held-out mocks."""

    mocks: PositiveInt = Field(2000, description="held-out mocks to infer")
    draws: PositiveInt = Field(500, description="draws for each")
    exact: int = Field(
        100, ge=0, description="held-out mocks whose posteriors are compared with draws of the exact one"
    )
