"""A double of pcigale for tests: see README.md. The database of the code line of 2022."""

from types import SimpleNamespace
from typing import Any

from double_physics import FILTERS, METALLICITIES, SSP_AGES


class SimpleDatabase:
    """One kind of data."""

    def __init__(self, name: str) -> None:
        self.parameters = {"filters": {"name": list(FILTERS)}, "bc03_SSP": {"Z": list(METALLICITIES)}}[name]

    def __enter__(self) -> "SimpleDatabase":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def get(self, imf: str, Z: float) -> Any:  # noqa: N803 - pcigale's own name
        """The simple stellar populations."""
        if imf not in ("salp", "chab") or Z not in METALLICITIES:
            raise ValueError(f"no {imf} {Z}")
        return SimpleNamespace(t=SSP_AGES)
