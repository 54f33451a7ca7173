"""Coverage-guided fuzzing of galaxy names.

Run ``python tests/fuzz/fuzz_galaxy.py -max_total_time=20 [folder of inputs]`` with atheris installed.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["batchflow"]):
    from targets import galaxy

    # Much is imported when it is first needed: what is imported out of this block is not followed.
    galaxy("NGC 628")


def one(data: bytes) -> None:
    name = atheris.FuzzedDataProvider(data).ConsumeUnicodeNoSurrogates(100)
    if name:
        galaxy(name)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
