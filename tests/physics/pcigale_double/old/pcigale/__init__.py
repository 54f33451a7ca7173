"""A double of pcigale for tests: see README.md beside it."""

from double_physics import FORKED

__version__ = "double"


def main() -> None:
    """Stand for the command line, which forks a pool."""
    FORKED.append("main")
    raise RuntimeError("the command line of pcigale forks: not to be called")
