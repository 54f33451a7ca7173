"""A double of pcigale for tests: see README.md."""

from double_physics import Ssp, offered

Module = offered(Ssp)
