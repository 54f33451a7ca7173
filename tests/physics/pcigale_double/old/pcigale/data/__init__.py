"""A double of pcigale for tests: see README.md. The database of 0.9."""

from double_physics import FILTERS


class Database:
    """All data in one."""

    def __enter__(self) -> "Database":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def get_filter_names(self) -> list[str]:
        """Names of the filters."""
        return list(FILTERS)
