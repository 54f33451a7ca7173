"""The engine `cigale`: fluxes that CIGALE computes, SED by SED or by way of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from batchflow.errors import UserError, nearest
from batchflow.physics.cigale import Pcigale, Warehouse
from batchflow.physics.cigale_chain import build_chain, choose_modules
from batchflow.physics.cigale_steps import Steps, steps_of, whole_myr
from batchflow.physics.grid import checked_columns
from batchflow.physics.table import Flagging, FluxTable
from batchflow.settings.model import ModelSettings

Floats = NDArray[np.float64]
INSTRUMENTS = {"wfc3": "hst.wfc3", "acs": "hst.wfc"}
"""Folders of the filters in CIGALE's database: WFC3/UVIS, and the wide-field channel of ACS."""
EBV_HIGHEST = 2.0
"""Highest E(B-V) [mag] where ``[model.cigale.nodes]`` says nothing."""


class CigaleEngine(Flagging):
    """Fluxes that CIGALE computes, SED by SED or by way of a table.

    Parameters
    ----------
    settings : ModelSettings
        The job's ``[model]``, ``[model.cigale]`` among it.

    Raises
    ------
    UserError
        When CIGALE is missing, or lacks a module, a parameter, a value or a filter.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self._settings = settings
        self.nodes = settings.cigale.nodes
        self._pcigale = Pcigale()
        self.filters = tuple(_filter_of(band, settings, self._pcigale.filters) for band in settings.bands)
        modules = choose_modules(settings.cigale, self._pcigale.modules)
        self._catalog = {module: self._pcigale.accepts(module) for module in modules}
        self.chain = build_chain(settings, modules, self._catalog, self.filters[0])
        self._check_filters()
        self.steps = self._find_steps()
        self._warehouse = Warehouse(self._pcigale, self.chain, self.filters)
        _check_nodes(settings, self.parameters)
        self._check_probe()

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands, in the order of the fluxes' columns."""
        return self._settings.bands

    @property
    def parameters(self) -> tuple[str, ...]:
        """`log_age`, `ebv`, and what ``[model.cigale.map]`` names besides."""
        return tuple(self.chain.targets)

    @cached_property
    def limits(self) -> dict[str, tuple[float, float]]:
        """Range of each parameter: CIGALE's, or narrower where ``[model.cigale.nodes]`` says so."""
        return {name: self._limits(name) for name in self.parameters}

    def fluxes(self, parameters: Mapping[str, ArrayLike]) -> Floats:
        """Flux densities at given parameters.

        Parameters
        ----------
        parameters : mapping of str to float or array, shape (n,)
            ``log_age`` [log10 yr], ``ebv`` [mag] and those of the map; scalars are broadcast. With
            ``evaluate = "direct"``, a value between CIGALE's own is taken to the nearest: see `realise`.

        Returns
        -------
        ndarray, shape (n, n_bands)
            Flux densities [mJy] at 10 pc for 1 Msun formed; NaN where a parameter is NaN.

        Raises
        ------
        UserError
            When a parameter is unknown, missing or out of range.
        """
        if self._settings.cigale.evaluate == "table":
            return self.table().fluxes(parameters)
        return self.direct(parameters)[:, :-1]

    def direct(self, parameters: Mapping[str, ArrayLike]) -> Floats:
        """One SED of CIGALE for each row.

        Parameters
        ----------
        parameters : mapping of str to float or array, shape (n,)
            As `fluxes` takes them.

        Returns
        -------
        ndarray, shape (n, n_bands + 1)
            Flux densities [mJy] at 10 pc for 1 Msun formed, and the surviving mass [Msun].
        """
        columns = checked_columns(parameters, self.limits)
        known = np.all([np.isfinite(column) for column in columns.values()], axis=0)
        found = np.full((known.size, len(self.bands) + 1), np.nan)
        codes = {name: self._codes(name, column[known]) for name, column in columns.items()}
        found[known] = self._warehouse.evaluate(codes)
        return found

    def realise(
        self, parameters: dict[str, NDArray[np.float32]], boxes: Mapping[str, tuple[float, float]]
    ) -> dict[str, NDArray[np.float32]]:
        """Take drawn parameters to those that CIGALE really computes.

        Parameters
        ----------
        parameters : dict of str to ndarray, shape (n,)
            As drawn.
        boxes : mapping of str to (low, high)
            Of the prior; the values that come back lie inside.

        Returns
        -------
        dict of str to ndarray, shape (n,)
            Ages of CIGALE's grid (whole Myr for a star formation history) in place of those drawn;
            a table interpolates between ages, and keeps them.

        Raises
        ------
        UserError
            When CIGALE has no value inside a box.
        """
        realised = dict(parameters)
        for name, steps in self.steps.items():
            if name == "log_age" and self._settings.cigale.evaluate == "table":
                continue
            inside = steps.within(*boxes.get(name, self.limits[name]))
            realised[name] = inside.snap(name, parameters[name])
        return realised

    def table(self) -> FluxTable:
        """The flux table, computed here and now, one SED a node."""
        return self._table

    @cached_property
    def _table(self) -> FluxTable:
        from batchflow.physics.cigale_table import assemble_table, node_rows, table_nodes

        nodes = table_nodes(self)
        rows = node_rows(self, nodes, 0, int(np.prod([axis.size for axis in nodes])))
        return assemble_table(self, nodes, rows)

    def describe(self) -> dict[str, Any]:
        """What the fluxes are made from; JSON-able."""
        return {
            "engine": "cigale",
            "pcigale": self._pcigale.describe(),
            "bands": list(self.bands),
            "filters": list(self.filters),
            "modules": list(self.chain.modules),
            "values": self.chain.values,
            "map": {name: [t.model_dump() for t in targets] for name, targets in self.chain.targets.items()},
            "evaluate": self._settings.cigale.evaluate,
        }

    def _find_steps(self) -> dict[str, Steps]:
        """Parameters of which CIGALE has certain values only."""
        found = {}
        for name, targets in self.chain.targets.items():
            module, parameter = targets[0].to.split(".")
            options = self._catalog[module][parameter].options
            if name == "log_age":
                found[name] = self._ages(targets[0].to)
            elif options:
                found[name] = steps_of([option / targets[0].factor for option in options])
        return found

    def _ages(self, place: str) -> Steps:
        if place != "ssp.index":
            return whole_myr(self.chain.modules)
        imf = self.chain.value("bc03_ssp.imf")
        metallicity = self.chain.value("bc03_ssp.metallicity")
        myr = self._pcigale.ssp_ages(1 if imf is None else imf, metallicity or self._settings.metallicity)
        index = np.flatnonzero(myr > 0)
        return Steps(np.log10(myr[index] * 1e6), tuple(index.tolist()))

    def _limits(self, name: str) -> tuple[float, float]:
        asked = self.nodes.get(name, (-np.inf, np.inf))[:2]
        if name in self.steps:
            values = self.steps[name].values
            inside = values[(values >= asked[0]) & (values <= asked[1])]
            if inside.size < 2:
                raise UserError(
                    f"model.cigale.nodes.{name} = {list(asked)} holds {inside.size} of CIGALE's values, "
                    f"{values[0]:.6g} to {values[-1]:.6g}; expected two or more"
                )
            return float(inside[0]), float(inside[-1])
        if name in self.nodes:
            return asked
        target = self.chain.targets[name][0]
        module, parameter = target.to.split(".")
        accepts = self._catalog[module][parameter]
        low, high = accepts.low / target.factor, accepts.high / target.factor
        if name == "ebv":
            low, high = max(low, 0.0), min(high, EBV_HIGHEST)
        if not np.isfinite([low, high]).all():
            raise UserError(
                f"CIGALE names no limits of {target.to}: "
                f"say model.cigale.nodes.{name} = [lowest, highest, number]"
            )
        return float(low), float(high)

    def _codes(self, name: str, column: Floats) -> list[Any]:
        """What CIGALE is given for each row."""
        if name not in self.steps:
            return list(column.tolist())
        steps = self.steps[name]
        return [steps.codes[place] for place in steps.nearest(column).tolist()]

    def _check_filters(self) -> None:
        """Refuse filters of dust modules that the database lacks: CIGALE would stop at the first SED."""
        for module, values in zip(self.chain.modules, self.chain.fixed, strict=True):
            for name in str(values.get("filters", "")).split("&"):
                if name.strip() and name.strip() not in self._pcigale.filters:
                    raise UserError(
                        f"model.cigale.parameters.{module}.filters names {name.strip()!r}, which CIGALE's "
                        f"database lacks; {nearest(name.strip(), self._pcigale.filters)}"
                    )

    def _check_probe(self) -> None:
        """Compute the corners: bands that the spectra miss, and ages that the grid gives other indices."""
        corners = {name: np.array(self.limits[name]) for name in self.parameters}
        try:
            found = self.direct(corners)
        except Exception as error:  # whatever a chain of modules may raise, it would raise at every mock
            raise UserError(
                f"CIGALE stops at its first SED, {' '.join(self.chain.modules)}: {error!r}; "
                "change model.cigale.modules or model.cigale.parameters"
            ) from error
        for band, fluxes in zip(self.bands, found[:, :-1].T, strict=True):
            if not (np.isfinite(fluxes) & (fluxes > 0)).all():
                raise UserError(f"band {band}: CIGALE's spectra do not cover it; leave it out")
        said, wanted = self._warehouse.last_age, 10.0 ** (self.limits["log_age"][1] - 6)
        if np.isfinite(said) and not np.isclose(said, wanted, rtol=1e-3):
            raise UserError(
                f"CIGALE says {said:g} Myr where its grid of ages says {wanted:g}: "
                "batchflow does not know this release of pcigale; please report it"
            )


def _filter_of(band: str, settings: ModelSettings, known: Sequence[str]) -> str:
    """Name of a band's filter in CIGALE's database."""
    instrument, _, name = band.partition("_")
    wanted = settings.cigale.filters.get(band, f"{INSTRUMENTS.get(instrument, instrument)}.{name.upper()}")
    if wanted not in known:
        raise UserError(
            f"band {band}: CIGALE's database has no filter {wanted!r}; "
            f"set model.cigale.filters.{band} to one of {', '.join(known)}"
        )
    return wanted


def _check_nodes(settings: ModelSettings, parameters: Sequence[str]) -> None:
    for name, (low, high, number) in settings.cigale.nodes.items():
        if name not in parameters:
            raise UserError(f"model.cigale.nodes.{name}: no such parameter; {nearest(name, parameters)}")
        if not low < high or number < 2:
            raise UserError(
                f"model.cigale.nodes.{name} = {[low, high, number]}: expected [lowest, highest, number], "
                "lowest < highest, two nodes or more"
            )
