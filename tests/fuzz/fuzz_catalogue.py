"""Coverage-guided fuzzing of catalogues of every file type.

Run ``python tests/fuzz/fuzz_catalogue.py -max_total_time=20 [folder of inputs]`` with atheris installed.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["batchflow"]):
    from targets import catalogue

    # Much is imported when it is first needed: what is imported out of this block is not followed.
    catalogue(b"object_id,galaxy\n1,g\n", "csv")


def one(data: bytes) -> None:
    given = atheris.FuzzedDataProvider(data)
    suffix = given.PickValueInList(["csv", "fits", "vot", "ecsv", "txt", "mrt", "parquet", "csv.gz", "tbl"])
    start = {
        "csv": b"object_id,galaxy,distance_mpc,flux_wfc3_f275w,error_wfc3_f275w\n",
        "vot": b'<?xml version="1.0"?><VOTABLE><RESOURCE><TABLE><FIELD name="object_id" datatype="int"/>',
        "ecsv": b"# %ECSV 1.0\n# ---\n# datatype:\n# - {name: object_id, datatype: int64}\n",
        "mrt": b"Title:\nByte-by-byte Description of file: c.mrt\n",
        "parquet": b"PAR1",
        "fits": b"SIMPLE  =                    T".ljust(80) + b"BITPIX  =                    8".ljust(80),
    }.get(suffix, b"")
    catalogue((start if given.ConsumeBool() else b"") + given.ConsumeBytes(4096), suffix)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
