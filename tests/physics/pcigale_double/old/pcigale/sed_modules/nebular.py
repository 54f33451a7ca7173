"""A double of pcigale for tests: see README.md."""

from double_physics import Nebular, offered

Module = offered(Nebular)
