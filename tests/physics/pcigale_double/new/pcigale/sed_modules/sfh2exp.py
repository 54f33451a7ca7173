"""A double of pcigale for tests: see README.md."""

from double_physics import Sfh2Exp, offered

Module = offered(Sfh2Exp)
