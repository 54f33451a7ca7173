"""A double of pcigale for tests: see README.md."""

from double_physics import Bc03Ssp, offered

Module = offered(Bc03Ssp)
