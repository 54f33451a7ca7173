"""A table as CSV or ECSV, a piece at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from batchflow.results.source import NAME, Source
from batchflow.votable import DATATYPES, text_of, value_type

_JSON_NUMBERS = ("NaN", "Infinity", "-Infinity", "null")


def write_csv(path: Path, source: Source) -> None:
    """Write plain CSV: a line of names, then the rows; lists as JSON.

    Parameters
    ----------
    path : Path
        The file.
    source : Source
        What to write.
    """
    with path.open("wb") as out:
        csv_text(out, source.schema, source.batches())


def description_of(path: Path) -> Path:
    """The file that describes ``a.csv`` by CSV on the Web (W3C 2015): ``a.csv-metadata.json`` beside it."""
    return path.with_name(f"{path.name}-metadata.json")


def csv_description(source: Source, name: str) -> dict[str, Any]:
    """What describes a CSV file, as JSON: names, types, units, UCDs and provenance.

    Parameters
    ----------
    source : Source
        What was written.
    name : str
        Of the CSV file.

    Returns
    -------
    dict
        By the W3C's "Metadata Vocabulary for Tabular Data" (2015), with keys of ours for unit and UCD.
    """
    columns = [
        {"name": item.name, "titles": item.name, "datatype": _csvw_type(item.type)}
        | {key: text for key, text in _described(item).items() if text}
        for item in source.schema
    ]
    return {
        "@context": "http://www.w3.org/ns/csvw",
        "url": name,
        "tableSchema": {"columns": columns},
        NAME: source.provenance,
    }


def write_ecsv(path: Path, source: Source) -> None:
    """Write ECSV 1.0: CSV with a header that astropy reads; lists as its variable-length arrays.

    Parameters
    ----------
    path : Path
        The file.
    source : Source
        What to write.
    """
    with path.open("wb") as out:
        ecsv_text(out, source.schema, source.batches(), source.provenance)


def csv_text(out: BinaryIO, schema: pa.Schema, batches: Iterable[pa.RecordBatch], ecsv: bool = False) -> None:
    """Write CSV: names and rows, in UTF-8.

    Parameters
    ----------
    out : binary file
        Where to.
    schema : pyarrow.Schema
        The columns, of any type.
    batches : iterable of pyarrow.RecordBatch
        The rows.
    ecsv : bool
        Whether as ECSV has it: True and False in place of true and false, NaN for a number that is not there.
    """
    written = pa.schema([(item.name, _csv_type(item.type, ecsv)) for item in schema])
    # csv.write_csv would quote the names, which ECSV does not have.
    out.write((",".join(_quoted(name) for name in schema.names) + "\n").encode())
    with csv.CSVWriter(out, written, write_options=csv.WriteOptions(include_header=False)) as writer:
        for batch in batches:
            columns = [_csv_column(column, ecsv) for column in batch.columns]
            writer.write_batch(pa.record_batch(columns, schema=written))


def ecsv_text(
    out: BinaryIO,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write ECSV 1.0, in UTF-8; arguments as `csv_text`, and where the rows come from, for the header."""
    lines = ["%ECSV 1.0", "---", "delimiter: ','", "datatype:"]
    lines += [f"- {json.dumps(_ecsv_column(item), ensure_ascii=False)}" for item in schema]
    lines += [f"meta: {{{NAME}: {json.dumps(provenance, ensure_ascii=False)}}}"] if provenance else []
    out.write("".join(f"# {line}\n" for line in [*lines, "schema: astropy-2.0"]).encode())
    csv_text(out, schema, batches, ecsv=True)


def plain(value: Any) -> Any:
    """Numbers that JSON does not know as those that it does: NaN and the infinite as null."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list):
        return [plain(item) for item in value]
    return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if set(name) & set('," \n') else name


def _csv_type(type_: pa.DataType, ecsv: bool) -> pa.DataType:
    return pa.string() if not _is_csv(type_) or (ecsv and pa.types.is_boolean(type_)) else type_


def _is_csv(type_: pa.DataType) -> bool:
    """Whether Arrow's writer of CSV knows a type."""
    known = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    return pa.types.is_string(type_) or any(is_(type_) for is_ in known)


