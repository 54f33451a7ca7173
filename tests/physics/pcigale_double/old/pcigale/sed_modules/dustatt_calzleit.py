"""A double of pcigale for tests: see README.md."""

from double_physics import CalzLeit, offered

Module = offered(CalzLeit)
