"""Settings of the engine `cigale`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from batchflow.settings.base import Band, Settings


class CigaleTarget(Settings):
    """Where a parameter goes in CIGALE's chain."""

    to: str = Field(pattern=r"^\w+\.\w+$", description='"module.parameter" of CIGALE')
    factor: float = Field(1.0, description="the parameter times this is what CIGALE gets")


def _targets(value: Any) -> Any:
    """A target may be written as its name alone, and one target without a list."""
    entries = value if isinstance(value, list | tuple) else [value]
    return [{"to": entry} if isinstance(entry, str) else entry for entry in entries]


Targets = Annotated[tuple[CigaleTarget, ...], BeforeValidator(_targets)]


class CigaleSettings(Settings):
    """[model.cigale]: the engine cigale; read when ``engine = "cigale"``."""

    modules: tuple[str, ...] = Field(
        (), description="CIGALE's modules in order; default: ssp bc03_ssp dustext where CIGALE has them"
    )
    parameters: dict[str, dict[str, bool | int | float | str]] = Field(
        {}, description="values of module parameters, by module; others keep their default"
    )
    map: dict[str, Targets] = Field(
        {}, description='parameter of the prior to "module.parameter" of CIGALE, beyond those known'
    )
    imf: Literal["salpeter", "chabrier", "kroupa"] | None = Field(
        None, description="initial mass function; default chabrier, for m2005 kroupa"
    )
    filters: dict[Band, str] = Field({}, description="name of a band's filter in CIGALE's database")
    evaluate: Literal["direct", "table"] = Field(
        "direct", description="each mock its own SED, or interpolated in a table that CIGALE computes"
    )
    nodes: dict[str, tuple[float, float, int]] = Field(
        {}, description="lowest, highest and number of the flux table's nodes of a parameter"
    )

    def __hash__(self) -> int:
        return hash(self.model_dump_json())
