"""A double of pcigale for tests: see README.md. The warehouse of 0.9: no `nocache` (trap 3)."""

import marshal
from typing import Any

from double_physics import SED, work

from pcigale.sed_modules import get_module


class SedWarehouse:
    """Makes and keeps SEDs."""

    made = 0

    def __init__(self, cache_type: str = "memory") -> None:
        self.storage: dict[bytes, SED] = {}
        self.module_cache: dict[bytes, Any] = {}

    def get_sed(self, modules: list[str], parameters: list[dict[str, Any]]) -> SED:
        """The SED of a chain."""
        work()
        SedWarehouse.made += 1
        return self._get(list(modules), list(parameters))

    def partial_clear_cache(self, n_modules_max: int) -> None:
        """Drop SEDs of more modules than that."""
        for key in [key for key in self.storage if len(marshal.loads(key)[0]) > n_modules_max]:
            del self.storage[key]

    def _get(self, modules: list[str], parameters: list[dict[str, Any]]) -> SED:
        key = marshal.dumps((modules, parameters))
        if key in self.storage:
            return self.storage[key].copy()
        own = marshal.dumps((modules[-1], parameters[-1]))
        module = self.module_cache.setdefault(own, get_module(modules[-1], **parameters[-1]))
        sed = self._get(modules[:-1], parameters[:-1]) if len(modules) > 1 else SED()
        module.process(sed)
        self.storage[key] = sed.copy()
        return sed
