"""A double of pcigale for tests: see README.md."""

from double_physics import SED

__all__ = ["SED"]
