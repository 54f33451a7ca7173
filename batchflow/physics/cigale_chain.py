"""Chains of CIGALE's modules: which modules, which parameter goes where, which values exist.

Nothing here imports pcigale; `batchflow.physics.cigale` alone does. What a module takes comes from CIGALE's
own list of its parameters, so that every chain can be checked before an SED is computed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from batchflow.errors import UserError, nearest
from batchflow.physics.cigale_steps import OLDEST
from batchflow.settings.cigale import CigaleSettings, CigaleTarget
from batchflow.settings.model import ModelSettings

DEFAULT_CHAINS = (
    ("ssp", "bc03_ssp", "dustext"),
    ("sfh2exp", "bc03", "dustext"),
    ("sfh2exp", "bc03", "dustatt_modified_starburst"),
    ("sfh2exp", "bc03", "dustatt_calzleit"),
)
"""The first of which CIGALE has all modules is taken: the star-cluster chain, else the galaxy chain."""

PLACES = {
    "log_age": ("ssp.index", "sfh2exp.age"),
    "ebv": (
        "dustext.E_BV",
        "dustatt_modified_starburst.E_BV_lines",
        "dustatt_calzleit.E_BVs_young",
        "dustatt_powerlaw.Av_young",
    ),
    "metallicity": ("bc03_ssp.metallicity", "bc03.metallicity", "m2005.metallicity"),
    "rv": ("dustext.Rv",),
    "imf": ("bc03_ssp.imf", "bc03.imf", "m2005.imf"),
}
"""Where each of batchflow's parameters goes, in whichever modules the chain has."""

CLUSTER: dict[str, dict[str, Any]] = {
    "sfh2exp": {
        "tau_main": 0.001,
        "tau_burst": 0.001,
        "f_burst": 0.0,
        "burst_age": 1,
        "sfr_0": 1.0,
        "normalise": True,
    },
    "dustatt_modified_starburst": {"E_BV_factor": 1.0, "uv_bump_amplitude": 0.0, "powerlaw_slope": 0.0},
    "dustatt_calzleit": {"E_BVs_old_factor": 1.0, "uv_bump_amplitude": 0.0, "powerlaw_slope": 0.0},
    "dustatt_powerlaw": {"Av_old_factor": 1.0},
    "dustext": {"law": 0},
    "redshifting": {"redshift": 0.0},
}
"""Values that make a chain a star cluster: one burst, all stars behind one screen, at 10 pc."""

IMF_CODES = {
    "bc03_ssp": {"salpeter": 0, "chabrier": 1},
    "bc03": {"salpeter": 0, "chabrier": 1},
    "m2005": {"salpeter": 0, "kroupa": 1},
}
"""CIGALE's numbers; its default, Salpeter, is never taken silently."""


@dataclass(frozen=True)
class Accepts:
    """What CIGALE says that a module parameter takes."""

    default: Any = None
    low: float = -np.inf
    high: float = np.inf
    options: tuple[float, ...] = ()


Catalog = Mapping[str, Mapping[str, Accepts]]
"""Module to parameter to what it takes, in CIGALE's order."""


@dataclass(frozen=True)
class Chain:
    """Modules with their values, and the places that the parameters fill."""

    modules: tuple[str, ...]
    fixed: tuple[dict[str, Any], ...]
    """Every parameter of each module, in CIGALE's order."""
    targets: Mapping[str, tuple[CigaleTarget, ...]]
    """Where the engine's parameters go."""

    @property
    def varying(self) -> tuple[str, ...]:
        """Modules that a parameter goes to, in the chain's order."""
        filled = {target.to.split(".")[0] for targets in self.targets.values() for target in targets}
        return tuple(module for module in self.modules if module in filled)

    @property
    def values(self) -> dict[str, dict[str, Any]]:
        """The values that stay, by module; JSON-able."""
        places = {target.to for targets in self.targets.values() for target in targets}
        return {
            module: {name: value for name, value in values.items() if f"{module}.{name}" not in places}
            for module, values in zip(self.modules, self.fixed, strict=True)
        }

    def value(self, *names: str) -> Any:
        """The value of the first of some ``module.parameter`` that the chain has."""
        values = dict(zip(self.modules, self.fixed, strict=True))
        found = [values[m][p] for m, p in (name.split(".") for name in names) if p in values.get(m, {})]
        return found[0] if found else None


