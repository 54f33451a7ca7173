"""The user's own installation of CIGALE, called in-process: the only door to pcigale.

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
from numpy.typing import NDArray

from batchflow.errors import UserError
from batchflow.physics.cigale_chain import Accepts, Chain, parse_accepts

Floats = NDArray[np.float64]

HOW_TO_GET = (
    "It is not on PyPI: `git clone https://gitlab.lam.fr/cigale/cigale.git`, then `pip install .` in that "
    "folder, into the environment of the workers too; it builds its database as it is installed"
)

RENEW = 20_000
"""SEDs after which a warehouse is thrown away: what it leaks (0.7 kB an SED in 2022) stays bounded."""
TIDY = 128
"""SEDs after which the module instances of a warehouse are dropped (20 kB each)."""
SURVIVING = ("stellar.m_star", "stellar.mass_alive")
"""Where CIGALE's stellar modules leave the mass of the stars that are left."""
AGES = ("stellar.age", "sfh.age")
"""Where CIGALE leaves the age that an SED really has [Myr]."""


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
