"""The engine `cigale`: the user's own installation of CIGALE, called in-process. The only door to pcigale.

Both code lines are known: 0.9 (galaxy chain, one SQLite database) and that of 2022 and later (modules for
star clusters, `nocache`, one folder for each kind of data). What differs is asked of pcigale itself, not of
its version number.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib import import_module, metadata
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from batchflow.config import ModelSettings
from batchflow.errors import UserError, nearest
from batchflow.physics.cigale_chain import (
    Accepts,
    Chain,
    Steps,
    build_chain,
    choose_modules,
    parse_accepts,
    steps_of,
    whole_myr,
)
from batchflow.physics.table import FluxTable

Floats = NDArray[np.float64]

HOW_TO_GET = (
    "It is not on PyPI: `git clone https://gitlab.lam.fr/cigale/cigale.git`, then `pip install .` in that "
    "folder, into the environment of the workers too; it builds its database as it is installed"
)
INSTRUMENTS = {"wfc3": "hst.wfc3", "acs": "hst.wfc"}
"""Folders of the filters in CIGALE's database: WFC3/UVIS, and the wide-field channel of ACS."""

RENEW = 20_000
"""SEDs after which a warehouse is thrown away: what it leaks (0.7 kB an SED in 2022) stays bounded."""
TIDY = 128
"""SEDs after which the module instances of a warehouse are dropped (20 kB each)."""
SURVIVING = ("stellar.m_star", "stellar.mass_alive")
"""Where CIGALE's stellar modules leave the mass of the stars that are left."""
AGES = ("stellar.age", "sfh.age")
"""Where CIGALE leaves the age that an SED really has [Myr]."""
EBV_HIGHEST = 2.0
"""Highest E(B-V) [mag] where ``[model.cigale.nodes]`` says nothing."""


class Pcigale:
    """The installed pcigale.

    Raises
    ------
    UserError
        When it is missing, cannot be imported or has no database: how to get it.
    """

    def __init__(self) -> None:
        try:
            warehouse = import_module("pcigale.warehouse")
            self._data = import_module("pcigale.data")
            self._modules = import_module("pcigale.sed_modules")
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] == "pcigale":
                raise UserError(f'engine = "cigale": pcigale is not installed. {HOW_TO_GET}') from None
            raise UserError(f"pcigale is installed, but needs {error.name}: install that too") from None
        except Exception as error:  # old releases fail on new Pythons in many ways
            raise UserError(
                f"pcigale cannot be imported ({error!r}); install a newer one. {HOW_TO_GET}"
            ) from error
        self._warehouse = warehouse.SedWarehouse
        self.recent = "nocache" in inspect.signature(self._warehouse).parameters

    @cached_property
    def filters(self) -> tuple[str, ...]:
        """Names of the filters in the database, sorted."""
        try:
            names = self._filter_names()
        except Exception as error:
            raise UserError(f"the database of pcigale cannot be read ({error!r}). {HOW_TO_GET}") from error
        if not names:
            raise UserError(f"the database of pcigale has no filters. {HOW_TO_GET}")
        return tuple(sorted(names))

    def _filter_names(self) -> Sequence[str]:
        if hasattr(self._data, "SimpleDatabase"):
            with self._data.SimpleDatabase("filters") as database:
                return list(database.parameters["name"])
        with self._data.Database() as database:
            return list(database.get_filter_names())

    @cached_property
    def modules(self) -> tuple[str, ...]:
        """Names of the modules that make SEDs."""
        return tuple(sorted(item.name for item in iter_modules(self._modules.__path__)))

    def accepts(self, module: str) -> dict[str, Accepts]:
        """What a module takes, in its own order."""
        found = import_module(f"pcigale.sed_modules.{module}").Module
        # Called parameter_list up to 2023.0.dev0, parameters after it.
        rules = getattr(found, "parameter_list", None) or getattr(found, "parameters", {})
        return {name: parse_accepts(str(rule[0]), rule[2]) for name, rule in rules.items()}

    def ssp_ages(self, imf: int, metallicity: float) -> Floats:
        """Ages [Myr] of the grid that the module `ssp` takes an index into."""
        name = {0: "salp", 1: "chab"}[imf]
        with self._data.SimpleDatabase("bc03_SSP") as database:
            return np.asarray(database.get(imf=name, Z=metallicity).t, dtype=np.float64)

    def warehouse(self, nocache: str) -> Any:
        """A warehouse of SEDs for one chain; it never caches the module that varies most."""
        return self._warehouse(nocache=[nocache]) if self.recent else self._warehouse()

    def describe(self) -> dict[str, Any]:
        """Version of pcigale, and a digest of its database: names and sizes of the files."""
        folder = Path(str(self._data.__file__)).parent
        kinds = (".db", ".pickle", ".npz", ".npy", ".fits")
        files = [path for path in sorted(folder.rglob("*")) if path.suffix in kinds]
        text = "\n".join(f"{path.relative_to(folder)} {path.stat().st_size}" for path in files)
        text += "\n".join(self.filters)
        return {
            "version": _version(),
            "line": "2022" if self.recent else "0.9",
            "database": hashlib.sha256(text.encode()).hexdigest()[:16],
            "filters": len(self.filters),
        }


