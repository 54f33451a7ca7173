"""A double of pcigale for tests: see README.md."""

from double_physics import M2005, offered

Module = offered(M2005)
Module.averaged = False
