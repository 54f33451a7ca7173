"""A double of pcigale for tests: see README.md."""

from double_physics import Bc03, offered

Module = offered(Bc03)
Module.averaged = False
