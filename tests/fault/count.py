"""What is tried, and how often: ``python tests/fault/count.py`` prints the table of docs/damage.md."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest


class Counter:
    """Counts the faults of every test that pytest finds: as many as `fault(n)` says, one without."""

    def __init__(self) -> None:
        self.found: dict[str, int] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            name = item.originalname.removeprefix("test_").replace("_", " ")
            times = next((mark.args[0] for mark in item.iter_markers("fault") if mark.args), 1)
            self.found[name] = self.found.get(name, 0) + times


def table() -> str:
    """Rows of tests and their faults in Markdown; the last is the sum."""
    counter = Counter()
    with redirect_stdout(io.StringIO()):
        pytest.main(["-qq", "--collect-only", "-m", "fault", str(Path(__file__).parent)], plugins=[counter])
    rows = [(name, number) for name, number in counter.found.items() if number]
    rows.append(("all", sum(number for _, number in rows)))
    return "\n".join(["| what is tried | faults |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)])


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
