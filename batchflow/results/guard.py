"""What a query may be: one statement that reads, from the views and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import duckdb

from batchflow.errors import UserError

READING = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
"""Parts of a parsed statement that read; DuckDB 2 takes COPY and INSERT within a WITH, too."""
FUNCTIONS = {"range", "generate_series", "unnest", "repeat", "generate_subscripts"}
"""Functions after FROM that touch no file; `query` and the like run statements hidden in text."""
EXPLAIN = re.compile(r"\s*EXPLAIN(\s+ANALYZE)?\s+(?=SELECT|FROM|WITH|VALUES|\()", re.IGNORECASE)


def parse_query(connection: duckdb.DuckDBPyConnection, sql: str, macros: Iterable[str]) -> dict[str, Any]:
    """Parse a statement, and refuse one that is not a lone reading one.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Used to parse.
    sql : str
        What the user wrote.
    macros : iterable of str
        Names of table macros that may stand after FROM.

    Returns
    -------
    dict
        The statement's tree, as DuckDB has it.

    Raises
    ------
    UserError
        Saying what it is instead.
    duckdb.Error
        When it cannot be parsed.
    """
    kinds = [statement.type.name for statement in duckdb.extract_statements(sql)]
    explained = EXPLAIN.match(sql) if kinds == ["EXPLAIN"] else None
    if kinds != ["SELECT"] and not explained:
        found = ", ".join(kinds) or "nothing"
        raise UserError(f"a query is one SELECT statement; found {found} (results are read-only)")
    tree = _parse(connection, sql[explained.end() :] if explained else sql)
    _check_tree(tree, FUNCTIONS | set(macros))
    return tree


def names_in(tree: dict[str, Any]) -> set[str]:
    """All words of a statement, in small letters: the names of the views that it reads are among them."""
    values = (value for node in _nodes(tree) for value in node.values())
    return {value.lower() for value in values if isinstance(value, str)}


def sampled_ids(tree: dict[str, Any]) -> list[str]:
    """Ids that a statement gives to `sample_draws` as they stand, not computed, in order."""
    calls = [
        node["function"]["arguments"]
        for node in _nodes(tree)
        if node.get("type") == "TABLE_FUNCTION" and node["function"]["function_name"] == "sample_draws"
    ]
    named = [(given[0] if not given[0]["name"] else _argument(given, "id")) for given in calls if given]
    literals = [given["expression"].get("literal", {}) for given in named if given is not None]
    return [literal["text"] for literal in literals if literal.get("kind") == "STRING"]


def compared_ids(tree: dict[str, Any]) -> list[str]:
    """Ids that a statement compares `object_id` with, in order."""
    equal = [node for node in _nodes(tree) if node.get("type") == "COMPARE_EQUAL"]
    sides = [
        side for node in equal for side in ((node["left"], node["right"]), (node["right"], node["left"]))
    ]
    named = [other for side, other in sides if side.get("column_names", [""])[-1] == "object_id"]
    literals = [other.get("literal", {}) for other in named]
    return [literal["text"] for literal in literals if literal.get("kind") == "STRING"]


def renamed(tree: dict[str, Any]) -> dict[str, str]:
    """Columns that a statement names: by their name, the column that they are; empty for computed ones."""
    found: dict[str, str] = {}
    for node in _nodes(tree):
        found |= {item["key"]: "" for item in node.get("replace_list") or ()}
        if (name := node.get("alias")) and "class" in node:
            column = node["column_names"][-1] if node["class"] == "COLUMN_REF" else ""
            found[name] = column if found.get(name, column) == column else ""
    return {name: column for name, column in found.items() if column != name}


def _argument(given: list[dict[str, Any]], name: str) -> dict[str, Any] | None:
    return next((argument for argument in given if argument["name"] == name), None)


def _parse(connection: duckdb.DuckDBPyConnection, sql: str) -> dict[str, Any]:
    rows = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()
    tree: dict[str, Any] = json.loads(rows[0][0])
    if tree["error"] or len(tree["statements"]) != 1:
        raise UserError(f"a query is one SELECT statement; found {tree.get('error_message', 'several')}")
    return tree


def _check_tree(tree: dict[str, Any], functions: set[str]) -> None:
    for node in _nodes(tree):
        kind = str(node.get("type"))
        if kind.endswith("_NODE") and kind not in READING:
            found = kind.removesuffix("_NODE").removesuffix("_QUERY")
            raise UserError(f"a query is one SELECT statement; found {found} in it (results are read-only)")
        if kind == "TABLE_FUNCTION" and (name := node["function"]["function_name"].lower()) not in functions:
            raise UserError(
                f"{name}(...) is not for queries: they read the run's own tables; known after FROM: "
                + ", ".join(f"{known}(...)" for known in sorted(functions))
            )


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    # A statement may be nested as deeply as DuckDB parses, 1000 levels: deeper than Python calls itself.
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
        children = item.values() if isinstance(item, dict) else item
        waiting.extend(child for child in children if isinstance(child, dict | list))
