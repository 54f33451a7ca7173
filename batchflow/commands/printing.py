"""What commands print: tables and pairs for people, JSON for programs."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_table(table: Any, title: str | None = None) -> None:
    """Print an Arrow table for people to read."""
    # As text: in square brackets, a name or a list would be taken for markup.
    shown = Table(title=title, title_justify="left")
    for name in table.column_names:
        shown.add_column(Text(name))
    degrees = [(field.metadata or {}).get(b"unit") == b"deg" for field in table.schema]
    for row in table.to_pylist():
        values = zip(row.values(), degrees, strict=True)
        shown.add_row(*(Text(_angle(value) if angle else cell(value)) for value, angle in values))
    results().print(shown)


def results() -> Console:
    """Standard output; a table that goes to a file or a program is never cut."""
    return Console(width=None if sys.stdout.isatty() else 10_000)


def cell(value: Any) -> str:
    """Write a value as a cell of a table."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        head = ", ".join(cell(item) for item in value[:4])
        return f"[{head}, ... {len(value)}]" if len(value) > 4 else f"[{head}]"
    return "" if value is None else str(value)


def _angle(value: Any) -> str:
    """A place on the sky [deg], to some milliarcseconds: four digits would be minutes of arc."""
    return f"{value:.6f}" if isinstance(value, float) else cell(value)


def count(value: int | None) -> str:
    """Write a number of units, `?` where it is not known."""
    return "?" if value is None else f"{value:,}"


def print_pairs(title: str, values: dict[str, Any]) -> None:
    """Print names and values, one a line, under a title."""
    print(title)
    width = max([12, *map(len, values)])
    for key, value in values.items():
        text = (cell(value) if isinstance(value, float) else str(value)).replace(
            "\n", "\n" + " " * (width + 3)
        )
        print(f"  {key:<{width}} {text}")


def print_json(values: Any) -> None:
    """Print values for programs."""
    print(json.dumps(_plain(values), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    """What JSON knows: NaN and the infinite as null, numbers of NumPy as numbers, anything else as text."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