def _csv_column(column: pa.Array, ecsv: bool) -> pa.Array:
    if _is_number_list(column.type):
        joined = pc.binary_join(list_texts(column, _JSON_NUMBERS), ",")
        return pc.binary_join_element_wise("[", joined, "]", "")
    if ecsv and pa.types.is_boolean(column.type):
        return pc.if_else(column, "True", "False")
    if ecsv and pa.types.is_floating(column.type):
        # Astropy has no masked quantities in logarithmic units.
        return pc.fill_null(column, math.nan)
    return column if _is_csv(column.type) else pa.array(map(_as_text, column.to_pylist()), pa.string())


def _is_number_list(type_: pa.DataType) -> bool:
    """Whether a type is that of lists of numbers."""
    kinds = (pa.types.is_integer, pa.types.is_floating)
    return pa.types.is_list(type_) and any(is_(type_.value_type) for is_ in kinds)


def _as_text(value: Any) -> str | None:
    if isinstance(value, list | dict):
        return json.dumps(plain(value), default=str)
    return None if value is None else str(value)


def _ecsv_column(item: pa.Field) -> dict[str, str]:
    kind = _ecsv_type(value_type(item.type))
    found = {"name": item.name, "datatype": "string" if pa.types.is_nested(item.type) else kind}
    if _is_number_list(item.type):
        found["subtype"] = f"{kind}[null]"
    elif pa.types.is_nested(item.type):
        found["subtype"] = "json"
    extra = {"unit": text_of(item, "unit"), "description": text_of(item, "description")}
    ucd = text_of(item, "ucd")
    return (
        found | {key: text for key, text in extra.items() if text} | ({"meta": {"ucd": ucd}} if ucd else {})
    )


def _ecsv_type(type_: pa.DataType) -> str:
    if pa.types.is_decimal(type_):
        return "float64"
    names = {pa.bool_(): "bool", pa.float32(): "float32", pa.float64(): "float64", pa.float16(): "float16"}
    return names.get(type_, str(type_) if pa.types.is_integer(type_) else "string")


def _csvw_type(type_: pa.DataType) -> str:
    if pa.types.is_list(type_):
        return "json"
    names = {"boolean": "boolean", "float": "float", "double": "double", "unicodeChar": "string"}
    return names.get(DATATYPES.get(type_, "unicodeChar"), "integer")


def _described(item: pa.Field) -> dict[str, str]:
    return {
        "dc:description": text_of(item, "description"),
        "unit": text_of(item, "unit"),
        "ucd": text_of(item, "ucd"),
    }


def list_texts(column: pa.Array, words: tuple[str, str, str, str]) -> pa.Array:
    """Lists of numbers as lists of texts; arguments as `number_texts`."""
    texts = pc.fill_null(number_texts(column.flatten(), words), words[3])
    lengths = pc.fill_null(pc.list_value_length(column), 0)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths).cast(pa.int32())])
    return pa.ListArray.from_arrays(offsets, texts, mask=column.is_null())


def number_texts(column: pa.Array, words: tuple[str, str, str, str]) -> pa.Array:
    """Shortest texts that read back as the same numbers.

    Parameters
    ----------
    column : pyarrow.Array
        Numbers or truth values.
    words : tuple of str
        For NaN, infinity, minus infinity, and what is not there within a list.

    Returns
    -------
    pyarrow.Array
        Strings; null where the number is.
    """
    found = column.cast(pa.string())
    if not pa.types.is_floating(column.type):
        return found
    nan, high, low, _ = words
    found = pc.if_else(pc.is_nan(column), nan, found)
    infinite = pc.if_else(pc.greater(column, 0), high, low)
    return pc.if_else(pc.is_inf(column), infinite, found)
