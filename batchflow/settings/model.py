"""Settings of what turns parameters into fluxes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from batchflow.physics.bands import known_bands
from batchflow.settings.base import Band, Range, Settings, without_unused
from batchflow.settings.cigale import CigaleSettings

CurveName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class ModelSettings(Settings):
    """[model]: from parameters to fluxes."""

    engine: Literal["embedded", "cigale"] = Field("embedded", description="what computes the fluxes")
    # Above `bands`, whose check reads it.
    curves: dict[CurveName, Path] = Field(
        {},
        description="throughput curves of one's own by band name, relative to the job file: two columns "
        "(wavelength [AA], electrons per photon) or a VOTable of the SVO Filter Profile Service",
    )
    bands: tuple[Band, ...] = Field(min_length=1, description="every band any catalogue of the job has")
    metallicity: float = Field(0.02, gt=0, le=0.1, description="metal mass fraction of stars and gas")
    extinction: str = Field(
        "CCM89", description="dust law: CCM89 as CIGALE has it, or another name of physics.dust"
    )
    rv: float = Field(3.1, ge=2.0, le=6.0, description="A(V) / E(B-V)")
    cigale: CigaleSettings = CigaleSettings()
    covering: float = Field(
        0.0, ge=0, le=1, description="share of the ionising light that gas turns into nebular emission"
    )
    log_u: float = Field(-2.5, ge=-4, le=0, description="log10 ionisation parameter of the gas")
    vary: dict[Literal["metallicity", "rv", "covering"], Range] = Field(
        {}, description="range of each parameter that is drawn, not set; a job fills it from [prior]"
    )

    @field_validator("bands")
    @classmethod
    def _distinct(cls, bands: tuple[str, ...]) -> tuple[str, ...]:
        if twice := {band for band in bands if bands.count(band) > 1}:
            raise ValueError(f"named twice: {', '.join(sorted(twice))}")
        return bands

    @field_validator("curves")
    @classmethod
    def _new_names(cls, curves: dict[str, Path]) -> dict[str, Path]:
        if taken := sorted(set(curves) & set(known_bands())):
            raise ValueError(f"{taken[0]!r} is a shipped band; give the curve another name")
        return curves

    @field_validator("vary")
    @classmethod
    def _ordered(cls, vary: dict[str, Range]) -> dict[str, Range]:
        for name, (low, high) in vary.items():
            if not low < high:
                raise ValueError(
                    f"{name} = [{low:g}, {high:g}] is empty; expected [low, high] with low < high"
                )
        return vary

    @model_serializer(mode="wrap")
    def _without_unused(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found = without_unused(dump(self), {"curves": {}, "covering": 0.0, "vary": {}})
        if self.engine != "cigale":
            found.pop("cigale", None)
        if "covering" not in found and "covering" not in self.vary:
            found.pop("log_u", None)
        return found

    def __hash__(self) -> int:
        """Hash of the settings' JSON: mappings have none of their own."""
        return hash(self.model_dump_json())