def parse_accepts(rule: str, default: Any) -> Accepts:
    """Read CIGALE's rule for a parameter.

    Parameters
    ----------
    rule : str
        Such as ``cigale_list(minvalue=0., maxvalue=1.)`` or ``cigale_list(options=0.02 & 0.05)``.
    default : object
        CIGALE's default.

    Returns
    -------
    Accepts
        Without limits where the rule says nothing that is understood.
    """
    low, high = (
        re.search(rf"{word}\s*=\s*([-+.\deE]+)", rule) for word in ("min(?:value)?", "max(?:value)?")
    )
    options = re.search(r"options\s*=\s*([^,)]*)", rule)
    try:
        found = tuple(float(item) for item in options[1].split("&")) if options else ()
    except ValueError:
        found = ()
    return Accepts(
        default, float(low[1]) if low else -np.inf, float(high[1]) if high else np.inf, tuple(sorted(found))
    )


def choose_modules(settings: CigaleSettings, known: Sequence[str]) -> tuple[str, ...]:
    """The chain's modules.

    Parameters
    ----------
    settings : CigaleSettings
        The job's, or none of them for a star cluster.
    known : sequence of str
        Modules that this CIGALE has.

    Returns
    -------
    tuple of str
        In the order of computation.

    Raises
    ------
    UserError
        When CIGALE lacks a module, or one is named twice.
    """
    modules = settings.modules
    if not modules:
        fitting = [chain for chain in DEFAULT_CHAINS if set(chain) <= set(known)]
        if not fitting:
            raise UserError(f"give model.cigale.modules: this CIGALE has {', '.join(sorted(known))}")
        return fitting[0]
    for module in modules:
        if module not in known:
            raise UserError(
                f"model.cigale.modules: this CIGALE has no module {module!r}; {nearest(module, known)} "
                "(CIGALE 0.9 has none of ssp, bc03_ssp, dustext: leave modules out for its galaxy chain)"
            )
        if modules.count(module) > 1:
            raise UserError(f"model.cigale.modules names {module} twice")
    return modules


def build_chain(settings: ModelSettings, modules: Sequence[str], catalog: Catalog, probe: str) -> Chain:
    """Fill a chain with values.

    Parameters
    ----------
    settings : ModelSettings
        The job's ``[model]``.
    modules : sequence of str
        From `choose_modules`.
    catalog : mapping
        What each module takes.
    probe : str
        A filter of the database: dust modules want one to note the attenuation in.

    Returns
    -------
    Chain
        With `log_age`, `ebv` and every further parameter of ``[model.cigale.map]`` in their places.

    Raises
    ------
    UserError
        When a parameter has no place, or a value is not what CIGALE takes.
    """
    targets = _targets(settings, modules, catalog)
    values = [_cluster_values(module, settings, catalog[module], probe) for module in modules]
    for module, wanted in settings.cigale.parameters.items():
        _check_own(module, wanted, targets)
        for name in wanted:
            _check_place(f"model.cigale.parameters.{module}", f"{module}.{name}", modules, catalog)
        values[list(modules).index(module)].update(wanted)
    for module, filled in zip(modules, values, strict=True):
        _check_values(module, filled, catalog[module])
    return Chain(tuple(modules), tuple(values), targets)


