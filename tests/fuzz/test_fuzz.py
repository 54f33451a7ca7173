"""The fuzzers' targets with some inputs each; `fuzz_*.py` go on for as long as asked."""

from __future__ import annotations

import gzip
import json
import tempfile
from functools import cache
from pathlib import Path

import pytest
from astropy.table import Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from targets import (
    JOB,
    catalogue,
    flux_table,
    galaxy,
    harmless,
    job_file,
    model,
    model_folder,
    override,
    sql,
    table_bytes,
)

FEW = settings(max_examples=12, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
VALUES = [
    "0",
    "-1",
    "1e400",
    "nan",
    "inf",
    "true",
    '""',
    '"../../x"',
    '"/etc/passwd"',
    "[]",
    "[[]]",
    "{}",
    "1979-05-27",
    '"\\u0000"',
    '"$(id)"',
    '"slurm"',
    '"cigale"',
    "99999999999999999999",
    '["wfc3_f336w", "wfc3_f336w"]',
    "{uniform = [1, 0]}",
    "{choice = []}",
    "{power_law = [0, 0, 0]}",
    '"auto"',
    "[nan, nan]",
]
KEYS = [
    "name",
    "output",
    "seed",
    "model.bands",
    "model.metallicity",
    "model.engine",
    "prior.log_age",
    "prior.ebv",
    "prior.rv",
    "mocks.rows",
    "mocks.rows_per_shard",
    "train.epochs",
    "infer.draws",
    "infer.grid",
    "fit.steps",
    "fit.nodes",
    "noise.depth",
    "cluster.site",
    "cluster.cpu_workers",
    "flow.hidden",
    "catalogue",
    "catalogue.path",
    "validate.mocks",
    "model.curves.wfc3_f336w",
    "train.members",
    "a.b",
    "",
    ".",
    "prior",
    "fit.preset",
]


@cache
def small_catalogue(kind: str) -> bytes:
    """A sound catalogue of one cluster."""
    row = {"object_id": ["1"], "galaxy": ["g"], "distance_mpc": [3.0]}
    table = Table(row | {"flux_wfc3_f275w": [1.0], "error_wfc3_f275w": [0.1]})
    forms = {"csv.gz": "ascii.csv", "csv": "ascii.csv", "ecsv": "ascii.ecsv", "vot": "votable"}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "c"
        table.write(path, format=forms.get(kind, kind))
        content = path.read_bytes()
    return gzip.compress(content, mtime=0) if kind == "csv.gz" else content


def damaged(content: bytes):
    """Bytes cut, flipped and doubled in places."""

    @st.composite
    def build(draw):
        found = bytearray(content)
        for _ in range(draw(st.integers(0, 4))):
            place = draw(st.integers(0, len(found) - 1))
            if draw(st.booleans()):
                found[place] = draw(st.integers(0, 255))
            else:
                found[place:place] = draw(st.binary(max_size=8))
        return bytes(found[: draw(st.integers(0, len(found)))] if draw(st.booleans()) else found)

    return build()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def descriptions(draw):
    """A model's description with values of other kinds in its places."""
    values = json.loads(model_folder()["model.json"])
    place = values
    for _ in range(draw(st.integers(0, 2))):
        inner = [item for item in place.values() if isinstance(item, dict) and item]
        if inner:
            place = draw(st.sampled_from(inner))
    place[draw(st.sampled_from([*place, "members", "format"]))] = draw(json_values)
    return values


WORDS = st.sampled_from(
    [
        *(
            "SELECT",
            "*",
            "FROM",
            "posterior",
            "draws",
            "mocks",
            "WHERE",
            "(",
            ")",
            ",",
            "'",
            '"',
            ";",
            "--",
            "/*",
        ),
        *(
            "COPY",
            "TO",
            "ATTACH",
            "INSTALL httpfs",
            "LOAD",
            "PRAGMA",
            "SET",
            "read_csv('",
            "secret.csv",
            "../",
        ),
        *(
            "glob('*')",
            "getenv('HOME')",
            "read_text(",
            "log_age_q50",
            "flag_names(flags)",
            "cone(1, 2, 3)",
            "1",
        ),
        *("UNION ALL", "WITH x AS", "$$", "?", "$1", "EXPLAIN", "DESCRIBE", "'posterior'", "query('", "CALL"),
    ]
)


@given(damaged(JOB.encode()))
@FEW
def test_job_file(data):
    job_file(data)


@pytest.mark.parametrize("name", ['"c.csv"', '"run"'])
def test_job_file_with_a_name_that_is_too_long(name):
    job_file(JOB.replace(name, f'"{"x" * 300}"').encode())


@given(st.sampled_from(KEYS), st.sampled_from(VALUES) | st.text(max_size=8))
@FEW
def test_override(key, value):
    override(f"{key}={value}")


@given(st.sampled_from(KEYS), st.sampled_from(VALUES))
@FEW
def test_value_in_a_job_file(key, value):
    section, _, name = key.rpartition(".")
    lines = [f"[{section}]" if section else "", f"{name or chr(34) * 2} = {value}"]
    job_file((JOB + "\n".join(lines) if section else "\n".join(lines) + "\n" + JOB).encode())


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "ecsv", "vot", "fits", "parquet"])
@given(data=st.data())
@FEW
def test_catalogue(kind, data):
    catalogue(data.draw(damaged(small_catalogue(kind))), kind)


@given(damaged(model_folder()["weights.safetensors"]))
@FEW
def test_weights_with_a_right_checksum(data):
    model(model_folder() | {"weights.safetensors": data}, restamp=True)


@given(damaged(model_folder()["model.json"]))
@FEW
def test_description(data):
    model(model_folder() | {"model.json": data}, restamp=False)


@given(descriptions())
@FEW
def test_description_with_a_right_checksum(values):
    model(model_folder() | {"model.json": json.dumps(values).encode()}, restamp=True)


@given(damaged(table_bytes()))
@FEW
def test_flux_table(data):
    flux_table(data)


@given(st.lists(WORDS, max_size=12).map(" ".join) | st.text(max_size=20))
@FEW
def test_sql(text):
    sql(text)


@given(
    st.text(min_size=1, max_size=80)
    | st.sampled_from(["..", ".", "/", "a/../../b", "~", "$HOME", "a" * 300, "\0"])
)
@FEW
def test_galaxy(name):
    galaxy(name)


def test_the_watch_sees_what_it_is_there_for(tmp_path):
    import subprocess
    import sys

    outside = tmp_path / "outside"
    for wrong in (
        lambda: outside.write_text(""),
        lambda: subprocess.run([sys.executable, "-c", ""], check=True),
    ):
        with pytest.raises(AssertionError, match=r"open .*outside|Popen"), harmless():
            wrong()
