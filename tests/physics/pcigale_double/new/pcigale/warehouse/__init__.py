"""A double of pcigale for tests: see README.md. The warehouse of 2022: keyed by values alone (trap 1)."""

from typing import Any

from double_physics import SED, work

from pcigale.sed_modules import get_module


class SedWarehouse:
    """Makes and keeps SEDs."""

    made = 0

    def __init__(self, nocache: list[str] | None = None) -> None:
        self.nocache = nocache or []
        self.sed_cache: dict[Any, SED] = {}
        self.module_cache: dict[Any, Any] = {}

    def get_sed(self, modules: list[str], parameters: list[dict[str, Any]]) -> SED:
        """The SED of a chain; a cached one is given out as it is."""
        work()
        SedWarehouse.made += 1
        return self._get(list(modules), list(parameters))

    def _get(self, modules: list[str], parameters: list[dict[str, Any]]) -> SED:
        key = tuple(tuple(values.values()) for values in parameters)
        if key in self.sed_cache:
            return self.sed_cache[key]
        module = self._module(modules[-1], parameters[-1])
        sed = self._get(modules[:-1], parameters[:-1]).copy() if len(modules) > 1 else SED()
        module.process(sed)
        if modules[-1] not in self.nocache:
            self.sed_cache[key] = sed
        return sed

    def _module(self, name: str, given: dict[str, Any]) -> Any:
        if name in self.nocache:
            return get_module(name, **given)
        return self.module_cache.setdefault((name, tuple(given.values())), get_module(name, **given))
