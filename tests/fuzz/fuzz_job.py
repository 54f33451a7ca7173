"""Coverage-guided fuzzing of job files and of --set.

Run ``python tests/fuzz/fuzz_job.py -max_total_time=20 [folder of inputs]`` with atheris installed.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["batchflow"]):
    from targets import JOB, job_file, override

    # Much is imported when it is first needed: what is imported out of this block is not followed.
    job_file(JOB.encode())


def one(data: bytes) -> None:
    given = atheris.FuzzedDataProvider(data)
    kind = given.ConsumeIntInRange(0, 3)
    if kind == 0:
        job_file(given.ConsumeBytes(4096))
    elif kind == 1:
        override(given.ConsumeUnicodeNoSurrogates(200))
    else:
        # A sound job with something put into it reaches farther than bytes alone.
        place = given.ConsumeIntInRange(0, len(JOB))
        text = (
            JOB[:place]
            + given.ConsumeUnicodeNoSurrogates(200)
            + JOB[place + given.ConsumeIntInRange(0, 20) :]
        )
        job_file(text.encode())


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
