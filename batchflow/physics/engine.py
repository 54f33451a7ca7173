"""Engines: what turns parameters into fluxes. `open_engine` finds the one that the settings name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError

from batchflow.errors import UserError, nearest
from batchflow.physics.bands import read_curve
from batchflow.physics.embedded import EmbeddedEngine, Gas
from batchflow.physics.table import Flagged, FluxTable
from batchflow.settings.cigale import CigaleSettings
from batchflow.settings.model import ModelSettings

Floats = NDArray[np.float64]
Columns = dict[str, NDArray[np.float32]]


class Light(Protocol):
    """What gives band fluxes: an engine, or a flux table."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands, in the order of the fluxes' columns."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that `fluxes` needs."""

    @property
    def limits(self) -> dict[str, tuple[float, float]]:
        """Range of each parameter, in its unit."""

    def fluxes(self, parameters: Mapping[str, ArrayLike], /) -> Floats:
        """Flux densities [mJy] at 10 pc for 1 Msun formed, shape (n, n_bands)."""


class Engine(Light, Protocol):
    """What every engine can do."""

    def fluxes(self, parameters: Mapping[str, ArrayLike]) -> Floats:
        """Flux densities [mJy] at 10 pc for 1 Msun formed, shape (n, n_bands); NaN where a parameter is."""

    def flagged_fluxes(self, parameters: Mapping[str, ArrayLike]) -> Flagged:
        """The same, and a flag on the rows that have no flux, shape (n,)."""

    def realise(self, parameters: Columns, boxes: Mapping[str, tuple[float, float]]) -> Columns:
        """The parameters that the engine can compute nearest to those drawn, inside the prior's box."""

    def table(self) -> FluxTable:
        """The fluxes over the whole range of the parameters."""

    def describe(self) -> dict[str, Any]:
        """What the fluxes are made from; JSON-able."""


def _embedded(settings: ModelSettings) -> Engine:
    own = {name: read_curve(path, name) for name, path in settings.curves.items()}
    bands = [own.get(name, name) for name in settings.bands]
    gas = Gas(settings.covering, settings.log_u)
    vary = {str(name): limits for name, limits in settings.vary.items()}
    return EmbeddedEngine(bands, settings.metallicity, settings.extinction, settings.rv, gas, vary)


def _cigale(settings: ModelSettings) -> Engine:
    from batchflow.physics.cigale_engine import CigaleEngine

    return CigaleEngine(settings)


ENGINES: dict[str, Callable[[ModelSettings], Engine]] = {"embedded": _embedded, "cigale": _cigale}
"""What opens each engine, by the name in ``[model] engine``."""


def open_engine(settings: Mapping[str, Any] | ModelSettings) -> Engine:
    """Open the engine that the settings name.

    Parameters
    ----------
    settings : mapping or ModelSettings
        The keys of ``[model]``, for example ``{"bands": ["wfc3_f555w"], "metallicity": 0.02}``.

    Returns
    -------
    Engine
        One and the same for equal settings: do not change it.

    Raises
    ------
    UserError
        When a key is unknown or a value is wrong; the message names both.

    Examples
    --------
    >>> engine = open_engine({"bands": ["wfc3_f555w", "wfc3_f814w"]})
    >>> engine.fluxes({"log_age": [6.5, 8.0], "ebv": 0.1}).shape
    (2, 2)
    """
    return _opened(settings if isinstance(settings, ModelSettings) else _validated(settings))


@lru_cache(maxsize=8)
def _opened(settings: ModelSettings) -> Engine:
    return ENGINES[settings.engine](settings)


def _validated(settings: Mapping[str, Any]) -> ModelSettings:
    try:
        return ModelSettings.model_validate(dict(settings))
    except ValidationError as error:
        raise UserError("; ".join(_explain(dict(item)) for item in error.errors())) from None


def _explain(item: dict[str, Any]) -> str:
    """One error of pydantic as key, value and expectation."""
    key = ".".join(map(str, item["loc"]))
    if item["type"] == "extra_forbidden":
        section = CigaleSettings if item["loc"][0] == "cigale" else ModelSettings
        return f"unknown key {key}; {nearest(str(item['loc'][-1]), section.model_fields)}"
    if item["type"] == "missing":
        known = ModelSettings.model_fields.get(key)
        return f"{key} is missing" + (f"; expected {known.description}" if known else "")
    return f"{key} = {item['input']!r}: {str(item['msg']).removeprefix('Value error, ')}"
