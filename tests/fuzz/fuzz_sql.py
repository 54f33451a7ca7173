"""Coverage-guided fuzzing of queries.

Run ``python tests/fuzz/fuzz_sql.py -max_total_time=20 [folder of inputs]`` with atheris installed.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["batchflow"]):
    from targets import sql

    # Much is imported when it is first needed: what is imported out of this block is not followed.
    sql("FROM posterior")


def one(data: bytes) -> None:
    given = atheris.FuzzedDataProvider(data)
    words = [
        "SELECT * FROM posterior ",
        "FROM draws ",
        "WHERE ",
        "COPY ",
        "TO 'x' ",
        "read_csv(",
        "'secret.csv' ",
        ") ",
    ]
    text = "".join(
        given.PickValueInList(words) if given.ConsumeBool() else given.ConsumeUnicodeNoSurrogates(12)
        for _ in range(given.ConsumeIntInRange(1, 12))
    )
    sql(text)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
