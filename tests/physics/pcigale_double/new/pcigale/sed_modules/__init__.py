"""A double of pcigale for tests: see README.md."""

from importlib import import_module
from typing import Any


def get_module(name: str, **given: object) -> Any:
    """Make a module."""
    return import_module(f"pcigale.sed_modules.{name}").Module(name, **given)