def _version() -> str:
    try:
        return metadata.version("pcigale")
    except metadata.PackageNotFoundError:
        return str(getattr(import_module("pcigale"), "__version__", "unknown"))


class CigaleEngine:
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
        columns = _columns(parameters, self.limits)
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


class Warehouse:
    """CIGALE's warehouse for one chain, kept from growing.

    One for each chain: CIGALE's caches know SEDs by their values alone, not by their modules, and a cached
    dust module keeps the wavelengths of the chain that it first met.
    """

    def __init__(self, pcigale: Pcigale, chain: Chain, filters: Sequence[str]) -> None:
        self._pcigale, self._chain, self._filters = pcigale, chain, tuple(filters)
        self._places = [
            (chain.modules.index(target.to.split(".")[0]), target.to.split(".")[1], name, target.factor)
            for name, targets in chain.targets.items()
            for target in targets
        ]
        self._first = min(place[0] for place in self._places)
        self._last = max(place[0] for place in self._places)
        self._made = 0
        self._open: Any = None
        self.last_age = np.nan
        """Age [Myr] that the last SED says it has; NaN where it says nothing."""

    def evaluate(self, codes: Mapping[str, Sequence[Any]]) -> Floats:
        """Compute one SED a row.

        Parameters
        ----------
        codes : mapping of str to sequence, length n
            What CIGALE is given for each parameter.

        Returns
        -------
        ndarray, shape (n, n_filters + 1)
            Flux densities [mJy] and the surviving mass [Msun].
        """
        columns = [_scaled(codes[name], factor) for _, _, name, factor in self._places]
        found = np.empty((len(columns[0]), len(self._filters) + 1))
        before: tuple[Any, ...] = ()
        for row in _order(columns, [place[0] for place in self._places]):
            values = tuple(column[row] for column in columns)
            self._tidy(self._changed(before, values))
            found[row] = self._sed(values)
            before = values
        return found

    def _sed(self, values: Sequence[Any]) -> list[float]:
        parameters = [dict(fixed) for fixed in self._chain.fixed]
        for (module, name, _, _), value in zip(self._places, values, strict=True):
            parameters[module][name] = value
        sed = self._open.get_sed(self._chain.modules, parameters)
        info = sed.info
        self.last_age = next((info[key] for key in AGES if key in info), np.nan)
        surviving = next((info[key] for key in SURVIVING if key in info), np.nan)
        return [*map(sed.compute_fnu, self._filters), surviving]

    def _changed(self, before: Sequence[Any], values: Sequence[Any]) -> int:
        """Place of the first module with another value than the row before."""
        differing = [place[0] for place, a, b in zip(self._places, before, values, strict=False) if a != b]
        return min(differing, default=self._last)

    def _tidy(self, changed: int) -> None:
        """Drop what the following rows do not need."""
        if self._open is None or self._made % RENEW == 0:
            self._open = self._pcigale.warehouse(self._chain.modules[self._last])
        elif hasattr(self._open, "partial_clear_cache"):
            self._open.partial_clear_cache(changed)
        if self._made % TIDY == 0:
            instances = getattr(self._open, "module_cache", {})
            for key in [k for k, module in instances.items() if self._varies(module)]:
                del instances[key]
        self._made += 1

    def _varies(self, module: Any) -> bool:
        return getattr(module, "name", None) in self._chain.varying


def _order(columns: Sequence[Sequence[Any]], places: Sequence[int]) -> list[int]:
    """Rows sorted so that early modules change least: CIGALE then computes them once."""
    late_to_early = sorted(range(len(columns)), key=lambda item: -places[item])
    return list(np.lexsort([np.asarray(columns[item]) for item in late_to_early]).tolist())


def _scaled(column: Sequence[Any], factor: float) -> Sequence[Any]:
    return column if factor == 1.0 else [value * factor for value in column]


def _columns(
    parameters: Mapping[str, ArrayLike], limits: Mapping[str, tuple[float, float]]
) -> dict[str, Floats]:
    """Check the parameters and give them one shape (n,); NaN passes."""
    for name in parameters:
        if name not in limits:
            raise UserError(f"unknown parameter {name!r}; {nearest(name, limits)}")
    if missing := [name for name in limits if name not in parameters]:
        raise UserError(f"missing parameter {', '.join(missing)}; expected {', '.join(limits)}")
    arrays = [np.atleast_1d(np.asarray(parameters[name], dtype=np.float64)) for name in limits]
    try:
        columns = dict(zip(limits, np.broadcast_arrays(*arrays), strict=True))
    except ValueError:
        shapes = {name: np.shape(parameters[name]) for name in limits}
        raise UserError(f"parameters have shapes {shapes}; expected scalars or one length") from None
    for name, column in columns.items():
        low, high = limits[name]
        # Shards hold single precision, which may step over a limit by 1e-6.
        outside = (column < low - 1e-6) | (column > high + 1e-6)
        if outside.any():
            raise UserError(
                f"{name} = {column[outside][0]:.8g} ({int(outside.sum())} of {column.size} values) lies "
                f"outside the model's limits, {low:.8g} to {high:.8g}; narrow the prior or leave these out"
            )
    return {name: np.clip(column, *limits[name]) for name, column in columns.items()}


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
