"""Settings of the noise that no catalogue tells."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from batchflow.settings.base import Band, Range, Settings, without_unused

Fraction = Annotated[float, Field(ge=0, lt=1)]


class NoiseSettings(Settings):
    """[noise]: what the catalogues' errors do not say."""

    systematic: float = Field(
        0.05, ge=0, lt=1, description="fraction of the true flux added in quadrature to every error"
    )
    model_error: Fraction | dict[Band, Fraction] = Field(
        0.0,
        description="the same for the model's own error, one number or by band; independent between bands",
    )
    depth: Range | None = Field(
        None,
        description="log10 range of the 1-sigma depth [mJy], the same in all bands; "
        "for a job without catalogues",
    )
    fractional: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="fraction of the flux that reported errors hold in quadrature; for a job without "
        "catalogues",
    )
    brightness: Range | None = Field(
        None,
        description="log10 range of the true flux over the depth, in the band where it is largest, that "
        "training covers; for a job without catalogues",
    )

    @model_validator(mode="after")
    def _whole(self) -> NoiseSettings:
        for name in ("fractional", "brightness"):
            if getattr(self, name) and self.depth is None:
                raise ValueError(f"{name} needs depth = [low, high]; catalogues tell their own")
        for name in ("depth", "brightness"):
            found = getattr(self, name)
            if found is not None and not found[0] < found[1]:
                raise ValueError(f"{name} = {list(found)} is empty; expected [low, high] with low < high")
        return self

    @model_serializer(mode="wrap")
    def _without_unused(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_unused(dump(self), {"model_error": 0.0, "fractional": 0.0, "brightness": None})
