"""What `validate` prints."""

import pyarrow as pa
import pyarrow.parquet as pq

from batchflow.paths import RunFolder
from batchflow.validate.say import print_summary


def test_methods_are_printed_for_all_surveys_against_published_values(tmp_path, capsys):
    run = RunFolder(tmp_path)
    run.validation.mkdir()
    names = ("median", "scatter", "within_0.3", "beyond_1", "in_68", "in_95")
    row = {
        "survey": "all",
        "modes": "all",
        "parameter": "ebv",
        "estimate": "network",
        "reference": "published",
    }
    row |= {"n": 2000} | dict.fromkeys(names, 0.25)
    others = [
        {"survey": "ngc1", "n": 1111},
        {"modes": ">1", "n": 2222},
        {"reference": "exact grid", "n": 3333},
    ]
    table = pa.Table.from_pylist([row, *(row | other for other in others)])
    pq.write_table(table, run.validation / "methods.parquet")
    figures = {"figure": ["mocks"], "way": [""], "value": [2345.0], "error": [0.1], "ideal": [0.0], "n": [1]}
    pq.write_table(pa.table(figures), run.validation / "figures.parquet")
    reasons = {"survey": ["all"], "reason": ["[/b] agrees"], "n": [1], "share": [1.0], "meaning": [""]}
    pq.write_table(pa.table(reasons), run.validation / "reasons.parquet")
    print_summary(run)
    text = capsys.readouterr().err
    assert "[/b]" in text
    assert "2000" in text
    assert "2345" in text
    assert not any(number in text for number in ("1111", "2222", "3333"))
