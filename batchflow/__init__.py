"""Star-cluster catalogues into posteriors of age, mass and reddening.

`open_engine` computes fluxes, `open_model` gives posteriors for arrays, `open_run` reads results.
Importing the package imports neither torch nor dask.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Any

__version__ = version("batchflow")
__all__ = ["__version__", "open_engine", "open_model", "open_run"]

_HOMES = {
    "open_engine": "batchflow.physics.engine",
    "open_model": "batchflow.infer.posterior",
    "open_run": "batchflow.results.tables",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'batchflow' has no attribute {name!r}")
