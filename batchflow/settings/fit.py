"""The section [fit]: the classical way, beside the network's."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt, model_serializer, model_validator

from batchflow.settings.base import Settings

Axis = Literal["log_age", "ebv", "metallicity", "rv", "covering"]
Nodes = Annotated[tuple[float, ...], Field(min_length=1)]
LIKELY = 1e-3
"""CIGALE 0.9's: models less probable than the best by more than this are left out of the means."""


def _phangs() -> dict[str, Any]:
    """What the preset sets: ages 1 to 10 Myr by 1, then 100 evenly in log to 13.75 Gyr; E(B-V) by 0.01."""
    ages = np.concatenate([np.arange(1.0, 11.0), np.geomspace(11.0, 13750.0, 100)])
    nodes = {"log_age": np.log10(1e6 * ages), "ebv": np.arange(151) / 100}
    return {
        "nodes": {name: tuple(round(float(value), 6) for value in values) for name, values in nodes.items()},
        "degrees_of_freedom": "cigale",
        "likely": LIKELY,
    }


class FitSettings(Settings):
    """[fit]: grid chi2 as CIGALE's `pdf_analysis` has it, and the exact posterior on a grid."""

    enabled: bool = Field(
        True, description="whether `batchflow run` and `submit` make it; `batchflow fit` always does"
    )
    preset: Literal["phangs"] | None = Field(
        None, description='"phangs": the grid of PHANGS-HST (Turner et al. 2021), for a [model] like theirs'
    )
    nodes: dict[Axis, Nodes] = Field(
        {}, description="values of a parameter in the classical grid; default: the model's own nodes"
    )
    steps: dict[Axis, PositiveFloat] = Field(
        {"ebv": 0.01}, description="distance of a parameter's nodes, from edge to edge of its prior"
    )
    additional_error: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="fraction of the observed flux added in quadrature (CIGALE: 0.1); default: the "
        "systematic and model errors of [noise] and [[catalogue]]",
    )
    upper_limits: Literal["erf", "drop"] = Field(
        "erf", description="probability that the model lies below the limit, or as if not measured"
    )
    likely: float = Field(
        LIKELY,
        ge=0,
        lt=1,
        description="models less probable than the best by more than this are left out of mean and "
        "deviation; 0: none",
    )
    degrees_of_freedom: Literal["parameters", "cigale"] = Field(
        "parameters", description="of the reduced chi2: bands less fitted parameters, or bands less one"
    )
    exact: bool = Field(True, description="whether the exact posterior on the grid is made too")
    draws: PositiveInt = Field(500, description="draws that the exact posterior is summarised from")

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: Any) -> Any:
        """Put in what the preset sets; what says otherwise is an error."""
        if not isinstance(given, dict) or given.get("preset") != "phangs":
            return given
        values = _phangs()
        for name, value in values.items():
            if name in given and _plain(given[name]) != _plain(value):
                raise ValueError(f'preset = "phangs" sets {name}; leave one of the two out')
        return {**given, **values}

    @model_validator(mode="after")
    def _increasing(self) -> FitSettings:
        for name, values in self.nodes.items():
            if any(low >= high for low, high in pairwise(values)):
                raise ValueError(f"nodes.{name} must increase; found {list(values)[:6]}")
        return self

    @model_serializer(mode="wrap")
    def _named_alone(self, dump: Any) -> dict[str, Any]:
        """What TOML can hold."""
        return {name: value for name, value in dump(self).items() if value is not None}

    def __hash__(self) -> int:
        """Hash of the settings' JSON: mappings have none of their own."""
        return hash(self.model_dump_json())


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [float(item) for item in value] if isinstance(value, list | tuple) else value
