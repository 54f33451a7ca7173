"""Flags in words, and counted."""

import pyarrow as pa
import pytest

from batchflow.errors import UserError
from batchflow.paths import RunFolder, partition_folder
from batchflow.results.flags import count_flags, explain_flags
from batchflow.schema import Flag
from batchflow.shards import write_table


def test_every_bit_is_explained_in_a_sentence():
    rows = explain_flags().to_pylist()
    assert [row["name"] for row in rows] == [flag.name for flag in Flag]
    assert [row["bit"] for row in rows] == [flag.value for flag in Flag]
    assert all(len(row["meaning"]) > 10 and row["meaning"].endswith(".") for row in rows)
    assert "ood_pvalue" in next(row["meaning"] for row in rows if row["name"] == "OUT_OF_DISTRIBUTION")


def test_flags_are_counted_by_galaxy(tmp_path):
    folder = RunFolder(tmp_path)
    given = {"A": [0, 1, 1 | 256], "../b": [256, 0]}
    for galaxy, flags in given.items():
        rows = pa.table(
            {
                "galaxy": pa.array([galaxy] * len(flags)),
                "flags": pa.array(flags, pa.int32()),
            }
        )
        write_table(partition_folder(folder.posterior, galaxy) / "part-00000.parquet", rows, {})
    found = {row["flag"]: row for row in count_flags(tmp_path).to_pylist()}
    assert list(found) == ["clusters", "(none)", "MISSING_BAND", "LOW_EFFICIENCY"]
    assert (found["clusters"]["A"], found["clusters"]["../b"], found["clusters"]["all"]) == (3, 2, 5)
    assert (found["(none)"]["A"], found["(none)"]["../b"]) == (1, 1)
    assert found["MISSING_BAND"]["all"] == 2
    assert found["LOW_EFFICIENCY"]["all"] == 2
    assert found["LOW_EFFICIENCY"]["share"] == pytest.approx(0.4)


def test_a_folder_without_posteriors_is_named(tmp_path):
    with pytest.raises(UserError, match="is no run folder"):
        count_flags(tmp_path)