def _targets(
    settings: ModelSettings, modules: Sequence[str], catalog: Catalog
) -> dict[str, tuple[CigaleTarget, ...]]:
    """Places of the parameters that vary."""
    found = {name: _known_places(name, settings, modules) for name in ("log_age", "ebv")}
    found |= settings.cigale.map
    for name, targets in found.items():
        if not targets:
            raise UserError(
                f"no module of {' '.join(modules)} is known to take {name}: "
                f'add one, or say model.cigale.map.{name} = "module.parameter"'
            )
        for target in targets:
            _check_place(f"model.cigale.map.{name}", target.to, modules, catalog)
    return found


def _known_places(name: str, settings: ModelSettings, modules: Sequence[str]) -> tuple[CigaleTarget, ...]:
    places = [place for place in PLACES[name] if place.split(".")[0] in modules]
    factors = {"dustatt_powerlaw.Av_young": settings.rv}
    return tuple(CigaleTarget(to=place, factor=factors.get(place, 1.0)) for place in places)


def _check_place(key: str, place: str, modules: Sequence[str], catalog: Catalog) -> None:
    module, parameter = place.split(".")
    if module not in modules:
        raise UserError(f"{key}: the chain has no module {module!r}; {nearest(module, modules)}")
    if parameter not in catalog[module]:
        raise UserError(
            f"{key}: CIGALE's {module} has no parameter {parameter!r}; {nearest(parameter, catalog[module])}"
        )


def _cluster_values(
    module: str, settings: ModelSettings, takes: Mapping[str, Accepts], probe: str
) -> dict[str, Any]:
    """CIGALE's defaults, then what makes a star cluster, then the keys of ``[model]``."""
    values: dict[str, Any] = {name: accepts.default for name, accepts in takes.items()}
    values.update(CLUSTER.get(module, {}))
    if module.startswith("dust"):
        values["filters"] = probe
    own: dict[str, Any] = {"metallicity": settings.metallicity, "rv": settings.rv}
    if module in IMF_CODES:
        own["imf"] = _imf_code(module, settings.cigale)
    for name, value in own.items():
        values |= {place.split(".")[1]: value for place in PLACES[name] if place.split(".")[0] == module}
    return {name: values[name] for name in takes}


def _imf_code(module: str, settings: CigaleSettings) -> int:
    codes = IMF_CODES[module]
    name = settings.imf or ("chabrier" if "chabrier" in codes else "kroupa")
    if name not in codes:
        raise UserError(f"model.cigale.imf = {name!r}: CIGALE's {module} has {' and '.join(codes)}")
    return codes[name]


def _check_own(module: str, wanted: Mapping[str, Any], targets: Mapping[str, Sequence[CigaleTarget]]) -> None:
    """Refuse values of the job for what other settings say."""
    keys = {
        place: f"model.{'cigale.imf' if name == 'imf' else name}" for name in PLACES for place in PLACES[name]
    }
    keys |= {target.to: f"prior.{name}" for name, filled in targets.items() for target in filled}
    for parameter in wanted:
        if other := keys.get(f"{module}.{parameter}"):
            raise UserError(f"model.cigale.parameters.{module}.{parameter} is what {other} says: set that")


def _check_values(module: str, values: Mapping[str, Any], takes: Mapping[str, Accepts]) -> None:
    for name, value in values.items():
        accepts, key = takes[name], f"{module}.{name} = {value!r}"
        if value is None:
            raise UserError(f"{module}.{name} has no default: set model.cigale.parameters.{module}.{name}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if accepts.options and not np.isclose(accepts.options, value, rtol=1e-6, atol=0).any():
            raise UserError(f"{key}: CIGALE has {', '.join(f'{item:g}' for item in accepts.options)}")
        if not accepts.low <= value <= accepts.high:
            raise UserError(f"{key}: CIGALE takes {accepts.low:g} to {accepts.high:g}")
    if module in OLDEST and values.get("separation_age") == 0:
        raise UserError(
            f"{module}.separation_age = 0 stops CIGALE 2022; set 1 or more [Myr]: behind one screen "
            "it makes no difference"
        )
