"""A double of pcigale for tests: see README.md."""

from double_physics import Dustext, offered

Module = offered(Dustext)
